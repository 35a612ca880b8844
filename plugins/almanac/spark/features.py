"""Features: the result of a user function, brought to one row per entity and float32, and the groups combined."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import BooleanType, DoubleType, FloatType, NumericType, StringType, StructField

from almanac import chunks
from almanac.chunks import Batches, Chunk
from almanac.core.entity import in_words, shown
from almanac.core.pipeline import Population
from almanac.core.receipts import Output
from almanac.core.sources import alike
from almanac.errors import SHOWN_EXAMPLES, DataError, DescriptionError, examples
from almanac.spark import arrow

ROWS = "@rows"  # how many rows an entity has
KNOWN = "@known"  # a column that marks the entities of a group while it is joined
ODD = (".", "`")  # have a meaning of their own in Spark's and Great Expectations' column names


def shaped(given: DataFrame, keys: Sequence[str], function: str) -> DataFrame:
    """The result of a feature function as `keys` and float32 columns; NaN becomes null.

    Raises:
        DescriptionError: the result is not a DataFrame, a key's column is missing or not a key, a column is not numeric, or a
            column's name cannot be used.
    """
    names = columns_of(given, keys, function)
    check_keys(given, keys, f"Function {function!r}")
    if odd := [name for name in names if not name.strip() or name.startswith("@") or any(one in name for one in ODD)]:
        raise DescriptionError(
            f"Function {function!r} returned columns {examples(map(repr, odd))}. A feature's name must not be empty, begin with "
            "@, or contain a dot or a backtick. Rename them, such as with withColumnRenamed."
        )
    if strange := [
        f"{field.name} ({field.dataType.simpleString()})"
        for field in given.schema
        if field.name not in keys and not isinstance(field.dataType, NumericType | BooleanType)
    ]:
        raise DescriptionError(
            f"Function {function!r} returned columns that are not numeric: {examples(strange)}. Features are float32. Return "
            "categories as codes, and encode them in the estimator's pipeline."
        )
    return given.select(*keys, *[_feature(field) for field in given.schema if field.name not in keys])


def _feature(field: StructField) -> Column:
    column = F.col(f"`{field.name}`").cast(FloatType())
    if isinstance(field.dataType, DoubleType | FloatType):  # Spark takes two NaN as equal
        column = F.nullif(column, F.lit(float("nan")).cast(FloatType()))
    return column.alias(field.name)


def columns_of(given: object, keys: Sequence[str], function: str) -> list[str]:
    """The columns of a function's result. Raises: DescriptionError."""
    if not isinstance(given, DataFrame):
        raise DescriptionError(f"Function {function!r}: expected a Spark DataFrame, got {type(given).__name__}. Return one.")
    if missing := [key for key in keys if key not in given.columns]:
        together = f" An entity is {in_words(keys)} together." if len(keys) > 1 else ""
        raise DescriptionError(
            f"Function {function!r} returned no column {in_words(map(repr, missing))} (it returned: "
            f"{examples(given.columns, 20)}). Add the entity's column{'s' if len(missing) > 1 else ''}.{together}"
        )
    if doubled := alike(given.columns):
        raise DescriptionError(
            f"Function {function!r} returned a column twice: {' and '.join(doubled[0])} are one name, because case is ignored. "
            "Rename or drop one."
        )
    return list(given.columns)


def check_keys(given: DataFrame, keys: Sequence[str], what: str) -> None:
    """Checks that each column of an entity holds whole numbers or text. Raises: DescriptionError."""
    for key in keys:
        if not is_key_type(given, key):
            raise DescriptionError(
                f"{what}: expected {key} as whole numbers or text, got {given.schema[key].dataType.simpleString()}. Cast it in "
                "the function, or deliver it as one of them; uint64 is read as a decimal."
            )


def check_unique(frame: DataFrame, keys: Sequence[str], what: str) -> tuple[int, int]:
    """Checks that an entity has at most one row. Returns the number of rows with an entity, and of rows without one.

    Raises:
        DataError: some entities have several rows; the message shows five.
    """
    counted = frame.groupBy(*keys).agg(F.count("*").alias(ROWS))  # a key may be called count
    has_all = _has_all(keys)
    wrong = has_all & (F.col(ROWS) > 1)
    found = counted.agg(
        F.sum(F.when(has_all, F.col(ROWS))).alias("rows"),
        F.sum(F.when(~has_all, F.col(ROWS))).alias("nameless"),
        F.count_if(wrong).alias("wrong"),
    ).first()
    if found is not None and found["wrong"]:
        worst = counted.filter(wrong).orderBy(F.col(ROWS).desc(), *keys).limit(SHOWN_EXAMPLES).collect()
        listed = ", ".join(f"{shown([row[key] for key in keys])} ({row[ROWS]} rows)" for row in worst)
        raise DataError(
            f"{what}: expected one row per entity, got {found['wrong']} entities with several, such as {in_words(keys)} "
            f"{listed}. Group or deduplicate in the function."
        )
    return (int(found["rows"] or 0), int(found["nameless"] or 0)) if found is not None else (0, 0)


def nameless(what: str, rows: int, keys: Sequence[str]) -> list[str]:
    """The finding about rows without an entity; empty if there are none."""
    without = " or ".join(keys)
    return [f"{what} returned {rows} {'row' if rows == 1 else 'rows'} without {without}, which are ignored."] if rows else []


def population(given: DataFrame, keys: Sequence[str], people: Population, period: str) -> tuple[DataFrame, int, list[str]]:
    """The entities of a period, each once, cached; how many there are; and the findings about rows without one, which are still
    among them.

    Raises:
        DescriptionError: a key's column is missing, or neither whole numbers nor text.
        DataError: there are none and the population may not be empty, or one has several rows.
    """
    function = people.name
    columns_of(given, keys, function)
    check_keys(given, keys, f"Population {function!r}")
    spine = given.select(*keys).cache()
    try:
        entities, without = check_unique(spine, keys, f"Population {function!r} of {period}")
        if not entities and not people.may_be_empty:
            raise DataError(
                f"Population {function!r} has no entity for {period}: its sources hold no event in that time. "
                "Check that the sources were delivered for the period, or choose another period. If a period without entities is "
                f"right, use Population({function!r}, may_be_empty=True): an empty period is then published."
            )
    except Exception:
        spine.unpersist()
        raise
    return spine, entities, nameless(f"Population {function!r} of {period}", without, keys)


def named(rows: DataFrame, keys: Sequence[str]) -> DataFrame:
    """The rows that have an entity: none of its columns is null."""
    return rows.where(_has_all(keys))


def _has_all(keys: Sequence[str]) -> Column:
    return functools.reduce(operator.and_, (F.col(key).isNotNull() for key in keys))


def combine(spine: DataFrame, parts: Mapping[str, DataFrame], keys: Sequence[str], zeros: Collection[str] = ()) -> DataFrame:
    """The groups joined to the population. The result has the population's entities; one that a group lacks has nulls there,
    and 0 in the columns of `zeros`.

    Raises:
        DescriptionError: two groups have a column of the same name, or one has a key as another type.
    """
    seen: dict[str, tuple[str, str]] = {}
    combined = spine
    for name, part in parts.items():
        _check_kinds(part, spine, keys, name)
        own = [column for column in part.columns if column not in keys]
        if clash := [(column, *seen[column.casefold()]) for column in own if column.casefold() in seen]:
            shown = [f"{column} ({theirs} of {group})" for column, theirs, group in clash]
            raise DescriptionError(
                f"Feature group {name!r} returned columns that another group returns (case is ignored): {examples(shown)}. "
                "Rename them."
            )
        seen.update((column.casefold(), (column, name)) for column in own)
        filled = [column for column in own if column in zeros]
        combined = combined.join(part.withColumn(KNOWN, F.lit(True)) if filled else part, list(keys), "left")
        if filled:
            absent = F.col(KNOWN).isNull()
            empty = {column: F.when(absent, F.lit(0.0).cast(FloatType())).otherwise(F.col(f"`{column}`")) for column in filled}
            combined = combined.withColumns(empty).drop(KNOWN)
    return combined


def _check_kinds(part: DataFrame, spine: DataFrame, keys: Sequence[str], group: str) -> None:
    """Checks that a group's keys have the population's types; Spark would compare across types. Raises: DescriptionError."""
    for key in keys:
        theirs, ours = part.schema[key].dataType, spine.schema[key].dataType
        if isinstance(theirs, StringType) != isinstance(ours, StringType):
            raise DescriptionError(
                f"Feature group {group!r}: expected {key} as {ours.simpleString()}, as in the population; got "
                f"{theirs.simpleString()}. Only keys of one type are matched, because '048' and '48' are one number. Cast one "
                "of them in its function, or deliver both as one type."
            )


def with_nulls(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """A frame with additional features that are null in every row."""
    return frame.select("*", *(F.lit(None).cast(FloatType()).alias(name) for name in names))


def of_files(spark: SparkSession, outputs: Sequence[Output], columns: Sequence[str] | None = None) -> DataFrame:
    """The rows of files that Almanac wrote, checked against their digests."""
    found = chunks.schema_of(outputs[0])
    schema = pa.schema([found.field(name) for name in (columns or found.names)])

    def work(hand: Sequence[Chunk]) -> Batches:
        yield from chunks.read_chunks(hand, schema.names)

    hands = chunks.share(chunks.chunks_of(outputs), spark.sparkContext.defaultParallelism)
    return arrow.frame(spark, hands, work, from_arrow_schema(schema))


def arrow_schema(frame: DataFrame) -> pa.Schema:
    """The Arrow schema that a frame is written with: large and view types plain, times in UTC."""
    found = to_arrow_schema(frame.schema, timezone="UTC")
    return pa.schema([pa.field(field.name, pa.string() if _is_text(field.type) else field.type) for field in found])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_key_type(frame: DataFrame, key: str) -> bool:
    """Whether a column holds whole numbers or text."""
    kind = frame.schema[key].dataType
    return isinstance(kind, StringType) or kind.simpleString() in ("bigint", "int", "smallint", "tinyint")
