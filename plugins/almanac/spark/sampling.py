"""Sampled training rows: drawn by entity and snapshot alone, so that a repeat draws the same rows, and weighted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from almanac import chunks
from almanac.chunks import Batches, Chunk
from almanac.columns import row_places
from almanac.core.receipts import Output
from almanac.core.sampling import Sampling, shares
from almanac.core.target import REGRESSION, Target
from almanac.core.window import LABEL, SNAPSHOT, WEIGHT
from almanac.errors import DataError
from almanac.spark import arrow, digests

# A feature with more values cannot define strata.
MOST_VALUES = 100


def draw(rows: pd.DataFrame, sampling: Sampling, target: Target, keys: Sequence[str]) -> pd.DataFrame:
    """The rows to train on, in order, with their weights (float64; before ageing, the weights add up to the number of all rows).

    Args:
        rows: the keys, `snapshot`, `label`, and the features of `sampling.by`; a row for each entity of each training snapshot.

    Raises:
        DataError: a feature of `by` has too many values, or there are more strata than rows to draw.
    """
    weights = np.ones(len(rows))
    if sampling.rows is not None and sampling.rows < len(rows):
        strata = _strata(rows, sampling, target)
        counts = strata.value_counts()
        if sampling.rows < len(counts):
            columns = " and ".join((*sampling.by, LABEL))
            raise DataError(
                f"Sampling.rows: expected at least {len(counts)}, one for each stratum by {columns}; got {sampling.rows}. Allow "
                "more rows, or name fewer features in by."
            )
        wanted = shares(counts.to_dict(), sampling.rows)
        rank = pd.Series(_lots(rows, keys), index=rows.index).groupby(strata).rank(method="first")
        drawn = (rank <= strata.map(wanted)).to_numpy()
        weights = (strata.map(counts) / strata.map(wanted)).to_numpy(dtype=np.float64)[drawn]
        rows = rows[drawn]
    periods = sorted(rows[SNAPSHOT].unique(), reverse=True)
    aged = rows[SNAPSHOT].map({period: sampling.aged(age) for age, period in enumerate(periods)}).to_numpy(dtype=np.float64)
    return rows.assign(**{WEIGHT: weights * aged})


def _strata(rows: pd.DataFrame, sampling: Sampling, target: Target) -> pd.Series[int]:
    """The stratum of each row, as a number."""
    for name in sampling.by:
        if (found := rows[name].nunique()) > MOST_VALUES:
            raise DataError(
                f"Sampling.by: expected features with at most {MOST_VALUES} values, got {name!r} with {found}. Use a feature "
                "with few values, such as a band."
            )
    keys = [*sampling.by, *([] if target.kind == REGRESSION else [LABEL])]
    if not keys:
        return pd.Series(0, index=rows.index)
    return rows.groupby(keys, dropna=False, sort=True).ngroup()


def _lots(rows: pd.DataFrame, keys: Sequence[str]) -> np.ndarray:
    """A pseudorandom number for each row, from its entity and snapshot."""
    both = pa.RecordBatch.from_pandas(rows[[*keys, SNAPSHOT]], preserve_index=False)
    return digests.row_hashes(both)


def read(spark: SparkSession, outputs: Sequence[Output], wanted: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The published features of the wanted rows of a snapshot, with their label, snapshot and weight, sorted by entity. Files
    are read inside the tasks; only the wanted rows come to the driver.
    """
    schema = chunks.schema_of(outputs[0])
    entities = [pa.array(wanted[key], schema.field(key).type) for key in keys]

    def work(hand: Sequence[Chunk]) -> Batches:
        for batch in chunks.read_chunks(hand, schema.names):
            yield batch.filter(row_places(list(batch.select(keys).columns), entities).is_valid())

    hands = chunks.share(chunks.chunks_of(outputs), spark.sparkContext.defaultParallelism)
    found: pd.DataFrame = arrow.frame(spark, hands, work, from_arrow_schema(schema)).toArrow().to_pandas()
    beside = wanted[[*keys, LABEL, SNAPSHOT, WEIGHT]]
    return found.merge(beside, on=list(keys), how="inner", validate="one_to_one").sort_values(list(keys), ignore_index=True)
