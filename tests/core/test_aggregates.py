"""Described feature groups: their columns, the segments of the time line, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac import Aggregates, FeatureGroup
from almanac.core.aggregates import edges
from almanac.core.canonical import decode, digest, encode
from almanac.core.period import Calendar, Every, Period
from almanac.core.pipeline import Pipeline
from almanac.errors import DescriptionError
from tests.support.calendars import CALENDARS
from tests.support.shop import pipeline

DAY = timedelta(days=1)
SHOPPING: dict[str, Any] = {"reads": ("visits",), "windows": (7 * DAY, 36 * timedelta(hours=1)), "events": ("count", "recency")}


def test_columns_are_named_after_group_value_column_function_and_window() -> None:
    plain = Aggregates("shopping", **SHOPPING, columns={"sales": ("sum",)})
    assert [feature.name for feature in plain.features] == [
        *("shopping_count_7d", "shopping_recency_7d", "shopping_sales_sum_7d"),
        *("shopping_count_36h", "shopping_recency_36h", "shopping_sales_sum_36h"),
    ]
    split = Aggregates("by", **{**SHOPPING, "events": ("count",), "windows": (90 * DAY,)}, split="kind", values=("DRUG GM", "A"))
    assert [feature.name for feature in split.features] == ["by_drug_gm_count_90d", "by_a_count_90d"]
    assert plain.zeros == [name for name in (feature.name for feature in plain.features) if "recency" not in name]
    assert plain.lookback == 7 * DAY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"reads": ()},
            "Aggregates('a').reads: expected a tuple of an event source, or of an event source and a reference; got ().",
        ),
        (
            {"reads": ("a", "b")},
            "Aggregates('a').on: expected the column that both sources have if two are read, else None; got None.",
        ),
        (
            {"windows": (0 * DAY,)},
            "Aggregates('a').windows: expected a tuple of times above zero, got (datetime.timedelta(0),).",
        ),
        ({"events": ()}, "Aggregates('a'): expected events or columns, got neither. Give functions, such as events=('count',)."),
        ({"events": ("sum",)}, "Aggregates('a').events: expected a tuple of any of 'count', 'recency'; got ('sum',)."),
        (
            {"columns": {"x": "sum"}},
            "Aggregates('a').columns['x']: expected a tuple of any of 'sum', 'min', 'max', 'distinct'; got 'sum'.",
        ),
        (
            {"columns": {".x": ("sum",)}},
            "Aggregates('a'): expected columns whose names do not begin with a dot, got '.x'. Rename it in the files.",
        ),
        ({"split": "kind"}, "Aggregates('a').split: expected both split and values, or neither; got 'kind' and ()."),
        (
            {"split": "kind", "values": ("a b", "A-B")},
            "Aggregates('a'): two features would be called 'a_a_b_count_36h'. Leave out a window, value or function.",
        ),
    ],
)
def test_a_group_that_is_not_as_it_must_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Aggregates("a", **{**SHOPPING, **changes})
    assert message in str(refused.value)


def described(*groups: Any) -> Pipeline:
    plain = pipeline("s3://bucket/landing")
    return pipeline("s3://bucket/landing", features=(*plain.features, *groups))


def test_written_and_described_groups_are_mixed_and_come_back_and_what_was_kept_before_keeps_its_digest() -> None:
    mixed = described(Aggregates("shopping", **SHOPPING))
    assert decode(Pipeline, encode(mixed)) == mixed
    assert "kind" not in encode(FeatureGroup("habits", reads=("visits",)))
    assert [part.name for part in mixed.parts] == ["customers", "habits", "traits", "returns"]
    assert digest(encode(described())) == pipeline("s3://bucket/landing").digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"reads": ("people",)},
            "Aggregates('a').reads: expected an EventSource and, if there is a second, a ReferenceSource; got people.",
        ),
        ({"reads": ("nothing",)}, "Aggregates('a').reads: expected the pipeline's sources, 'visits', 'people'; got 'nothing'."),
    ],
)
def test_a_group_of_other_sources_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        described(Aggregates("a", **{**SHOPPING, **changes}))
    assert str(refused.value) == message


def test_the_edges_of_months_are_where_their_windows_begin_and_end() -> None:
    low, high = datetime(2017, 5, 10, tzinfo=UTC), datetime(2017, 6, 20, tzinfo=UTC)
    found = edges((7 * DAY, 30 * DAY), timedelta(0), Calendar(Every.MONTH), low, high)
    days = [(5, 2), (5, 25), (6, 1), (6, 1), (6, 24)]  # of June 1: its own end, and 30 days before July 1
    assert found == sorted({datetime(2017, month, day, tzinfo=UTC) for month, day in days if (month, day) < (6, 21)})


@given(
    CALENDARS,
    st.lists(st.integers(1, 2000), min_size=1, max_size=3, unique=True),
    st.integers(0, 100),
    st.integers(0, 20_000),
    st.integers(0, 3000),
)
def test_no_window_of_any_period_begins_or_ends_inside_a_segment(
    calendar: Calendar, hours: list[int], lag: int, begin: int, length: int
) -> None:
    low = datetime(2016, 1, 1, tzinfo=UTC) + timedelta(hours=begin)
    high = low + timedelta(hours=length)
    windows = tuple(timedelta(hours=one) for one in hours)
    found = edges(windows, timedelta(hours=lag), calendar, low, high)

    assert found[0] <= low
    period = Period.holding(low - timedelta(days=100), calendar)
    while period.as_of - timedelta(hours=lag) - max(windows) <= high:
        end = period.as_of - timedelta(hours=lag)
        for moment in (end, *(end - window for window in windows)):
            assert not low < moment <= high or moment in found
        period = period.plus(1)
