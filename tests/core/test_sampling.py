"""How many rows are drawn from which stratum, and how they age."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from almanac import MovingWindow, Sampling
from almanac.core.canonical import dumps
from almanac.core.sampling import shares
from almanac.errors import DescriptionError


def test_small_strata_are_drawn_whole_and_leave_their_room_to_the_others() -> None:
    assert shares({"rare": 10, "frequent": 1000}, 100) == {"rare": 10, "frequent": 90}
    assert shares({"a": 50, "b": 50, "c": 1000}, 90) == {"a": 30, "b": 30, "c": 30}
    assert shares({"a": 5, "b": 6}, 100) == {"a": 5, "b": 6}


@given(some.dictionaries(some.text(), some.integers(1, 1000), min_size=1), some.integers(1, 3000))
def test_as_many_rows_are_drawn_as_are_asked_for_and_no_stratum_is_favoured(counts: dict[str, int], rows: int) -> None:
    drawn = shares(counts, rows)
    assert sum(drawn.values()) == min(rows, sum(counts.values()))
    assert all(0 <= drawn[name] <= count for name, count in counts.items())
    parts = [drawn[name] for name, count in counts.items() if drawn[name] < count]
    assert not parts or max(parts) - min(parts) <= 1


def test_a_row_weighs_half_after_a_half_life() -> None:
    aged = Sampling(half_life=3)
    assert [aged.aged(periods) for periods in (0, 3, 6)] == [1.0, 0.5, 0.25]
    assert Sampling(10).aged(7) == 1.0


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({}, "Sampling: expected rows or half_life, got neither"),
        ({"rows": 0}, "Sampling.rows: expected 1 or more, got 0"),
        ({"rows": 10, "by": "band"}, r"Sampling.by: expected a tuple, got the text 'band'. Write \('band',\)"),
        ({"half_life": 2, "by": ("band",)}, "Sampling.by: expected rows as well, got band without rows"),
        ({"half_life": 0}, "Sampling.half_life: expected more than 0 periods, got 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused(asked: dict[str, Any], text: str) -> None:
    with pytest.raises(DescriptionError, match=text):
        Sampling(**asked)


def test_a_window_takes_a_sampling_and_one_without_is_described_as_before() -> None:
    with pytest.raises(DescriptionError, match=r"MovingWindow.sampling: expected Sampling\(.*\), or None; got 100."):
        MovingWindow(3, sampling=100)  # type: ignore[arg-type]
    assert b"sampling" not in dumps(MovingWindow(3))
