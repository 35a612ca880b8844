"""A failed check in plain words: what was expected, what was found, a few values, never all of them."""

from __future__ import annotations

from typing import Any

import great_expectations.expectations as gxe
import pytest

from almanac.errors import DescriptionError
from almanac.spark import checks


def result(found: dict[str, Any], kwargs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "success": False,
        "expectation_config": {"type": "expect_it", "kwargs": {"column": "visits", "batch_id": "n", **(kwargs or {})}},
        "result": found,
        "exception_info": {"raised_exception": False, "exception_message": None, "exception_traceback": None},
        **more,
    }


def test_wrong_values_are_counted_and_five_of_them_shown() -> None:
    found = {"element_count": 200, "unexpected_count": 50, "unexpected_percent": 25.0, "partial_unexpected_list": list(range(20))}
    assert checks.sentence(result(found, {"min_value": 1, "max_value": None})) == (
        "expect_it(column='visits', min_value=1) failed: 50 of 200 rows (25 %), such as 0, 1, 2, 3, 4"
    )


@pytest.mark.parametrize(("percent", "shown"), [(100.0, "100 %"), (99.94, "99.9 %"), (0.0012, "0.0012 %")])
def test_shares_are_told_as_people_write_them(percent: float, shown: str) -> None:
    found = {"element_count": 9, "unexpected_count": 1, "unexpected_percent": percent, "partial_unexpected_list": [1]}
    assert f"({shown})" in checks.sentence(result(found))


def test_wrong_values_of_a_whole_column_are_told_without_rows() -> None:
    found = {"observed_value": None, "unexpected_count": 99, "partial_unexpected_list": ["a", "b"]}
    assert checks.sentence(result(found)) == "expect_it(column='visits') failed: 99 values, such as a, b"


def test_missing_values_are_named() -> None:
    found = {"observed_value": None, "unexpected_count": 0, "missing_count": 1, "partial_missing_list": ["gold"]}
    assert checks.sentence(result(found)) == "expect_it(column='visits') failed: missing gold"


def test_an_observed_figure_is_told() -> None:
    assert checks.sentence(result({"observed_value": 0.0})) == "expect_it(column='visits') failed: observed 0.0"
    assert checks.sentence(result({})) == "expect_it(column='visits') failed"


@pytest.mark.parametrize(
    "found",
    [
        {"observed_value": list(range(100_000))},
        {"element_count": 9, "unexpected_count": 9, "unexpected_percent": 100.0, "partial_unexpected_list": ["x" * 10_000] * 20},
        {"missing_count": 9, "partial_missing_list": ["x" * 10_000] * 20},
    ],
)
def test_a_sentence_stays_short_whatever_was_found_or_asked(found: dict[str, Any]) -> None:
    assert len(checks.sentence(result(found, {"value_set": list(range(100_000))}))) < 600


@pytest.mark.parametrize(
    "told",
    [
        {"raised_exception": True, "exception_message": "no such column", "exception_traceback": "..."},
        {"MetricConfigurationID(a)": {"raised_exception": True, "exception_message": "no such column"}},
    ],
)
def test_a_check_that_could_not_be_run_says_why(told: dict[str, Any]) -> None:
    assert checks.sentence(result({}, exception_info=told)) == "expect_it(column='visits') could not be run: no such column"


def test_sections_of_checks_are_read_and_unknown_ones_refused() -> None:
    asked = [gxe.ExpectColumnValuesToNotBeNull(column="a"), gxe.ExpectTableRowCountToEqual(value=2)]
    assert checks.section({"features": asked}, "features") == asked
    assert checks.section({"features": tuple(asked)}, "predictions") == []
    with pytest.raises(DescriptionError) as refused:
        checks.section({"feature": [], "features": [], "model": []}, "features")
    assert str(refused.value) == (
        "checks(): expected one of 'features', 'predictions', 'sources'; got 'feature', 'model'. Rename or remove it."
    )
