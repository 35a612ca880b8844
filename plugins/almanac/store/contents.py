"""What a source's place holds, before the footers of its files are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from almanac.core.pins import PinnedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PointInTime:
    """A time as of which a source is read.

    Args:
        moment: in UTC.
        copies: returns the URI for a copy of an older file version, from a digest that identifies it and the file's name.
    """

    moment: datetime
    copies: Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The files of a source, before their footers are read.

    Args:
        files: without row groups and bounds.
        schema: the stored columns, if a table's log declares them; else the files do.
        ids: of the table's columns, if its files name their columns by these.
        unnumbered: for files without ids, name in the file to the table's name; empty for a column that the table has not. None
            if the table does not say.
        notes, version, seen_at: as a pin has them.
    """

    uri: str
    files: tuple[PinnedFile, ...]
    schema: pa.Schema | None = None
    ids: Mapping[int, str] | None = None
    unnumbered: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()
    version: str = ""
    seen_at: datetime | None = None
