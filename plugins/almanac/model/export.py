"""A fitted pipeline as ONNX, with joined features as one input, and a linear model split into parts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline

from almanac.model.engines import output_of
from almanac.model.linear import take_apart
from almanac.model.trees import JOINED
from almanac.transformers import register_converters


def export(model: Any, features: tuple[str, ...]) -> bytes:
    """The pipeline as ONNX: features in, float32; label and probabilities, or the value, out.

    An input is one feature, of shape (rows, 1), or several joined, of shape (rows, features); the metadata JOINED maps the names
    of joined inputs to features, as JSON. Raises: whatever the exporter raises for what it cannot export.
    """
    found = joined(model, features)
    take_apart(found, output_of([item.name for item in found.graph.output]))
    return bytes(found.SerializeToString())


def joined(model: Any, features: tuple[str, ...]) -> Any:
    """The pipeline as the exporter returns it, an onnx.ModelProto, except that inputs are joined. Raises: as `export`."""
    try:
        found = _converted(model, features)
    except Exception as error:  # an estimator that selects no columns by name needs them joined
        together = make_column_transformer(("passthrough", list(features)))
        together.fit(pd.DataFrame({name: np.zeros(1, "float32") for name in features}))
        try:
            found = _converted(make_pipeline(together, model), features)
        except Exception:
            raise error from None
    _join(found)
    return found


def _converted(model: Any, features: tuple[str, ...]) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    register_converters()
    options = {"zipmap": False} if hasattr(model, "predict_proba") else None
    return convert_sklearn(model, initial_types=[(name, FloatTensorType([None, 1])) for name in features], options=options)


def _join(model: Any) -> None:
    """Moves the joining of inputs out of the graph: onnxruntime copies columns value by value, numpy column by column."""
    from onnx import TensorProto, helper

    graph = model.graph
    single, together = {item.name for item in graph.input}, {}
    for node in list(graph.node):
        if node.op_type not in ("Concat", "FeatureVectorizer") or len(node.input) < 2 or not set(node.input) <= single:
            continue
        if node.op_type == "Concat" and node.attribute[0].i not in (1, -1):
            continue
        (name,) = node.output
        together[name] = list(node.input)
        graph.node.remove(node)
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, len(node.input)]))
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.input if item.name not in used]:
        graph.input.remove(item)
    helper.set_model_props(model, {JOINED: json.dumps(together)})
