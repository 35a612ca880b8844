"""What is measured of a candidate and told of it: figures held against hand-made examples and scikit-learn, plain words."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as measured
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

from almanac.core.target import METRICS_OF, MULTICLASS, REGRESSION, Target
from almanac.core.window import LABEL, SNAPSHOT
from almanac.model import reports, training
from almanac.model.training import Fitted
from tests.model.test_training import Remembers, snapshots

SIZES = Target(MULTICLASS, ("low", "middle", "high"))
AMOUNT = Target(REGRESSION)


def test_metrics_are_those_of_a_hand_made_example() -> None:
    found = training.metrics(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9]))

    assert found["roc_auc"] == pytest.approx(3 / 4)  # of four pairs, (0.6, 0.4) stands wrongly
    assert found["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.4) + math.log(0.4) + math.log(0.9)) / 4)
    assert found["brier_score"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)


def test_a_report_tells_training_and_holdout_confusion_calibration_and_verdict() -> None:
    fitted = Fitted(name="better", model=Remembers("good").fit(snapshots("a"), snapshots("a")[LABEL]), choice={"better": 1.0})
    holdout = snapshots("2017-06")
    holdout.loc[0, "good"] = 0.7  # a 0 that looks like a 1

    report = reports.report(fitted, snapshots("2017-03", "2017-04"), holdout, ["good"])

    assert sorted(report) == ["calibration", "choice", "confusion_matrix", "estimator", "holdout", "training", "verdict"]
    assert (report["estimator"], report["choice"]) == ("better", {"better": 1.0})
    assert (report["training"]["rows"], report["training"]["positive"]) == (16, 0.5)
    assert (report["holdout"]["rows"], sorted(report["holdout"]["metrics"])) == (
        8, ["average_precision", "brier_score", "log_loss", "roc_auc"])  # fmt: skip
    assert report["confusion_matrix"] == {
        "threshold": 0.5, "true_negative": 3, "false_positive": 1, "false_negative": 0, "true_positive": 4}  # fmt: skip
    assert report["verdict"].startswith("fine: ")


def test_calibration_goes_from_the_lowest_scores_to_the_highest_and_loses_no_row() -> None:
    score = np.linspace(0.99, 0.0, 100)
    label = (score > 0.5).astype(int)

    found = reports.calibration(label, score)

    assert [part["decile"] for part in found] == list(range(1, 11))
    assert sum(part["rows"] for part in found) == 100
    assert [part["predicted"] for part in found] == sorted(part["predicted"] for part in found)
    assert (found[0]["observed"], found[-1]["observed"]) == (0.0, 1.0)
    assert found[0]["predicted"] == pytest.approx(score[-10:].mean())


def test_calibration_of_fewer_rows_than_deciles_leaves_the_empty_ones_out() -> None:
    assert [part["rows"] for part in reports.calibration(np.array([0, 1, 1]), np.array([0.1, 0.5, 0.9]))] == [1, 1, 1]


@pytest.mark.parametrize(
    ("seen", "unseen", "word", "advice"),
    [
        (0.95, 0.80, "variance", "Simplify it or give it more periods."),
        (0.70, 0.649, "variance", "Simplify it or give it more periods."),
        (0.60, 0.60, "bias", "Give it better features."),
        (0.64, 0.90, "bias", "Give it better features."),
        (0.80, 0.78, "fine", ""),
        (0.65, 0.65, "fine", ""),
        (0.75, 0.90, "fine", ""),
    ],
)
def test_the_verdict_is_one_word_with_both_scores_and_advice(seen: float, unseen: float, word: str, advice: str) -> None:
    text = reports.verdict(seen, unseen, Target())
    assert text.startswith(f"{word}: ROC AUC {seen:.3f} in training, {unseen:.3f} on the holdout")
    assert advice in text


# Classes


def guesses(rows: int = 200) -> tuple[Any, Any]:
    """Labels of three classes, and probabilities that lean to the right one."""
    dice = np.random.default_rng(3)
    truth = dice.integers(0, 3, rows)
    scores = dice.dirichlet((1, 1, 1), rows) + np.eye(3)[truth] * 0.4
    return np.array(SIZES.classes, dtype=object)[truth], scores / scores.sum(axis=1, keepdims=True)


def test_metrics_of_classes_are_scikit_learns_whatever_the_order_of_the_classes() -> None:
    label, scores = guesses()
    # scikit-learn takes columns by the sorted names: high, low, middle.
    by_name, names = scores[:, [2, 0, 1]], np.array(["high", "low", "middle"])

    found = training.metrics(label, scores, SIZES)

    decided = names[by_name.argmax(axis=1)]
    assert list(found) == list(METRICS_OF[MULTICLASS])
    assert found["log_loss"] == pytest.approx(measured.log_loss(label, by_name, labels=names))
    assert found["accuracy"] == pytest.approx((label == decided).mean())
    assert found["f1_macro"] == pytest.approx(measured.f1_score(label, decided, average="macro"))
    assert found["roc_auc_ovr"] == pytest.approx(measured.roc_auc_score(label, by_name, multi_class="ovr", labels=names))


def test_classes_that_are_numbers_are_measured_in_their_own_order() -> None:
    target = Target(MULTICLASS, (3, 1, 2))
    found = training.metrics(np.array([3, 1, 2]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]]), target)

    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["log_loss"] == pytest.approx(-(2 * math.log(0.8) + math.log(0.3)) / 3)


def test_a_class_of_probability_zero_or_one_has_a_finite_loss() -> None:
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = training.metrics(np.array(["low", "high"], dtype=object), scores, SIZES)
    assert found["log_loss"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)


def test_without_rows_of_a_class_its_area_is_no_number_and_the_rest_is_measured() -> None:
    label, scores = guesses()
    rows = label != "high"

    found = training.metrics(label[rows], scores[rows], SIZES)

    assert math.isnan(found["roc_auc_ovr"])
    assert all(math.isfinite(found[name]) for name in ("log_loss", "accuracy", "f1_macro"))


def test_the_report_of_classes_has_their_shares_a_matrix_and_a_calibration_for_each() -> None:
    dice = np.random.default_rng(0)
    x = dice.normal(size=300).astype("float32")
    label = np.where(x < -0.5, "low", np.where(x < 0.5, "middle", "high")).astype(object)
    rows = pd.DataFrame({"x": x, LABEL: label, SNAPSHOT: "2017-03"})
    model = RandomForestClassifier(n_estimators=10, max_depth=1, random_state=0).fit(rows[["x"]], label)

    report = reports.report(Fitted(name="forest", model=model, choice={"forest": -0.5}, target=SIZES), rows, rows, ["x"])

    assert sorted(report) == ["calibration", "choice", "confusion_matrix", "estimator", "holdout", "training", "verdict"]
    assert report["holdout"]["classes"] == pytest.approx({one: (label == one).mean() for one in SIZES.classes})
    decided = np.array(SIZES.classes)[training.predict(model, rows[["x"]], SIZES).argmax(axis=1)]
    matrix = report["confusion_matrix"]
    assert matrix["classes"] == ["low", "middle", "high"]
    for row, true in enumerate(SIZES.classes):
        assert matrix["true_by_predicted"][row] == [((label == true) & (decided == one)).sum() for one in SIZES.classes]
    assert list(report["calibration"]) == ["low", "middle", "high"]
    assert sum(part["rows"] * part["observed"] for part in report["calibration"]["low"]) == pytest.approx((label == "low").sum())
    assert report["verdict"].startswith("fine: one-vs-rest ROC AUC 1.000 in training")
    assert json.loads(json.dumps(report)) == report


# Values


def test_metrics_of_values_are_those_of_a_hand_made_example() -> None:
    found = training.metrics(np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 5.0]), AMOUNT)

    assert list(found) == list(METRICS_OF[REGRESSION])
    assert found["rmse"] == pytest.approx(math.sqrt((0 + 4 + 1) / 3))
    assert found["mae"] == pytest.approx(1.0)
    assert found["r2"] == pytest.approx(1 - 5 / (4 + 1 + 9))


def test_the_report_of_values_has_residuals_by_decile_of_the_prediction() -> None:
    x = np.arange(100, dtype="float32")
    label = np.where(x < 50, 2 * x, 2 * x + 10)
    rows = pd.DataFrame({"x": x, LABEL: label, SNAPSHOT: "2017-03"})
    model = LinearRegression().fit(rows[["x"]], 2 * x)

    report = reports.report(Fitted(name="line", model=model, choice={"line": 0.9}, target=AMOUNT), rows, rows, ["x"])

    assert sorted(report) == ["choice", "estimator", "holdout", "residuals", "training", "verdict"]
    assert (report["holdout"]["mean"], report["holdout"]["deviation"]) == pytest.approx((label.mean(), label.std()))
    assert [part["decile"] for part in report["residuals"]] == list(range(1, 11))
    assert [part["residual_50"] for part in report["residuals"]] == pytest.approx([0] * 5 + [10] * 5, abs=1e-3)
    first = report["residuals"][0]
    assert (first["rows"], first["predicted"], first["observed"]) == (10, pytest.approx(9, abs=1e-3), pytest.approx(9))
    assert json.loads(json.dumps(report)) == report


def test_quantiles_of_residuals_are_of_label_less_prediction() -> None:
    (part,) = reports.residuals(np.array([5.0]), np.array([3.0]))
    assert part == {
        "decile": 1, "rows": 1, "predicted": 3.0, "observed": 5.0, "residual_10": 2.0, "residual_50": 2.0, "residual_90": 2.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "seen", "unseen", "text"),
    [
        (SIZES, 0.9, 0.8, "variance: one-vs-rest ROC AUC 0.900 in training, 0.800 on the holdout; the model remembers rows"),
        (SIZES, 0.6, 0.6, "bias: one-vs-rest ROC AUC 0.600 in training, 0.600 on the holdout; the model does not even fit"),
        (AMOUNT, 0.4, 0.31, "variance: R2 0.400 in training, 0.310 on the holdout; the model remembers rows"),
        (AMOUNT, 0.06, 0.06, "bias: R2 0.060 in training, 0.060 on the holdout; the model does not even fit"),
        (AMOUNT, 0.08, 0.03, "fine: R2 0.080 in training, 0.030 on the holdout."),
    ],
)
def test_the_verdict_is_about_the_kinds_own_figure(target: Target, seen: float, unseen: float, text: str) -> None:
    assert reports.verdict(seen, unseen, target).startswith(text)
