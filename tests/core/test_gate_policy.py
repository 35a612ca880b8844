"""The gate's policy beyond one figure: how sure a gain must be, parts of the holdout, and a dry run."""

from __future__ import annotations

from typing import Any

import pytest

from almanac.core.canonical import decode, encode
from almanac.core.gate import Comparison, Decision, GainBound, Gate, Slice, SliceFigure, Verdict, decide
from almanac.core.receipts import Artifact, Step
from almanac.core.suspicion import Sign, Suspect
from almanac.errors import DescriptionError
from tests.support.records import order, receipt

FOUND = "roc_auc 0.7500 on the holdout 2017-06"
AGAINST = f"{FOUND}, 2017-06-bbbbbbbb in force has 0.7000: a gain of +0.0500"
BANDS = Slice(by="band", floor=0.7)


def compared(**changes: Any) -> Comparison:
    """A candidate that is 0.05 better than the version in force."""
    described: dict[str, Any] = {
        "holdout": "2017-06",
        "rows": 80,
        "candidate_version": "2017-07-aaaaaaaa",
        "candidate": {"roc_auc": 0.75, "log_loss": 0.5},
        "position": 4,
        "champion_version": "2017-06-bbbbbbbb",
        "champion": {"roc_auc": 0.7, "log_loss": 0.6},
    }
    return Comparison(**{**described, **changes})


def alone(**changes: Any) -> Comparison:
    return compared(champion_version="", champion=None, **changes)


LEAK = Suspect(feature="refunds", sign=Sign.VALUE, figure=0.995, threshold=0.98, measure="ROC AUC")
TOLD = "suspect: feature 'refunds' alone tells the label with a ROC AUC of 0.995 (threshold 0.98)"


def bound(gain_at: float | None, **changes: Any) -> GainBound:
    return GainBound(**{"gain_at": gain_at, "resamples": 1000, "rows": 80, **changes})


def band(value: str, figure: float | None, rows: int = 60, obstacle: str = "") -> SliceFigure:
    return SliceFigure(by="band", value=value, rows=rows, figure=figure, obstacle=obstacle)


def refusal(**fields: Any) -> str:
    with pytest.raises(DescriptionError) as refused:
        Gate(**fields)
    return str(refused.value)


# Suspects


def test_a_suspect_candidate_is_rejected_and_told_what_to_look_for() -> None:
    decision = decide(compared(suspects=(LEAK,)), Gate())

    assert decision.verdict is Verdict.REJECT and not decision.passed
    assert decision.reasons == (
        f"{TOLD}. Look for a reference without time, or a column that is filled in later; if it is right, set "
        "Gate(allow_suspect=True)",
        f"{AGAINST}, needed was +0.0000",
    )


def test_a_suspect_candidate_is_rejected_also_with_nothing_in_force() -> None:
    assert decide(alone(suspects=(LEAK,)), Gate()).verdict is Verdict.REJECT


def test_a_suspect_candidate_that_the_gate_allows_is_promoted_and_still_called_suspect() -> None:
    for comparison in (compared(suspects=(LEAK,)), alone(suspects=(LEAK,))):
        decision = decide(comparison, Gate(allow_suspect=True))

        assert decision.passed
        assert decision.reasons[0] == f"{TOLD}; Gate(allow_suspect=True) lets it through"


def test_a_gate_that_allows_suspects_rejects_for_every_other_reason() -> None:
    assert decide(compared(suspects=(LEAK,)), Gate(allow_suspect=True, min_gain=0.1)).verdict is Verdict.REJECT


def test_gates_and_comparisons_without_suspects_are_stored_as_before_there_were_any() -> None:
    assert "allow_suspect" not in encode(Gate())
    assert "suspects" not in encode(compared())


# How sure


def test_superiority_asks_that_the_lower_bound_reaches_the_gain() -> None:
    gate = Gate(min_gain=0.01, confidence=0.95)

    assert decide(compared(bound=bound(0.012)), gate) == Decision(
        verdict=Verdict.PROMOTE,
        reasons=(
            f"{AGAINST}, at 95% confidence at least +0.0120 (1000 resamples of 80 rows), needed was +0.0100: "
            "superiority is shown",
        ),
        position=4,
    )
    assert decide(compared(bound=bound(0.008)), gate) == Decision(
        verdict=Verdict.REJECT,
        reasons=(
            f"{AGAINST}, at 95% confidence at least +0.0080 (1000 resamples of 80 rows), needed is +0.0100: "
            "superiority is not shown",
        ),
        position=4,
    )


def test_non_inferiority_tolerates_that_the_lower_bound_is_a_small_loss() -> None:
    gate = Gate(min_gain=-0.02, confidence=0.9)

    promoted, rejected = (decide(compared(bound=bound(low)), gate) for low in (-0.02, -0.03))

    assert promoted.verdict is Verdict.PROMOTE
    assert promoted.reasons[0].endswith("needed was -0.0200: non-inferiority with a margin of 0.0200 is shown")
    assert rejected.verdict is Verdict.REJECT
    assert rejected.reasons[0].endswith("needed is -0.0200: non-inferiority with a margin of 0.0200 is not shown")


def test_a_gain_as_measured_is_not_enough_where_a_confidence_is_asked() -> None:
    unsure = compared(bound=bound(-0.001))

    assert decide(unsure, Gate()).verdict is Verdict.PROMOTE
    assert decide(unsure, Gate(confidence=0.95)).verdict is Verdict.REJECT


def test_a_bound_that_could_not_be_taken_rejects_and_says_why() -> None:
    comparison = compared(bound=bound(None, obstacle="130 of 1000 resamples of 80 rows have one class alone"))

    decision = decide(comparison, Gate(confidence=0.95))

    assert decision.verdict is Verdict.REJECT
    assert decision.reasons == (
        f"{AGAINST}; how sure it is cannot be told (130 of 1000 resamples of 80 rows have one class alone), so superiority is "
        "not shown",
    )


def test_it_is_told_when_not_every_row_took_part() -> None:
    comparison = compared(rows=120_000, bound=bound(0.01, rows=50_000))

    assert "(1000 resamples of 50000 of 120000 rows, evenly spaced)" in decide(comparison, Gate(confidence=0.95)).reasons[0]


def test_a_bound_that_nobody_measured_is_refused() -> None:
    with pytest.raises(DescriptionError) as refused:
        decide(compared(), Gate(confidence=0.95))
    assert str(refused.value) == "The gain's lower bound was not measured on the holdout. Clear the task champion.stage."


def test_with_nothing_in_force_no_bound_is_asked() -> None:
    assert decide(alone(), Gate(confidence=0.95, min_gain=0.5)).verdict is Verdict.PROMOTE


# Slices


def test_a_slice_below_its_floor_rejects_whatever_is_gained_and_names_the_value() -> None:
    decision = decide(compared(slices=(band("0", 0.61), band("1", 0.72), band("null", 0.8))), Gate(slices=(BANDS,)))

    assert decision.verdict is Verdict.REJECT
    assert decision.reasons == (
        "roc_auc 0.6100 where band is 0 (60 rows) is below the slice's floor 0.7000",
        "roc_auc reaches the slice's floor 0.7000 where band is 1 (0.7200), null (0.8000)",
        f"{AGAINST}, needed was +0.0000",
    )


def test_slices_hold_with_nothing_in_force_too() -> None:
    gate = Gate(slices=(BANDS,))

    assert decide(alone(slices=(band("0", 0.7),)), gate).verdict is Verdict.PROMOTE
    assert decide(alone(slices=(band("0", 0.69),)), gate).verdict is Verdict.REJECT


def test_a_slice_that_is_not_judged_is_told_and_does_not_block() -> None:
    few, one = band("2", None, 12, "12 rows, 50 are needed"), band("null", None, 55, "55 rows of one class")

    decision = decide(alone(slices=(band("1", 0.9), few, one)), Gate(slices=(BANDS,)))

    assert decision.verdict is Verdict.PROMOTE
    assert decision.reasons == (
        f"{FOUND}; no floor is set and nothing is in force",
        "roc_auc reaches the slice's floor 0.7000 where band is 1 (0.9000)",
        "not judged is where band is 2 (12 rows, 50 are needed), null (55 rows of one class)",
    )


def test_of_a_loss_a_slice_must_not_be_above_its_floor() -> None:
    gate = Gate(metric="log_loss", slices=(Slice(by="band", floor=0.5),))

    assert decide(alone(slices=(band("1", 0.5),)), gate).verdict is Verdict.PROMOTE
    rejected = decide(alone(slices=(band("1", 0.51),)), gate)
    assert rejected.verdict is Verdict.REJECT
    assert rejected.reasons[0] == "log_loss 0.5100 where band is 1 (60 rows) is above the slice's floor 0.5000"


def test_each_slice_has_its_own_floor() -> None:
    gate = Gate(slices=(BANDS, Slice(by="region", floor=0.9)))
    regions = SliceFigure(by="region", value="4", rows=80, figure=0.85)

    decision = decide(alone(slices=(band("1", 0.85), regions)), gate)

    assert decision.verdict is Verdict.REJECT
    assert decision.reasons[0] == "roc_auc 0.8500 where region is 4 (80 rows) is below the slice's floor 0.9000"


def test_a_slice_that_nobody_measured_is_refused() -> None:
    with pytest.raises(DescriptionError) as refused:
        decide(alone(), Gate(slices=(BANDS,)))
    assert str(refused.value) == "Slice 'band' was not measured on the holdout. Clear the task champion.stage."


def test_everything_that_blocks_is_told_before_what_holds() -> None:
    gate = Gate(floor=0.8, min_gain=0.1, slices=(BANDS,))

    decision = decide(compared(slices=(band("0", 0.6), band("1", 0.9))), gate)

    assert decision.verdict is Verdict.REJECT
    assert decision.reasons == (
        f"{FOUND} is below the floor 0.8000",
        "roc_auc 0.6000 where band is 0 (60 rows) is below the slice's floor 0.7000",
        f"{AGAINST}, needed is +0.1000",
        "roc_auc reaches the slice's floor 0.7000 where band is 1 (0.9000)",
    )


def test_a_floor_that_is_missed_rejects_also_where_nothing_can_be_compared() -> None:
    decision = decide(compared(obstacle="it has seen the holdout", slices=(band("0", 0.6),)), Gate(slices=(BANDS,)))

    assert decision.verdict is Verdict.REJECT
    assert decision.reasons[1] == "it has seen the holdout"


# A dry run


def test_a_dry_run_decides_the_same_and_lets_nothing_through() -> None:
    enforced, dry = (decide(compared(), Gate(mode=mode)) for mode in ("enforce", "dry_run"))

    assert (enforced.verdict, enforced.mode, enforced.passed) == (Verdict.PROMOTE, "enforce", True)
    assert (dry.verdict, dry.mode, dry.passed) == (Verdict.PROMOTE, "dry_run", False)
    assert dry.reasons == ("a dry run: nothing is promoted; enforced, this gate would say promote", *enforced.reasons)


def test_a_dry_run_that_rejects_says_so() -> None:
    dry = decide(compared(), Gate(min_gain=0.5, mode="dry_run"))

    assert (dry.verdict, dry.passed) == (Verdict.REJECT, False)
    assert dry.reasons[0] == "a dry run: nothing is promoted; enforced, this gate would say reject"


def test_a_rejection_passes_in_no_mode() -> None:
    assert not decide(compared(), Gate(min_gain=0.5)).passed
    assert not decide(compared(obstacle="seen"), Gate()).passed


def test_the_gates_no_is_an_answer_and_a_failure_is_none() -> None:
    asked = order(artifact=Artifact.CHAMPION, step=Step.AUDIT)

    assert receipt(asked, passed=False, facts={"decision": {}}).answered
    assert not receipt(asked, passed=False, facts={"error": "DataError"}).answered


# The description


@pytest.mark.parametrize("value", [0.4, 1.0, 95, -1, float("nan"), True, "0.95"])
def test_a_confidence_that_is_none_is_refused(value: object) -> None:
    assert refusal(confidence=value) == (
        f"Gate.confidence: expected a number from 0.5 to below 1, such as 0.95, or None; got {value!r}."
    )


def test_a_mode_that_there_is_not_is_refused() -> None:
    assert refusal(mode="warn") == "Gate.mode: expected one of 'enforce', 'dry_run'; got 'warn'."


def test_slices_that_are_none_or_name_a_feature_twice_are_refused() -> None:
    assert refusal(slices=["band"]) == "Gate.slices: expected a tuple of Slice, got ['band']."
    assert refusal(slices=("band",)) == "Gate.slices: expected a tuple of Slice, got ('band',)."
    assert refusal(slices=(BANDS, BANDS)) == "Gate.slices: expected one Slice for each feature, got band more than once."


def test_an_approval_that_is_neither_true_nor_false_is_refused() -> None:
    assert refusal(approval="yes") == "Gate.approval: expected True or False, got 'yes'."


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"by": " "}, "Slice.by: expected the name of a feature, got ' '."),
        ({"by": 3}, "Slice.by: expected the name of a feature, got 3."),
        ({"floor": float("inf")}, "Slice.floor: expected a finite number, got inf."),
        ({"floor": "high"}, "Slice.floor: expected a finite number, got 'high'."),
        ({"minimum_rows": 0}, "Slice.minimum_rows: expected a whole number of 1 or more, got 0."),
        ({"minimum_rows": 2.5}, "Slice.minimum_rows: expected a whole number of 1 or more, got 2.5."),
        ({"minimum_rows": True}, "Slice.minimum_rows: expected a whole number of 1 or more, got True."),
    ],
)
def test_a_slice_that_makes_no_sense_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Slice(**{"by": "band", "floor": 0.7, **fields})
    assert str(refused.value) == text


def test_gate_comparison_and_decision_are_read_as_they_were_written() -> None:
    gate = Gate(confidence=0.95, slices=(BANDS,), mode="dry_run", approval=True, allow_suspect=True)
    comparison = compared(
        bound=bound(0.01), suspects=(LEAK,), slices=(band("0", 0.71), band("null", None, 3, "3 rows, 50 are needed"))
    )
    decision = decide(comparison, gate)

    for record in (gate, comparison, decision):
        assert decode(type(record), encode(record)) == record
    assert decision.verdict is Verdict.PROMOTE
