"""docs/late-data.md is true: its Python runs, and what it names is there."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from almanac import Late
from almanac.core.late import POLICIES


def test_the_sources_are_described_as_shown_and_every_policy_is_explained(repository: Path) -> None:
    text = (repository / "docs" / "late-data.md").read_text()
    names: dict[str, Any] = {}
    for described in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(described, "sources", "exec"), names)

    assert names["visits"].late == Late("wait", within=timedelta(days=1), timeout=timedelta(hours=36))
    assert names["scoring"].degrade == 0.1
    assert names["returns"].late.marker.format(period="2017-07") == "ready/2017-07"
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == tuple(POLICIES)
    assert (Late().policy, Late().timeout, Late().every) == ("latest", timedelta(days=1), timedelta(minutes=5))
    assert "every five minutes (`every`)" in text and "After `timeout`, a day by default" in text
