"""Observing a source in a test: text files are converted into a folder of the test's process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from almanac import pinning
from almanac.core.pins import Pin
from almanac.core.sources import Source
from almanac.store.contents import PointInTime
from almanac.store.copies import LocalCopies
from almanac.store.objects import Objects


def observe(objects: Objects, name: str, source: Source, then: PointInTime | None = None, asked: Sequence[str] = ()) -> Pin:
    return pinning.observe(objects, LocalCopies(Path(tempfile.mkdtemp(prefix="almanac-"))), name, source, then, asked)
