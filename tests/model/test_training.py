"""Training: labels that hold, a choice without peeking, the same scores from the same rows."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from almanac.core.label import Label
from almanac.core.target import Target
from almanac.core.window import LABEL, SNAPSHOT
from almanac.errors import DataError, DescriptionError
from almanac.model import training

BINARY = Target()

ENTITIES = pa.table({"customer": [1, 2, 3], "visits": pa.array([1, 2, 3], pa.float32())})


def labels(*rows: tuple[Any, Any], columns: tuple[str, str] = ("customer", "label")) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))


def labelled(given: pd.DataFrame | pa.Table, absent: int | None = 0, entities: pa.Table = ENTITIES) -> pd.DataFrame:
    label = Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=absent)
    table = given if isinstance(given, pa.Table) else pa.Table.from_pandas(given, preserve_index=False)
    return training.label_rows(entities, table, ["customer"], label)


# Labels


def test_a_label_joins_every_entity_once_and_the_others_get_the_absent_one() -> None:
    found = labelled(labels((3, 1), (1, 0), (99, 1)))

    assert list(found["customer"]) == [1, 2, 3]
    assert list(found[LABEL]) == [0, 0, 1]
    assert str(found[LABEL].dtype) == "int8"
    assert list(found["visits"]) == [1, 2, 3]


def test_a_label_joins_by_all_columns_of_an_entity_and_not_by_one_of_them() -> None:
    entities = pa.table({"customer": [1, 1, 2], "shop": ["n", "s", "n"], "visits": pa.array([1, 2, 3], pa.float32())})
    given = pa.table({"shop": ["s", "s", None, "n"], "customer": [1, 2, 2, None], "label": [1, 1, 1, 1]})
    label = Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=0)

    found = training.label_rows(entities, given, ["customer", "shop"], label)

    assert list(found[LABEL]) == [0, 1, 0]
    assert list(found.columns) == ["customer", "shop", "visits", LABEL]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"customer": [1], "label": [1]},
            "Function 'returns' returned no column shop (it returned: customer, label). Add it.",
        ),
        (
            {"customer": [1], "shop": [7], "label": [1]},
            "Function 'returns': expected shop as string, as in the features; got int64. Only keys of one type are matched. ",
        ),
        (
            {"customer": [1, 1, 1, 1], "shop": ["s", "n", "s", "n"], "label": [1, 1, 1, 1]},
            "expected one row per entity, got several for customer and shop (1, 'n'), (1, 's'). Return one row for each.",
        ),
        (
            {"customer": [1], "shop": ["n"], "label": [1]},
            "returned no label for 2 entities, such as customer and shop (1, 's'), (2, 'n'). Label each, or set the label of the",
        ),
    ],
)
def test_what_is_wrong_with_labels_of_several_columns_names_the_columns_and_entities(given: dict[str, Any], told: str) -> None:
    entities = pa.table({"customer": [1, 1, 2], "shop": ["n", "s", "n"]})
    label = Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=None)
    with pytest.raises((DataError, DescriptionError)) as refused:
        training.label_rows(entities, pa.table(given), ["customer", "shop"], label)
    assert told in str(refused.value)


def test_no_labels_at_all_are_all_absent() -> None:
    assert list(labelled(labels().astype({"customer": "int64", "label": "int64"}))[LABEL]) == [0, 0, 0]


def test_labels_may_be_true_and_false() -> None:
    assert list(labelled(labels((1, True), (2, False)))[LABEL]) == [1, 0, 0]


def test_a_label_function_without_its_column_shows_what_it_gave() -> None:
    with pytest.raises(DescriptionError) as refused:
        labelled(labels((1, 1), columns=("customer", "returned")))
    assert str(refused.value) == "Function 'returns' returned no column label (it returned: customer, returned). Add it."


def test_an_entity_that_is_labelled_twice_is_refused_with_examples() -> None:
    with pytest.raises(DataError) as refused:
        labelled(labels((1, 1), (1, 1), (2, 0), (2, 1)))
    assert str(refused.value) == (
        "Function 'returns': expected one row per entity, got several for customer 1, 2. Return one row for each."
    )


@pytest.mark.parametrize(("value", "shown"), [(2, "2"), (0.5, "0.5"), ("1", "'1' (text)"), (math.nan, "nan"), (None, "null")])
def test_a_label_other_than_0_and_1_is_refused(value: object, shown: str) -> None:
    given = pa.table({"customer": [2], "label": pa.array([value], None if value is not None else pa.int64())})
    with pytest.raises(DescriptionError) as refused:
        labelled(given)
    assert str(refused.value) == f"Function 'returns': expected labels 0 and 1; got {shown}. Correct the function."


LARGE = 2**53


def test_a_label_belongs_to_the_entity_of_its_key_and_to_nobody_where_it_has_none() -> None:
    """Doubles, which a null makes of whole numbers in pandas, would move labels to the next customer."""
    entities = ENTITIES.set_column(0, "customer", pa.array([LARGE, LARGE + 1, LARGE + 2]))
    given = pa.table({"customer": pa.array([LARGE + 1, None, None]), "label": [1, 1, 0]})

    assert list(labelled(given, entities=entities)[LABEL]) == [0, 1, 0]


@pytest.mark.parametrize("width", [pa.int8(), pa.int16(), pa.int32()])
def test_whole_numbers_of_any_width_are_one_kind_of_key(width: pa.DataType) -> None:
    given = pa.table({"customer": pa.array([3, 1], width), "label": [1, 0]})
    assert list(labelled(given)[LABEL]) == [0, 0, 1]
    narrow = ENTITIES.set_column(0, "customer", ENTITIES["customer"].cast(width))
    wide = pa.table({"customer": [3, LARGE], "label": [1, 1]})
    assert list(labelled(wide, entities=narrow)[LABEL]) == [0, 0, 1]


@pytest.mark.parametrize("key", [pa.array(["1"]), pa.array([1.0]), pa.array([True])])
def test_keys_of_another_type_are_refused_and_never_matched(key: pa.Array) -> None:
    with pytest.raises(DescriptionError) as refused:
        labelled(pa.table({"customer": key, "label": [1]}))
    assert str(refused.value) == (
        f"Function 'returns': expected customer as int64, as in the features; got {key.type}. Only keys of one type are matched. "
        "Cast it in the function, or deliver it as one type."
    )


def test_an_entity_without_a_label_is_refused_where_each_must_have_one() -> None:
    with pytest.raises(DataError) as refused:
        labelled(labels((2, 1)), absent=None)
    text = str(refused.value)
    assert "Function 'returns' returned no label for 2 entities, such as customer 1, 3." in text
    assert "Label each, or set the label of the others with Label(absent=...)." in text


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
    assert asked == [[12, 13, 14, 15]], "of each label the last quarter"


def test_the_users_own_estimator_stays_unfitted() -> None:
    given = Remembers()
    training.fit({"one": given}, snapshots("2017-03", "2017-04"), ["good"], BINARY)
    assert not hasattr(given, "rows_")


def test_no_estimator_and_one_without_probabilities_are_refused() -> None:
    rows = snapshots("2017-03", "2017-04")
    with pytest.raises(DescriptionError, match=r"estimators\(\): .+ got none\. Add a scikit-learn classifier"):
        training.fit({}, rows, ["good"], BINARY)
    with pytest.raises(
        DescriptionError, match=r"estimators\(\): 'ridge' has no predict_proba once it is fitted\. Use a classifier"
    ):
        training.fit({"ridge": RidgeClassifier(), "logistic": LogisticRegression()}, rows, ["good"], BINARY)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "estimators(): expected a dict of names to estimators, such as {'logistic': LogisticRegression()}; got NoneType."),
        ([LogisticRegression()], "estimators(): expected a dict of names to estimators, such as "),
        ({"logistic": LogisticRegression}, "estimators(): 'logistic' is the class LogisticRegression. Return an instance"),
        (
            {"thing": object()},
            "estimators(): 'thing' is an instance of object, which has no fit. Return an instance of an estimator.",
        ),
        ({"line": LinearRegression()}, "estimators(): 'line' has no predict_proba, because it is a regressor. Use a classifier"),
        (
            {"mine": make_pipeline(FunctionTransformer(lambda rows: rows), LogisticRegression())},
            "estimators(): 'mine' cannot be pickled, but a version is stored as a pickle (PicklingError: ",
        ),
    ],
)
def test_what_is_no_estimator_is_told_before_anything_is_fitted(given: Any, message: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        training.fit(given, snapshots("2017-03"), ["good"], BINARY)
    text = str(refused.value)
    assert text.startswith(message) and text.count(".") and "0x" not in text
    if "mine" in message:
        assert "Define its functions and classes at the top level of the user's module" in text


class Duck:
    """A classifier of another library: it is none of scikit-learn's classes."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's signature
        return {}

    def fit(self, rows: pd.DataFrame, label: pd.Series) -> Duck:  # noqa: ARG002
        self.classes_ = [0, 1]
        return self

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        return np.column_stack([1 - rows["good"], rows["good"]])


class Holds(LogisticRegression):
    """It can be pickled until it is fitted."""

    def fit(self, *given: Any, **more: Any) -> Holds:
        self.held_ = lambda value: value
        super().fit(*given, **more)
        return self


def test_a_classifier_of_another_library_is_fitted() -> None:
    assert training.fit({"duck": Duck()}, snapshots("2017-03", "2017-04"), ["good"], BINARY).choice == {"duck": 1.0}


def test_what_cannot_be_pickled_once_it_is_fitted_is_told_by_name() -> None:
    fitted = training.fit({"mine": Holds()}, snapshots("2017-03", "2017-04"), ["good"], BINARY)
    with pytest.raises(DescriptionError, match=r"estimators\(\): 'mine' cannot be pickled") as refused:
        training.pickled(fitted.model, fitted.name)
    assert "0x" not in str(refused.value)


def test_what_cannot_be_trained_on_is_no_estimators_fault() -> None:
    rows = snapshots("2017-03", rows=2)
    with pytest.raises(DataError, match="has 2 rows, one of each label, so none is left to choose an estimator on"):
        training.fit({"logistic": LogisticRegression()}, rows, ["good"], BINARY)
    with pytest.raises(DescriptionError, match="The feature groups have no column but the entity"):
        training.fit({"logistic": LogisticRegression()}, rows, [], BINARY)


def test_a_label_of_lists_is_refused_by_its_type() -> None:
    with pytest.raises(DescriptionError, match=r"Function 'returns': expected labels 0 and 1; got list<item: int64>\."):
        labelled(pa.table({"customer": [1], "label": [[1]]}))


def test_an_estimator_that_has_its_probabilities_only_when_it_is_fitted_is_a_classifier() -> None:
    """Of a StackingClassifier its last part decides, and unfitted it has none."""
    stacked = StackingClassifier([("one", LogisticRegression())], cv=2)
    rows = snapshots("2017-03", "2017-04")

    assert training.fit({"stacked": stacked}, rows, ["good"], BINARY).choice == {"stacked": 1.0}
    assert training.fit({"stacked": make_pipeline(StandardScaler(), stacked)}, rows, ["good"], BINARY).choice == {"stacked": 1.0}


def test_an_estimator_that_fails_is_named_with_the_period_and_what_it_was_given() -> None:
    rows = snapshots("2017-03", "2017-04").assign(good=np.nan)
    with pytest.raises(DescriptionError) as refused:
        training.fit({"logistic": LogisticRegression()}, rows, ["good"], BINARY, "2017-06")
    assert str(refused.value).startswith(
        "estimators(): 'logistic' failed for 2017-06 on 8 rows (4 of 0, 4 of 1): ValueError: Input X contains NaN."
    )
    assert str(refused.value).endswith(" or other features.")


@pytest.mark.parametrize("positives", [2, 3, 8])
def test_the_last_quarter_is_one_of_each_label(positives: int) -> None:
    """However few positives there are, and whichever keys they have: some are fitted on, and some choose."""
    label = np.array([0] * (32 - positives) + [1] * positives, "int8")
    rows = pd.DataFrame({SNAPSHOT: "2017-03", "good": label * 0.8 + 0.1, LABEL: label})

    fitted = training.fit({"logistic": LogisticRegression()}, rows, ["good"], BINARY)

    assert fitted.choice == {"logistic": 1.0}
    chosen = training._last_quarter(rows, BINARY)
    assert chosen.sum() == pytest.approx(8, abs=1) and 0 < rows[chosen][LABEL].sum() < positives


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
