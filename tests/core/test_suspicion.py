"""When a feature looks like a leak: thresholds, few rows, and what is said of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac.core.canonical import decode, encode
from almanac.core.suspicion import LEAST_ROWS, Evidence, Sign, Suspect, is_strong, lower_bound, not_judged, summary, suspects
from almanac.core.target import MULTICLASS, REGRESSION, Target
from almanac.errors import DescriptionError

BINARY, AMOUNT = Target(), Target(REGRESSION)
HALVES = (500, 500)


def area(figure: float, sides: tuple[int, int] = HALVES, feature: str = "refunds", sign: Sign = Sign.VALUE) -> Evidence:
    return Evidence(feature=feature, sign=sign, figure=figure, sides=sides)


def share(figure: float, feature: str = "refunds") -> Evidence:
    return Evidence(feature=feature, sign=Sign.IMPORTANCE, figure=figure)


def found(*evidence: Evidence, target: Target = BINARY, rows: int = 0) -> list[str]:
    return [str(one) for one in suspects(evidence, rows or max(sum(one.sides) for one in evidence) or 1000, target)]


def test_a_feature_that_alone_tells_the_label_nearly_always_is_suspect() -> None:
    assert found(area(0.98)) == ["feature 'refunds' alone tells the label with a ROC AUC of 0.980 (threshold 0.98)"]
    assert found(area(0.979)) == []


def test_nulls_that_alone_tell_the_label_are_suspect_and_named_as_such() -> None:
    nulls = area(0.99, sign=Sign.NULLS)
    assert found(nulls, area(1.0)) == [
        "feature 'refunds' by its nulls alone tells the label with a ROC AUC of 0.990 (threshold 0.98)"
    ], "each feature is named once, by its most telling sign"


def test_a_feature_with_nearly_all_importance_is_suspect() -> None:
    assert found(share(0.95)) == ["feature 'refunds' holds 0.950 of the importance (threshold 0.95)"]
    assert found(share(0.94)) == []


def test_importance_counts_only_in_a_model_that_is_very_good() -> None:
    assert is_strong(0.9, BINARY) and not is_strong(0.89, BINARY)
    assert is_strong(0.95, AMOUNT) and not is_strong(0.94, AMOUNT)
    assert not is_strong(math.nan, Target(MULTICLASS, ("a", "b", "c")))


def test_a_regressions_feature_must_rank_its_values_almost_as_the_label_does() -> None:
    values = Evidence(feature="spent", sign=Sign.VALUE, figure=0.99)
    assert found(values, target=AMOUNT) == [
        "feature 'spent' alone tells the label with a rank correlation of 0.990 (threshold 0.99)"
    ]
    assert found(Evidence(feature="spent", sign=Sign.VALUE, figure=0.985), target=AMOUNT) == []


def test_a_class_that_a_feature_tells_is_named() -> None:
    one = Evidence(feature="closed", sign=Sign.VALUE, figure=1.0, sides=HALVES, told="lost")
    assert found(one, target=Target(MULTICLASS, ("won", "lost", "open"))) == [
        "feature 'closed' alone tells class 'lost' with a ROC AUC of 1.000 (threshold 0.98)"
    ]


@pytest.mark.parametrize("sides", [(1, 48), (24, 25), (10, 39)])
def test_fewer_than_fifty_rows_make_nothing_suspect_and_a_finding_says_so(sides: tuple[int, int]) -> None:
    assert found(area(1.0, sides), area(1.0, sides, sign=Sign.NULLS), share(1.0), rows=sum(sides)) == []
    assert not_judged(sum(sides)) == "The holdout has 49 rows, so features were not examined for leaks; 50 rows are needed."
    assert not_judged(LEAST_ROWS) == ""


def test_a_few_rows_of_one_label_are_not_enough_however_many_rows_there_are() -> None:
    assert found(area(1.0, (3, 20_000))) == []
    assert found(area(1.0, (9, 991))) == []
    assert found(area(1.0, (60, 19_940))) != []
    assert found(area(1.0, (43, 20))) != [], "a small shop's holdout is enough"


@given(st.floats(0.5, 1), st.integers(1, 10_000), st.integers(1, 10_000))
def test_the_lower_bound_lies_between_a_half_and_the_area(figure: float, ones: int, zeros: int) -> None:
    assert 0.5 <= lower_bound(figure, ones, zeros) <= figure
    assert lower_bound(figure, ones, zeros) == pytest.approx(lower_bound(figure, zeros, ones))


@given(st.floats(0.6, 1), st.integers(5, 500))
def test_more_rows_make_the_lower_bound_higher(figure: float, rows: int) -> None:
    assert lower_bound(figure, 2 * rows, 2 * rows) >= lower_bound(figure, rows, rows) - 1e-9


def test_the_lower_bound_solves_its_equation() -> None:
    low, half = lower_bound(0.95, 40, 60), 49
    spread = 1 + half * ((1 - low) / (2 - low) + low / (1 + low))
    assert 0.95 - low == pytest.approx(1.96 * math.sqrt(low * (1 - low) * spread / (40 * 60)), abs=1e-9)


def test_the_highest_figure_comes_first_and_importance_last() -> None:
    given = [share(1.0, "c"), area(0.985, feature="b"), area(0.99, feature="a"), share(0.97, "a")]
    assert [one.feature for one in suspects(given, 1000, BINARY)] == ["a", "b", "c"]


def test_a_summary_names_three_and_counts_the_others() -> None:
    many = suspects([area(1.0, feature=name) for name in "abcde"], 1000, BINARY)
    assert summary(many).startswith(
        "suspect: feature 'a' alone tells the label with a ROC AUC of 1.000 (threshold 0.98); feature "
    )
    assert summary(many).endswith("; 2 more: d, e")
    assert summary(()) == ""


def test_a_suspect_is_read_as_it_was_written() -> None:
    (one,) = suspects([area(0.99)], 1000, BINARY)
    assert encode(one) == {
        "feature": "refunds", "sign": "value", "figure": 0.99, "threshold": 0.98, "measure": "ROC AUC", "told": ""}  # fmt: skip
    assert decode(Suspect, encode(one)) == one


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"figure": 1.5}, "Evidence.figure: expected a number from 0 to 1, got 1.5. Measure it again."),
        ({"figure": math.nan}, "Evidence.figure: expected a number from 0 to 1, got nan. Measure it again."),
        ({"sides": (3, 0)}, "Evidence.sides: expected rows on both sides or on neither, got (3, 0)."),
    ],
)
def test_evidence_that_makes_no_sense_is_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Evidence(**{"feature": "x", "sign": Sign.VALUE, "figure": 0.5, **fields})  # type: ignore[arg-type]
    assert str(refused.value) == text
