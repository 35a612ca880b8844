"""Scoring: feature chunks in, prediction files out, inside the Spark tasks. No row passes through the JVM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from pyspark.sql import SparkSession

from almanac.core.bundle import Bundle
from almanac.errors import DataError, examples
from almanac.spark import arrow
from almanac.spark.arrow import Batches, Chunk, Written

# Which order wrote a row says nothing about what the row says.
OUTSIDE = ("order",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """What a task needs to score: the version's files, the columns that it reads, and what is written beside the score."""

    bundle: Bundle
    entity: str
    as_of: datetime
    order: str

    @property
    def features(self) -> tuple[str, ...]:
        return self.bundle.features

    @property
    def version(self) -> str:
        return self.bundle.version


def schema(entity: pa.Field) -> pa.Schema:
    """The columns of a prediction file; the period is the table's partition."""
    return pa.schema(
        [
            pa.field(entity.name, entity.type),
            pa.field("as_of", pa.timestamp("us", tz="UTC")),
            pa.field("score", pa.float64()),
            pa.field("model_version", pa.string()),
            pa.field("order", pa.string()),
        ]
    )


def score(spark: SparkSession, feature_uris: Iterable[str], scorer: Scorer, folder: str, stem: str) -> Written:
    """Scores feature files and writes predictions below a folder. Nothing is committed.

    Raises:
        DataError: the features lack a column of the model's signature, or have it in another type.
    """
    uris = list(feature_uris)
    found = arrow.open_parquet(uris[0]).schema_arrow
    check_signature(found, scorer)
    target = schema(found.field(scorer.entity))

    def work(hand: Sequence[Chunk]) -> Batches:
        scored = (score_batch(batch, scorer) for batch in arrow.read_chunks(hand, [scorer.entity, *scorer.features]))
        yield from arrow.records(arrow.sink_batches(scored, folder, stem, target, OUTSIDE))

    hands = arrow.share(arrow.chunks_of(uris), spark.sparkContext.defaultParallelism)
    bounds = {"model_version": [scorer.version] * 2, "order": [scorer.order] * 2}
    return arrow.collect(arrow.frame(spark, hands, work, arrow.RECORD), arrow.identity_of(target, OUTSIDE), bounds)


def check_signature(found: pa.Schema, scorer: Scorer) -> None:
    """The features have the model's columns, as float32. Raises: DataError."""
    wanted = (scorer.entity, *scorer.features)
    if missing := [name for name in wanted if name not in found.names]:
        raise DataError(
            f"The features lack {examples(missing)}, which version {scorer.version} was trained with "
            f"(they have: {examples(found.names, 20)}). Score with a version of this feature definition."
        )
    if strange := [f"{name} ({found.field(name).type})" for name in scorer.features if found.field(name).type != pa.float32()]:
        raise DataError(f"The features have {examples(strange)}, version {scorer.version} wants float32. Build them again.")


def score_batch(batch: pa.RecordBatch, scorer: Scorer) -> pa.RecordBatch:
    """The predictions of a batch of features.

    Raises:
        IntegrityError: a file of the version was altered, and nothing of it was unpickled.
        Drifted: the version does not score here as it did where it was trained.
    """
    from almanac.spark.models import opened_once
    from almanac.spark.training import probability

    rows = batch.num_rows
    scores = probability(opened_once(scorer.bundle), batch.select(list(scorer.features)).to_pandas())
    return pa.RecordBatch.from_arrays(
        [
            batch.column(scorer.entity),
            pa.array([scorer.as_of] * rows, pa.timestamp("us", tz="UTC")),
            pa.array(scores, pa.float64()),
            pa.array([scorer.version] * rows, pa.string()),
            pa.array([scorer.order] * rows, pa.string()),
        ],
        schema=schema(batch.schema.field(scorer.entity)),
    )
