"""What feature groups are worth to a model: permutation importance, of whole groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from almanac.core.target import REGRESSION, Target
from almanac.core.window import LABEL
from almanac.model import importance
from almanac.model.training import Fitted

ROWS = 4000
NAMES = ["strong", "twin", "weak", "noise"]
GROUPS = {"strong": ["strong", "twin"], "weak": ["weak"], "noise": ["noise"]}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    dice = np.random.default_rng(7)
    strong, weak, noise = dice.normal(size=(3, ROWS)).astype(np.float32)
    told = 3 * strong + weak + 0.5 * dice.normal(size=ROWS)
    return pd.DataFrame({"strong": strong, "twin": strong, "weak": weak, "noise": noise, LABEL: (told > 0).astype("int8")})


def shares(model: Any, rows: pd.DataFrame, target: Target = Target()) -> dict[str, float]:
    fitted = Fitted(name="model", model=model.fit(rows[NAMES], rows[LABEL]), choice={}, target=target)
    return importance.shares(fitted, rows, NAMES, GROUPS)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(SimpleImputer(), LogisticRegression()),
        make_pipeline(SimpleImputer(), RandomForestClassifier(30, min_samples_leaf=20, random_state=0)),
        HistGradientBoostingClassifier(max_iter=30, random_state=0),
    ],
    ids=["linear", "forest", "boosted"],
)
@pytest.mark.slow
def test_what_a_group_says_jointly_is_counted_jointly(rows: pd.DataFrame, model: Any) -> None:
    """Two columns that say the same would each seem worthless to a forest, were they exchanged one by one."""
    found = shares(model, rows)

    assert sum(found.values()) == pytest.approx(1)
    assert found["strong"] > 0.75
    assert 0.02 < found["weak"] < 0.25
    assert found["noise"] < 0.02
    assert shares(model, rows) == found, "the same rows give the same shares"


def test_a_feature_may_be_called_as_an_argument_of_pandas_is(rows: pd.DataFrame) -> None:
    model = HistGradientBoostingClassifier(max_iter=3, random_state=0)
    named = rows.rename(columns={"strong": "self"})[["self", "weak", LABEL]]
    fitted = Fitted(name="model", model=model.fit(named[["self", "weak"]], named[LABEL]), choice={})

    found = importance.shares(fitted, named, ["self", "weak"], {"one": ["self"], "other": ["weak"]})

    assert sum(found.values()) == pytest.approx(1)


def test_a_regression_is_measured_by_its_own_figure(rows: pd.DataFrame) -> None:
    values = rows.assign(**{LABEL: 3.0 * rows.strong + rows.weak})

    found = shares(make_pipeline(SimpleImputer(), LinearRegression()), values, Target(kind=REGRESSION))

    # R2 falls by twice the variance that a column explains: 9 of 10 parts and 1 of 10.
    assert found == pytest.approx({"strong": 0.9, "weak": 0.1, "noise": 0.0}, abs=0.02)


def test_a_group_whose_nulls_the_model_refuses_cannot_be_left_out(rows: pd.DataFrame) -> None:
    assert shares(LogisticRegression(), rows) == {"strong": 1.0, "weak": 1.0, "noise": 1.0}


def test_where_no_group_tells_anything_none_can_be_left_out(rows: pd.DataFrame) -> None:
    alone = rows.assign(**{LABEL: np.resize(np.array([0, 1], dtype="int8"), ROWS)})
    fitted = Fitted(
        name="model", model=make_pipeline(SimpleImputer(), LogisticRegression()).fit(alone[NAMES], alone[LABEL]), choice={}
    )
    same = alone.assign(**{LABEL: np.int8(1)})

    assert importance.shares(fitted, same, NAMES, GROUPS) == {"strong": 1.0, "weak": 1.0, "noise": 1.0}


def test_holdouts_larger_than_asked_are_sampled(rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_pipeline(SimpleImputer(), LogisticRegression())
    whole = shares(model, rows)
    monkeypatch.setattr(importance, "ROWS", 1000)

    sampled = shares(model, rows)

    assert sampled != whole
    assert sampled == pytest.approx(whole, abs=0.05)
