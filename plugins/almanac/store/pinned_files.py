"""Pinned files read again: what they hold of a span, and whether they are still the pinned ones."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from almanac import chunks
from almanac.columns import UTC_TIME
from almanac.core.late import Span, SpanContents
from almanac.core.pins import Pin, PinnedFile
from almanac.core.sources import Cut, EventSource
from almanac.cutting import View, cut_rows, view_of
from almanac.errors import IntegrityError, SourceError, examples
from almanac.store.objects import Objects

READERS = 16


def look(objects: Objects, source: EventSource, pin: Pin, span: Span) -> SpanContents:
    """What a source holds of a span. Times are read only from files that can hold rows of the span.

    Raises:
        SourceError: a file cannot be read.
    """
    cut = Cut(low=span.low, high=span.high, known=span.known)
    view = view_of(source, pin, source.times, replace(cut, low=None))
    inside = pin.within(cut)
    with ThreadPoolExecutor(READERS) as pool:
        counted = list(pool.map(lambda file: _count(file, view, span.low), inside))
        newest = _newest(last for _, last in counted)
        if newest is None:
            older = [file for file in pin.within(view.cut) if file not in inside]
            newest = _newest(pool.map(lambda file: _last(file, source, view, span.low), older))
    marker = source.late.marker
    marked = marker is None or objects.has(source.uri + marker.format(period=span.period))
    return SpanContents(rows=sum(rows for rows, _ in counted), newest=newest, marked=marked)


def _newest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _last(file: PinnedFile, source: EventSource, view: View, low: datetime) -> datetime | None:
    """The newest event of a file that ends before the cut does. Statistics give it only if every row counts."""
    if file.high is not None and not (source.knowledge_time or source.where or file.deleted):
        return file.high
    return _count(file, view, low)[1]


def _count(file: PinnedFile, view: View, low: datetime) -> tuple[int, datetime | None]:
    """How many rows of a file are inside a view from `low` on, and the newest event in it."""
    assert isinstance(view.source, EventSource)
    rows, newest = 0, None
    try:
        for batch in chunks.read_chunks(chunks.of_pinned([file]), view.stored):
            times = cut_rows(batch, view).column(view.source.event_time)
            rows += pc.sum(pc.greater_equal(times, pa.scalar(low, UTC_TIME))).as_py() or 0
            newest = _newest((newest, pc.max(times).as_py()))
    except IntegrityError as error:
        raise SourceError(f"{file.uri} cannot be read as Parquet ({error}). Deliver it again.") from error
    return rows, newest


def check_unchanged(objects: Objects, pin: Pin, files: Iterable[PinnedFile]) -> None:
    """Checks that the files that were read are still those that were pinned.

    Raises:
        SourceError: a file was replaced or removed while it was read.
    """
    read = [file for file in files if not file.is_kept]
    if not read:
        return
    now = etags(objects, pin.uri, read)
    if changed := [file.uri for file in read if now.get(file.uri) != file.etag]:
        raise SourceError(
            f"Source {pin.source!r} changed while it was read: {examples(changed)} no longer matches the pin. "
            "Nothing was published. Start the run again to pin the current files."
        )


def etags(objects: Objects, folder: str, files: Iterable[PinnedFile]) -> dict[str, str]:
    """The etags of a source's files now, by URI; those of a table may lie outside its folder."""
    found = {item.uri: item.etag for item in objects.walk(folder)}
    for file in files:
        if file.uri not in found and not file.uri.startswith(folder):
            found |= {item.uri: item.etag for item in objects.walk(file.uri) if item.uri == file.uri}
    return found


def as_named_now(objects: Objects, pin: Pin) -> Pin:
    """The pin with the current names of its files. A file that was delivered under another name is found by its bytes."""
    if all(file.is_kept for file in pin.files):
        return pin
    listed = list(objects.walk(pin.uri))
    there = {item.uri for item in listed}
    named = {(item.etag, item.size): item.uri for item in listed}
    files = (
        file if file.is_kept or file.uri in there else replace(file, uri=named.get((file.etag, file.size), file.uri))
        for file in pin.files
    )
    return replace(pin, files=tuple(files))
