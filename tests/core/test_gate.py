"""The gate: what promotes, what rejects, and what cannot be compared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac.core.canonical import decode, encode
from almanac.core.gate import TOLERANCE, Comparison, Decision, Gate, Verdict, decide
from almanac.errors import DescriptionError

AUC = st.floats(0, 1)


def compared(candidate: float, champion: float | None = None, metric: str = "roc_auc", **changes: Any) -> Comparison:
    described: dict[str, Any] = {
        "holdout": "2017-06",
        "rows": 80,
        "candidate_version": "2017-07-aaaaaaaa",
        "candidate": {metric: candidate, "average_precision": 0.5},
        "position": 4,
        "champion_version": "" if champion is None else "2017-06-bbbbbbbb",
        "champion": None if champion is None else {metric: champion},
    }
    return Comparison(**{**described, **changes})


def test_with_nothing_in_force_and_no_floor_the_candidate_is_promoted() -> None:
    assert decide(compared(0.51), Gate()) == Decision(
        verdict=Verdict.PROMOTE,
        reasons=("roc_auc 0.5100 on the holdout 2017-06; no floor is set and nothing is in force",),
        position=4,
    )


def test_with_nothing_in_force_the_floor_alone_decides() -> None:
    gate = Gate(floor=0.6, min_gain=0.3)

    assert decide(compared(0.6), gate).verdict is Verdict.PROMOTE
    assert decide(compared(0.6), gate).reasons == (
        "roc_auc 0.6000 on the holdout 2017-06; the floor 0.6000 holds and nothing is in force",
    )
    assert decide(compared(0.59), gate).verdict is Verdict.REJECT
    assert decide(compared(0.59), gate).reasons == ("roc_auc 0.5900 on the holdout 2017-06 is below the floor 0.6000",)


def test_the_floor_rejects_also_what_is_better_than_the_version_in_force() -> None:
    assert decide(compared(0.55, champion=0.5), Gate(floor=0.6)).verdict is Verdict.REJECT


def test_the_candidate_must_gain_what_the_gate_asks() -> None:
    gate = Gate(min_gain=0.02)

    assert decide(compared(0.75, champion=0.7), gate) == Decision(
        verdict=Verdict.PROMOTE,
        reasons=(
            "roc_auc 0.7500 on the holdout 2017-06, 2017-06-bbbbbbbb in force has 0.7000: a gain of +0.0500, needed was +0.0200",
        ),
        position=4,
    )
    assert decide(compared(0.71, champion=0.7), gate) == Decision(
        verdict=Verdict.REJECT,
        reasons=(
            "roc_auc 0.7100 on the holdout 2017-06, 2017-06-bbbbbbbb in force has 0.7000: a gain of +0.0100, needed is +0.0200",
        ),
        position=4,
    )


def test_no_gain_is_enough_when_none_is_asked_and_a_loss_is_not() -> None:
    assert decide(compared(0.7, champion=0.7), Gate()).verdict is Verdict.PROMOTE
    assert decide(compared(0.699, champion=0.7), Gate()).verdict is Verdict.REJECT


def test_a_gain_that_floats_make_a_hair_smaller_is_still_that_gain() -> None:
    assert 0.58 - 0.56 < 0.02
    assert decide(compared(0.58, champion=0.56), Gate(min_gain=0.02)).verdict is Verdict.PROMOTE
    assert decide(compared(0.58 - 1e-6, champion=0.56), Gate(min_gain=0.02)).verdict is Verdict.REJECT
    assert decide(compared(0.1 + 0.2 - 1e-16, metric="log_loss"), Gate(metric="log_loss", floor=0.3)).verdict is Verdict.PROMOTE


def test_a_floor_that_holds_is_told_after_what_decides() -> None:
    decision = decide(compared(0.65, champion=0.7), Gate(floor=0.6))

    assert decision.verdict is Verdict.REJECT
    assert decision.reasons == (
        "roc_auc 0.6500 on the holdout 2017-06, 2017-06-bbbbbbbb in force has 0.7000: a gain of -0.0500, needed is +0.0000",
        "roc_auc 0.6500 on the holdout 2017-06 reaches the floor 0.6000",
    )


def test_a_negative_gain_tolerates_a_loss_of_that_size() -> None:
    assert decide(compared(0.65, champion=0.7), Gate(min_gain=-0.1)).verdict is Verdict.PROMOTE
    assert decide(compared(0.55, champion=0.7), Gate(min_gain=-0.1)).verdict is Verdict.REJECT


@pytest.mark.parametrize("metric", ["log_loss", "brier_score", "rmse", "mae"])
def test_of_a_loss_less_is_better(metric: str) -> None:
    gate = Gate(metric=metric, min_gain=0.01)

    assert decide(compared(0.2, champion=0.3, metric=metric), gate).verdict is Verdict.PROMOTE
    assert decide(compared(0.3, champion=0.2, metric=metric), gate).verdict is Verdict.REJECT
    assert "a gain of -0.1000" in decide(compared(0.3, champion=0.2, metric=metric), gate).reasons[0]


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "f1_macro", "roc_auc_ovr", "r2"])
def test_of_any_other_metric_more_is_better(metric: str) -> None:
    gate = Gate(metric=metric, min_gain=0.01)

    assert decide(compared(0.3, champion=0.2, metric=metric), gate).verdict is Verdict.PROMOTE
    assert decide(compared(0.2, champion=0.3, metric=metric), gate).verdict is Verdict.REJECT


def test_the_floor_of_a_loss_is_one_that_it_must_not_exceed() -> None:
    gate = Gate(metric="log_loss", floor=0.5)

    assert decide(compared(0.5, metric="log_loss"), gate).verdict is Verdict.PROMOTE
    assert decide(compared(0.51, metric="log_loss"), gate).verdict is Verdict.REJECT
    assert decide(compared(0.51, metric="log_loss"), gate).reasons == (
        "log_loss 0.5100 on the holdout 2017-06 is above the floor 0.5000",
    )


@given(candidate=AUC, champion=AUC, gain=st.floats(-0.5, 0.5))
def test_two_that_swap_places_are_not_both_promoted_when_a_gain_is_asked(candidate: float, champion: float, gain: float) -> None:
    gate = Gate(min_gain=gain)
    verdicts = {decide(compared(*pair), gate).verdict for pair in ((candidate, champion), (champion, candidate))}

    assert verdicts != {Verdict.PROMOTE} or gain <= TOLERANCE
    assert verdicts != {Verdict.REJECT} or gain > 0


def test_an_obstacle_makes_the_two_not_comparable_and_is_the_reason() -> None:
    comparison = compared(0.9, champion=0.7, obstacle="2017-06-bbbbbbbb in force was trained on the holdout")

    assert decide(comparison, Gate()) == Decision(
        verdict=Verdict.NOT_COMPARABLE, reasons=("2017-06-bbbbbbbb in force was trained on the holdout",), position=4
    )


def test_a_floor_that_does_not_hold_rejects_before_anything_is_compared() -> None:
    assert decide(compared(0.4, champion=0.7, obstacle="seen"), Gate(floor=0.5)).verdict is Verdict.REJECT


def test_a_champion_without_figures_is_not_comparable() -> None:
    comparison = compared(0.9, champion_version="2017-06-bbbbbbbb", obstacle="no features of its definition")

    assert decide(comparison, Gate()).verdict is Verdict.NOT_COMPARABLE


def test_a_metric_that_is_no_number_is_never_promoted() -> None:
    nan = float("nan")

    assert decide(compared(nan), Gate(floor=0.5)).verdict is Verdict.REJECT
    assert decide(compared(nan, champion=0.7), Gate()).verdict is Verdict.REJECT
    assert decide(compared(0.7, champion=nan), Gate()).verdict is Verdict.REJECT


def test_a_metric_that_the_candidate_was_not_measured_with_is_refused() -> None:
    with pytest.raises(DescriptionError) as refused:
        decide(compared(0.7), Gate(metric="log_loss"))

    assert str(refused.value) == (
        "Metric 'log_loss' is not in the candidate's report (found: average_precision, roc_auc). Change Gate.metric."
    )


def test_a_metric_that_the_version_in_force_was_not_measured_with_is_refused() -> None:
    with pytest.raises(DescriptionError) as refused:
        decide(compared(0.7, champion=0.6), Gate(metric="average_precision"))

    assert str(refused.value) == (
        "Metric 'average_precision' is not in the report of 2017-06-bbbbbbbb in force (found: roc_auc). Change Gate.metric."
    )


def test_an_unknown_metric_is_refused_in_the_description() -> None:
    with pytest.raises(DescriptionError) as refused:
        Gate(metric="auc")

    assert str(refused.value) == (
        "Gate.metric: expected one of 'roc_auc', 'average_precision', 'log_loss', 'brier_score', 'accuracy', 'f1_macro', "
        "'roc_auc_ovr', 'rmse', 'mae', 'r2'; got 'auc'."
    )


@pytest.mark.parametrize("field", ["min_gain", "floor"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bound_that_is_no_finite_number_is_refused(field: str, value: float) -> None:
    with pytest.raises(DescriptionError) as refused:
        Gate(**{field: value})  # type: ignore[arg-type]

    assert str(refused.value) == f"Gate.{field}: expected a finite number, got {value}."


def test_a_comparison_is_read_as_it_was_written() -> None:
    for comparison in (compared(0.7, champion=0.6), compared(0.7)):
        assert decode(Comparison, encode(comparison)) == comparison
    decision = decide(compared(0.7), Gate())
    assert decode(Decision, encode(decision)) == decision
