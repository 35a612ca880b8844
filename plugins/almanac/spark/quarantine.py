"""Rows of sources that fail a check are set aside: located in the pinned files, and kept with the reason."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from almanac.core.audits import Audit
from almanac.core.canonical import decode, encode
from almanac.core.pins import Pin, PinnedFile
from almanac.core.receipts import Output
from almanac.core.sources import EventSource, Source
from almanac.cutting import in_utc
from almanac.spark import arrow, checks, chunks, rows, sources
from almanac.spark.checks import Checked
from almanac.spark.chunks import Batches, Chunk
from almanac.spark.rows import Rows, Session

# Columns beside a source's own: a row's file, by its position in the pin; its position in the file; and why it was set aside.
FILE, ROW, REASON = "@file", "@row", "@reason"
Reasons = Mapping[int, Mapping[int, str]]  # file to row to reason
PlacedGroup = tuple[int, Chunk, int]  # a file's number, a row group of it, the position of the group's first row


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """The result of a source's audit.

    Args:
        checked: the suite's result for the rows that are left.
        pin: the files that were checked, with the rows set aside.
        rows: how many were checked.
        reasons: why rows were set aside.
        refused: why rows were not set aside; empty if they were, or if none failed.
    """

    checked: Checked
    pin: Pin
    rows: int
    reasons: Reasons
    refused: str = ""

    @property
    def aside(self) -> int:
        return sum(len(places) for places in self.reasons.values())


def inspect(session: Session, source: Source, pin: Pin, suite: Sequence[Any], name: str) -> Inspected:
    """Checks the whole files of a pin. Rows that fail a row-wise check are set aside if the source's audit allows it."""
    count = sum(file.rows for file in pin.files)
    checked = checks.run(_left(session, source, pin), suite, name)
    wanted = [failure for failure in checked.failed if checks.by_row(failure.expectation)]
    found = Inspected(checked=checked, pin=pin, rows=count, reasons={})
    if source.audit is None or not source.sets_aside or not wanted:
        return found
    most = source.audit.quarantine * count
    if (worst := max(failure.count for failure in wanted)) > most:
        return replace(found, refused=_refusal(pin, source.audit, worst, count))
    reasons: dict[int, dict[int, str]] = {}
    failing = checks.failing_rows(_numbered(session, source, pin), [failure.expectation for failure in wanted], name, (FILE, ROW))
    for failure, places in zip(wanted, failing, strict=True):
        for file, row in places:
            reasons.setdefault(file, {}).setdefault(row, failure.text.split(" failed", 1)[0])
    found = replace(found, reasons=reasons)
    if found.aside > most:
        return replace(found, reasons={}, refused=_refusal(pin, source.audit, found.aside, count))
    files = [
        replace(file, aside=tuple(sorted(reasons[number]))) if number in reasons else file
        for number, file in enumerate(pin.files)
    ]
    left = replace(pin, files=tuple(files))
    return replace(found, pin=left, checked=checks.run(_left(session, source, left), suite, name))


def _refusal(pin: Pin, audit: Audit, count: int, rows: int) -> str:
    return (
        f"Source {pin.source!r}: {count} of {rows} rows ({count / rows:.3g}) would be set aside, more than the share "
        f"of {audit.quarantine:g} that Audit.quarantine allows. Deliver it again, or allow more with Audit(quarantine=...)."
    )


def keep(session: Session, source: Source, found: Inspected, folder: str) -> list[Output]:
    """Writes the rows set aside, with their file, their position in it and the reason, to one Parquet file per source file."""
    schema, timezone, reasons = _schema(source, found.pin), _timezone(source), found.reasons
    hands = [list(_placed(number, found.pin.files[number])) for number in sorted(reasons)]
    kept = schema.append(pa.field(REASON, pa.string()))
    own = [name for name in schema.names if name not in (FILE, ROW)]

    def work(hand: Sequence[PlacedGroup]) -> Iterator[str]:
        number = hand[0][0]
        # Its digest covers the positions only: a source's own columns may be of any type.
        sink = arrow.Sink(f"{folder}/{found.pin.source}.aside-{number}.parquet", kept, outside=own)
        texts, places = reasons[number], sorted(reasons[number])
        for batch in _rows(hand, schema, timezone):
            first, last = (batch.column(ROW)[place].as_py() for place in (0, -1))
            out = places[bisect.bisect_left(places, first) : bisect.bisect_right(places, last)]
            if out:
                part = batch.take(pa.array([row - first for row in out]))
                sink.add(part.append_column(kept.field(REASON), pa.array([texts[row] for row in out], pa.string())))
        yield json.dumps(encode(sink.finish(f"{found.pin.source}.aside-{number}.parquet", {})))

    here = _few(found.pin, schema)
    written = (text for hand in hands for text in work(hand)) if here else arrow.in_tasks(session(), hands, work)
    return [decode(Output, json.loads(text)) for text in written]


def _left(session: Session, source: Source, pin: Pin) -> Rows:
    """The rows of a pin that are not set aside."""
    schema, timezone = _own(source, pin), _timezone(source)

    def work(hand: Sequence[Chunk], columns: Sequence[str]) -> Batches:
        wanted = pa.schema([schema.field(name) for name in columns], schema.metadata)
        return (in_utc(batch, wanted, timezone) for batch in chunks.read_chunks(hand, columns))

    count = sum(file.rows - len(file.aside) for file in pin.files)
    return rows.read(session, chunks.of_pinned(pin.files), work, schema, count, hold=_few(pin, schema), deal=chunks.share)


def _numbered(session: Session, source: Source, pin: Pin) -> Rows:
    """The rows of a pin with their file and position. Columns: the source's, FILE (int32), ROW (int64)."""
    schema, timezone = _schema(source, pin), _timezone(source)
    placed = [one for number, file in enumerate(pin.files) for one in _placed(number, file)]

    def work(hand: Sequence[PlacedGroup], columns: Sequence[str]) -> Batches:
        return (batch.select(list(columns)) for batch in _rows(hand, schema, timezone))

    count, held = sum(file.rows for file in pin.files), _few(pin, schema)
    return rows.read(session, placed, work, schema, count, hold=held, deal=lambda each, _: [[one] for one in each])


def _few(pin: Pin, schema: pa.Schema) -> bool:
    return rows.few(sum(file.rows for file in pin.files), len(schema), sum(file.size for file in pin.files))


def _placed(number: int, file: PinnedFile) -> Iterator[PlacedGroup]:
    """The whole row groups of a file, with the file's number and the position of their first row."""
    begin = 0
    for chunk in chunks.of_pinned([replace(file, aside=())]):
        yield number, chunk, begin
        begin += chunk.rows


def _rows(hand: Sequence[PlacedGroup], schema: pa.Schema, timezone: str | None) -> Batches:
    own = pa.schema([field for field in schema if field.name not in (FILE, ROW)], schema.metadata)
    for number, chunk, begin in hand:
        at = begin
        for batch in chunks.read_chunks([chunk], own.names):
            part = in_utc(batch, own, timezone)
            file = pa.repeat(pa.scalar(number, pa.int32()), part.num_rows)
            row = pa.array(range(at, at + part.num_rows), pa.int64())
            yield pa.RecordBatch.from_arrays([*part.columns, file, row], schema=schema)
            at += part.num_rows


def _own(source: Source, pin: Pin) -> pa.Schema:
    return sources.schema_of(source, pin)


def _schema(source: Source, pin: Pin) -> pa.Schema:
    return _own(source, pin).append(pa.field(FILE, pa.int32())).append(pa.field(ROW, pa.int64()))


def _timezone(source: Source) -> str | None:
    return source.timezone if isinstance(source, EventSource) else None
