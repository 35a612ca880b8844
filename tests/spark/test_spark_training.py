"""Training: labels that hold, a choice without peeking, a report in plain words, the same scores from the same rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from almanac.errors import DataError, DescriptionError
from almanac.spark import training
from almanac.spark.training import LABEL, SNAPSHOT, Fitted

ENTITIES = pd.DataFrame({"customer": [1, 2, 3], "visits": np.array([1, 2, 3], "float32")})


def labels(*rows: tuple[Any, Any], columns: tuple[str, str] = ("customer", "label")) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))


def labelled(given: pd.DataFrame, absent: int | None = 0) -> pd.DataFrame:
    return training.label_rows(ENTITIES, given, "customer", absent, "returns")


# Labels


def test_a_label_joins_every_entity_once_and_the_others_get_the_absent_one() -> None:
    found = labelled(labels((3, 1), (1, 0), (99, 1)))

    assert list(found["customer"]) == [1, 2, 3]
    assert list(found[LABEL]) == [0, 0, 1]
    assert str(found[LABEL].dtype) == "int8"
    assert list(found["visits"]) == [1, 2, 3]


def test_no_labels_at_all_are_all_absent() -> None:
    assert list(labelled(labels().astype({"customer": "int64", "label": "int64"}))[LABEL]) == [0, 0, 0]


def test_labels_may_be_true_and_false() -> None:
    assert list(labelled(labels((1, True), (2, False)))[LABEL]) == [1, 0, 0]


def test_a_label_function_without_its_column_shows_what_it_gave() -> None:
    with pytest.raises(DescriptionError) as refused:
        labelled(labels((1, 1), columns=("customer", "returned")))
    assert str(refused.value) == "Function 'returns' gave no column label (it gave: customer, returned)."


def test_an_entity_that_is_labelled_twice_is_refused_with_examples() -> None:
    with pytest.raises(DataError) as refused:
        labelled(labels((1, 1), (1, 1), (2, 0), (2, 1)))
    assert str(refused.value) == "Function 'returns' labels customer 1, 2 more than once. One row an entity is needed."


@pytest.mark.parametrize(("value", "shown"), [(2, "2"), (0.5, "0.5"), ("yes", "yes"), (math.nan, "nan")])
def test_a_label_other_than_0_and_1_is_refused(value: object, shown: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        labelled(labels((1, 1), (2, value)))
    assert str(refused.value) == f"Function 'returns' gave the label {shown}, allowed are 0 and 1."


def test_labels_of_several_kinds_are_refused_as_plainly() -> None:
    with pytest.raises(DescriptionError, match=r"gave the label .*yes.*, allowed are 0 and 1"):
        labelled(labels((1, "yes"), (2, None), (3, 2)))


def test_an_entity_without_a_label_is_refused_where_each_must_have_one() -> None:
    with pytest.raises(DataError) as refused:
        labelled(labels((2, 1)), absent=None)
    text = str(refused.value)
    assert "Function 'returns' gave no label for 2 entities, such as customer 1, 3." in text
    assert "Label each, or say what the others are with Label(absent=...)." in text


def test_absent_may_mean_1() -> None:
    assert list(labelled(labels((2, 0)), absent=1)[LABEL]) == [1, 0, 1]


# The choice


class Remembers(ClassifierMixin, BaseEstimator):
    """Scores by one column, and remembers the snapshots that it was fitted on."""

    def __init__(self, column: str = "good") -> None:
        self.column = column

    def fit(self, rows: pd.DataFrame, label: pd.Series) -> Remembers:
        self.classes_ = np.array([0, 1])
        self.rows_ = list(rows.index)
        self.columns_ = list(rows.columns)
        self.label_ = list(label)
        return self

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        score = rows[self.column].to_numpy()
        return np.column_stack([1 - score, score])


def snapshots(*keys: str, rows: int = 8) -> pd.DataFrame:
    """Rows of snapshots, oldest first; `good` tells the label, `bad` its contrary in the newest snapshot alone."""
    label = np.tile([0, 1], rows // 2 * len(keys))
    snapshot = np.repeat(keys, rows)
    newest = snapshot == keys[-1]
    bad = np.where(newest, 1 - label, label)
    return pd.DataFrame({SNAPSHOT: snapshot, "good": label * 0.8 + 0.1, "bad": bad * 0.8 + 0.1, LABEL: label.astype("int8")})


def test_the_estimator_that_is_best_on_the_newest_snapshot_is_chosen_and_fitted_again_on_all() -> None:
    rows = snapshots("2017-03", "2017-04", "2017-05")

    fitted = training.fit({"worse": Remembers("bad"), "better": Remembers("good")}, rows, ["good", "bad"])

    assert (fitted.name, dict(fitted.choice)) == ("better", {"worse": 0.0, "better": 1.0})
    assert fitted.model.rows_ == list(rows.index)
    assert fitted.model.columns_ == ["good", "bad"]


def test_the_snapshot_that_chooses_is_not_fitted_on_before(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []
    fit = Remembers.fit

    def remember(self: Remembers, rows: pd.DataFrame, label: pd.Series) -> Remembers:
        fits.append(max(rows.index))
        return fit(self, rows, label)

    monkeypatch.setattr(Remembers, "fit", remember)
    training.fit({"one": Remembers()}, snapshots("2017-03", "2017-04"), ["good"])
    assert fits == [7, 15]


def test_with_one_snapshot_the_last_quarter_of_its_rows_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    ask = Remembers.predict_proba

    def remember(self: Remembers, rows: pd.DataFrame) -> np.ndarray:
        asked.append(list(rows.index))
        return ask(self, rows)

    monkeypatch.setattr(Remembers, "predict_proba", remember)
    training.fit({"one": Remembers()}, snapshots("2017-03", rows=16), ["good"])
    assert asked == [[12, 13, 14, 15]]


def test_the_users_own_estimator_stays_unfitted() -> None:
    given = Remembers()
    training.fit({"one": given}, snapshots("2017-03", "2017-04"), ["good"])
    assert not hasattr(given, "rows_")


def test_no_estimator_and_one_without_probabilities_are_refused() -> None:
    rows = snapshots("2017-03", "2017-04")
    with pytest.raises(DescriptionError, match=r"estimators\(\) gave none\. Give at least one scikit-learn classifier"):
        training.fit({}, rows, ["good"])
    with pytest.raises(DescriptionError, match=r"estimators\(\): ridge has no predict_proba; give classifiers that have"):
        training.fit({"ridge": RidgeClassifier(), "logistic": LogisticRegression()}, rows, ["good"])


@pytest.mark.parametrize("model", [LogisticRegression(), HistGradientBoostingClassifier(random_state=0)])
def test_the_same_rows_give_the_same_scores(model: BaseEstimator) -> None:
    dice = np.random.default_rng(0)
    features = [f"x{number}" for number in range(6)]
    rows = pd.DataFrame(dice.normal(size=(3000, 6)).astype("float32"), columns=features)
    rows = rows.assign(**{
        SNAPSHOT: np.repeat(["2017-03", "2017-04", "2017-05"], 1000),
        LABEL: (rows["x0"] + dice.normal(size=3000) > 0).astype("int8"),
    })  # fmt: skip

    scores = [training.probability(training.fit({"one": model}, rows, features).model, rows[features]) for _ in range(2)]

    assert np.array_equal(scores[0], scores[1])
    assert scores[0].dtype == np.float64


# The report


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

    report = training.report(fitted, snapshots("2017-03", "2017-04"), holdout, ["good"])

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

    found = training.calibration(label, score)

    assert [part["decile"] for part in found] == list(range(1, 11))
    assert sum(part["rows"] for part in found) == 100
    assert [part["predicted"] for part in found] == sorted(part["predicted"] for part in found)
    assert (found[0]["observed"], found[-1]["observed"]) == (0.0, 1.0)
    assert found[0]["predicted"] == pytest.approx(score[-10:].mean())


def test_calibration_of_fewer_rows_than_deciles_leaves_the_empty_ones_out() -> None:
    assert [part["rows"] for part in training.calibration(np.array([0, 1, 1]), np.array([0.1, 0.5, 0.9]))] == [1, 1, 1]


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
    text = training.verdict(seen, unseen)
    assert text.startswith(f"{word}: ROC AUC {seen:.3f} in training, {unseen:.3f} on the holdout")
    assert advice in text
