"""Another day: what Almanac's own clock says, while the store's objects stay as old as they are."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from types import ModuleType

import pytest

from almanac.jobs import context, run
from almanac.runs import publish
from almanac.store import receipts

CLOCKS: tuple[ModuleType, ...] = (context, run, publish, receipts)


def put_forward(patch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Whoever asks for the time from now on is told a later one."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

    for module in CLOCKS:
        patch.setattr(module, "datetime", Later)
