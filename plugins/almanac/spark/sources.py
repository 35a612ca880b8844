"""Sources as Spark frames: cut before user code sees them, and read from the pinned files inside the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from almanac import columns
from almanac.core.pins import Pin
from almanac.core.sources import Cut, EventSource, Source
from almanac.cutting import in_utc, keep
from almanac.spark import arrow, chunks
from almanac.spark.chunks import Batches, Chunk


def read(spark: SparkSession, source: Source, pin: Pin, cut: Cut) -> DataFrame:
    """The rows of a pinned source inside a cut. Columns as in the files, every timestamp in UTC, NaN as null.

    An event exactly at the cut's low is inside, one exactly at its high is not.
    """
    files = pin.within(cut)
    schema = schema_of(source, pin)
    timezone = source.timezone if isinstance(source, EventSource) else None

    def work(hand: Sequence[Chunk]) -> Batches:
        for batch in chunks.read_chunks(hand, schema.names):
            kept = keep(in_utc(batch, schema, timezone), source, cut)
            if kept.num_rows:
                yield kept

    hands = chunks.share(chunks.of_pinned(files), spark.sparkContext.defaultParallelism)
    return arrow.frame(spark, hands, work, from_arrow_schema(schema))


def read_all(
    spark: SparkSession, sources: Mapping[str, Source], pins: Mapping[str, Pin], cuts: Mapping[str, Cut]
) -> dict[str, DataFrame]:
    return {name: read(spark, sources[name], pins[name], cut) for name, cut in cuts.items()}


def schema_of(source: Source, pin: Pin, names: Sequence[str] = ()) -> pa.Schema:
    """The schema in which Spark sees a pinned source's columns: those in `names`, else those that the source names, else all.

    Raises:
        SourceError: Spark cannot read one of them.
    """
    if pin.schema:
        plain = columns.unpacked(pin.schema)
    else:  # a pin from before pins held types
        found = chunks.open_parquet(pin.files[0].place).schema_arrow
        plain = pa.schema([(field.name, columns.plain(field.type)) for field in found])
    return columns.schema_of(source, plain, pin.source, names or source.needed or plain.names)
