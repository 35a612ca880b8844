"""Transformers: Almanac's own behave as scikit-learn asks of any, and docs/transformers.md is right about all that it lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import decomposition, impute, preprocessing
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from almanac.core.bundle import ONNXRUNTIME
from almanac.core.target import Target
from almanac.model.engines import Onnx
from almanac.model.export import export
from almanac.transformers import Clip, DropCorrelated, Sax
from tests.support.bundles import audited

DICE = np.random.default_rng(7)
COUNT = 3000
ROWS = pd.DataFrame({
    "visits": DICE.normal(size=COUNT),
    "amount": DICE.normal(size=COUNT) * 100,
    "band": np.minimum(DICE.geometric(0.5, COUNT), 9),
}).astype("float32")  # fmt: skip
LABEL = ((ROWS.visits + (ROWS.band == 2) + DICE.normal(size=COUNT)) > 0.5).astype(int)
LISTED = re.findall(
    r"^\| [^|]+ \| `(\w+\(.*\))` \| (yes|no)", (Path(__file__).parents[1] / "docs/transformers.md").read_text(), re.M
)
OF_CATEGORIES = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")


@parametrize_with_checks([Clip(), DropCorrelated(), Sax()])  # type: ignore[untyped-decorator]
def test_our_own_are_what_scikit_learn_asks_of_a_transformer(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_page_lists_every_one_of_our_own() -> None:
    assert len(LISTED) == 13 and [text.split("(")[0] for text, _ in LISTED[-3:]] == ["Clip", "DropCorrelated", "Sax"]


@pytest.mark.parametrize(("text", "exported"), LISTED, ids=lambda given: given.split("(")[0])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_what_the_page_says_of_onnxruntime_is_so(tmp_path: Path, text: str, exported: str) -> None:
    known = {
        **vars(preprocessing),
        **vars(decomposition),
        **vars(impute),
        "np": np,
        "Clip": Clip,
        "DropCorrelated": DropCorrelated,
        "Sax": Sax,
    }
    asked = eval(text, known)
    columns = ["band"] if type(asked).__name__ in OF_CATEGORIES else ["visits", "amount"]
    rows = ROWS.assign(amount=ROWS.amount.where(ROWS.visits < 1.5)) if isinstance(asked, SimpleImputer | Clip) else ROWS
    encoded = make_column_transformer((asked, columns), remainder="passthrough")
    model = make_pipeline(encoded, SimpleImputer(), LogisticRegression(max_iter=500)).fit(rows, LABEL)

    engine = audited(tmp_path, model, rows).engine

    assert (engine.name == ONNXRUNTIME) == (exported == "yes"), engine.reason
    assert exported == "yes" or "Infrequent categories" in engine.reason


def test_outliers_are_moved_to_the_quantiles_of_training_and_nulls_stay() -> None:
    fitted = Clip(low=0.1, high=0.9).fit(np.arange(11, dtype="float32")[:, None])

    found = fitted.transform(np.array([[-5], [0.5], [1], [5], [9.5], [99], [np.nan]], dtype="float32"))

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.ravel(), np.array([1, 1, 1, 5, 9, 9, np.nan], dtype="float32"))


def test_columns_that_say_what_one_before_says_are_left_out_whatever_the_sign_and_constants_too() -> None:
    base, other = DICE.normal(size=500), DICE.normal(size=500)
    rows = pd.DataFrame({
        "base": base, "scaled": base * 3 + 1, "other": other, "turned": -base, "near": base + other * 0.5, "fixed": 7.0,
        "holes": np.where(base > 1, np.nan, base),
    }).astype("float32")  # fmt: skip

    fitted = DropCorrelated(above=0.95).set_output(transform="pandas").fit(rows)

    assert list(fitted.transform(rows).columns) == ["base", "other", "near"]
    assert set(fitted.transform(rows).dtypes) == {np.dtype("float32")}
    assert fitted.get_feature_names_out().tolist() == ["base", "other", "near"]


def test_a_series_is_the_word_that_its_shape_makes_whatever_its_level_and_scale() -> None:
    rising = np.array([[-3, -1, 1, 3]], dtype="float32")
    rows = np.concatenate([rising, rising * 100 + 7, -rising, rising * 0 + 5])

    found = Sax(segments=2, symbols=4).set_output(transform="pandas").fit(rows).transform(rows)

    # Means of the normalised halves are -0.89 and 0.89; the breakpoints of four symbols are -0.67, 0 and 0.67.
    assert found.to_numpy().tolist() == [[0, 3], [0, 3], [3, 0], [2, 2]]
    assert list(found.columns) == ["sax0", "sax1"] and set(found.dtypes) == {np.dtype("float32")}


@pytest.mark.parametrize("columns", [3, 6, 7, 12])
def test_a_series_has_the_same_word_in_its_export_also_where_a_mean_lies_on_a_breakpoint(columns: int) -> None:
    names = tuple(f"month{place}" for place in range(columns))
    level = np.repeat(np.array([0, 1, 100, 33333.3, 1e7])[:, None], columns, axis=1)
    swings = np.tile([[1, 3], [200, 100], [5, 5.001]], (1, columns))[:, :columns]
    rows = pd.DataFrame(np.concatenate([level, swings, DICE.integers(0, 4, (500, columns))]), columns=names).astype("float32")
    label = (rows["month0"] > rows["month1"]).astype(int)
    model = make_pipeline(Sax(segments=3, symbols=4), LogisticRegression()).fit(rows, label)

    engine = Onnx.of(export(model, names), names, Target(), (1,))

    assert set(model[:-1].transform(rows)[:5].ravel()) == {2}
    found = engine.scores(pa.RecordBatch.from_pandas(rows, preserve_index=False))
    np.testing.assert_allclose(found, model.predict_proba(rows)[:, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Clip(low=0.9, high=0.1), "Clip: expected shares from 0 to 1, low below high; got low=0.9, high=0.1."),
        (Clip(high=2), "Clip: expected shares from 0 to 1, low below high; got low=0.01, high=2."),
        (
            Sax(symbols=1),
            "Sax: expected 1 or more segments and 2 or more symbols, got segments=4, symbols=1.",
        ),
        (DropCorrelated(above=0), "DropCorrelated.above: expected a number above 0 and at most 1, got 0."),
    ],
)
def test_bounds_that_are_none_are_refused_when_it_is_fitted(given: Any, told: str) -> None:
    with pytest.raises(ValueError) as refused:
        given.fit(ROWS)
    assert str(refused.value) == told
