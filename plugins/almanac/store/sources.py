"""Sources on S3: observed once into a pin, from a listing or a table's log and from the files' footers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from almanac import chunks
from almanac.columns import packed, plain
from almanac.core.formats import Delta, Iceberg, JsonLines, Text
from almanac.core.pins import Pin, PinnedFile
from almanac.core.sources import ReferenceSource, Source
from almanac.cutting import check_where, cut_rows, view_of
from almanac.errors import SourceError, examples
from almanac.store import footers, schemas, source_folders
from almanac.store.contents import Contents, PointInTime
from almanac.store.copies import Copies
from almanac.store.footers import Footer
from almanac.store.objects import Objects

READERS = 16


def observe(
    objects: Objects, copies: Copies, name: str, source: Source, then: PointInTime | None = None, asked: Sequence[str] = ()
) -> Pin:
    """The files of a source as they are now, or as they were at a given time, if the source tells its past. A version of a file
    that is not the newest is copied, and a text file is converted, so that any reader can open it.

    Args:
        asked: the columns that are read; if empty, those that the source names, or all.

    Raises:
        SourceMissing: there are no files.
        SourceError: the files belong to a table with a log; they disagree about their columns; a column is missing or unfit.
        Unfit: the bucket does not keep object versions.
        Unreachable, AccessRefused: the store cannot be read.
    """
    if isinstance(source.format, Delta):
        from almanac.store import delta_tables

        return pin_of(name, source, delta_tables.contents(objects, name, source, then, read_columns(source, asked)), asked)
    if isinstance(source.format, Iceberg):
        try:
            from almanac.store import iceberg_tables
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "pyiceberg":
                raise
            raise SourceError(
                f"Source {name!r} is an Iceberg table, and pyiceberg, which reads its metadata, is not installed. Install it "
                "where Airflow's workers and the command line run: pip install 'almanac[iceberg]'."
            ) from error
        return pin_of(name, source, iceberg_tables.contents(objects, name, source, then, read_columns(source, asked)), asked)
    return pin_of(name, source, source_folders.contents(objects, copies, name, source, then), asked)


def pin_of(name: str, source: Source, found: Contents, asked: Sequence[str] = ()) -> Pin:
    """The pin of a source's files, completed from their footers.

    Raises:
        SourceError: the files disagree about their columns, or a column is missing or unfit.
        Unreachable: the store cannot be read.
    """
    asked = read_columns(source, asked)
    with ThreadPoolExecutor(READERS) as pool:
        look = partial(footers.read, name, source, table=found.schema, ids=found.ids, unnumbered=found.unnumbered, asked=asked)
        looked = list(pool.map(look, found.files))
    _check_renamed(name, source, found, looked, asked)
    _check_declared(name, source, looked)
    if found.schema is None:
        described = [(one.file.uri, one.schema) for one in looked]
    else:
        described = [(found.uri, footers.described(name, source, found.uri, _plain(found.schema)))]
    schema = schemas.agreed(name, source, described, asked)
    check_where(name, source, schema)
    pin = Pin(
        source=name,
        uri=found.uri,
        files=tuple(one.file for one in looked),
        columns={field.name: str(field.type) for field in schema},
        schema=packed(schema),
        notes=(
            *found.notes,
            *_infinities(name, [(one.file, one.infinite) for one in looked], asked),
            *_nulls(name, source, looked),
        ),
        version=found.version,
        seen_at=found.seen_at,
        latest=_latest(looked) or None,
    )
    if isinstance(source, ReferenceSource) and source.snapshots:
        return replace(pin, snapshots=tuple(_snapshots(source, pin)))
    return pin


def read_columns(source: Source, asked: Sequence[str]) -> Sequence[str]:
    """The columns that are read; all when empty."""
    return asked or (source.needed and tuple(dict.fromkeys((*source.needed, *source.tested))))


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema([(field.name, plain(field.type)) for field in schema])


def _check_renamed(name: str, source: Source, found: Contents, looked: Iterable[Footer], asked: Sequence[str]) -> None:
    """Checks that every column to rename that is read exists. Raises: SourceError."""
    if not source.rename:
        return
    named = {column for one in looked for column in one.schema.names} if found.schema is None else None
    for stored, given in source.rename.items():
        if asked and given not in asked:
            continue
        if stored not in found.schema.names if found.schema is not None else given not in (named or ()):
            there = found.schema.names if found.schema is not None else sorted(named or ())
            raise SourceError(
                f"Source {name!r}: rename names column {stored!r}, which it does not have (it has: {examples(there, 30)}). "
                "Correct the description; names are written as they are stored."
            )


def _check_declared(name: str, source: Source, looked: Sequence[Footer]) -> None:
    """Checks that some text file has each declared column. Raises: SourceError."""
    if not isinstance(source.format, Text) or not looked:
        return
    rename, there = source.rename or {}, {column for one in looked for column in one.schema.names}
    missing = [column for column in source.format.columns if rename.get(column, column) not in there]
    if unfilled := [column for column in missing if rename.get(column, column) not in (source.fill or ())]:
        raise SourceError(
            f"Source {name!r}: format= declares column {examples(map(repr, unfilled))}, which no file has (found: "
            f"{examples(sorted(there), 30)}, such as in {looked[0].file.uri}). Write it as in the files' first line."
        )


def _nulls(name: str, source: Source, looked: Sequence[Footer]) -> Iterator[str]:
    """A note on keys that no line of JSON has: they may be mistyped."""
    if not isinstance(source.format, JsonLines) or not looked:
        return
    if absent := sorted(frozenset.intersection(*(one.null for one in looked))):
        yield (
            f"Source {name!r}: no line has a value for {examples(absent)}, so it is null in every row. Correct format= if the "
            "key is written otherwise."
        )


def _latest(looked: Iterable[Footer]) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for one in looked:
        for column, moment in one.latest.items():
            found[column] = max(moment, found.get(column, moment))
    return dict(sorted(found.items()))


def _snapshots(source: ReferenceSource, pin: Pin) -> list[datetime]:
    """The moments of the copies that a reference with snapshots holds, in order, whichever rows `where` leaves of them. Only
    files that may hold several are read.
    """
    found = {file.low for file in pin.files if file.low is not None and file.low == file.high and file.rows}
    mixed = [file for file in pin.files if file.low is None or file.low != file.high]
    view = view_of(replace(source, where=""), pin, [source.snapshots])  # `where` says which rows of a copy are read
    for batch in chunks.read_chunks(chunks.of_pinned(mixed), view.stored):
        found |= set(pc.unique(cut_rows(batch, view).column(source.snapshots)).to_pylist())
    return sorted(one for one in found if one is not None)


def _infinities(name: str, looked: Iterable[tuple[PinnedFile, frozenset[str]]], asked: Sequence[str]) -> Iterator[str]:
    """Notes on the columns that hold infinite values, as far as statistics show."""
    found: dict[str, list[str]] = {}
    for file, names in looked:
        for column in names:
            found.setdefault(column, []).append(file.uri)
    for column, uris in sorted(found.items()):
        if not asked or column in asked:
            yield (
                f"Source {name!r}: column {column!r} holds infinite values in {examples(uris, 1)}. They are read as they are; "
                "deliver them as null if they stand for a missing value."
            )
