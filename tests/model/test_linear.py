"""A linear model that is taken apart gives what the exporter's own graph gives, and takes categories as scikit-learn does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

from almanac.core.target import REGRESSION, Target
from almanac.model.engines import Onnx, output_of
from almanac.model.export import export, joined
from almanac.model.linear import LINEAR
from tests.model.test_engines import LABEL, ROWS, TIERS, batch

FEATURES = tuple(ROWS.columns)
CATEGORIES = {"handle_unknown": "ignore", "sparse_output": False, "dtype": np.float32}


def one_hot(*others: Any, **asked: Any) -> Any:
    return make_column_transformer(*others, (OneHotEncoder(**{**CATEGORIES, **asked}), ["band"]))


SCALED = (StandardScaler(), ["visits", "amount"])
IMPUTED = (make_pipeline(SimpleImputer(), StandardScaler()), ["visits", "amount"])
BINNED = (KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"), ["visits", "amount"])
PIPELINES = {
    "two classes": make_pipeline(one_hot(SCALED), LogisticRegression()).fit(ROWS, LABEL),
    "categories first": make_pipeline(
        make_column_transformer((OneHotEncoder(**CATEGORIES), ["band"]), SCALED), LogisticRegression()
    ).fit(ROWS, LABEL),
    "three classes": make_pipeline(one_hot(SCALED), LogisticRegression()).fit(ROWS, TIERS),
    "numbers of classes": make_pipeline(one_hot(SCALED), LogisticRegression()).fit(ROWS, pd.factorize(TIERS)[0]),
    "a value": make_pipeline(one_hot(SCALED), LinearRegression()).fit(ROWS, ROWS.visits * 3),
    "nulls filled": make_pipeline(one_hot(IMPUTED), LogisticRegression()).fit(ROWS, LABEL),
    "as they are": make_pipeline(one_hot(("passthrough", ["visits", "amount"])), LogisticRegression()).fit(ROWS, LABEL),
    "bins": make_pipeline(one_hot(BINNED), LogisticRegression()).fit(ROWS, LABEL),
}
WHOLE = {
    "one part": make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABEL),
    "something after it": make_pipeline(one_hot(SCALED), PoissonRegressor()).fit(ROWS, LABEL),
    "no linear model": make_pipeline(one_hot(SCALED), HistGradientBoostingClassifier(max_iter=5)).fit(ROWS, LABEL),
}


def operators(body: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(body).graph.node]


def answer(body: bytes, rows: pd.DataFrame) -> np.ndarray:
    """What a graph gives for rows, all of its scores."""
    session = onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"])
    engine = Onnx.of(body, FEATURES, Target(kind=REGRESSION), (0,))
    fed = {name: rows[list(names)].to_numpy("float32") for name, names in engine.graph.inputs.items()}
    return session.run([output_of([item.name for item in session.get_outputs()])], fed)[0]


@pytest.mark.parametrize("model", PIPELINES.values(), ids=PIPELINES)
def test_a_linear_model_taken_apart_gives_the_same_scores(model: Any) -> None:
    apart, whole = export(model, FEATURES), joined(model, FEATURES).SerializeToString()
    assert set(operators(whole)) & set(LINEAR)
    assert not set(operators(apart)) & set(LINEAR)
    onnx.checker.check_model(onnx.load_from_string(apart))
    assert np.abs(answer(apart, ROWS) - answer(whole, ROWS)).max() < 1e-5
    asked = model.predict_proba(ROWS) if hasattr(model, "predict_proba") else model.predict(ROWS).reshape(-1, 1)
    assert np.abs(answer(apart, ROWS) - asked).max() < 1e-5


@pytest.mark.parametrize("model", WHOLE.values(), ids=WHOLE)
def test_what_is_no_sum_of_parts_stays_as_the_exporter_made_it(model: Any) -> None:
    assert operators(export(model, FEATURES)) == operators(joined(model, FEATURES).SerializeToString())


@pytest.mark.parametrize("band", [0.5, -1.0, 3.999, 77.0, 1e30])
def test_a_value_between_two_categories_is_neither_as_scikit_learn_says(band: float) -> None:
    model = PIPELINES["two classes"]
    rows = ROWS.head(50).assign(band=np.float32(band))
    assert np.abs(answer(export(model, FEATURES), rows) - model.predict_proba(rows)).max() < 1e-6


def test_encoders_that_leave_a_category_out_are_exported_as_they_are() -> None:
    model = make_pipeline(one_hot(SCALED, drop="first"), LogisticRegression()).fit(ROWS, LABEL)
    assert np.abs(answer(export(model, FEATURES), ROWS) - model.predict_proba(ROWS)).max() < 1e-5


def test_a_row_is_scored_alone_as_among_others() -> None:
    engine = Onnx.of(export(PIPELINES["two classes"], FEATURES), FEATURES, Target(), (1,))
    assert engine.scores(batch().slice(7, 1)) == pytest.approx(engine.scores(batch())[7:8])
