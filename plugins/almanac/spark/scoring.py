"""Scoring: feature chunks in, prediction files out, inside the Spark tasks. No row passes through the JVM.

The same scorer scores a frame of any other origin, with `frame`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from pyspark import SparkFiles
from pyspark.sql import DataFrame, SparkSession

from almanac import chunks, columns
from almanac.chunks import Batches, Chunk
from almanac.core.bundle import Bundle
from almanac.core.entity import in_words
from almanac.core.receipts import Output
from almanac.errors import AlmanacError, DataError, examples
from almanac.model.bundles import Scores, line
from almanac.model.engines import InferenceEngine, opened_once
from almanac.spark import arrow
from almanac.spark.arrow import WrittenFiles

# The order that wrote a row is not part of the row's content.
OUTSIDE = ("order",)
# The same in each row of a period.
CONSTANT = ("as_of", "model_version", "order")
AS_OF = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """What a task needs to score: the version's files, the columns that it reads, and what is written beside the score.

    Args:
        keys: the columns that name an entity.
        keep: features that are written beside the score, float32.
    """

    bundle: Bundle
    keys: tuple[str, ...]
    as_of: datetime
    order: str
    keep: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        return self.bundle.features

    @property
    def version(self) -> str:
        return self.bundle.version

    @property
    def reads(self) -> list[str]:
        """The feature columns that are read, each once."""
        return list(dict.fromkeys((*self.keys, *self.features, *self.keep)))

    def schema(self, features: pa.Schema) -> pa.Schema:
        """The columns of a prediction file, the keys first, as they are in the features; the period is the table's partition."""
        keys = [pa.field(name, features.field(name).type) for name in self.keys]
        scores = [pa.field(name, pa.float64()) for name in self.bundle.target.columns]
        kept = [pa.field(name, pa.float32()) for name in self.keep]
        texts = [pa.field(name, pa.string()) for name in ("model_version", "order")]
        return pa.schema([*keys, pa.field("as_of", AS_OF), *scores, *kept, *texts])


def score(
    spark: SparkSession,
    features: Iterable[str | Output],
    scorer: Scorer,
    folder: str,
    stem: str,
    schema: pa.Schema | None = None,
) -> WrittenFiles:
    """Scores feature files and writes predictions below a folder; without rows, one empty file. Nothing is committed.

    `schema`: of what is written, if its key is wider than that of the features.

    Raises:
        IntegrityError: a file of features was altered.
        DataError: the features lack a column of the model's signature, or have it with another type; or a row got no score.
    """
    files = list(features)
    found = chunks.schema_of(files[0])
    check_signature(found, scorer)
    target = schema or scorer.schema(found)

    def work(hand: Sequence[Chunk]) -> Iterator[str]:
        scored = batches(chunks.read_chunks(hand, scorer.reads), scorer)
        return arrow.sink_batches(scored, folder, stem, target, OUTSIDE, CONSTANT)

    hands = chunks.share(chunks.chunks_of(files), spark.sparkContext.defaultParallelism)
    bounds = {"model_version": [scorer.version] * 2, "order": [scorer.order] * 2}
    written = arrow.collect(arrow.in_tasks(spark, hands, work), arrow.identity_of(target, OUTSIDE), bounds)
    return written if written.outputs else arrow.empty(folder, stem, target, OUTSIDE, bounds)


def frame(features: DataFrame, scorer: Scorer) -> DataFrame:
    """The predictions for a frame of features of any origin; nothing is written.

    Raises:
        DataError: as for `score`; for a row without a score only when the frame is evaluated.
    """
    found = pa.schema([(field.name, _arrow_type(field.dataType.simpleString())) for field in features.schema])
    check_signature(found, scorer)
    target = scorer.schema(found)

    def run(given: Batches) -> Batches:
        yield from (batch.select(target.names) for batch in batches(given, scorer))

    from pyspark.sql.pandas.types import from_arrow_schema

    return features.select(scorer.reads).mapInArrow(run, from_arrow_schema(target))


def _here(bundle: Bundle) -> Bundle:
    """A version with the path of the user's module on this machine."""
    return replace(bundle, shipped=SparkFiles.get(bundle.shipped)) if bundle.shipped else bundle


def _arrow_type(name: str) -> pa.DataType:
    known = {"float": pa.float32(), "bigint": pa.int64(), "int": pa.int32(), "string": pa.string(), "double": pa.float64()}
    return known.get(name, pa.null())


def check_signature(found: pa.Schema, scorer: Scorer) -> None:
    """Checks that the features have the model's and the kept columns, as float32. Raises: DataError."""
    if missing := [name for name in scorer.reads if name not in found.names]:
        raise DataError(
            f"The features lack {examples(missing)}, which version {scorer.version} reads (they have: "
            f"{examples(found.names, 20)}). Score with a version of this feature definition."
        )
    wanted = [name for name in scorer.reads if name not in scorer.keys]
    if strange := [f"{name} ({found.field(name).type})" for name in wanted if found.field(name).type != pa.float32()]:
        raise DataError(f"Version {scorer.version}: expected features as float32, got {examples(strange)}. Build them again.")


def batches(given: Iterable[pa.RecordBatch], scorer: Scorer) -> Iterator[pa.RecordBatch]:
    """The predictions for batches of features, in a task.

    Raises:
        DataError: a row got no score.
        IntegrityError: a file of the version was altered; nothing of it was unpickled.
        Drifted: the version does not score here as it did where it was trained.
    """
    engine = opened_once(_here(scorer.bundle))
    for batch in given:
        if batch.num_rows:
            yield _predictions(batch, _scores(batch, scorer, engine), scorer)


def _scores(batch: pa.RecordBatch, scorer: Scorer, engine: InferenceEngine) -> Scores:
    try:
        scores = engine.scores(batch)
    except AlmanacError:
        raise
    except Exception as error:  # estimators may raise any class of error about values
        raise DataError(
            f"Version {scorer.version} failed on rows of the features: {type(error).__name__}: {line(error)} "
            f"{_nulls(batch, scorer)}Nothing was published. Correct the features, or train on such values."
        ) from error
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1))
        entities = columns.entities(batch.take(pa.array(bad[:6])), scorer.keys)
        raise DataError(
            f"Version {scorer.version} gives no finite score for {len(bad)} of {batch.num_rows} rows, such as "
            f"{in_words(scorer.keys)} {examples(entities)}. {_nulls(batch, scorer)}Nothing was published. Correct the "
            "features, or train on such values."
        )
    return scores


def _nulls(batch: pa.RecordBatch, scorer: Scorer) -> str:
    found = [name for name in scorer.features if np.isnan(batch.column(name).to_numpy(zero_copy_only=False)).any()]
    return f"Features with nulls: {examples(found)}. " if found else ""


def _predictions(batch: pa.RecordBatch, scores: Scores, scorer: Scorer) -> pa.RecordBatch:
    schema, rows = scorer.schema(batch.schema), batch.num_rows
    as_of, version, order = (
        column.slice(0, rows) for column in _constants(scorer.as_of, scorer.version, scorer.order, _room(rows))
    )
    scored = [scores] if scores.ndim == 1 else list(scores.T)
    keys, kept = ([batch.column(name) for name in names] for names in (scorer.keys, scorer.keep))
    return pa.RecordBatch.from_arrays(
        [*keys, as_of, *(pa.array(column) for column in scored), *kept, version, order], schema=schema
    )


def _room(rows: int) -> int:
    """A power of two of at least `rows`, so that constant columns are built in few sizes."""
    return 1 << max(rows - 1, 1).bit_length()


@functools.lru_cache(maxsize=8)
def _constants(as_of: datetime, version: str, order: str, rows: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    return pa.repeat(pa.scalar(as_of, AS_OF), rows), pa.repeat(pa.scalar(version), rows), pa.repeat(pa.scalar(order), rows)
