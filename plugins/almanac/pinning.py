"""Observing a source, wherever it is: the one function that gives a pin."""

from __future__ import annotations

from collections.abc import Sequence

from almanac.core.pins import Pin
from almanac.core.sources import Source
from almanac.store import sources
from almanac.store.copies import Copies
from almanac.store.objects import Objects
from almanac.store.sources import PointInTime


def observe(
    objects: Objects, copies: Copies, name: str, source: Source, then: PointInTime | None = None, asked: Sequence[str] = ()
) -> Pin:
    """A source as it is now, or as it was at a given time: as `sources.observe` says."""
    return sources.observe(objects, copies, name, source, then, asked)
