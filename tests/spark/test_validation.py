"""Great Expectations' two engines give the same verdicts in the same words, whatever the rows are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from almanac.spark import checks, profiles, spreads, validation
from almanac.spark.rows import few, of_table
from almanac.spark.validation import in_pandas

pytestmark = pytest.mark.spark

NAN, INF = float("nan"), float("inf")
FAR = {"min_value": 900, "max_value": 901}
NOON = datetime(2017, 1, 3, 12)
COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "whole": (pa.int64(), [1, 2, 2, None, 5, -7]),
    "short": (pa.int8(), [1, 2, 2, 3, 5, -7]),
    "large": (pa.int64(), [2**62, 2**62, 2**62 - 1, None, 2**53 + 1, -(2**62)]),
    "single": (pa.float32(), [0.1, 2.5, 2.5, None, 5, -7]),
    "broken": (pa.float32(), [0.1, NAN, 2.5, None, INF, -INF]),
    "nan": (pa.float32(), [NAN] * 6),
    "price": (pa.decimal128(10, 2), [Decimal(price) if price else None for price in ("1.25", "2.5", "2.5", "", "99.99", "-1")]),
    "text": (pa.string(), ["a", "b", "b", None, "", "Ünï"]),
    "more": (pa.int64(), [2, 2, 3, 4, 5, -7]),
    "less": (pa.float32(), [0.1, 2.5, 2.5, 4, 5, -8]),
    "even": (pa.float64(), [0.1, 2.5, 2.5, 4, 5, INF]),
    "large_text": (pa.large_string(), ["a", "b", "b", None, "", "Ünï"]),
    "flag": (pa.bool_(), [True, False, True, None, True, False]),
    "day": (pa.date32(), [date(2017, 1, day) if day != 4 else None for day in range(1, 7)]),
    "at": (pa.timestamp("us", "UTC"), [datetime(2017, 1, day, day, tzinfo=UTC) if day != 4 else None for day in range(1, 7)]),
    "naive": (pa.timestamp("ns"), [datetime(2017, 1, day, day) if day != 4 else None for day in range(1, 7)]),
    "no_number": (pa.float32(), [None] * 6),
    "no_text": (pa.string(), [None] * 6),
    "list": (pa.list_(pa.int64()), [[1], [2], [2], None, [], [5]]),
    "bytes": (pa.binary(), [b"a", b"b", b"b", None, b"", b"\xff"]),
}  # fmt: skip
NUMBERS = ("whole", "short", "large", "single", "broken", "nan", "price", "no_number")
TIMES = ("at", "naive")


def table(rows: int = 6) -> pa.Table:
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in COLUMNS.items()}).slice(0, rows)


def of_any_column(name: str) -> Iterator[Any]:
    yield gxe.ExpectColumnValuesToNotBeNull(column=name, mostly=0.9)
    yield gxe.ExpectColumnValuesToBeNull(column=name)
    if name not in ("list", "bytes"):
        yield gxe.ExpectColumnValuesToBeUnique(column=name)
        yield gxe.ExpectColumnUniqueValueCountToBeBetween(column=name, **FAR)
        yield gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(column=name, min_value=0.99)
        yield gxe.ExpectColumnProportionOfNonNullValuesToBeBetween(column=name, min_value=0.99)


def of_numbers(name: str) -> Iterator[Any]:
    for bounds in (
        {"min_value": 0.1},
        {"max_value": 2.5, "strict_max": True},
        {"min_value": 2.5, "strict_min": True, "mostly": 0.5},
        {"min_value": 2**53, "max_value": 1e308},
    ):
        yield gxe.ExpectColumnValuesToBeBetween(column=name, **bounds)
    for kind in ("Mean", "Min", "Max", "Sum", "Stdev", "Median"):
        yield checks.expectation(f"ExpectColumn{kind}ToBeBetween", column=name, **FAR)
    yield from of_a_set(name, [0.1, 1, 2.5])


def of_a_set(name: str, values: list[Any]) -> Iterator[Any]:
    yield gxe.ExpectColumnValuesToBeInSet(column=name, value_set=values)
    yield gxe.ExpectColumnValuesToNotBeInSet(column=name, value_set=values)
    yield gxe.ExpectColumnDistinctValuesToBeInSet(column=name, value_set=values)
    yield gxe.ExpectColumnDistinctValuesToContainSet(column=name, value_set=values)
    yield gxe.ExpectColumnDistinctValuesToEqualSet(column=name, value_set=values)
    yield gxe.ExpectColumnMostCommonValueToBeInSet(column=name, value_set=values)


def of_text(name: str) -> Iterator[Any]:
    yield gxe.ExpectColumnValueLengthsToBeBetween(column=name, min_value=1, max_value=2)
    yield gxe.ExpectColumnValueLengthsToEqual(column=name, value=1)
    yield gxe.ExpectColumnValuesToMatchRegex(column=name, regex="^[ab]$")
    yield from of_a_set(name, ["a", "q"])


def of_times(name: str) -> Iterator[Any]:
    yield gxe.ExpectColumnValuesToBeBetween(column=name, min_value=NOON)
    yield gxe.ExpectColumnValuesToBeBetween(column=name, max_value=NOON.replace(tzinfo=UTC))
    yield gxe.ExpectColumnMinToBeBetween(column=name, min_value=NOON)
    yield gxe.ExpectColumnMaxToBeBetween(column=name, max_value=NOON.replace(tzinfo=UTC))


def of_the_table() -> Iterator[Any]:
    yield gxe.ExpectTableRowCountToEqual(value=7)
    yield gxe.ExpectTableRowCountToBeBetween(min_value=10)
    yield gxe.ExpectTableColumnCountToEqual(value=3)
    yield gxe.ExpectTableColumnCountToBeBetween(min_value=1, max_value=100)
    yield gxe.ExpectTableColumnsToMatchSet(column_set=["whole"])
    yield gxe.ExpectTableColumnsToMatchOrderedList(column_list=list(COLUMNS))
    yield gxe.ExpectColumnToExist(column="whole")
    yield gxe.ExpectColumnToExist(column="nowhere")
    yield gxe.ExpectColumnValuesToNotBeNull(column="nowhere")
    yield gxe.ExpectColumnValuesToBeBetween(column="whole", min_value=3, row_condition="text == 'b'", condition_parser="pandas")
    yield gxe.ExpectColumnValuesToBeOfType(column="single", type_="FloatType")
    for one, other in (
        ("whole", "short"),
        ("whole", "single"),
        ("more", "less"),
        ("less", "even"),
        ("even", "more"),
        ("more", "at"),
    ):
        yield gxe.ExpectColumnPairValuesToBeEqual(column_A=one, column_B=other)
        yield gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A=one, column_B=other)
        yield gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A=one, column_B=other, or_equal=True, mostly=0.5)
    for pair in (["text", "whole"], ["less", "even"], ["more", "even"], ["even", "nowhere"]):
        yield gxe.ExpectCompoundColumnsToBeUnique(column_list=pair)


def everything() -> list[Any]:
    alike = ("short", "more", "less", "even", "large", "large_text", "naive", "no_text")
    asked = [one for name in COLUMNS if name not in alike for one in of_any_column(name)]
    asked += [one for name in NUMBERS for one in of_numbers(name)]
    asked += [one for name in ("text", "large_text", "no_text") for one in of_text(name)]
    asked += [one for name in TIMES for one in of_times(name)]
    return [*asked, *of_a_set("flag", [True]), *of_a_set("flag", [1]), *of_a_set("whole", ["1"]), *of_the_table()]


def nowhere() -> Any:
    raise AssertionError("Spark was asked")


def in_both(spark: SparkSession, rows: pa.Table, asked: list[Any]) -> tuple[list[str], list[str]]:
    """What pandas and what Spark found, of what pandas may be asked."""
    held = of_table(lambda: spark, rows)
    shared = [one for one in asked if in_pandas(one, held.held)]
    small, large = (checks.run(one, shared, "rows") for one in (held, replace(held, held=None)))
    assert small.checks == large.checks == len(shared)
    return sorted(small.blocking), sorted(large.blocking)


@pytest.mark.parametrize("rows", [6, 0])
def test_what_pandas_is_asked_has_sparks_answer_in_sparks_words(spark: SparkSession, rows: int) -> None:
    small, large = in_both(spark, table(rows), everything())

    assert small == large
    assert len(small) > 20


def test_random_numbers_have_the_same_answers(spark: SparkSession) -> None:
    dice, asked = np.random.default_rng(7), list[Any]()
    whole = dice.integers(-50, 50, 3000)
    columns = {
        "whole": pa.array(whole, pa.int32(), mask=dice.random(3000) < 0.1),
        "single": pa.array(dice.normal(size=3000).astype(np.float32), mask=dice.random(3000) < 0.1),
        "double": pa.array(np.where(dice.random(3000) < 0.1, np.nan, dice.lognormal(3, 2, 3000))),
        "text": pa.array(["abcdefghij"[number % 10] * (number % 4) for number in whole.tolist()]),
    }
    for name in ("whole", "single", "double"):
        for bound in (-20.0, -0.5, 0, 0.1, 0.25, 3, 40):
            asked.append(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=bound))
            asked.append(gxe.ExpectColumnValuesToBeBetween(column=name, max_value=bound, mostly=0.6))
        kinds = ("Mean", "Stdev", "Median", "Sum")
        asked += [checks.expectation(f"ExpectColumn{kind}ToBeBetween", column=name, **FAR) for kind in kinds]
        asked += [gxe.ExpectColumnValuesToBeUnique(column=name), gxe.ExpectColumnUniqueValueCountToBeBetween(column=name, **FAR)]
    asked += [*of_a_set("whole", [1, 2, 3]), *of_a_set("text", ["aa", "b"]), *of_text("text")]

    small, large = in_both(spark, pa.table(columns), asked)

    # Of more than twenty values each engine shows some.
    many = ("expect_column_distinct_values", "expect_column_values_to_be_unique")
    small, large = ([text.split(", such as")[0] if text.startswith(many) else text for text in found] for found in (small, large))
    assert small == large
    assert len(small) > 30


def test_a_suite_of_many_rows_is_answered_by_one_scan(spark: SparkSession) -> None:
    numbers = {"id": range(900), "text": [f"customer {row}" for row in range(900)], "twice": [row // 2 for row in range(900)]}
    held = of_table(lambda: spark, pa.table(numbers))
    scanned: list[list[str]] = []
    many = replace(held, held=None, scan=lambda columns, fold: scanned.append(list(columns)) or held.scan(columns, fold))
    asked = [
        gxe.ExpectTableRowCountToEqual(value=900),
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in numbers),
        *(gxe.ExpectColumnValuesToBeUnique(column=name) for name in ("id", "text")),
        gxe.ExpectColumnValuesToBeBetween(column="id", min_value=0, max_value=900, strict_max=True),
        gxe.ExpectColumnMeanToBeBetween(column="id", min_value=449.5, max_value=449.5),
    ]

    good = checks.run(many, asked, "rows")
    bad = checks.run(many, [gxe.ExpectColumnValuesToBeUnique(column="twice")], "rows")

    assert good.passed and good.checks == len(asked)
    assert scanned == [["id", "text", "twice"], ["twice"]]
    assert bad.blocking[0].startswith("expect_column_values_to_be_unique(column='twice') failed: 900 of 900 rows (100 %)")


def test_what_pandas_is_not_asked_is_asked_in_spark_whatever_the_size(spark: SparkSession) -> None:
    asked = [
        gxe.ExpectColumnValuesToMatchRegex(column="text", regex="^[ab]$"),
        gxe.ExpectColumnSumToBeBetween(column="whole", min_value=0),
        gxe.ExpectColumnValuesToNotBeNull(column="whole"),
    ]

    found = checks.run(of_table(lambda: spark, table()), asked, "rows")

    assert [text.split("(")[0] for text in found.blocking] == [
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_match_regex",
    ]
    assert found.checks == found.result["statistics"]["evaluated_expectations"] == 3
    assert found.result["statistics"]["unsuccessful_expectations"] == 2
    assert "column values to match regex" in found.html


def test_an_expectation_of_the_users_own_is_asked_in_spark() -> None:
    class ExpectVisitorsToBeKnown(gxe.ExpectColumnValuesToNotBeNull):
        pass

    assert in_pandas(gxe.ExpectColumnValuesToNotBeNull(column="whole"), table())
    assert not in_pandas(ExpectVisitorsToBeKnown(column="whole"), table())


def test_a_nan_is_null_in_both_engines(spark: SparkSession) -> None:
    asked = [gxe.ExpectColumnValuesToNotBeNull(column="nan")]

    for rows in (held := of_table(lambda: spark, table()), replace(held, held=None)):
        (said,) = checks.run(rows, asked, "rows").blocking
        assert said.startswith("expect_column_values_to_not_be_null(column='nan') failed: 6 of 6 rows (100 %)")


def test_profiles_and_spreads_are_the_same_in_the_driver_and_in_spark(spark: SparkSession, tmp_path: Any) -> None:
    scores = pa.table({"score": np.random.default_rng(3).random(900), "empty": pa.nulls(900, pa.float32())})
    pq.write_table(scores, tmp_path / "scores.parquet", row_group_size=300)
    small = of_table(lambda: spark, scores)
    large = replace(small, held=None)
    uris = [str(tmp_path / "scores.parquet")]

    assert profiles.profile(nowhere, [], "2017-05", small.held) == profiles.profile(lambda: spark, uris, "2017-05")
    spread = spreads.spread(small, "score")
    assert spreads.counted(large, "score", spread.edges) == spread.counts
    assert spread.edges == pytest.approx(spreads.spread(large, "score").edges, abs=0.01)


def test_few_rows_are_few_by_their_values_and_by_their_bytes() -> None:
    assert few(100_000, 20, 10**6)
    assert not few(414_760, 38, 10**6)
    assert not few(10, 2, 10**9)


def test_the_page_about_checks_lists_what_pandas_is_asked(repository: Path) -> None:
    text = (repository / "docs" / "checks.md").read_text()
    (listed,) = re.findall(r"^On few rows, pandas runs:\n\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    rows = [set(re.findall(r"`(Expect\w+)`", row)) for row in listed.splitlines()[2:]]

    tables = ("TABLE", "COLUMN", "SET", "RANGE", "NUMBER", "FLOAT", "TEXT", "PAIR", "COMPOUND")
    assert rows == [getattr(validation, name) for name in tables]
