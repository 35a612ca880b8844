"""Rows of sources that fail a check are set aside: located in the pinned files, and kept with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from almanac import chunks
from almanac.chunks import Batches, Chunk
from almanac.core.audits import Audit
from almanac.core.canonical import decode, encode
from almanac.core.pins import Pin, PinnedFile
from almanac.core.receipts import Output
from almanac.core.sources import Source
from almanac.cutting import View, view_of
from almanac.spark import arrow, checks, rows, sources
from almanac.spark.checks import Checked
from almanac.spark.rows import Rows, Session

# Columns beside a source's own: a row's file, by its position in the pin; its position in the file; and why it was set aside.
FILE, ROW, REASON = "@file", "@row", "@reason"
Reasons = Mapping[int, Mapping[int, str]]  # file to row to reason
PlacedGroup = tuple[int, Chunk]  # a file's number, and a row group of it


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
    left = _left(session, source, pin)
    count = left.count
    checked = checks.run(left, suite, name)
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
    checked_pin = replace(pin, files=tuple(files))
    return replace(found, pin=checked_pin, checked=checks.run(_left(session, source, checked_pin), suite, name))


def _refusal(pin: Pin, audit: Audit, count: int, rows: int) -> str:
    return (
        f"Source {pin.source!r}: {count} of {rows} rows ({count / rows:.3g}) would be set aside, more than the share "
        f"of {audit.quarantine:g} that Audit.quarantine allows. Deliver it again, or allow more with Audit(quarantine=...)."
    )


def keep(session: Session, source: Source, found: Inspected, folder: str) -> list[Output]:
    """Writes the rows set aside, with their file, their position in it and the reason, to one Parquet file per source file."""
    view, reasons = view_of(source, found.pin), found.reasons
    schema = _numbered_schema(view)
    hands = [list(_placed(number, found.pin.files[number])) for number in sorted(reasons)]
    kept = schema.append(pa.field(REASON, pa.string()))
    own = [name for name in schema.names if name not in (FILE, ROW)]

    def work(hand: Sequence[PlacedGroup]) -> Iterator[str]:
        number = hand[0][0]
        # Its digest covers the positions only: a source's own columns may be of any type.
        sink = arrow.Sink(f"{folder}/{found.pin.source}.aside-{number}.parquet", kept, outside=own)
        texts, places = reasons[number], sorted(reasons[number])
        wanted = pa.array(places, pa.int64())
        for batch in _rows(hand, view):
            part = batch.filter(pc.is_in(batch.column(ROW), value_set=wanted))
            if part.num_rows:
                why = pa.array([texts[row] for row in part.column(ROW).to_pylist()], pa.string())
                sink.add(part.append_column(kept.field(REASON), why))
        yield json.dumps(encode(sink.finish(f"{found.pin.source}.aside-{number}.parquet", {})))

    here = _few(found.pin, schema)
    written = (text for hand in hands for text in work(hand)) if here else arrow.in_tasks(session(), hands, work)
    return [decode(Output, json.loads(text)) for text in written]


def _left(session: Session, source: Source, pin: Pin) -> Rows:
    """The rows of a pin that are not set aside."""
    view = view_of(source, pin)

    def work(hand: Sequence[Chunk], columns: Sequence[str]) -> Batches:
        return sources.rows_of(hand, view.of(columns))

    placed, hold = chunks.of_pinned(pin.files), _few(pin, view.shown)
    count = sum(file.rows - len(file.aside) for file in pin.files)
    found = rows.read(session, placed, work, view.shown, count, hold=hold, deal=chunks.share)
    return replace(found, count=rows.counted(found)) if source.where else found


def _numbered(session: Session, source: Source, pin: Pin) -> Rows:
    """The rows of a pin with their file and position. Columns: the source's, FILE (int32), ROW (int64)."""
    view = view_of(source, pin)
    placed = [one for number, file in enumerate(pin.files) for one in _placed(number, file)]

    def work(hand: Sequence[PlacedGroup], columns: Sequence[str]) -> Batches:
        return (batch.select(list(columns)) for batch in _rows(hand, view))

    count, held = sum(file.rows for file in pin.files), _few(pin, view.shown)
    return rows.read(
        session, placed, work, _numbered_schema(view), count, hold=held, deal=lambda each, _: [[one] for one in each]
    )


def _few(pin: Pin, schema: pa.Schema) -> bool:
    return rows.few(sum(file.rows for file in pin.files), len(schema), sum(file.size for file in pin.files))


def _placed(number: int, file: PinnedFile) -> Iterator[PlacedGroup]:
    """The whole row groups of a file, with the file's number."""
    for chunk in chunks.of_pinned([replace(file, aside=())]):
        yield number, chunk


def _rows(hand: Sequence[PlacedGroup], view: View) -> Batches:
    schema = _numbered_schema(view)
    for number, chunk in hand:
        for batch in sources.rows_of([chunk], view, ROW):
            file = pa.repeat(pa.scalar(number, pa.int32()), batch.num_rows)
            own = [batch.column(name) for name in view.shown.names]
            yield pa.RecordBatch.from_arrays([*own, file, batch.column(ROW)], schema=schema)


def _numbered_schema(view: View) -> pa.Schema:
    return view.shown.append(pa.field(FILE, pa.int32())).append(pa.field(ROW, pa.int64()))
