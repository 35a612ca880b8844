"""Features: what a user's function gives, brought to one row an entity and float32, and the groups combined."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import BooleanType, FloatType, NumericType, StringType

from almanac.core.pipeline import Population
from almanac.core.receipts import Output
from almanac.errors import SHOWN_EXAMPLES, DataError, DescriptionError, examples
from almanac.spark import arrow, chunks
from almanac.spark.chunks import Batches, Chunk


def shaped(given: DataFrame, entity: str, function: str) -> DataFrame:
    """What a feature function gave as `entity` and float32 columns.

    Raises:
        DescriptionError: it gave no DataFrame, the entity's column is missing, or a column is not numeric.
    """
    names = columns_of(given, entity, function)
    if strange := [
        f"{field.name} ({field.dataType.simpleString()})"
        for field in given.schema
        if field.name != entity and not isinstance(field.dataType, NumericType | BooleanType)
    ]:
        raise DescriptionError(
            f"Function {function!r} gave columns that are not numbers: {examples(strange)}. Features are float32; "
            "give categories as codes, and encode them in the estimator's pipeline."
        )
    return given.select(entity, *[F.col(name).cast(FloatType()).alias(name) for name in names if name != entity])


def columns_of(given: object, entity: str, function: str) -> list[str]:
    """The columns of what a function gave. Raises: DescriptionError."""
    if not isinstance(given, DataFrame):
        raise DescriptionError(f"Function {function!r} gave {type(given).__name__}, a Spark DataFrame is needed.")
    if entity not in given.columns:
        raise DescriptionError(
            f"Function {function!r} gave no column {entity!r} (it gave: {examples(given.columns, 20)}). Add the entity's column."
        )
    return list(given.columns)


def check_unique(frame: DataFrame, entity: str, what: str) -> int:
    """An entity stands in at most one row, and is not null. Gives the number of rows.

    Raises:
        DataError: some stand twice; the message shows five.
    """
    counted = frame.groupBy(entity).count()
    wrong = (F.col("count") > 1) | F.col(entity).isNull()
    found = counted.agg(F.sum("count").alias("rows"), F.count_if(wrong).alias("wrong")).first()
    if found is not None and found["wrong"]:
        worst = counted.filter(wrong).orderBy(F.col("count").desc(), entity).limit(SHOWN_EXAMPLES).collect()
        shown = ", ".join(f"{row[entity]} ({row['count']} rows)" for row in worst)
        raise DataError(
            f"{what} has {found['wrong']} entities more than once, or null, such as {entity} {shown}. One row an entity is "
            "needed; group or deduplicate in the function."
        )
    return int(found["rows"] or 0) if found is not None else 0


def population(given: DataFrame, entity: str, people: Population, period: str) -> tuple[DataFrame, int]:
    """The entities of a period, each once, and how many there are.

    Raises:
        DescriptionError: the entity's column is missing.
        DataError: there are none and the population may not be empty, or one stands twice.
    """
    function = people.name
    columns_of(given, entity, function)
    spine = given.select(entity).cache()
    entities = check_unique(spine, entity, f"Population {function!r} of {period}")
    if not entities and not people.may_be_empty:
        raise DataError(
            f"Population {function!r} has no entity for {period}: its sources hold no event in that time. "
            "Look whether the sources were delivered for the period, or choose another one. Where a period without entities is "
            f"right, say Population({function!r}, may_be_empty=True): an empty period is then published."
        )
    return spine, entities


def combine(spine: DataFrame, parts: Mapping[str, DataFrame], entity: str, zeros: Collection[str] = ()) -> DataFrame:
    """The groups joined to the population. Entities in equal entities out; one that a group does not know has nulls, and 0 in
    the columns of `zeros`.

    Raises:
        DescriptionError: two groups give a column of the same name.
    """
    seen: dict[str, str] = {}
    combined = spine
    for name, part in parts.items():
        own = [column for column in part.columns if column != entity]
        if clash := [f"{column} (also of {seen[column]})" for column in own if column in seen]:
            raise DescriptionError(f"Feature group {name!r} gave columns that another one gives: {examples(clash)}. Rename them.")
        seen.update(dict.fromkeys(own, name))
        combined = combined.join(part, entity, "left")
    return combined.fillna(0.0, list(zeros)) if zeros else combined


def with_nulls(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """A frame with features besides that are null in every row."""
    return frame.select("*", *(F.lit(None).cast(FloatType()).alias(name) for name in names))


def of_files(spark: SparkSession, outputs: Sequence[Output], columns: Sequence[str] | None = None) -> DataFrame:
    """The rows of files that Almanac wrote, held against their digests."""
    found = chunks.schema_of(outputs[0])
    schema = pa.schema([found.field(name) for name in (columns or found.names)])

    def work(hand: Sequence[Chunk]) -> Batches:
        yield from chunks.read_chunks(hand, schema.names)

    hands = chunks.share(chunks.chunks_of(outputs), spark.sparkContext.defaultParallelism)
    return arrow.frame(spark, hands, work, from_arrow_schema(schema))


def arrow_schema(frame: DataFrame) -> pa.Schema:
    """The Arrow schema under which a frame is written: large and view types plain, times in UTC."""
    found = to_arrow_schema(frame.schema, timezone="UTC")
    return pa.schema([pa.field(field.name, pa.string() if _is_text(field.type) else field.type) for field in found])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_entity_type(frame: DataFrame, entity: str) -> bool:
    """Whether an entity's column is of whole numbers or text."""
    kind = frame.schema[entity].dataType
    return isinstance(kind, StringType) or kind.simpleString() in ("bigint", "int", "smallint", "tinyint")
