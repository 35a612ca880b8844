"""How sure a gain is, and how parts of a holdout fare: held against plain loops and scikit-learn."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from almanac.core.gate import Gate, Slice
from almanac.core.target import BINARY, METRICS_OF, MULTICLASS, REGRESSION, Target
from almanac.errors import DescriptionError
from almanac.model import bootstrap, comparison, training

SIZES = Target(MULTICLASS, ("low", "middle", "high"))
AMOUNT = Target(REGRESSION)
MEASURED = [(metric, target) for target in (Target(), SIZES, AMOUNT) for metric in METRICS_OF[target.kind]]


def holdout(rows: int, seed: int = 0, positive: float = 0.3) -> tuple[Any, Any, Any]:
    """Labels, the scores of a candidate (with ties), and those of a somewhat worse version."""
    dice = np.random.default_rng(seed)
    label = (dice.random(rows) < positive).astype("int8")
    candidate = np.round(np.clip(0.35 * label + 0.65 * dice.random(rows), 0, 1), 2)
    champion = np.clip(0.25 * label + 0.75 * dice.random(rows), 0, 1)
    return label, candidate, champion


def compared(rows: int, target: Target) -> tuple[Any, Any, Any]:
    """As `holdout`, for any kind of label."""
    if target.kind == BINARY:
        return holdout(rows)
    dice = np.random.default_rng(7)
    if target.kind == REGRESSION:
        label = dice.gamma(2.0, 50.0, rows)
        return label, np.round(label + dice.normal(0, 20, rows)), label + dice.normal(5, 25, rows)
    truth = dice.integers(0, len(target.classes), rows)
    label = np.array(target.classes, dtype=object)[truth]
    candidate, champion = (np.eye(len(target.classes))[truth] * sure + dice.dirichlet((1, 1, 1), rows) for sure in (0.5, 0.4))
    return label, np.round(candidate / candidate.sum(axis=1, keepdims=True), 2), champion / champion.sum(axis=1, keepdims=True)


def gain(metric: str, label: Any, candidate: Any, champion: Any, target: Target = Target()) -> float:
    new, old = (training.metrics(label, score, target)[metric] for score in (candidate, champion))
    return Gate(metric=metric).sign * (new - old)


@functools.cache
def resampled(target: Target) -> pd.DataFrame:
    """What scikit-learn finds on resamples of 300 rows: the gain in each metric."""
    dice = np.random.default_rng(5)
    picks = [dice.integers(0, 300, 300) for _ in range(400)]
    columns = compared(300, target)

    def figures(scores: Any) -> pd.DataFrame:
        return pd.DataFrame([training.metrics(columns[0][pick], scores[pick], target) for pick in picks])

    found = figures(columns[1]) - figures(columns[2])
    return found * [Gate(metric=metric).sign for metric in found.columns]


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "target"), MEASURED)
def test_the_bound_is_a_percentile_of_what_scikit_learn_finds_on_resamples(metric: str, target: Target) -> None:
    columns, theirs = compared(300, target), resampled(target)[metric]

    found = comparison.bound(*columns, Gate(metric=metric, confidence=0.9), target)

    assert found.gain_at == pytest.approx(np.percentile(theirs, 10), abs=0.25 * theirs.std())
    assert found.gain_at is not None and found.gain_at < gain(metric, *columns, target)
    assert (found.resamples, found.rows, found.obstacle) == (1000, 300, "")


@pytest.mark.parametrize(("metric", "target"), MEASURED)
def test_a_gain_of_prepared_columns_is_the_metrics_own(metric: str, target: Target) -> None:
    label, candidate, champion = compared(500, target)
    columns, statistic = bootstrap.prepared(label, candidate, champion, metric, target)

    assert statistic(*columns) == pytest.approx(gain(metric, label, candidate, champion, target), abs=1e-12)


def test_f1_is_the_mean_over_the_classes_that_a_resample_has() -> None:
    label, candidate, champion = compared(500, SIZES)
    rows = (label != "high") & (candidate.argmax(axis=1) != 2)
    columns, statistic = bootstrap.prepared(label[rows], candidate[rows], champion[rows], "f1_macro", SIZES)

    assert statistic(*columns) == pytest.approx(gain("f1_macro", label[rows], candidate[rows], champion[rows], SIZES), abs=1e-12)


def test_scores_of_zero_and_one_have_the_log_loss_of_scikit_learn() -> None:
    label, candidate, champion = np.array([0, 1, 1, 0]), np.array([0.0, 1.0, 0.0, 0.5]), np.array([0.2, 0.8, 0.6, 0.4])
    columns, statistic = bootstrap.prepared(label, candidate, champion, "log_loss", Target())

    assert statistic(*columns) == pytest.approx(gain("log_loss", label, candidate, champion))


def test_the_same_columns_give_the_same_bound() -> None:
    gate = Gate(confidence=0.95)

    assert comparison.bound(*holdout(200), gate) == comparison.bound(*holdout(200), gate)
    assert comparison.bound(*holdout(200), gate) != comparison.bound(*holdout(200, seed=1), gate)


def test_more_confidence_asks_for_more() -> None:
    lows = [comparison.bound(*holdout(300), Gate(confidence=level)).gain_at for level in (0.5, 0.9, 0.99)]

    assert lows == sorted(lows, reverse=True)
    assert lows[0] == pytest.approx(gain("roc_auc", *holdout(300)), abs=0.01)


def test_a_version_gains_nothing_on_itself_however_few_rows() -> None:
    label, candidate, _ = holdout(40)

    assert comparison.bound(label, candidate, candidate, Gate(confidence=0.95)).gain_at == 0


def test_pairing_sees_a_small_gain_that_holds_in_every_row() -> None:
    label, _, champion = holdout(400)
    candidate = np.clip(champion + np.where(label == 1, 0.02, -0.02), 0, 1)

    low = comparison.bound(label, candidate, champion, Gate(metric="brier_score", confidence=0.99)).gain_at

    assert low is not None and low > 0


def test_of_a_large_holdout_evenly_spaced_rows_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MOST_ROWS", 100)
    label, candidate, champion = holdout(1050)
    spaced = np.arange(100) * 1050 // 100

    found = comparison.bound(label, candidate, champion, Gate(confidence=0.9))

    assert found.rows == 100
    assert (spaced[0], spaced[-1]) == (0, 1039)
    assert found == comparison.bound(label[spaced], candidate[spaced], champion[spaced], Gate(confidence=0.9))


def test_few_resamples_of_one_class_are_left_out_and_counted() -> None:
    label, candidate, champion = holdout(200)
    label = np.zeros(200, "int8")
    label[[3, 50, 120, 180]] = 1  # none of them is in about 1 resample of 55

    found = comparison.bound(label, candidate, champion, Gate(confidence=0.95))

    assert 950 < found.resamples < 1000
    assert found.gain_at is not None and np.isfinite(found.gain_at)
    assert found.obstacle == ""


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_with_one_positive_row_there_is_no_bound(metric: str) -> None:
    label, candidate, champion = holdout(200)
    label = (np.arange(200) == 7).astype("int8")

    found = comparison.bound(label, candidate, champion, Gate(metric=metric, confidence=0.95))

    assert found.gain_at is None
    assert found.obstacle == f"{1000 - found.resamples} of 1000 resamples of 200 rows have one class alone"
    assert 300 < 1000 - found.resamples < 450  # (1 - 1/200) ** 200 is 0.37


def test_with_one_row_of_a_class_there_is_no_bound_of_its_area_and_one_of_the_loss() -> None:
    label, candidate, champion = compared(200, SIZES)
    label = np.where(np.arange(200) == 7, "high", np.where(label == "high", "low", label)).astype(object)

    area, loss = (
        comparison.bound(label, candidate, champion, Gate(metric=metric, confidence=0.95), SIZES)
        for metric in ("roc_auc_ovr", "log_loss")
    )

    assert (area.gain_at, area.obstacle) == (None, f"{1000 - area.resamples} of 1000 resamples of 200 rows lack a class")
    assert 300 < 1000 - area.resamples < 450
    assert loss.gain_at is not None and loss.resamples == 1000


def test_a_label_of_one_value_gives_no_bound_of_r2_and_one_of_the_error() -> None:
    _, candidate, champion = compared(100, AMOUNT)
    label = np.full(100, 0.1)

    explained, error = (
        comparison.bound(label, candidate, champion, Gate(metric=metric, confidence=0.95), AMOUNT) for metric in ("r2", "mae")
    )

    assert (explained.gain_at, explained.obstacle) == (None, "1000 of 1000 resamples of 100 rows have one value alone")
    assert error.gain_at is not None


def test_a_holdout_of_one_row_gives_no_bound() -> None:
    found = comparison.bound([1], [0.5], [0.4], Gate(metric="log_loss", confidence=0.95))
    assert (found.gain_at, found.obstacle) == (None, "the holdout has 1 rows")


# Slices

FEATURES = ["band", "visits"]


def rows(counts: dict[float, int]) -> pd.DataFrame:
    """A holdout with so many rows of each band; labels alternate and the scores rank them rightly."""
    bands = np.repeat(list(counts), list(counts.values())).astype("float32")
    label = (np.arange(len(bands)) % 2).astype("int8")
    return pd.DataFrame(
        {"band": bands, "visits": np.arange(len(bands), dtype="float32"), "label": label, "score": 0.2 + 0.6 * label}
    )


def sliced(frame: pd.DataFrame, metric: str = "roc_auc", target: Target = Target(), **changes: Any) -> list[tuple[Any, ...]]:
    gate = Gate(metric=metric, slices=(Slice(**{"by": "band", "floor": 0.7, "minimum_rows": 10, **changes}),))
    found = comparison.slices(frame, gate, FEATURES, "2017-06", target)
    return [(item.by, item.value, item.rows, item.figure, item.obstacle) for item in found]


def test_every_value_of_the_feature_is_measured_and_null_is_one_of_them() -> None:
    frame = rows({float("nan"): 20, 2.0: 12, 0.5: 30})
    wrong = (frame["band"] == 2) & (frame.index < 26)
    frame.loc[wrong, "score"] = 1 - frame.loc[wrong, "score"]
    two = frame[frame["band"] == 2]

    assert sliced(frame) == [
        ("band", "0.5", 30, 1.0, ""),
        ("band", "2", 12, training.metrics(two["label"], two["score"])["roc_auc"], ""),
        ("band", "null", 20, 1.0, ""),
    ]
    assert training.metrics(two["label"], two["score"])["roc_auc"] < 1


def test_a_value_of_few_rows_or_of_one_class_is_not_judged_and_says_why() -> None:
    frame = rows({1.0: 9, 2.0: 20})
    frame.loc[frame["band"] == 2, "label"] = 0

    assert sliced(frame) == [
        ("band", "1", 9, None, "9 rows, 10 are needed"),
        ("band", "2", 20, None, "20 rows of one class"),
    ]


def test_a_slice_by_something_that_is_no_feature_names_those_that_there_are() -> None:
    with pytest.raises(DescriptionError) as refused:
        sliced(rows({1.0: 20}), by="region")
    assert str(refused.value) == ("Slice.by: expected a feature of the candidate (band, visits), got 'region'. Change the Slice.")


def test_a_slice_by_a_feature_of_many_values_is_refused() -> None:
    assert len(sliced(rows({float(value): 2 for value in range(19)} | {float("nan"): 2}))) == 20
    with pytest.raises(DescriptionError) as refused:
        sliced(rows({float(value): 2 for value in range(20)} | {float("nan"): 2}))
    assert str(refused.value) == (
        "Slice.by: expected a feature with at most 20 values on the holdout 2017-06, got 'band' with 21. Slice by a feature with "
        "few values."
    )


def test_parts_of_a_holdout_of_classes_are_judged_unless_the_metric_lacks_a_class() -> None:
    label, candidate, _ = compared(60, SIZES)
    frame = rows({1.0: 30, 2.0: 20, 3.0: 10}).drop(columns="score").assign(label=label)
    frame = frame.assign(**training.score_columns(candidate, SIZES))
    frame.loc[(frame["band"] == 2) & (frame["label"] == "high"), "label"] = "low"
    frame.loc[frame["band"] == 3, "label"] = "low"
    first, second = (frame[frame["band"] == value] for value in (1, 2))

    def figure(part: pd.DataFrame, metric: str) -> float:
        return training.metrics(part["label"], training.scores_of(part, SIZES), SIZES)[metric]

    assert sliced(frame, "roc_auc_ovr", SIZES) == [
        ("band", "1", 30, figure(first, "roc_auc_ovr"), ""),
        ("band", "2", 20, None, "20 rows without the class high"),
        ("band", "3", 10, None, "10 rows of one class"),
    ]
    assert sliced(frame, "accuracy", SIZES) == [
        ("band", "1", 30, figure(first, "accuracy"), ""),
        ("band", "2", 20, figure(second, "accuracy"), ""),
        ("band", "3", 10, None, "10 rows of one class"),
    ]


def test_parts_of_a_holdout_of_values_are_judged_by_their_error_even_where_all_are_the_same() -> None:
    label, candidate, _ = compared(40, AMOUNT)
    frame = rows({1.0: 25, 2.0: 15}).assign(label=label, score=candidate)
    frame.loc[frame["band"] == 2, "label"] = 0.0
    first, second = (frame[frame["band"] == value] for value in (1, 2))

    assert sliced(frame, "mae", AMOUNT) == [
        ("band", "1", 25, pytest.approx((first["label"] - first["score"]).abs().mean()), ""),
        ("band", "2", 15, pytest.approx(second["score"].abs().mean()), ""),
    ]
    assert sliced(frame, "r2", AMOUNT)[1] == ("band", "2", 15, None, "15 rows of one value")
