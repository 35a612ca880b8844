"""The profile of staged features: counted in the driver if it holds them, otherwise inside the tasks. A task holds one column at
a time, so quantiles are exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.types

from almanac import chunks
from almanac.core.canonical import decode, encode
from almanac.core.profile import FEW_VALUES, SHARES, ColumnProfile, Profile
from almanac.core.receipts import Output
from almanac.spark import arrow
from almanac.spark.rows import Session


def profile(session: Session, files: Sequence[str | Output], period: str, held: pa.Table | None = None) -> Profile:
    """The profile of a period's files: every floating-point column, which is what features are.

    `held`: their rows, if the driver holds them.
    """
    if held is not None:
        columns = {name: _column(held.column(name)) for name in _floating(held.schema)}
        return Profile(period=period, rows=len(held), columns=columns)
    spark, dealt, schema = session(), chunks.chunks_of(files), chunks.schema_of(files[0])
    names = _floating(schema)
    tasks = max(1, min(len(names), spark.sparkContext.defaultParallelism))

    def work(hand: Sequence[str]) -> Iterator[str]:
        for name in hand:
            parts = [batch.column(0) for batch in chunks.read_chunks(dealt, [name])]
            yield json.dumps([name, encode(_column(pa.chunked_array(parts, schema.field(name).type)))])

    hands = [names[task::tasks] for task in range(tasks)] if names else []
    found = dict(json.loads(text) for text in arrow.in_tasks(spark, hands, work))
    rows = sum(chunk.rows for chunk in dealt)
    return Profile(period=period, rows=rows, columns={name: decode(ColumnProfile, found[name]) for name in names})


def _floating(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_floating(field.type)]


def _column(column: pa.ChunkedArray) -> ColumnProfile:
    numbers = column.cast(pa.float64()).to_numpy()
    values = numbers[np.isfinite(numbers)]
    nulls = int(np.isnan(numbers).sum())
    infinite = len(numbers) - len(values) - nulls
    if not len(values):
        return ColumnProfile(nulls=nulls, infinite=infinite)
    found, counts = np.unique(values, return_counts=True)
    few = zip(found.tolist(), counts.tolist(), strict=True) if len(found) <= FEW_VALUES else ()
    quantiles = tuple(float(one) for one in np.quantile(values, SHARES))
    return ColumnProfile(nulls=nulls, quantiles=quantiles, mean=float(values.mean()), values=tuple(few), infinite=infinite)
