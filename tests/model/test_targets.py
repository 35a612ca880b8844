"""Labels that are not 0 and 1: classes and values, from the user's function to scores of real scikit-learn models."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from almanac.core.label import Label
from almanac.core.target import MULTICLASS, REGRESSION, Target
from almanac.core.window import LABEL, SNAPSHOT
from almanac.errors import DataError, DescriptionError
from almanac.model import training

SIZES = Target(MULTICLASS, ("low", "middle", "high"))
DEGREES = Target(MULTICLASS, (3, 1, 2))
AMOUNT = Target(REGRESSION)
ENTITIES = pd.DataFrame({"customer": [1, 2, 3], "x": np.array([1, 2, 3], "float32")})
ROWS = pa.Table.from_pandas(ENTITIES)


def labelled(labels: list[Any], target: Target, absent: Any = None) -> pd.Series:
    """The labels of customers 1 to 3, where a function gives the first ones."""
    given = pa.table({"customer": range(1, len(labels) + 1), "label": labels})
    label = Label("size", reads=("visits",), horizon=timedelta(days=30), absent=absent, kind=target.kind, classes=target.classes)
    return training.label_rows(ROWS, given, ["customer"], label)[LABEL]


def rows(target: Target, count: int = 900, seed: int = 0) -> pd.DataFrame:
    """Three snapshots whose label hangs on x0 and x1."""
    dice = np.random.default_rng(seed)
    features = pd.DataFrame(dice.normal(size=(count, 3)).astype("float32"), columns=["x0", "x1", "x2"])
    value = 100 * features["x0"] + 30 * features["x1"] + dice.normal(size=count)
    label: Any = value.astype("float64")
    if target.classes:
        label = np.array(target.classes, dtype=object)[np.digitize(value, [-40, 40])]
    given = features.assign(**{SNAPSHOT: np.repeat(["2017-03", "2017-04", "2017-05"], count // 3), LABEL: label})
    return given.astype({LABEL: training.label_type(target)})


FEATURES = ["x0", "x1", "x2"]
CLASSIFIERS = [
    LogisticRegression(),
    make_pipeline(SimpleImputer(), StandardScaler(), RandomForestClassifier(n_estimators=20, random_state=0)),
    HistGradientBoostingClassifier(max_iter=3, random_state=0),
]
REGRESSORS = [
    LinearRegression(),
    make_pipeline(SimpleImputer(), StandardScaler(), Ridge()),
    HistGradientBoostingRegressor(max_iter=3, random_state=0),
]


# Labels


def test_classes_are_kept_as_they_are_and_the_absent_one_is_one_of_them() -> None:
    found = labelled(["high", "middle"], SIZES, absent="low")
    assert (list(found), str(found.dtype)) == (["high", "middle", "low"], "object")
    numbers = labelled([2, 3], DEGREES, absent=1)
    assert (list(numbers), str(numbers.dtype)) == ([2, 3, 1], "int64")


def test_values_are_numbers_of_any_type() -> None:
    for given in ([1, 2], [1.0, 2.0], [Decimal("1.0"), Decimal("2.0")]):
        found = labelled(given, AMOUNT, absent=0)
        assert (list(found), str(found.dtype)) == ([1.0, 2.0, 0.0], "float64")


@pytest.mark.parametrize(
    ("target", "given", "shown", "allowed"),
    [
        (SIZES, ["low", "huge"], "'huge'", "low, middle, high"),
        (SIZES, ["low", None], "null", "low, middle, high"),
        (SIZES, [1, 2], "1 (not text), 2 (not text)", "low, middle, high"),
        (DEGREES, [0, 1], "0", "3, 1, 2"),
        (DEGREES, [1.5, 2], "1.5", "3, 1, 2"),
        (AMOUNT, [1.0, math.nan], "nan", "finite numbers"),
        (AMOUNT, [math.inf, -math.inf], "-inf, inf", "finite numbers"),
        (AMOUNT, ["12", "3"], "'12' (text), '3' (text)", "finite numbers"),
        (AMOUNT, [True, False], "False, True", "finite numbers"),
    ],
)
def test_a_label_that_the_kind_does_not_allow_is_refused(target: Target, given: list[Any], shown: str, allowed: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        labelled(given, target)
    assert str(refused.value) == f"Function 'size': expected labels {allowed}; got {shown}. Correct the function."


@pytest.mark.parametrize(("target", "given"), [(SIZES, ["low", "high"]), (AMOUNT, [0.5, 1.5])])
def test_each_entity_needs_a_class_or_a_value_where_no_absent_one_is_named(target: Target, given: list[Any]) -> None:
    with pytest.raises(DataError, match="returned no label for 1 entities, such as customer 3"):
        labelled(given, target)


# Scores


@pytest.mark.parametrize("model", CLASSIFIERS)
@pytest.mark.parametrize("target", [SIZES, DEGREES])
def test_each_class_has_its_probability_in_the_order_of_the_description(model: BaseEstimator, target: Target) -> None:
    given = rows(target)
    fitted = model.fit(given[FEATURES], given[LABEL])

    found = training.predict(fitted, given[FEATURES], target)

    assert (found.shape, found.dtype) == ((900, 3), np.float64)
    assert list(fitted.classes_) == sorted(target.classes) != list(target.classes)
    theirs = pd.DataFrame(fitted.predict_proba(given[FEATURES]), columns=list(fitted.classes_))
    assert np.array_equal(found, theirs[list(target.classes)].to_numpy())


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_a_class_that_the_model_never_saw_has_the_probability_zero(model: BaseEstimator) -> None:
    given = rows(SIZES)
    seen = given[given[LABEL] != "middle"]

    found = training.predict(model.fit(seen[FEATURES], seen[LABEL]), given[FEATURES], SIZES)

    assert set(found[:, 1]) == {0.0}
    assert found.sum(axis=1) == pytest.approx(1)
    assert found[given[LABEL] == "high", 2].mean() > found[given[LABEL] == "low", 2].mean() + 0.15


def test_a_model_that_saw_one_label_alone_gives_all_rows_the_same_probability() -> None:
    for label in (0, 1):
        model = RandomForestClassifier(n_estimators=2).fit(ENTITIES[["x"]], [label] * 3)
        assert list(training.predict(model, ENTITIES[["x"]], Target())) == [label] * 3


@pytest.mark.parametrize("model", REGRESSORS)
def test_a_value_is_what_the_regressor_predicts(model: BaseEstimator) -> None:
    given = rows(AMOUNT)
    fitted = model.fit(given[FEATURES], given[LABEL])

    found = training.predict(fitted, given[FEATURES], AMOUNT)

    assert (found.shape, found.dtype) == ((900,), np.float64)
    assert np.array_equal(found, fitted.predict(given[FEATURES]).astype("float64"))


def test_a_regressor_that_gives_a_column_gives_a_row_one_value() -> None:
    given = rows(AMOUNT)
    model = LinearRegression().fit(given[FEATURES], given[[LABEL]])

    assert model.predict(given[FEATURES]).shape == (900, 1)
    assert training.predict(model, given[FEATURES], AMOUNT).shape == (900,)


@pytest.mark.parametrize(
    ("target", "scores", "columns"),
    [
        (Target(), np.array([0.2, 0.7]), {"score": [0.2, 0.7]}),
        (AMOUNT, np.array([12.5, -3.0]), {"score": [12.5, -3.0]}),
        (DEGREES, np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]]), {
            "score_3": [0.1, 0.5], "score_1": [0.2, 0.5], "score_2": [0.7, 0.0]}),
    ],
)  # fmt: skip
def test_scores_become_columns_and_are_read_back_from_them(target: Target, scores: Any, columns: dict[str, Any]) -> None:
    found = training.score_columns(scores, target)

    assert {name: list(column) for name, column in found.items()} == columns
    assert np.array_equal(training.scores_of(pd.DataFrame(found), target), scores)


# The choice


@pytest.mark.parametrize("target", [SIZES, DEGREES, AMOUNT])
def test_the_best_estimator_on_the_newest_snapshot_is_fitted_again_on_all(target: Target) -> None:
    given = rows(target)
    best = make_pipeline(StandardScaler(), LinearRegression() if target.kind == REGRESSION else LogisticRegression())
    blind = DummyRegressor() if target.kind == REGRESSION else DummyClassifier()

    fitted = training.fit({"blind": blind, "best": best}, given, FEATURES, target)

    assert (fitted.name, fitted.target) == ("best", target)
    assert fitted.choice["best"] > fitted.choice["blind"]
    again = training.predict(best.fit(given[FEATURES], given[LABEL]), given[FEATURES], target)
    assert np.array_equal(training.predict(fitted.model, given[FEATURES], target), again)


def test_what_chooses_is_the_negative_log_loss_of_classes_and_r2_of_values() -> None:
    label, scores = np.array(["high", "low"], dtype=object), np.array([[0.2, 0.2, 0.6], [0.5, 0.25, 0.25]])
    assert training.chosen_by(label, scores, SIZES) == pytest.approx((math.log(0.6) + math.log(0.5)) / 2)
    assert training.chosen_by(np.array([1.0, 3.0]), np.array([1.0, 2.0]), AMOUNT) == pytest.approx(1 - 1 / 2)


def test_rows_of_one_value_or_class_choose_nothing() -> None:
    assert training.chosen_by(np.array([2.0, 2.0]), np.array([1.0, 2.0]), AMOUNT) == 0.0
    assert training.chosen_by(np.array([1, 1]), np.array([0.3, 0.2]), Target()) == 0.5


def test_estimators_that_cannot_give_the_kinds_scores_are_refused() -> None:
    given = rows(AMOUNT)
    with pytest.raises(DescriptionError) as refused:
        training.fit({"logistic": LogisticRegression(), "line": LinearRegression()}, given, FEATURES, AMOUNT)
    assert str(refused.value) == (
        "estimators(): 'logistic' does not predict numbers. Use a regressor, or make the label binary or multiclass."
    )
    with pytest.raises(
        DescriptionError, match=r"estimators\(\): 'line' has no predict_proba, because it is a regressor\. Use a classifier"
    ):
        training.fit({"line": LinearRegression()}, rows(SIZES), FEATURES, SIZES)
    with pytest.raises(DescriptionError, match=r"estimators\(\): .+ got none\. Add a scikit-learn regressor"):
        training.fit({}, given, FEATURES, AMOUNT)
