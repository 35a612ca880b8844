"""Sources on S3: observed once into a pin, from a listing or a table's log and from the files' footers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from almanac import chunks
from almanac.columns import packed, plain
from almanac.core import folder
from almanac.core.canonical import digest
from almanac.core.folder import FileKind
from almanac.core.formats import Csv, Delta, Iceberg, JsonLines, Parquet, Text
from almanac.core.garbage import GROUP_FRESH
from almanac.core.pins import Constant, Pin, PinnedFile
from almanac.core.sources import EventSource, ReferenceSource, Source
from almanac.cutting import check_where, cut_rows, view_of
from almanac.errors import NotFound, SourceError, SourceMissing, StoreError, examples
from almanac.store import footers, schemas, texts
from almanac.store.copies import Copies
from almanac.store.footers import Footer
from almanac.store.objects import Listed, Objects

READERS = 16
READ_BY_LOG = {folder.LOGS["_delta_log"]: "Delta()", folder.ICEBERG: "Iceberg()"}
LOG_FILES = 100  # how many files of a possible table log are looked at


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

        return pin_of(name, source, delta_tables.contents(objects, name, source, then, _read(source, asked)), asked)
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
        return pin_of(name, source, iceberg_tables.contents(objects, name, source, then, _read(source, asked)), asked)
    return pin_of(name, source, _of_folder(objects, copies, name, source, then), asked)


def pin_of(name: str, source: Source, found: Contents, asked: Sequence[str] = ()) -> Pin:
    """The pin of a source's files, completed from their footers.

    Raises:
        SourceError: the files disagree about their columns, or a column is missing or unfit.
        Unreachable: the store cannot be read.
    """
    asked = _read(source, asked)
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


def _read(source: Source, asked: Sequence[str]) -> Sequence[str]:
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


def _of_folder(objects: Objects, copies: Copies, name: str, source: Source, then: PointInTime | None) -> Contents:
    """The files in a folder."""
    try:
        listed = list(objects.walk(source.uri) if then is None else objects.as_of(source.uri, then.moment))
    except NotFound as error:
        raise SourceMissing(f"Source {name!r} is missing: {error}") from error
    is_text = isinstance(source.format, Text)
    what = "Parquet" if isinstance(source.format, Parquet) else "CSV" if isinstance(source.format, Csv) else "JSON lines"
    if is_text:
        _check_zone(name, source)
    with ThreadPoolExecutor(READERS) as pool:
        _check_plain(objects, name, source, listed, pool)
        found, notes = _text_files(name, source, listed) if is_text else _data(objects, name, source, listed, pool)
        if not found:
            raise SourceMissing(
                f"Source {name!r} is missing: there {'is' if then is None else 'was'} no {what} file below {source.uri}"
                f"{'' if then is None else f' at {then.moment.isoformat()}'}. Deliver it, or correct the source's uri."
                f"{''.join(f' {note}' for note in notes)}"
            )
        files = list(pool.map(lambda item: _pinned(objects, name, source, item, then), found))
        if is_text:
            files = list(pool.map(lambda file: replace(file, made=texts.convert(objects, copies, name, source, file)), files))
    return Contents(uri=source.uri, files=tuple(files), notes=(*notes, *_unread_partitions(name, source, files)))


def _pinned(objects: Objects, name: str, source: Source, item: Listed, then: PointInTime | None) -> PinnedFile:
    """A listed file, with the values of its folders. Raises: SourceError, if a folder is missing or its value unfit."""
    return PinnedFile(
        uri=item.uri,
        size=item.size,
        etag=item.etag,
        version=item.version,
        copy=_copied(objects, item, then),
        constants=tuple(_constants(name, source, item.uri)),
    )


def _constants(name: str, source: Source, uri: str) -> Iterator[Constant]:
    """The values that the folders of a file give to the source's partitions."""
    there = folder.partitions(uri.removeprefix(source.uri)) if source.partitions else {}
    for column, kind in (source.partitions or {}).items():
        if column not in there:
            raise SourceError(
                f"Source {name!r}: {uri} lies in no folder such as {column}=..., which partitions={{{column!r}: {kind!r}}} "
                "expects. Move the file, or leave the column out of partitions."
            )
        one = Constant(name=column, type=kind, value=there[column])
        try:
            footers.check_constant(one)
        except pa.ArrowException as error:
            raise SourceError(
                f"Source {name!r}: the folder of {uri} gives {column} the value {there[column]!r}, which is no {kind} "
                f"({' '.join(str(error).split())}). Correct the folder's name, or the type in partitions."
            ) from error
        yield one


def _check_zone(name: str, source: Source) -> None:
    """Checks that times in text can be read. Raises: SourceError."""
    assert isinstance(source.format, Text)
    stored = {given: one for one, given in (source.rename or {}).items()}
    times = [column for column in source.times if source.format.columns.get(stored.get(column, column)) == "timestamp"]
    if times and source.zone is None:
        noun = type(source).__name__
        raise SourceError(
            f"Source {name!r}: column {times[0]!r} is text, which may have no time zone. Declare how to read it with {noun}(..., "
            "timezone='UTC'); a time with an offset, such as 12:00+02:00, is read by that."
        )


def _text_files(name: str, source: Source, listed: Sequence[Listed]) -> tuple[list[Listed], list[str]]:
    """The text files among those of a folder, and notes on the others."""
    endings = folder.CSV_ENDINGS if isinstance(source.format, Csv) else folder.JSON_ENDINGS
    kinds = {item: folder.kind(item.uri.removeprefix(source.uri), item.size, endings) for item in listed}
    found = [item for item, kind in kinds.items() if kind is FileKind.DATA]
    marker = (source.late.marker or "").partition("{")[0] if isinstance(source, EventSource) else ""
    others = [item.uri for item, kind in kinds.items() if kind in (FileKind.OTHER, FileKind.UNNAMED)]
    others = [uri for uri in others if not marker or not uri.startswith(source.uri + marker)]
    notes = []
    if others:
        notes.append(
            f"Source {name!r}: files that do not end in {endings[0]!r} or the like are not read ({len(others)}): "
            f"{examples(others)}. Rename them, or move them out of the folder if they are no data."
        )
    return found, notes


def _check_plain(objects: Objects, name: str, source: Source, listed: Iterable[Listed], pool: Executor) -> None:
    """Checks that a source's folder is neither a table with a log nor part of one. Raises: SourceError."""

    def above(place: tuple[str, str]) -> tuple[str, str, str] | None:
        whole, log = place
        with contextlib.suppress(StoreError):  # access may be limited to the source itself
            held = folder.table(item.uri.removeprefix(whole) for item in islice(objects.walk(log), LOG_FILES))
            return (whole, *held) if held else None
        return None

    inside = folder.table(item.uri.removeprefix(source.uri) for item in listed)
    tables = [(source.uri, *inside)] if inside else [one for one in pool.map(above, folder.logs_above(source.uri)) if one]
    for whole, kind, path in tables:
        advice = "Deliver a copy as plain Parquet files in a folder of its own."
        if whole == source.uri and kind in READ_BY_LOG and path.startswith(("_delta_log/", "metadata/")):
            advice = f"Read it by its log: {type(source).__name__}(..., format={READ_BY_LOG[kind]})."
        raise SourceError(
            f"Source {name!r}: {whole} is {kind} (found {path}). Only its log says which files are current, so it is not read "
            f"file by file: overwritten rows would come back. {advice}"
        )


def _data(
    objects: Objects, name: str, source: Source, listed: Sequence[Listed], pool: Executor
) -> tuple[list[Listed], list[str]]:
    """The files that are data, and notes on files with unusual names. Raises: SourceError, for an empty file."""
    folders = {part for item in listed for part in _folders(item.uri)}
    kinds = {item: folder.kind(item.uri.removeprefix(source.uri), item.size) for item in listed if item.uri not in folders}
    unsure = [item for item, kind in kinds.items() if kind in (FileKind.UNNAMED, FileKind.OTHER)]
    beginnings = pool.map(lambda item: objects.begin(item, len(folder.MAGIC[0])), unsure)
    parquet = {item for item, begin in zip(unsure, beginnings, strict=True) if begin in folder.MAGIC}
    found = [item for item, kind in kinds.items() if kind is FileKind.DATA or (kind is FileKind.UNNAMED and item in parquet)]
    if empty := [item.uri for item in found if not item.size]:
        raise SourceError(
            f"Source {name!r}: {examples(empty)} is empty (0 bytes), expected a Parquet file. Deliver it again, or delete it."
        )
    notes = []
    if odd := [item.uri for item in found if not item.uri.endswith(folder.ENDINGS[0])]:
        notes.append(
            f"Source {name!r}: Parquet files that do not end in '.parquet' are read ({len(odd)}): {examples(odd)}. Rename them, "
            "or move them out of the folder if they are no data."
        )
    other = [item for item, kind in kinds.items() if kind is FileKind.OTHER]
    passed = [item.uri for item in other if item in parquet or folder.is_named_like(item.uri)]
    if passed:
        notes.append(
            f"Source {name!r}: Parquet files of another ending are not read ({len(passed)}): {examples(passed)}. Rename them to "
            "end in '.parquet', or move them out of the folder if they are no data."
        )
    if strange := [item.uri for item in other if item.uri not in passed and folder.is_data_of_another_kind(item.uri)]:
        notes.append(
            f"Source {name!r}: files that are not Parquet are not read ({len(strange)}): {examples(strange)}. Read CSV "
            "or JSON lines with format=, deliver them as Parquet, or move them out of the folder if they are no data."
        )
    return found, notes


def _unread_partitions(name: str, source: Source, files: Iterable[PinnedFile]) -> Iterator[str]:
    """A note on columns that only the names of folders have, such as `dt=2017-05-01`."""
    there = dict.fromkeys(column for file in files for column in folder.partitions(file.uri.removeprefix(source.uri)))
    if unread := [column for column in there if column not in (source.partitions or {})]:
        yield (
            f"Source {name!r}: files lie in folders that are named for {examples(unread)}. Such a column is not read from the "
            f"folders' names. Declare it if it is needed: partitions={{{unread[0]!r}: 'string'}}, or another type."
        )


def _folders(uri: str) -> Iterator[str]:
    """The folders that contain a file: some tools leave an empty object under a folder's name."""
    while "/" in uri.removeprefix("s3://"):
        uri = uri.rsplit("/", 1)[0]
        yield uri


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


def _copied(objects: Objects, item: Listed, then: PointInTime | None) -> str:
    """The URI of the copy of an older file version; empty for the newest one."""
    if then is None or not item.version:
        return ""
    uri = then.copies(digest([item.uri, item.version])[:32], item.uri.rsplit("/", 1)[-1])
    kept = next(objects.walk(uri), None)
    if kept is None or datetime.now(UTC) - kept.modified > GROUP_FRESH:  # else `almanac gc` could soon delete it
        objects.copy(item, uri)
    return uri
