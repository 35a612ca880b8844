"""Sources on S3: observed once into a pin, and checked against it after they were read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from almanac.columns import AS_WRITTEN, UTC_TIME, leaves, packed, plain
from almanac.core import folder
from almanac.core.canonical import digest
from almanac.core.folder import FileKind
from almanac.core.garbage import GROUP_FRESH
from almanac.core.late import Span, SpanContents
from almanac.core.pins import Pin, PinnedFile
from almanac.core.sources import Cut, EventSource, Source
from almanac.core.timezone import as_utc
from almanac.cutting import in_utc, keep
from almanac.errors import NotFound, SourceError, SourceMissing, StoreError, Unreachable, examples
from almanac.files import locate
from almanac.store import schemas
from almanac.store.objects import Listed, Objects

READERS, STORE_ERROR = 16, "AWS Error"
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


def observe(objects: Objects, name: str, source: Source, then: PointInTime | None = None, asked: Sequence[str] = ()) -> Pin:
    """The files of a source as they are now, from a listing and their footers; or as they were at a given time, if the bucket
    keeps object versions. A version that is not the newest is copied, so that any reader can open it.

    Args:
        asked: the columns that are read; if empty, those that the source names, or all.

    Raises:
        SourceMissing: there are no files.
        SourceError: the files belong to a table with a log; they disagree about their columns; a column is missing or unfit.
        Unfit: the bucket does not keep object versions.
        Unreachable, AccessRefused: the store cannot be read.
    """
    try:
        listed = list(objects.walk(source.uri) if then is None else objects.as_of(source.uri, then.moment))
    except NotFound as error:
        raise SourceMissing(f"Source {name!r} is missing: {error}") from error
    with ThreadPoolExecutor(READERS) as pool:
        _check_plain(objects, name, source, listed, pool)
        found, notes = _data(objects, name, source, listed, pool)
        if not found:
            raise SourceMissing(
                f"Source {name!r} is missing: there {'is' if then is None else 'was'} no Parquet file below {source.uri}"
                f"{'' if then is None else f' at {then.moment.isoformat()}'}. Deliver it, or correct the source's uri."
                f"{''.join(f' {note}' for note in notes)}"
            )
        looked = list(pool.map(lambda item: _look(name, source, item, _copied(objects, item, then)), found))
    schema = schemas.agreed(name, source, [(file.uri, own) for file, own, _ in looked], asked or source.needed)
    return Pin(
        source=name,
        uri=source.uri,
        files=tuple(file for file, _, _ in looked),
        columns={field.name: str(field.type) for field in schema},
        schema=packed(schema),
        notes=(
            *notes,
            *_unread_partitions(name, source, (file for file, _, _ in looked), schema.names),
            *_infinities(name, [(file, names) for file, _, names in looked], asked or source.needed),
        ),
    )


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
        raise SourceError(
            f"Source {name!r}: {whole} is {kind} (found {path}). Only its log says which files are current, so it is not read "
            "file by file: overwritten rows would come back. Deliver a copy as plain Parquet files in a folder of its own."
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
            f"Source {name!r}: files that are not Parquet are not read ({len(strange)}): {examples(strange)}. Deliver them as "
            "Parquet, or move them out of the folder if they are no data."
        )
    return found, notes


def _unread_partitions(name: str, source: Source, files: Iterable[PinnedFile], columns: Iterable[str]) -> Iterator[str]:
    """A note on columns that only the names of folders have, such as `dt=2017-05-01`."""
    there = dict.fromkeys(column for file in files for column in folder.partitions(file.uri.removeprefix(source.uri)))
    if unread := [column for column in there if column not in columns]:
        yield (
            f"Source {name!r}: files lie in folders that are named for {examples(unread)}. Such a column is not read from the "
            "folders' names. Write it into the files as well if it is needed."
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


def _check_reached(uri: str, error: Exception) -> None:
    """Checks that a read error concerns the file and not the connection to the store. Raises: Unreachable."""
    if STORE_ERROR in str(error):  # how pyarrow marks errors of the store and of the connection
        raise Unreachable(f"{uri}: the file cannot be read ({error}). Check the store and its credentials.") from error


def _look(name: str, source: Source, item: Listed, copy: str) -> tuple[PinnedFile, pa.Schema, frozenset[str]]:
    """A file, its columns with plain types, and the columns that hold infinite values."""
    try:
        system, path = locate(copy or item.uri)
        with system.open_input_file(path) as opened:
            parquet = pq.ParquetFile(opened, **AS_WRITTEN)
            schema, footer = parquet.schema_arrow, parquet.metadata
    except (OSError, pa.ArrowException) as error:
        _check_reached(item.uri, error)
        raise SourceError(f"Source {name!r}: {item.uri} cannot be read as Parquet ({error}). Deliver it again.") from error
    places = dict(leaves(schema))
    low, high = _bounds(footer, places, source, source.event_time) if isinstance(source, EventSource) else (None, None)
    known = None
    if isinstance(source, EventSource) and source.knowledge_time:
        known, _ = _bounds(footer, places, source, source.knowledge_time)
    groups = tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    file = PinnedFile(
        uri=item.uri,
        size=item.size,
        etag=item.etag,
        groups=groups,
        low=low,
        high=high,
        known=known,
        version=item.version,
        copy=copy,
    )
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    return file, pa.schema([(field.name, plain(field.type)) for field in schema]), _infinite(footer, places, floats)


def _infinite(footer: pq.FileMetaData, places: Mapping[str, int], names: Iterable[str]) -> frozenset[str]:
    return frozenset(
        name for name in names if any(bound in (math.inf, -math.inf) for pair in _stats(footer, places[name]) for bound in pair)
    )


def _stats(footer: pq.FileMetaData, place: int) -> Iterator[tuple[Any, Any]]:
    """The smallest and largest value of a column in each row group; None twice for a group without statistics."""
    for number in range(footer.num_row_groups):
        stats = footer.row_group(number).column(place).statistics
        try:
            yield (stats.min, stats.max) if stats is not None and stats.has_min_max else (None, None)
        except (OverflowError, ValueError):  # a time outside the range of Python
            yield None, None


def _bounds(
    footer: pq.FileMetaData, places: Mapping[str, int], source: EventSource, name: str
) -> tuple[datetime | None, datetime | None]:
    """The oldest and newest time in a file's column, or None where its statistics do not show it."""
    pairs = list(_stats(footer, places[name])) if name in places else []
    if not all(isinstance(one, datetime) for pair in pairs for one in pair):
        return None, None
    try:
        lows, highs = ([as_utc(one, source.timezone) for one in side] for side in zip(*pairs, strict=True)) if pairs else ([], [])
    except OverflowError:
        return None, None
    return min(lows, default=None), max(highs, default=None)


def look(objects: Objects, source: EventSource, pin: Pin, span: Span) -> SpanContents:
    """What a source holds of a span. Times are read only from files that can hold rows of the span.

    Raises:
        SourceError: a file cannot be read.
    """
    cut = Cut(low=span.low, high=span.high, known=span.known)
    inside = pin.within(cut)
    with ThreadPoolExecutor(READERS) as pool:
        counted = list(pool.map(lambda file: _count(file, source, cut), inside))
        newest = _newest(last for _, last in counted)
        if newest is None:
            older = [file for file in pin.within(replace(cut, low=None)) if file not in inside]
            newest = _newest(pool.map(lambda file: _last(file, source, cut), older))
    marker = source.late.marker
    marked = marker is None or objects.has(source.uri + marker.format(period=span.period))
    return SpanContents(rows=sum(rows for rows, _ in counted), newest=newest, marked=marked)


def _newest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _last(file: PinnedFile, source: EventSource, cut: Cut) -> datetime | None:
    """The newest event of a file that ends before the cut does. Statistics give it, but not by knowledge time."""
    return file.high if file.high is not None and not source.knowledge_time else _count(file, source, cut)[1]


def _count(file: PinnedFile, source: EventSource, cut: Cut) -> tuple[int, datetime | None]:
    """How many rows of a file are inside a cut, and the newest event before the cut's end."""
    schema = pa.schema([(name, UTC_TIME) for name in source.times])
    rows, newest = 0, None
    system, path = locate(file.place)
    try:
        with system.open_input_file(path) as opened:
            for batch in pq.ParquetFile(opened, **AS_WRITTEN).iter_batches(columns=list(source.times), use_threads=False):
                times = keep(in_utc(batch, schema, source.timezone), source, replace(cut, low=None)).column(source.event_time)
                rows += pc.sum(pc.greater_equal(times, pa.scalar(cut.low, UTC_TIME))).as_py() or 0
                newest = _newest((newest, pc.max(times).as_py()))
    except (OSError, pa.ArrowInvalid) as error:
        _check_reached(file.uri, error)
        raise SourceError(f"{file.uri} cannot be read as Parquet ({error}). Deliver it again.") from error
    return rows, newest


def check_unchanged(objects: Objects, pin: Pin, files: Iterable[PinnedFile]) -> None:
    """Checks that the files that were read are still those that were pinned.

    Raises:
        SourceError: a file was replaced or removed while it was read.
    """
    now = {item.uri: item.etag for item in objects.walk(pin.uri)}
    changed = [file.uri for file in files if not file.copy and now.get(file.uri) != file.etag]
    if changed:
        raise SourceError(
            f"Source {pin.source!r} changed while it was read: {examples(changed)} no longer matches the pin. "
            "Nothing was published. Start the run again to pin the current files."
        )
