"""Sources as Spark frames: cut before user code sees them, and read from the pinned files inside the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from almanac import chunks
from almanac.chunks import Batches, Chunk
from almanac.core.pins import Pin
from almanac.core.sources import Cut, Source
from almanac.cutting import View, cut_rows, view_of
from almanac.spark import arrow


def read(spark: SparkSession, source: Source, pin: Pin, cut: Cut) -> DataFrame:
    """The rows of a pinned source inside a cut. Columns as described, every timestamp in UTC, NaN as null.

    An event exactly at the cut's low is inside, one exactly at its high is not.
    """
    view = view_of(source, pin, cut=cut)

    def work(hand: Sequence[Chunk]) -> Batches:
        return rows_of(hand, view)

    hands = chunks.share(chunks.of_pinned(pin.within(cut)), spark.sparkContext.defaultParallelism)
    return arrow.frame(spark, hands, work, from_arrow_schema(view.shown))


def rows_of(hand: Sequence[Chunk], view: View, numbered: str = "") -> Batches:
    """The rows of chunks of a source that a reader sees. `numbered`: as `chunks.read_chunks` has it."""
    for batch in chunks.read_chunks(hand, view.stored, numbered=numbered):
        found = cut_rows(batch, view, [numbered] if numbered else ())
        if found.num_rows:
            yield found


def read_all(
    spark: SparkSession, sources: Mapping[str, Source], pins: Mapping[str, Pin], cuts: Mapping[str, Cut]
) -> dict[str, DataFrame]:
    return {name: read(spark, sources[name], pins[name], cut) for name, cut in cuts.items()}
