"""Drafted checks: what each rule gives, and that every period that was drafted from passes."""

from __future__ import annotations

from typing import Any

import pytest

from almanac.core.profile import ColumnProfile, Draft, Profile, draft, python


def column(low: float, high: float, nulls: int = 0, values: tuple[float, ...] = ()) -> ColumnProfile:
    return ColumnProfile(nulls=nulls, quantiles=(low, *[low] * 7, high), mean=low, values=tuple((value, 5) for value in values))


def of(period: str, rows: int, **columns: ColumnProfile) -> Profile:
    return Profile(period=period, rows=rows, columns=columns)


def drafted(*profiles: Profile, name: str) -> list[dict[str, Any]]:
    return [dict(one.arguments) for one in draft(profiles) if one.name == name]


def test_rows_may_be_half_the_fewest_and_twice_the_most() -> None:
    assert drafted(of("2017-05", 100), of("2017-06", 141), name="ExpectTableRowCountToBeBetween") == [
        {"min_value": 50, "max_value": 282}
    ]


@pytest.mark.parametrize(
    ("nulls", "asked"),
    [
        ((0, 0), [{"column": "visits"}]),
        ((0, 10), [{"column": "visits", "mostly": 0.8}]),
        ((1, 3), [{"column": "visits", "mostly": 0.94}]),
        ((0, 50), []),
        ((0, 100), []),
    ],
)
def test_nulls_are_allowed_twice_as_often_as_they_were_seen_and_never_where_none_was(
    nulls: tuple[int, int], asked: list[dict[str, Any]]
) -> None:
    profiles = [of(f"2017-0{number}", 100, visits=column(0, 9, count)) for number, count in enumerate(nulls, 5)]
    assert drafted(*profiles, name="ExpectColumnValuesToNotBeNull") == asked


def test_a_range_has_room_on_each_side_and_does_not_go_below_zero_where_nothing_did() -> None:
    profiles = [
        of("2017-05", 100, spend=column(2, 30), change=column(-4, 4)),
        of("2017-06", 100, spend=column(1, 61.3), change=column(-1, 6)),
    ]

    assert drafted(*profiles, name="ExpectColumnValuesToBeBetween") == [
        {"column": "spend", "min_value": 0.0, "max_value": 122.0},
        {"column": "change", "min_value": -14.0, "max_value": 16.0},
    ]


def test_bounds_are_rounded_outward_and_a_constant_has_room_as_well() -> None:
    profiles = [
        of("2017-05", 9, large=column(0, 123_456), small=column(-0.000_123_4, 0), fixed=column(7, 7), nothing=column(0, 0))
    ]

    assert drafted(*profiles, name="ExpectColumnValuesToBeBetween") == [
        {"column": "large", "min_value": 0.0, "max_value": 247_000.0},
        {"column": "small", "min_value": -0.000_247, "max_value": 0.000_124},
        {"column": "fixed", "min_value": 0.0, "max_value": 14.0},
        {"column": "nothing", "min_value": 0.0, "max_value": 1.0},
    ]


def test_the_same_few_values_in_every_period_are_a_set_whose_breach_warns() -> None:
    band = column(1, 3, values=(1, 2, 3))

    (found,) = [one for one in draft([of("2017-05", 9, band=band), of("2017-06", 9, band=band)]) if "value_set" in one.arguments]

    assert found == Draft(
        name="ExpectColumnDistinctValuesToBeInSet", arguments={"column": "band", "value_set": [1, 2, 3]}, severity="warning"
    )


def test_few_values_of_one_period_or_other_ones_in_the_next_are_a_range() -> None:
    one, other = of("2017-05", 9, band=column(1, 3, values=(1, 2, 3))), of("2017-06", 9, band=column(1, 4, values=(1, 2, 4)))

    for profiles in ((one,), (one, other)):
        assert not [found for found in draft(profiles) if "value_set" in found.arguments]
        assert drafted(*profiles, name="ExpectColumnValuesToBeBetween")


def test_a_column_without_a_value_or_not_in_every_period_is_not_asked_about() -> None:
    profiles = [
        of("2017-05", 9, empty=ColumnProfile(nulls=9), older=column(0, 1)),
        of("2017-06", 9, empty=ColumnProfile(nulls=9)),
    ]

    assert [one.name for one in draft(profiles)] == ["ExpectTableRowCountToBeBetween"]


def test_the_text_is_python_that_names_the_periods() -> None:
    band = column(1, 3, values=(1, 2, 3))
    text = python("shop", [of("2017-05", 100, band=band), of("2017-06", 100, band=band)])

    assert text == (
        "import great_expectations.expectations as gxe\n"
        "\n\n"
        "def checks():\n"
        '    """Drafted from the features of 2017-05, 2017-06 of shop. Adjust them to what you know of the data."""\n'
        "    return {\n"
        '        "features": [\n'
        "            gxe.ExpectTableRowCountToBeBetween(min_value=50, max_value=200),\n"
        "            gxe.ExpectColumnValuesToNotBeNull(column='band'),\n"
        "            gxe.ExpectColumnDistinctValuesToBeInSet(column='band', value_set=[1, 2, 3], severity='warning'),\n"
        "        ],\n"
        "    }\n"
    )
