"""Rows inside a cut: batches of a source with every timestamp in UTC, and nothing outside the cut."""

from __future__ import annotations

import functools

import pyarrow as pa
import pyarrow.compute as pc

from almanac.columns import UTC_TIME, of_batch
from almanac.core.sources import Cut, EventSource, Source


def in_utc(batch: pa.RecordBatch, schema: pa.Schema, timezone: str | None) -> pa.RecordBatch:
    """A batch with the schema's types; naive timestamps are read in `timezone`, UTC when none is declared; NaN is null.

    A local time that occurs twice is read as the first of the two; a skipped one, as the moment of the jump.

    Raises:
        SourceError: a value does not fit its column's type.
    """
    return of_batch(batch, schema, timezone)


def keep(batch: pa.RecordBatch, source: Source, cut: Cut) -> pa.RecordBatch:
    """The rows of a batch inside a cut."""
    if not isinstance(source, EventSource):
        return batch
    masks = []
    if cut.low is not None:
        masks.append(pc.greater_equal(batch.column(source.event_time), pa.scalar(cut.low, UTC_TIME)))
    if cut.high is not None:
        masks.append(pc.less(batch.column(source.event_time), pa.scalar(cut.high, UTC_TIME)))
    if cut.known is not None and source.knowledge_time:
        masks.append(pc.less(batch.column(source.knowledge_time), pa.scalar(cut.known, UTC_TIME)))
    return batch.filter(functools.reduce(pc.and_, masks)) if masks else batch
