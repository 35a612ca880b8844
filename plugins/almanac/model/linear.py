"""A linear model over concatenated columns, rewritten as a sum of the shares of its parts.

The exporter concatenates encoded columns, one-hot ones too, before a linear model: most of the time goes into copying zeros. Here
each part is multiplied by its own rows of the weights, and a category looks its weights up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

LINEAR = ("LinearClassifier", "LinearRegressor")
# What a linear node applies to its sums, and the operator that does the same.
AFTER = {"NONE": "Identity", "LOGISTIC": "Sigmoid", "SOFTMAX": "Softmax"}
ML, LOOKUPS = "ai.onnx.ml", 2  # the domain, and its version whose LabelEncoder maps numbers to numbers
SAME_TYPE = ("Gather", "Imputer", "Scaler", "Identity")  # floats in, floats out


def take_apart(model: Any, wanted: str) -> None:
    """Splits an exported pipeline's linear model into parts, in place, if `wanted` is its output; leaves any other as it is.

    The sums are those of the linear node, in float32. Of the graph's outputs only `wanted` is left.
    """
    graph = _Graph(model)
    given = graph.linear(wanted)
    if given is None:
        return
    node = graph.makers[given]
    settings = attributes(node)
    bias = np.array(settings["intercepts"], dtype=np.float32)
    weights = np.array(settings["coefficients"], dtype=np.float32).reshape(len(bias), -1).T
    after = AFTER.get(settings.get("post_transform", b"NONE").decode())
    parts = list(graph.side_by_side(node.input[0]))
    widths = _widths([graph.width(part) for part in parts], len(weights))
    if after is None or widths is None or len(parts) < 2 or len(settings.get("classlabels_ints", bias)) != len(bias):
        return
    shares = np.split(weights, np.cumsum(widths)[:-1])
    total = graph.constant(bias)
    for part, share in zip(parts, shares, strict=True):
        total = graph.add("Add", [total, graph.share(part, share)])
    graph.replace(given, after, total)
    graph.keep(wanted)


def attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _widths(known: list[int | None], total: int) -> list[int] | None:
    """The columns of each part. One width may be unknown: it is what the others leave. None if the widths do not add up."""
    left = total - sum(width or 0 for width in known)
    if known.count(None) > 1 or (left > 0) != (None in known) or left < 0:
        return None
    return [left if width is None else width for width in known]


class _Graph:
    """A graph that is being rewritten: its nodes by output, and its constants."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self._model, self._graph = model, model.graph
        self.makers = {name: node for node in self._graph.node for name in node.output}
        self._constants = {item.name: numpy_helper.to_array(item) for item in self._graph.initializer}
        self._inputs = {item.name: item.type.tensor_type.shape.dim[1].dim_value for item in self._graph.input}

    def linear(self, wanted: str) -> str | None:
        """The output of the linear node behind `wanted`: `wanted` itself, or what a Normalizer turns into it; else None."""
        node = self.makers[wanted]
        if node.op_type == "Normalizer" and node.input[0] in self.makers:
            wanted, node = node.input[0], self.makers[node.input[0]]
        return wanted if node.op_type in LINEAR else None

    def side_by_side(self, name: str) -> Iterator[str]:
        """The parts that a matrix was concatenated from, from left to right."""
        node = self.makers.get(name)
        if node is not None and node.op_type == "Concat" and attributes(node)["axis"] in (1, -1):
            for part in node.input:
                yield from self.side_by_side(part)
        elif node is not None and node.op_type == "Reshape" and self._flattens(node):
            yield from self.side_by_side(node.input[0])
        else:
            yield name

    def _flattens(self, node: Any) -> bool:
        """Whether a Reshape only drops the middle of (rows, 1, columns), the shape of one-hot columns."""
        shape = self._constants.get(node.input[1], np.zeros(0))
        return shape.shape == (2,) and shape[0] == -1 and all(map(self._categories, self.side_by_side(node.input[0])))

    def _categories(self, name: str) -> list[int]:
        """The categories of a part that is one one-hot encoded column; empty for any other part."""
        node = self.makers.get(name)
        return list(attributes(node).get("cats_int64s", ())) if node is not None and node.op_type == "OneHotEncoder" else []

    def width(self, name: str) -> int | None:
        """The number of columns of a part; None if the node that makes it does not say."""
        if categories := self._categories(name):
            return len(categories)
        if name in self._inputs:
            return int(self._inputs[name])
        settings = attributes(self.makers[name])
        found = [len(settings[key]) for key in ("scale", "imputed_value_floats") if key in settings]
        return found[0] if found and found[0] > 1 else None  # one number stands for all columns

    def share(self, part: str, weights: npt.NDArray[np.float32]) -> str:
        """A part's share of the sums, of shape (rows, sums)."""
        if not (categories := self._categories(part)):
            return self.add("MatMul", [part, self.constant(weights)])
        rows = np.vstack([weights, np.zeros_like(weights[:1])])  # the last one is for unseen categories
        places: dict[str, Any] = {
            "keys_floats": [float(one) for one in categories],
            "values_int64s": range(len(categories)),
            "default_int64": len(categories),
        }
        place = self.add("LabelEncoder", [self._float(self.makers[part].input[0])], domain=ML, **places)
        looked_up = self.add("Gather", [self.constant(rows), place], axis=0)
        return self.add("Reshape", [looked_up, self.constant(np.array([-1, weights.shape[1]]))])

    def _float(self, name: str) -> str:
        """A column before the exporter cast it to whole numbers, which would turn 0.5 into category 0."""
        from onnx import TensorProto

        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Cast" and self._is_float(maker.input[0]):
            return str(maker.input[0])
        return self.add("Cast", [name], to=TensorProto.FLOAT)

    def _is_float(self, name: str) -> bool:
        maker = self.makers.get(name)
        return name in self._inputs or (maker is not None and maker.op_type in SAME_TYPE and self._is_float(maker.input[0]))

    def constant(self, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"apart.constant{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, inputs: list[str], name: str = "", domain: str = "", **settings: Any) -> str:
        from onnx import helper

        name = name or f"apart.{len(self._graph.node)}"
        self._graph.node.append(helper.make_node(operator, inputs, [name], domain=domain, **settings))
        return name

    def replace(self, name: str, operator: str, total: str) -> None:
        """Replaces a linear node by an operator with the same output, placed before the nodes that read it."""
        takers = [node for node in self._graph.node if name in node.input]
        for node in (self.makers[name], *takers):
            self._graph.node.remove(node)
        self.add(operator, [total], name)
        self._graph.node.extend(takers)

    def keep(self, wanted: str) -> None:
        """Removes everything that `wanted` does not need."""
        from onnx.utils import Extractor

        for item in self._model.opset_import:
            if item.domain == ML:
                item.version = max(item.version, LOOKUPS)
        self._graph.CopyFrom(Extractor(self._model).extract_model(list(self._inputs), [wanted]).graph)
