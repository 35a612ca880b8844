"""The spread of staged predictions' scores: counted in the driver if it holds them, otherwise inside the tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from almanac.chunks import Batches
from almanac.core.shift import BINS, Spread
from almanac.spark.rows import Rows

# The largest error of a decile's rank, as a share of the rows.
RANK_ERROR = 0.001


def spread(rows: Rows, column: str) -> Spread:
    """The deciles of a column, and how many rows lie between them. The column must have rows, and no nulls."""
    shares = [bin / BINS for bin in range(1, BINS)]
    if rows.held is not None:
        edges = np.quantile(_numbers(rows.held.column(column)), shares, method="inverted_cdf").tolist()
    else:
        edges = rows.frame().approxQuantile(column, shares, RANK_ERROR)
    return Spread(edges=tuple(edges), counts=counted(rows, column, edges))


def counted(rows: Rows, column: str, edges: Sequence[float]) -> tuple[int, ...]:
    """How many rows lie in each of the bins that the edges separate."""
    inner = np.array(edges)

    def count(batches: Iterable[pa.RecordBatch]) -> list[int]:
        total = np.zeros(len(inner) + 1, dtype=np.int64)
        for batch in batches:
            total += np.bincount(np.searchsorted(inner, _numbers(batch.column(0)), side="left"), minlength=len(total))
        return [int(number) for number in total]

    def in_task(batches: Batches) -> Batches:
        yield pa.RecordBatch.from_pydict({"counts": pa.array([count(batches)], pa.list_(pa.int64()))})

    if rows.held is not None:
        return tuple(count(rows.held.select([column]).to_batches()))
    found = rows.frame().select(column).mapInArrow(in_task, "counts array<bigint>").collect()
    return tuple(sum(parts) for parts in zip(*(row.counts for row in found), strict=True))


def _numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column)
