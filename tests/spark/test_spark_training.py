"""Training: labels that hold, a choice without peeking, the same scores from the same rows."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from almanac.core.target import Target
from almanac.core.window import Label
from almanac.errors import DataError, DescriptionError
from almanac.spark import training
from almanac.spark.training import LABEL, SNAPSHOT

BINARY = Target()

ENTITIES = pd.DataFrame({"customer": [1, 2, 3], "visits": np.array([1, 2, 3], "float32")})


def labels(*rows: tuple[Any, Any], columns: tuple[str, str] = ("customer", "label")) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))


def labelled(given: pd.DataFrame, absent: int | None = 0) -> pd.DataFrame:
    label = Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=absent)
    return training.label_rows(ENTITIES, given, "customer", label)


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


def test_entities_that_all_have_a_label_need_no_absent_one() -> None:
    found = labelled(labels((2, 1), (1, 0), (3, 1)), absent=None)
    assert list(found[LABEL]) == [0, 1, 1]
    assert str(found[LABEL].dtype) == "int8"


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

    fitted = training.fit({"worse": Remembers("bad"), "better": Remembers("good")}, rows, ["good", "bad"], BINARY)

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
    training.fit({"one": Remembers()}, snapshots("2017-03", "2017-04"), ["good"], BINARY)
    assert fits == [7, 15]


def test_with_one_snapshot_the_last_quarter_of_its_rows_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    ask = Remembers.predict_proba

    def remember(self: Remembers, rows: pd.DataFrame) -> np.ndarray:
        asked.append(list(rows.index))
        return ask(self, rows)

    monkeypatch.setattr(Remembers, "predict_proba", remember)
    training.fit({"one": Remembers()}, snapshots("2017-03", rows=16), ["good"], BINARY)
    assert asked == [[12, 13, 14, 15]]


def test_the_users_own_estimator_stays_unfitted() -> None:
    given = Remembers()
    training.fit({"one": given}, snapshots("2017-03", "2017-04"), ["good"], BINARY)
    assert not hasattr(given, "rows_")


def test_no_estimator_and_one_without_probabilities_are_refused() -> None:
    rows = snapshots("2017-03", "2017-04")
    with pytest.raises(DescriptionError, match=r"estimators\(\) gave none\. Give at least one scikit-learn classifier"):
        training.fit({}, rows, ["good"], BINARY)
    with pytest.raises(DescriptionError, match=r"estimators\(\): ridge has no predict_proba; give classifiers that have"):
        training.fit({"ridge": RidgeClassifier(), "logistic": LogisticRegression()}, rows, ["good"], BINARY)


@pytest.mark.parametrize("model", [LogisticRegression(), HistGradientBoostingClassifier(random_state=0)])
def test_the_same_rows_give_the_same_scores(model: BaseEstimator) -> None:
    dice = np.random.default_rng(0)
    features = [f"x{number}" for number in range(6)]
    rows = pd.DataFrame(dice.normal(size=(3000, 6)).astype("float32"), columns=features)
    rows = rows.assign(**{
        SNAPSHOT: np.repeat(["2017-03", "2017-04", "2017-05"], 1000),
        LABEL: (rows["x0"] + dice.normal(size=3000) > 0).astype("int8"),
    })  # fmt: skip

    scores = [
        training.predict(training.fit({"one": model}, rows, features, BINARY).model, rows[features], BINARY) for _ in range(2)
    ]

    assert np.array_equal(scores[0], scores[1])
    assert scores[0].dtype == np.float64
