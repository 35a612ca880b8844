"""Described groups on wild data: sums that never wrap, references with nulls, values of other types; right, or told."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almanac import Aggregates, EventSource, ReferenceSource
from almanac.errors import DataError, DescriptionError
from almanac.spark import partials
from tests.jobs.test_aggregates import group, rows
from tests.support import shop as shops
from tests.support.shop import MONTHS
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

QUARTER = timedelta(days=90)


def described(world: World, **changes: Any) -> None:
    """The shop with visits of all their columns, and a described group."""
    shop = world.shop
    asked: dict[str, Any] = {"reads": ("visits",), "windows": (QUARTER,), **changes}
    shop.describe(
        sources={
            "visits": EventSource(f"{shop.landing}/visits/", event_time="at", timezone="UTC"),
            "people": ReferenceSource(f"{shop.landing}/people/"),
        },
        features=(shop.pipeline.group("habits"), Aggregates("agg", **asked)),
    )


def with_column(world: World, name: str, values: Any) -> None:
    """Delivers each month again with one more column; `values` are those of as many rows."""
    for month in MONTHS:
        held = shops.visits(month)
        world.shop.put("visits", f"{month:%Y-%m}.parquet", held.append_column(name, values(held.num_rows)))


def refused(world: World) -> str:
    """What the pin says, before any job."""
    with pytest.raises(DescriptionError) as error:
        group(world, "agg", "2017-05")
    return str(error.value)


def test_a_sum_of_large_whole_numbers_does_not_wrap_around(world: World) -> None:
    """Such as times in nanoseconds."""
    with_column(world, "nanos", lambda count: pa.array([1_500_000_000_000_000_000] * count, pa.int64()))
    described(world, events=("count",), columns={"nanos": ("sum",)})

    (receipt,) = group(world, "agg", "2017-05")
    found = rows(world.shop, receipt)

    assert found["agg_count_90d"].max() > 7, "more than 64 bits hold"
    np.testing.assert_allclose(found["agg_nanos_sum_90d"], found["agg_count_90d"] * 1.5e18, rtol=1e-6)


@settings(max_examples=60)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12))
def test_sums_are_exact_whatever_they_are_of(values: list[int]) -> None:
    table = pa.table({"key": pa.array([0] * len(values)), "value": pa.array(values, pa.int64())})
    summed = partials.summable(table, ["value"], "agg").group_by("key").aggregate([("value", "sum")])["value_sum"]
    assert Fraction(summed[0].as_py()) == sum(values)


def test_a_sum_with_more_digits_than_any_decimal_is_refused() -> None:
    column = pa.array([Decimal(9 * 10**37)] * 2, pa.decimal128(38, 0))
    with pytest.raises(DataError) as told:
        partials.summable(pa.table({"price": column}), ["price"], "agg")
    assert str(told.value).startswith("Aggregates('agg'): sums of price (decimal128(38, 0), up to 9")
    assert str(told.value).endswith("Deliver the column with fewer digits, or as a double.")


def test_a_sum_of_nulls_is_null_and_zero_is_for_who_has_no_event(world: World) -> None:
    """NaN is null as well; an entity of some events without a value has no sum, one without events has the sum 0."""
    numbers = iter(range(10**6))
    with_column(world, "x", lambda count: pa.array([np.nan if next(numbers) % 2 else None for _ in range(count)], pa.float64()))
    described(world, events=("count",), columns={"x": ("sum", "min", "distinct")})

    (receipt,) = group(world, "agg", "2017-05")
    found = rows(world.shop, receipt)

    assert found["agg_x_sum_90d"].isna().all() and found["agg_x_min_90d"].isna().all()
    assert (found["agg_x_distinct_90d"] == 0).all() and (found["agg_count_90d"] > 0).all()


@pytest.mark.parametrize("known", [[1, 2, 3, 4, None], [1, 2, 3, 4, None, None], []])
def test_a_null_matches_nothing_on_either_side_of_a_lookup(world: World, known: list[int | None]) -> None:
    with_column(world, "product", lambda count: pa.array([place % 5 or None for place in range(count)], pa.int64()))
    departments = ["x" if one else "y" for one in known]
    world.shop.put("people", "all.parquet", pa.table({
        "product": pa.array(known, pa.int64()), "department": pa.array(departments, pa.string()),
    }))  # fmt: skip
    described(world, reads=("visits", "people"), on="product", events=("count",), split="department", values=("x", "y"))

    (receipt,) = group(world, "agg", "2017-05")

    assert receipt.passed, receipt.findings
    found = rows(world.shop, receipt) if known else None
    assert found is None or (found["agg_y_count_90d"].sum() == 0 and found["agg_x_count_90d"].sum() > 50)
    assert (receipt.rows == 0) == (not known)


def test_events_without_an_entity_count_for_nobody_and_are_told(world: World) -> None:
    for month in MONTHS:
        held = shops.visits(month)
        guests = [None if place % 10 == 0 else one for place, one in enumerate(held["customer"].to_pylist())]
        world.shop.put("visits", f"{month:%Y-%m}.parquet", held.set_column(0, "customer", pa.array(guests, pa.int64())))
    described(world, events=("count",))

    (receipt,) = group(world, "agg", "2017-05")

    counted = [shops.visits(datetime(2017, month, 1)).num_rows for month in (3, 4, 5)]
    assert receipt.findings == (
        f"Source 'visits' has {sum(-(-one // 10) for one in counted)} events without customer in the files of these windows; "
        "they are ignored.",
    )


@pytest.mark.parametrize(
    ("column", "changes", "message"),
    [
        (
            pa.array([True, False]),
            {"split": "kind", "values": ("True",)},
            "Aggregates('agg').split: expected a column of text or whole numbers, got kind (bool). Deliver",
        ),
        (
            pa.array([1.0, 2.0]),
            {"split": "kind", "values": ("1.0",)},
            "Aggregates('agg').split: expected a column of text or whole numbers, got kind (double). ",
        ),
        (
            pa.array([1, 2]),
            {"split": "kind", "values": ("1", "02", "one")},
            "Aggregates('agg').values: expected whole numbers, as in kind; got '02', 'one'. Write them as '1', '-20'.",
        ),
        (
            pa.array([["a"], ["b"]]),
            {"columns": {"kind": ("distinct",)}},
            "Aggregates('agg').columns: expected columns that are not nested, got kind (list<item: string>), whose values cannot",
        ),
        (
            pa.array(["1", "2"]),
            {"reads": ("visits", "people"), "on": "kind", "columns": {"band": ("sum",)}},
            "Aggregates('agg').on: expected kind with one type, got string in source 'visits' and int64 in source 'people'. Only",
        ),
        (
            pa.array([1, 2], pa.uint64()),
            {"reads": ("visits", "people"), "on": "kind", "columns": {"band": ("sum",)}},
            "Aggregates('agg').on: expected kind with one type, got decimal128(20, 0) in source 'visits' and int64 in source "
            "'people'. Only values of one type are matched. Deliver both as one type, whole numbers as int64: uint64 is read as "
            "a decimal.",
        ),
        (
            pa.array([1, 2]),
            {"columns": {"customer": ("distinct",)}},
            "Aggregates('agg').columns: expected columns to aggregate, got the entity 'customer'. Remove it.",
        ),
    ],
)
def test_values_that_cannot_be_told_apart_are_refused(
    world: World, column: pa.Array, changes: dict[str, Any], message: str
) -> None:
    with_column(world, "kind", lambda count: column.take(pa.array([place % 2 for place in range(count)])))
    world.shop.put("people", "all.parquet", shops.people().rename_columns({"customer": "kind", "band": "band"}))
    described(world, **{"events": ("count",), **changes})

    assert refused(world).startswith(message)


def test_a_column_that_both_sources_have_is_refused_and_not_taken_from_one_of_them(world: World) -> None:
    world.shop.put("people", "all.parquet", shops.people().append_column("amount", pa.array([1] * 40)))
    described(world, reads=("visits", "people"), on="customer", columns={"amount": ("sum",)})

    assert refused(world).startswith("Aggregates('agg'): amount (int64) is ambiguous: both visits and people have it. Rename it")


def test_the_splitting_column_of_a_reference_can_be_aggregated_and_a_minus_is_told(world: World) -> None:
    bands = [one - 2 for one in shops.people()["band"].to_pylist()]
    world.shop.put("people", "all.parquet", shops.people().set_column(1, "band", pa.array(bands)))
    asked = {"split": "band", "values": ("-2", "2"), "columns": {"band": ("distinct", "min")}}
    described(world, reads=("visits", "people"), on="customer", events=("count",), **asked)

    (receipt,) = group(world, "agg", "2017-05")

    found = rows(world.shop, receipt)
    assert found["agg_minus_2_band_min_90d"].dropna().unique().tolist() == [-2]
    assert found["agg_2_band_distinct_90d"].max() == 1 and found["agg_minus_2_count_90d"].sum() > 0


@pytest.mark.parametrize("kind", [pa.float64(), pa.uint64(), pa.bool_()])
def test_an_entity_of_another_type_than_whole_numbers_or_text_is_refused(world: World, kind: pa.DataType) -> None:
    for month in MONTHS:
        held = shops.visits(month)
        world.shop.put("visits", f"{month:%Y-%m}.parquet", held.set_column(0, "customer", held["customer"].cast(kind)))
    described(world, events=("count",))

    assert refused(world).startswith("Aggregates('agg'): expected customer as whole numbers or text, got ")
    assert "in source 'visits'. Deliver it as one of them" in refused(world)


def test_names_of_features_have_neither_dots_nor_backticks() -> None:
    part = Aggregates("agg", reads=("visits",), windows=(QUARTER,), columns={"amount.eur": ("sum",), "a`b": ("max",)})
    assert [feature.name for feature in part.features] == ["agg_amount_eur_sum_90d", "agg_a_b_max_90d"]
