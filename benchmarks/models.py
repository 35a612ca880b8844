"""The two models to score with, a linear pipeline and a gradient-boosted one, fitted once and saved as files for all contestants.

model.joblib    the scikit-learn pipeline, fitted on float32 frames with column names
model.onnx      the same, exported by skl2onnx: an input [rows, 1] for each column, an output `probabilities`
joined.onnx     the same, exported by Almanac: columns that go together are one input, which is faster to fill
golden.parquet  rows with their scores, which a model must reproduce before Almanac scores with it
train.parquet   the rows that the model was fitted on, with their label
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from almanac.model.export import joined
from benchmarks import kept, rows

EDITION = 2
TRAIN_ROWS, GOLDEN_ROWS = 100_000, 200
# Row groups beyond any set of rows to score.
TRAIN_GROUP, GOLDEN_GROUP = 1_000_000, 1_000_001


def linear() -> Pipeline:
    """Scaled numbers, one-hot categories, a logistic regression."""
    encoder = OneHotEncoder(dtype=np.float32, handle_unknown="ignore")
    columns = ColumnTransformer([("numeric", StandardScaler(), [*rows.NUMERIC]), ("categories", encoder, [*rows.CATEGORIES])])
    return make_pipeline(columns, LogisticRegression(max_iter=500))


def boosted() -> Pipeline:
    """100 trees of 31 leaves."""
    encoder = OrdinalEncoder(dtype=np.float32)
    columns = ColumnTransformer([("numeric", "passthrough", [*rows.NUMERIC]), ("categories", encoder, [*rows.CATEGORIES])])
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=100, max_leaf_nodes=31, early_stopping=False))


MODELS: dict[str, Callable[[], Pipeline]] = {"linear": linear, "boosted": boosted}


def folder_of(cache: Path, name: str, tell: Callable[[str], None] = print) -> Path:
    """The folder of a model's files, which are created if they do not exist."""

    def make(draft: Path) -> None:
        tell(f"fitting the {name} pipeline")
        _make(draft, MODELS[name]())

    return kept.folder(cache / f"model-{rows.EDITION}.{EDITION}-{name}", make)


def _make(folder: Path, model: Pipeline) -> None:
    train = rows.group(TRAIN_GROUP, TRAIN_ROWS)
    label = rows.labels(train)
    pq.write_table(train.append_column("label", pa.array(label, pa.float64())), folder / "train.parquet")
    names = list(rows.FEATURES)
    model.fit(train.select(names).to_pandas(), label)
    joblib.dump(model, folder / "model.joblib", compress=3)
    golden = rows.group(GOLDEN_GROUP, GOLDEN_ROWS).select(names).to_pandas()
    golden.assign(score=model.predict_proba(golden)[:, 1].astype(float)).to_parquet(folder / "golden.parquet")
    (folder / "model.onnx").write_bytes(exported(model, golden))
    (folder / "joined.onnx").write_bytes(joined(model, tuple(names)).SerializeToString())


def exported(model: Pipeline, example: pd.DataFrame) -> bytes:
    """The pipeline as ONNX. Raises: AssertionError, if it does not reproduce the pipeline's scores of the example."""
    import onnxruntime
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    inputs = [(name, FloatTensorType([None, 1])) for name in example.columns]
    graph = convert_sklearn(model, initial_types=inputs, options={id(model): {"zipmap": False}})
    body: bytes = graph.SerializeToString()
    session = onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"])
    fed = {name: example[name].to_numpy().reshape(-1, 1) for name in example.columns}
    (found,) = session.run(["probabilities"], fed)
    assert np.allclose(found[:, 1], model.predict_proba(example)[:, 1], atol=1e-5)
    return body
