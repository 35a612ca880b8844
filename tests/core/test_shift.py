"""Whether scores are spread otherwise: the population stability index."""

from __future__ import annotations

import math

import pytest

from almanac.core import shift


def test_the_index_is_that_of_a_hand_made_example() -> None:
    before, now = (50, 30, 20), (40, 30, 30)
    assert shift.stability_index(before, now) == pytest.approx(-0.1 * math.log(0.4 / 0.5) + 0.1 * math.log(0.3 / 0.2))


def test_the_number_of_rows_makes_no_difference() -> None:
    assert shift.stability_index((5, 5), (500, 500)) == 0


def test_an_empty_bin_counts_as_a_very_small_one() -> None:
    assert shift.stability_index((100, 0), (50, 50)) == pytest.approx(-0.5 * math.log(0.5) + (0.5 - 1e-4) * math.log(0.5 / 1e-4))


def test_a_period_without_rows_has_not_shifted() -> None:
    assert shift.stability_index((0, 0), (1, 2)) == shift.stability_index((1, 2), (0, 0)) == 0


def test_only_much_is_told() -> None:
    assert shift.warning("score", 0.25, "2017-07") == ""
    assert shift.warning("score", 0.31, "2017-07") == (
        "score has shifted since 2017-07: population stability index 0.31, above 0.25 is a large shift"
    )
