"""Sources as Spark frames: already cut when user code sees them, read from the pinned files inside the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from almanac.core.sources import Cut, EventSource, Pin, Source
from almanac.cutting import UTC_TIME, in_utc, keep
from almanac.spark import arrow, chunks
from almanac.spark.chunks import Batches, Chunk


def read(spark: SparkSession, source: Source, pin: Pin, cut: Cut) -> DataFrame:
    """The rows of a pinned source inside a cut. Columns as in the files, every timestamp in UTC.

    An event exactly at the cut's low belongs to it, one exactly at its high does not.
    """
    files = pin.within(cut)
    columns = list(source.needed or pin.columns)
    schema = schema_of((files or pin.files)[0].place, columns)
    timezone = source.timezone if isinstance(source, EventSource) else None

    def work(hand: Sequence[Chunk]) -> Batches:
        for batch in chunks.read_chunks(hand, columns):
            kept = keep(in_utc(batch, schema, timezone), source, cut)
            if kept.num_rows:
                yield kept

    hands = chunks.share(chunks.of_pinned(files), spark.sparkContext.defaultParallelism)
    return arrow.frame(spark, hands, work, from_arrow_schema(schema))


def read_all(
    spark: SparkSession, sources: Mapping[str, Source], pins: Mapping[str, Pin], cuts: Mapping[str, Cut]
) -> dict[str, DataFrame]:
    return {name: read(spark, sources[name], pins[name], cut) for name, cut in cuts.items()}


def schema_of(uri: str, columns: Sequence[str]) -> pa.Schema:
    """What Spark is to see of a file's columns: plain strings for dictionaries, timestamps in UTC."""
    found = chunks.open_parquet(uri).schema_arrow
    return pa.schema([pa.field(name, _plain(found.field(name).type)) for name in columns])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return UTC_TIME if pa.types.is_timestamp(kind) else kind
