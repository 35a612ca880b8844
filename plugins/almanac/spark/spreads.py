"""How the scores of staged predictions are spread, counted inside the tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from almanac.core.shift import BINS, Spread
from almanac.spark.chunks import Batches

# By how much a decile's rank may be wrong, as a share of the rows.
RANK_ERROR = 0.001


def spread(frame: DataFrame, column: str) -> Spread:
    """The deciles of a column, and how many rows lie between them. The column has rows and no nulls."""
    edges = tuple(frame.approxQuantile(column, [bin / BINS for bin in range(1, BINS)], RANK_ERROR))
    return Spread(edges=edges, counts=counted(frame, column, edges))


def counted(frame: DataFrame, column: str, edges: Sequence[float]) -> tuple[int, ...]:
    """How many rows lie in each of the bins between some edges."""
    inner = np.array(edges)

    def count(batches: Batches) -> Batches:
        total = np.zeros(len(inner) + 1, dtype=np.int64)
        for batch in batches:
            values = batch.column(0).to_numpy(zero_copy_only=False)
            total += np.bincount(np.searchsorted(inner, values, side="left"), minlength=len(total))
        yield pa.RecordBatch.from_pydict({"counts": pa.array([total.tolist()], pa.list_(pa.int64()))})

    rows = frame.select(column).mapInArrow(count, "counts array<bigint>").collect()
    return tuple(sum(parts) for parts in zip(*(row.counts for row in rows), strict=True))
