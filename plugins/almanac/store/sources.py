"""Sources as they lie on S3: observed once into a pin, and held against it after they were read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from almanac.core.canonical import digest
from almanac.core.late import Found, Span
from almanac.core.sources import Cut, EventSource, Pin, PinnedFile, Source, as_utc, check_columns
from almanac.cutting import UTC_TIME, in_utc, keep
from almanac.errors import NotFound, SourceError, SourceMissing, Unreachable, examples
from almanac.files import locate
from almanac.store.objects import Listed, Objects
from almanac.store.receipts import PART_KEPT

READERS, STORE_ERROR = 16, "AWS Error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Then:
    """A time at which a source is looked at.

    Args:
        moment: in UTC.
        copies: the URI of the copy of an older version of a file, by a digest of which one it is and its name.
    """

    moment: datetime
    copies: Callable[[str, str], str]


def observe(objects: Objects, name: str, source: Source, then: Then | None = None) -> Pin:
    """The files of a source as they are now, from a listing and their footers; or as they were at a time, where the bucket
    keeps their versions. A version that is not the newest is copied, so that whatever reads files can read it.

    Raises:
        SourceMissing: there are no files.
        SourceError: they disagree about their columns, or a column is missing or unfit.
        Unfit: the bucket does not keep versions.
        Unreachable, AccessRefused: the store does not let us look.
    """
    try:
        listed = objects.walk(source.uri) if then is None else objects.as_of(source.uri, then.moment)
        found = [item for item in listed if item.uri.endswith(".parquet") and item.size]
    except NotFound as error:
        raise SourceMissing(f"Source {name!r} is missing: {error}") from error
    if not found:
        raise SourceMissing(
            f"Source {name!r} is missing: no Parquet file {'lies' if then is None else 'lay'} below {source.uri}"
            f"{'' if then is None else f' at {then.moment.isoformat()}'}. Deliver it, or correct the source's uri."
        )
    with ThreadPoolExecutor(READERS) as pool:
        looked = list(pool.map(lambda item: _look(name, source, item, _copied(objects, item, then)), found))
    columns = looked[0][1]
    for file, others in looked:
        check_columns(name, source, others)
        if differing := [key for key in (source.needed or sorted({*columns, *others})) if others.get(key) != columns.get(key)]:
            raise SourceError(
                f"Source {name!r}: {file.uri} has {_as_found(others, differing)}, "
                f"{looked[0][0].uri} has {_as_found(columns, differing)}. "
                "Files of one source must agree; deliver one of them again."
            )
    return Pin(source=name, uri=source.uri, files=tuple(file for file, _ in looked), columns=columns)


def _as_found(columns: Mapping[str, str], keys: Iterable[str]) -> str:
    return examples(f"{key} as {columns[key]}" if key in columns else f"no {key}" for key in keys)


def _copied(objects: Objects, item: Listed, then: Then | None) -> str:
    """Where an older version of a file was copied to; empty for the newest one."""
    if then is None or not item.version:
        return ""
    uri = then.copies(digest([item.uri, item.version])[:32], item.uri.rsplit("/", 1)[-1])
    kept = next(objects.walk(uri), None)
    if kept is None or datetime.now(UTC) - kept.modified > PART_KEPT:  # gc would soon delete it
        objects.copy(item, uri)
    return uri


def _check_reached(uri: str, error: Exception) -> None:
    """An error of reading is of the file, and not of the way to it. Raises: Unreachable."""
    if STORE_ERROR in str(error):  # so pyarrow tells what the store answered, or that it did not
        raise Unreachable(f"{uri}: the file cannot be read ({error}). Check the store and its credentials.") from error


def _look(name: str, source: Source, item: Listed, copy: str) -> tuple[PinnedFile, dict[str, str]]:
    try:
        system, path = locate(copy or item.uri)
        with system.open_input_file(path) as opened:
            parquet = pq.ParquetFile(opened)
            schema, footer = parquet.schema_arrow, parquet.metadata
    except (OSError, pa.ArrowInvalid) as error:
        _check_reached(item.uri, error)
        raise SourceError(f"Source {name!r}: {item.uri} cannot be read as Parquet ({error}). Deliver it again.") from error
    columns = {field.name: str(field.type) for field in schema}
    low, high = _bounds(footer, schema, source, source.event_time) if isinstance(source, EventSource) else (None, None)
    known = None
    if isinstance(source, EventSource) and source.knowledge_time:
        known, _ = _bounds(footer, schema, source, source.knowledge_time)
    groups = tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    return PinnedFile(
        uri=item.uri,
        size=item.size,
        etag=item.etag,
        groups=groups,
        low=low,
        high=high,
        known=known,
        version=item.version,
        copy=copy,
    ), columns


def _bounds(
    footer: pq.FileMetaData, schema: pa.Schema, source: EventSource, name: str
) -> tuple[datetime | None, datetime | None]:
    """The oldest and newest time in a file's column, or None where its statistics do not tell."""
    if name not in schema.names:
        return None, None
    lows, highs = [], []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        column = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == name)
        stats = column.statistics
        if stats is None or not stats.has_min_max or not isinstance(stats.min, datetime):
            return None, None
        lows.append(as_utc(stats.min, source.timezone))
        highs.append(as_utc(stats.max, source.timezone))
    return min(lows, default=None), max(highs, default=None)


def look(objects: Objects, source: EventSource, pin: Pin, span: Span) -> Found:
    """What a source holds of a span. The times of those rows are read where files can hold such rows, and no others.

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
    return Found(rows=sum(rows for rows, _ in counted), newest=newest, marked=marked)


def _newest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _last(file: PinnedFile, source: EventSource, cut: Cut) -> datetime | None:
    """The newest event of a file that lies wholly before the cut's end: its statistics tell it, but not what was known when."""
    return file.high if file.high is not None and not source.knowledge_time else _count(file, source, cut)[1]


def _count(file: PinnedFile, source: EventSource, cut: Cut) -> tuple[int, datetime | None]:
    """How many rows of a file lie inside a cut, and the newest of those before the cut's end."""
    schema = pa.schema([(name, UTC_TIME) for name in source.times])
    rows, newest = 0, None
    system, path = locate(file.place)
    try:
        with system.open_input_file(path) as opened:
            for batch in pq.ParquetFile(opened).iter_batches(columns=list(source.times), use_threads=False):
                times = keep(in_utc(batch, schema, source.timezone), source, replace(cut, low=None)).column(source.event_time)
                rows += pc.sum(pc.greater_equal(times, pa.scalar(cut.low, UTC_TIME))).as_py() or 0
                newest = _newest((newest, pc.max(times).as_py()))
    except (OSError, pa.ArrowInvalid) as error:
        _check_reached(file.uri, error)
        raise SourceError(f"{file.uri} cannot be read as Parquet ({error}). Deliver it again.") from error
    return rows, newest


def check_unchanged(objects: Objects, pin: Pin, files: Iterable[PinnedFile]) -> None:
    """The files that were read are still those that were pinned.

    Raises:
        SourceError: one was replaced or removed while it was read.
    """
    now = {item.uri: item.etag for item in objects.walk(pin.uri)}
    changed = [file.uri for file in files if not file.copy and now.get(file.uri) != file.etag]
    if changed:
        raise SourceError(
            f"Source {pin.source!r} changed while it was read: {examples(changed)} is not what was pinned. "
            "Nothing was published. Start the run again: it pins the files as they are then."
        )
