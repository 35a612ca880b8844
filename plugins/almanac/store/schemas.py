"""The columns that all files of one source agree on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from almanac.columns import common, filled, refusal, unreadable
from almanac.core.schema import check_columns
from almanac.core.sources import Source, alike
from almanac.errors import SourceError, examples

File = tuple[str, pa.Schema]  # URI, and the plain types of its columns
LEAVE_OUT = "leave the column out with columns=(...)"


def agreed(name: str, source: Source, files: Iterable[File], asked: Sequence[str]) -> pa.Schema:
    """The plain types of a source's columns, wide enough for every file.

    Args:
        asked: the columns that are read; empty for all. The others may differ between files; the first file decides their type.

    Raises:
        SourceError: a column that is read is missing, has no type that holds the values of all files, or shares its name with
            another.
    """
    shapes: dict[tuple[pa.Field, ...], File] = {}
    for uri, own in files:
        shapes.setdefault(tuple(own), (uri, own))
    alone = list(shapes.values())  # the first file of each shape
    every = list(dict.fromkeys(column for _, own in alone for column in own.names))
    read = [column for column in every if column in asked] if asked else every
    _check_names(name, alone, read)
    found = {column: _common(name, source, alone, column) for column in read}
    kinds = {**{field.name: field.type for _, own in reversed(alone) for field in own}, **found}
    check_columns(name, source, {column: str(kind) for column, kind in kinds.items()})
    for column in read if asked else ():
        if why := unreadable(kinds[column]):
            raise SourceError(refusal(name, column, kinds[column], why))
    _check_fill(name, source, kinds)
    return pa.schema([(column, kinds[column]) for column in every])


def _check_names(name: str, files: Iterable[File], read: Sequence[str]) -> None:
    for uri, own in files:
        if doubled := sorted({column for column in read if own.names.count(column) > 1}):
            raise SourceError(
                f"Source {name!r}: {uri} has more than one column {doubled[0]!r}, expected one. Deliver it with unique "
                f"column names, or {LEAVE_OUT}."
            )
    if clash := alike(read):
        raise SourceError(
            f"Source {name!r}: columns {' and '.join(map(repr, clash[0]))} differ only in case, which Spark ignores. "
            f"Rename one of them and deliver the files again, or {LEAVE_OUT}."
        )


def _common(name: str, source: Source, files: Sequence[File], column: str) -> pa.DataType:
    """A column's type in all files. Raises: SourceError."""
    having = [(uri, own.field(column).type) for uri, own in files if column in own.names]
    first, found = having[0]
    missing = [(uri, own) for uri, own in files if column not in own.names]
    if missing and column not in (source.fill or ()):
        uri, own = missing[0]
        other = next((f" (only {one!r})" for one in own.names if one.casefold() == column.casefold()), "")
        out = f"{LEAVE_OUT}, declare that files may lack it with fill={{{column!r}: None}}, or "
        raise SourceError(
            f"Source {name!r}: {uri} has no column {column!r}{other}, while {first} has it as {found}. Files of one source "
            f"must agree: {'' if column in source.times else out}deliver one of them again."
        )
    for uri, kind in having[1:]:
        wider = common(found, kind)
        if wider is None:
            raise SourceError(
                f"Source {name!r}: {uri} has {column} as {kind}, {first} has it as {found}. Files of one source must "
                f"agree: deliver one of them again{'' if column in source.times else f', or {LEAVE_OUT}'}."
            )
        found = wider
    return found


def _check_fill(name: str, source: Source, kinds: Mapping[str, pa.DataType]) -> None:
    for column, value in (source.fill or {}).items():
        try:
            filled(pa.field(column, kinds[column]), value)
        except (ValueError, pa.ArrowException) as error:
            raise SourceError(
                f"Source {name!r}: fill for column {column!r}: expected a value of type {kinds[column]}, or None, got {value!r} "
                f"({examples([' '.join(str(error).split())])}). Correct the description."
            ) from error
