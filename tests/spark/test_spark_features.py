"""Features: float32, one row an entity, the groups joined to the population."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from almanac.errors import DataError, DescriptionError
from almanac.spark import features as rooms

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_every_kind_of_number_becomes_float32_and_the_entity_stays_as_it_is(spark: SparkSession) -> None:
    given = spark.sql("SELECT 1.5D AS a, 7L AS customer, 3 AS b, true AS c, 2.25BD AS d, CAST(NULL AS INT) AS e")

    found = rooms.shaped(given, "customer", "habits")

    assert found.dtypes == [("customer", "bigint"), *((name, "float") for name in "abcde")]
    assert found.first()[:] == (7, 1.5, 3.0, 1.0, 2.25, None)  # type: ignore[index]


def test_columns_that_are_no_numbers_are_named_with_their_types(spark: SparkSession) -> None:
    given = spark.sql("SELECT 7L AS customer, 'gold' AS tier, current_timestamp() AS at, array(1) AS many, 1 AS fine")
    with pytest.raises(DescriptionError) as refused:
        rooms.shaped(given, "customer", "habits")
    assert "tier (string), at (timestamp), many (array<int>)" in str(refused.value)
    assert "fine" not in str(refused.value)


def test_unique_entities_are_counted_and_doubled_or_missing_ones_refused_with_five_examples(spark: SparkSession) -> None:
    assert rooms.check_unique(spark.range(40).withColumnRenamed("id", "customer"), "customer", "It") == 40
    assert rooms.check_unique(spark.range(0).withColumnRenamed("id", "customer"), "customer", "It") == 0

    doubled = spark.range(16).selectExpr("id % 8 AS customer").union(spark.sql("SELECT 3L AS customer"))
    with pytest.raises(DataError) as refused:
        rooms.check_unique(doubled, "customer", "It")
    text = str(refused.value)
    assert "It has 8 entities more than once, or null, such as customer 3 (3 rows), 0 (2 rows), 1 (2 rows)," in text
    assert text.count(" rows)") == 5

    with pytest.raises(DataError, match=r"such as customer None \(1 rows\)"):
        rooms.check_unique(spark.sql("SELECT CAST(NULL AS BIGINT) AS customer UNION SELECT 1L"), "customer", "It")


def test_groups_are_joined_to_the_population_and_add_nobody_to_it(spark: SparkSession) -> None:
    spine = spark.sql("SELECT 1L AS customer UNION SELECT 2L")
    parts = {
        "habits": spark.sql("SELECT 2L AS customer, 5.0F AS visits UNION SELECT 3L, 6.0F"),
        "traits": spark.sql("SELECT 1L AS customer, 7.0F AS band"),
    }

    found = rooms.combine(spine, parts, "customer").orderBy("customer")

    assert found.columns == ["customer", "visits", "band"]
    assert [row[:] for row in found.collect()] == [(1, None, 7.0), (2, 5.0, None)]


def test_two_groups_of_one_column_are_refused_with_both_names(spark: SparkSession) -> None:
    part = spark.sql("SELECT 1L AS customer, 5.0F AS visits")
    with pytest.raises(DescriptionError, match=r"Feature group 'traits' gave columns .+: visits \(also of habits\)"):
        rooms.combine(part.select("customer"), {"habits": part, "traits": part}, "customer")


def test_text_is_written_plain_and_times_in_utc(spark: SparkSession) -> None:
    frame = spark.sql("SELECT 'anna' AS customer, 1.0F AS visits, current_timestamp() AS at")
    assert rooms.arrow_schema(frame) == pa.schema(
        [pa.field("customer", pa.string()), pa.field("visits", pa.float32()), pa.field("at", pa.timestamp("us", tz="UTC"))]
    )


@pytest.mark.parametrize(
    ("kind", "fits"), [("BIGINT", True), ("INT", True), ("STRING", True), ("DOUBLE", False), ("DATE", False), ("BOOLEAN", False)]
)
def test_whole_numbers_and_text_name_entities(spark: SparkSession, kind: str, fits: bool) -> None:
    assert rooms.is_entity_type(spark.sql(f"SELECT CAST(NULL AS {kind}) AS customer"), "customer") is fits
