"""Features: float32, one row an entity, the groups joined to the population."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from almanac.core.canonical import sealed
from almanac.core.label import Label
from almanac.core.pipeline import Population
from almanac.core.receipts import Artifact, Order, Step
from almanac.errors import DataError, DescriptionError
from almanac.model import training
from almanac.spark import features
from almanac.store import compatibility
from almanac.store.home import Home
from almanac.store.objects import Objects

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_every_kind_of_number_becomes_float32_and_the_entity_stays_as_it_is(spark: SparkSession) -> None:
    given = spark.sql("SELECT 1.5D AS a, 7L AS customer, 3 AS b, true AS c, 2.25BD AS d, CAST(NULL AS INT) AS e")

    found = features.shaped(given, ["customer"], "habits")

    assert found.dtypes == [("customer", "bigint"), *((name, "float") for name in "abcde")]
    assert found.first()[:] == (7, 1.5, 3.0, 1.0, 2.25, None)  # type: ignore[index]


def test_columns_that_are_no_numbers_are_named_with_their_types(spark: SparkSession) -> None:
    given = spark.sql("SELECT 7L AS customer, 'gold' AS tier, current_timestamp() AS at, array(1) AS many, 1 AS fine")
    with pytest.raises(DescriptionError) as refused:
        features.shaped(given, ["customer"], "habits")
    assert "tier (string), at (timestamp), many (array<int>)" in str(refused.value)
    assert "fine" not in str(refused.value)


def test_unique_entities_are_counted_and_doubled_or_missing_ones_refused_with_five_examples(spark: SparkSession) -> None:
    assert features.check_unique(spark.range(40).withColumnRenamed("id", "customer"), ["customer"], "It") == (40, 0)
    assert features.check_unique(spark.range(0).withColumnRenamed("id", "customer"), ["customer"], "It") == (0, 0)

    doubled = spark.range(16).selectExpr("id % 8 AS customer").union(spark.sql("SELECT 3L AS customer"))
    with pytest.raises(DataError) as refused:
        features.check_unique(doubled, ["customer"], "It")
    text = str(refused.value)
    assert (
        "It: expected one row per entity, got 8 entities with several, such as customer 3 (3 rows), 0 (2 rows), 1 (2 rows),"
        in text
    )
    assert text.count(" rows)") == 5

    nobody = spark.sql("SELECT CAST(NULL AS BIGINT) AS customer UNION ALL SELECT 1L UNION ALL SELECT NULL")
    assert features.check_unique(nobody, ["customer"], "It") == (1, 2)
    assert features.nameless("It", 2, ["customer"]) == ["It returned 2 rows without customer, which are ignored."]


def test_rows_without_an_entity_are_not_of_the_population_and_told(spark: SparkSession) -> None:
    given = spark.sql("SELECT CAST(NULL AS BIGINT) AS customer UNION ALL SELECT 1L UNION ALL SELECT 2L")

    spine, entities, told = features.population(given, ["customer"], Population("customers", reads=("visits",)), "2017-05")

    assert (sorted(row[0] for row in features.named(spine, ["customer"]).collect()), entities) == ([1, 2], 2)
    spine.unpersist()
    assert told == ["Population 'customers' of 2017-05 returned 1 row without customer, which are ignored."]


def test_a_feature_that_is_nan_is_null_and_an_infinite_one_stays(spark: SparkSession) -> None:
    given = spark.sql(
        "SELECT 1L AS customer, double('NaN') AS a, float('NaN') AS b, double('Infinity') AS c, 1e300D AS d, 2 AS e"
    )
    assert features.shaped(given, ["customer"], "habits").first()[:] == (1, None, None, math.inf, math.inf, 2.0)  # type: ignore[index]


@pytest.mark.parametrize("other", ["band", "Band", "CUSTOMER"])
def test_a_column_that_is_given_twice_is_refused_whatever_its_case(spark: SparkSession, other: str) -> None:
    given = spark.sql(f"SELECT 1L AS customer, 2 AS band, 3 AS `{other}`")
    with pytest.raises(
        DescriptionError, match=rf"Function 'traits' returned a column twice: \w+ and {other} are one name, because"
    ):
        features.shaped(given, ["customer"], "traits")


@pytest.mark.parametrize("name", ["amount.eur", "share of 0.5", "a``b", "@known", " "])
def test_names_that_spark_reads_as_something_else_are_refused(spark: SparkSession, name: str) -> None:
    given = spark.sql(f"SELECT 1L AS customer, 2 AS `{name}`")
    with pytest.raises(DescriptionError) as refused:
        features.shaped(given, ["customer"], "traits")
    assert str(refused.value).startswith(f"Function 'traits' returned columns {name.replace('``', '`')!r}. A feature's name ")
    assert "Rename them, such as with withColumnRenamed" in str(refused.value)


@pytest.mark.parametrize("kind", ["DOUBLE", "DECIMAL(20, 0)", "DATE", "BOOLEAN", "BINARY"])
def test_an_entity_that_is_no_key_is_refused_where_it_is_given(spark: SparkSession, kind: str) -> None:
    given = spark.sql(f"SELECT CAST(NULL AS {kind}) AS customer, 2 AS band")
    told = rf": expected customer as whole numbers or text, got {kind.lower().replace(' ', '').replace('(', chr(92) + '(')[:-1]}"
    with pytest.raises(DescriptionError, match="Function 'traits'" + told):
        features.shaped(given, ["customer"], "traits")
    with pytest.raises(DescriptionError, match="Population 'customers'" + told):
        features.population(given, ["customer"], Population("customers", reads=("visits",)), "2017-05")


@pytest.mark.parametrize(("spine", "part"), [("'048'", "48L"), ("48L", "'048'")])
def test_keys_of_text_and_of_numbers_are_not_matched(spark: SparkSession, spine: str, part: str) -> None:
    """Spark would make numbers of the text: '048' and '48' would be one customer."""
    people, traits = spark.sql(f"SELECT {spine} AS customer"), spark.sql(f"SELECT {part} AS customer, 1.0F AS band")
    with pytest.raises(DescriptionError) as refused:
        features.combine(people, {"traits": traits}, ["customer"])
    kinds = ("bigint", "string") if "L" in part else ("string", "bigint")
    assert str(refused.value).startswith(
        f"Feature group 'traits': expected customer as {kinds[1]}, as in the population; got {kinds[0]}. Only keys of one type"
    )


@pytest.mark.parametrize("name", ["*", "sum(band)", "a b", "self", "ü"])
def test_other_names_of_columns_are_taken_as_they_are(spark: SparkSession, name: str) -> None:
    given = spark.sql("SELECT 1L AS customer, 2 AS band").withColumnRenamed("band", name)
    part = features.shaped(given, ["customer"], "traits")
    found = features.combine(spark.sql("SELECT 1L AS customer UNION SELECT 2L"), {"traits": part}, ["customer"], [name])
    assert [row[:] for row in found.orderBy("customer").collect()] == [(1, 2.0), (2, 0.0)]


def test_whole_numbers_of_two_widths_are_matched_without_loss(spark: SparkSession) -> None:
    people = spark.sql("SELECT 7L AS customer UNION SELECT 9007199254740993L")
    traits = spark.sql("SELECT 7 AS customer, 1.0F AS band")
    found = features.combine(people, {"traits": traits}, ["customer"]).orderBy("customer")
    assert [row[:] for row in found.collect()] == [(7, 1.0), (9007199254740993, None)]


def test_zero_is_what_an_entity_without_events_gets_and_nobody_else(spark: SparkSession) -> None:
    people = spark.sql("SELECT 1L AS customer UNION SELECT 2L UNION SELECT 3L")
    parts = {
        "habits": spark.sql(
            "SELECT 1L AS customer, CAST(NULL AS FLOAT) AS total, CAST(NULL AS FLOAT) AS worst UNION SELECT 2L, 5.0F, 4.0F"
        ),
        "traits": spark.sql("SELECT 1L AS customer, 7.0F AS band"),
    }
    found = features.combine(people, parts, ["customer"], ["total"]).orderBy("customer")
    assert found.columns == ["customer", "total", "worst", "band"]
    assert [row[:] for row in found.collect()] == [(1, None, None, 7.0), (2, 5.0, 4.0, None), (3, 0.0, None, None)]


def test_groups_are_joined_to_the_population_and_add_nobody_to_it(spark: SparkSession) -> None:
    spine = spark.sql("SELECT 1L AS customer UNION SELECT 2L")
    parts = {
        "habits": spark.sql("SELECT 2L AS customer, 5.0F AS visits UNION SELECT 3L, 6.0F"),
        "traits": spark.sql("SELECT 1L AS customer, 7.0F AS band"),
    }

    found = features.combine(spine, parts, ["customer"]).orderBy("customer")

    assert found.columns == ["customer", "visits", "band"]
    assert [row[:] for row in found.collect()] == [(1, None, 7.0), (2, 5.0, None)]


def test_groups_are_joined_by_all_columns_of_an_entity(spark: SparkSession) -> None:
    keys = ["customer", "shop"]
    rows = spark.sql("SELECT * FROM VALUES (1L, 'n'), (1L, 's'), (2L, 'n'), (2L, NULL), (NULL, 'n') AS t(customer, shop)")
    spine, entities, told = features.population(rows, keys, Population("customers", reads=("visits",)), "2017-05")
    group = spark.sql(
        "SELECT * FROM VALUES ('s', 1, 10), ('n', 2, 20), ('s', 2, 30), (NULL, 2, 40), ('n', NULL, 50) AS t(shop, customer, band)"
    )
    traits = features.shaped(group, keys, "traits")

    found = features.combine(features.named(spine, keys), {"traits": traits}, keys, ["band"]).orderBy(*keys)

    assert traits.columns == ["customer", "shop", "band"]
    assert [tuple(row) for row in found.collect()] == [(1, "n", 0.0), (1, "s", 10.0), (2, "n", 20.0)]
    assert (entities, told) == (
        3,
        ["Population 'customers' of 2017-05 returned 2 rows without customer or shop, which are ignored."],
    )


def test_what_is_wrong_with_one_of_several_columns_of_an_entity_is_told(spark: SparkSession) -> None:
    keys = ["customer", "shop"]
    one, odd = spark.sql("SELECT 1L AS customer, 1 AS band"), spark.sql("SELECT 1L AS customer, 1.5D AS shop")
    twice = spark.sql("SELECT * FROM VALUES (1L, 'n'), (1L, 's'), (1L, 's') AS t(customer, shop)")
    spine, other = spark.sql("SELECT 1L AS customer, 'n' AS shop"), spark.sql("SELECT 1L AS customer, 7 AS shop, 1.0F AS band")
    for raised, told in (
        (
            lambda: features.shaped(one, keys, "traits"),
            "Function 'traits' returned no column 'shop' (it returned: customer, band). Add the entity's column. An entity is "
            "customer and shop together.",
        ),
        (lambda: features.shaped(odd, keys, "traits"), "Function 'traits': expected shop as whole numbers or text, got double."),
        (
            lambda: features.check_unique(twice, keys, "It"),
            "It: expected one row per entity, got 1 entities with several, such as customer and shop (1, 's') (2 rows). Group or",
        ),
        (
            lambda: features.combine(spine, {"traits": other}, keys),
            "Feature group 'traits': expected shop as string, as in the population; got int.",
        ),
    ):
        with pytest.raises((DataError, DescriptionError)) as refused:
            raised()
        assert str(refused.value).startswith(told)


def test_two_groups_of_one_column_are_refused_with_both_names(spark: SparkSession) -> None:
    part = spark.sql("SELECT 1L AS customer, 5.0F AS visits")
    with pytest.raises(DescriptionError, match=r"Feature group 'traits' returned columns .+: visits \(visits of habits\)"):
        features.combine(part.select("customer"), {"habits": part, "traits": part}, ["customer"])
    loud = part.withColumnRenamed("visits", "VISITS")
    with pytest.raises(
        DescriptionError, match=r"'traits' returned columns .+ \(case is ignored\): VISITS \(visits of habits\)\. Rename"
    ):
        features.combine(part.select("customer"), {"habits": part, "traits": loud}, ["customer"])


def test_text_is_written_plain_and_times_in_utc(spark: SparkSession) -> None:
    frame = spark.sql("SELECT 'anna' AS customer, 1.0F AS visits, current_timestamp() AS at")
    assert features.arrow_schema(frame) == pa.schema(
        [pa.field("customer", pa.string()), pa.field("visits", pa.float32()), pa.field("at", pa.timestamp("us", tz="UTC"))]
    )


@pytest.mark.parametrize(
    ("kind", "fits"), [("BIGINT", True), ("INT", True), ("STRING", True), ("DOUBLE", False), ("DATE", False), ("BOOLEAN", False)]
)
def test_whole_numbers_and_text_name_entities(spark: SparkSession, kind: str, fits: bool) -> None:
    assert features.is_key_type(spark.sql(f"SELECT CAST(NULL AS {kind}) AS customer"), "customer") is fits


def features_order(period: str, part: str) -> Order:
    told = {"pipeline": "shop", "artifact": Artifact.FEATURES, "step": Step.STAGE, "almanac": "1"}
    return Order(**told, period=period, part=part, description="d", module="m", inputs={}, parameters={})


def test_the_errors_in_the_docs_are_those_that_are_raised(
    spark: SparkSession, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = re.findall(r"^```text\n(.*?)\n```", (repository / "docs" / "features.md").read_text(), re.DOTALL | re.MULTILINE)
    label = Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=0)
    people, traits = spark.sql("SELECT 1L AS customer"), spark.sql("SELECT '1' AS customer, 1.0F AS band")
    twice, dotted = (
        spark.sql("SELECT 1L AS customer, 1 AS band, 2 AS Band"),
        spark.sql("SELECT 1L AS customer, 1 AS `amount.eur`"),
    )
    first = sealed(compatibility.Columns(period="2017-05", names=("food",)))
    monkeypatch.setattr(Objects, "find", lambda *_: first)
    home, order = Home.of("s3://shop", "shop", Objects()), features_order("2017-06", "traits")
    ones = pa.table({"customer": [1]})
    raised = [
        lambda: features.combine(people, {"traits": traits}, ["customer"]),
        lambda: training.label_rows(ones, pa.table({"customer": [1.0], "label": [1]}), ["customer"], label),
        lambda: compatibility.check_columns(home, order, ["food", "toys"]),
        lambda: features.shaped(twice, ["customer"], "traits"),
        lambda: features.shaped(dotted, ["customer"], "traits"),
    ]

    told = []
    for ask in raised:
        with pytest.raises(DescriptionError) as refused:
            ask()
        told.append(str(refused.value))

    assert shown == told
