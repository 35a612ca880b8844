"""A tree ensemble as arrays, as it is kept in trees.npz: taken out of an exported pipeline, with what comes before the trees.

A task reads it with numpy alone; only the audit needs onnx, to take the trees out.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

# Metadata of an exported model: input name to the features that it joins, as JSON.
JOINED = "almanac.joined"
NODES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
# What an ensemble of ONNX may apply to its sums; scikit-learn's own also LOG.
LINKS = ("NONE", "LOGISTIC", "SOFTMAX")
LEAF, LEQ = b"LEAF", b"BRANCH_LEQ"


class Unsupported(ValueError):
    """A pipeline whose trees onnxruntime keeps, because of the named part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Trees over a matrix of float32 columns. A row goes from a node to `yes` if its value is at most the threshold, or to `no`.

    Args:
        roots: the node of each tree's root, int32, of shape (trees,).
        feature: the column that a node compares, int32, of shape (nodes,); -1 for a leaf.
        threshold: float32, of shape (nodes,).
        missing: whether NaN goes to `yes`, bool, of shape (nodes,).
        group: a node's group of categories, int32, of shape (nodes,); -1 if it compares with its threshold. A row goes to `yes`
            if its value is one of the categories, else to `no`.
        members: the categories of each group, padded with NaN, float32, of shape (groups, categories).
        yes, no: a node's children, int32, of shape (nodes,).
        values: what a leaf adds to each output, float64, of shape (nodes, outputs).
        base: what the outputs begin with, float64, of shape (outputs,).
        link: what is applied to the sums: one of LINKS, or LOG.
        binary: whether the one output is the probability of the second of two classes.
    """

    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    missing: npt.NDArray[np.bool_]
    yes: npt.NDArray[np.int32]
    no: npt.NDArray[np.int32]
    values: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]
    group: npt.NDArray[np.int32]
    members: npt.NDArray[np.float32]
    link: str
    binary: bool

    def linked(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The output, of shape (rows, outputs); two if it is binary. `sums`: of the leaves, of shape (outputs, rows)."""
        found = _linked(self.link, sums)
        return (np.concatenate([1 - found, found]) if self.binary else found).T


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """An exported pipeline, cut before its trees.

    Args:
        parts: where the columns of the trees' matrix come from, from left to right: the names of features as they are, or None
            for the next output of `before`.
        before: what onnxruntime computes first, as ONNX; empty if the trees read features alone.
    """

    ensemble: Ensemble
    parts: tuple[tuple[str, ...] | None, ...]
    before: bytes = b""

    def packed(self) -> bytes:
        """As the bytes of trees.npz."""
        arrays = {field.name: getattr(self.ensemble, field.name) for field in fields(Ensemble)}
        body = io.BytesIO()
        np.savez_compressed(body, **arrays, parts=json.dumps(self.parts), before=np.frombuffer(self.before, np.uint8))
        return body.getvalue()

    @classmethod
    def unpacked(cls, body: bytes) -> Cut:
        """Raises: ValueError, KeyError: the bytes are not such a file."""
        with np.load(io.BytesIO(body), allow_pickle=False) as found:
            arrays: dict[str, Any] = {field.name: found[field.name] for field in fields(Ensemble)}
            arrays |= {"link": str(arrays["link"]), "binary": bool(arrays["binary"])}
            parts = tuple(None if part is None else tuple(part) for part in json.loads(str(found["parts"])))
            return cls(ensemble=Ensemble(**arrays), parts=parts, before=found["before"].tobytes())


def _linked(link: str, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if link == "LOGISTIC":
        with np.errstate(over="ignore"):  # of a large negative sum, whose probability is 0
            return np.asarray(1 / (1 + np.exp(-sums)))
    if link == "LOG":
        return np.asarray(np.exp(sums))
    if link == "SOFTMAX":
        found = np.exp(sums - sums.max(axis=0))
        return np.asarray(found / found.sum(axis=0))
    return sums


def cut(exported: bytes, wanted: str) -> Cut | None:
    """Cuts an exported pipeline before the trees that make its output `wanted`; None if it has no trees. Raises: Unsupported."""
    import onnx

    model = onnx.load_from_string(exported)
    trees = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    if not trees:
        return None
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers[wanted]
    while node.op_type == "Identity":
        wanted, node = node.input[0], makers[node.input[0]]
    if len(trees) > 1 or node is not trees[0] or node.op_type not in NODES or wanted != node.output[-1]:
        raise Unsupported(f"expected the scores of one tree ensemble, got those of {len(trees)} and {node.op_type} after them")
    joined = {key: value for item in model.metadata_props if item.key == JOINED for key, value in json.loads(item.value).items()}
    given = {item.name: tuple(joined.get(item.name, [item.name])) for item in model.graph.input}
    names = _side_by_side(node.input[0], makers)
    made = [name for name in names if name not in given]
    return Cut(
        ensemble=_ensemble(node),
        parts=tuple(given.get(name) for name in names),
        before=_before(model, made, joined) if made else b"",
    )


def _side_by_side(name: str, makers: Mapping[str, Any]) -> list[str]:
    """The parts that a matrix was concatenated from, from left to right."""
    maker = makers.get(name)
    return list(maker.input) if maker is not None and maker.op_type == "Concat" and maker.attribute[0].i in (1, -1) else [name]


def _before(model: Any, made: Sequence[str], joined: Mapping[str, Sequence[str]]) -> bytes:
    """The part of an exported pipeline that makes some of its inner columns, float32, as ONNX."""
    from onnx import TensorProto, helper

    graph, needed = model.graph, set(made)
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    part = helper.make_graph(
        nodes[::-1],
        "before",
        [item for item in graph.input if item.name in needed],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made],
        [item for item in graph.initializer if item.name in needed],
    )
    found = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    helper.set_model_props(found, {JOINED: json.dumps({name: joined[name] for name in sorted(needed & joined.keys())})})
    return bytes(found.SerializeToString())


def _ensemble(node: Any) -> Ensemble:
    from almanac.model.linear import attributes

    settings = attributes(node)
    modes = np.array(settings["nodes_modes"])
    link, aggregate = (
        settings.get(key, default).decode() for key, default in (("post_transform", b"NONE"), ("aggregate_function", b"SUM"))
    )
    strange = sorted(one.decode() for one in {*modes.tolist()} - {LEAF, LEQ})
    if strange or link not in LINKS or aggregate != "SUM":
        raise Unsupported(f"its trees have {', '.join([*strange, link, aggregate])}")
    places = {pair: place for place, pair in enumerate(zip(settings["nodes_treeids"], settings["nodes_nodeids"], strict=True))}
    leaf = modes == LEAF

    def children(key: str) -> npt.NDArray[np.int32]:
        pairs = zip(settings["nodes_treeids"], settings[key], leaf, strict=True)
        return np.array([-1 if ends else places[tree, child] for tree, child, ends in pairs], dtype=np.int32)

    yes, no = children("nodes_truenodeids"), children("nodes_falsenodeids")
    values, binary = _values(node, settings, places)
    inner = np.concatenate([yes[~leaf], no[~leaf]])
    return Ensemble(
        roots=np.setdiff1d(np.arange(len(leaf)), inner).astype(np.int32),
        feature=np.where(leaf, -1, settings["nodes_featureids"]).astype(np.int32),
        threshold=np.array(settings["nodes_values"], dtype=np.float32),
        missing=np.array(settings.get("nodes_missing_value_tracks_true") or np.zeros(len(leaf)), dtype=bool),
        yes=yes,
        no=no,
        values=values,
        group=np.full(len(leaf), -1, np.int32),
        members=np.empty((0, 0), np.float32),
        base=np.array(settings.get("base_values") or np.zeros(values.shape[1]), dtype=np.float64),
        link=link,
        binary=binary,
    )


def _values(node: Any, settings: dict[str, Any], places: dict[tuple[int, int], int]) -> tuple[npt.NDArray[np.float64], bool]:
    """What each node adds to each output, and whether the one output stands for the second of two classes."""
    of_classes = node.op_type == "TreeEnsembleClassifier"
    kind = "class" if of_classes else "target"
    ids = np.array(settings[f"{kind}_ids"])
    labels = settings.get("classlabels_int64s") or settings.get("classlabels_strings") or ()
    binary = of_classes and len(labels) == 2 and len(set(ids.tolist())) == 1
    outputs = 1 if binary else len(labels) if of_classes else int(settings["n_targets"])
    weights = np.array(settings[f"{kind}_weights"], dtype=np.float32).astype(np.float64)
    if len(settings.get("base_values") or ()) not in (0, outputs):
        raise Unsupported(f"its trees have {len(settings['base_values'])} base values for {outputs} outputs")
    if binary and settings.get("post_transform", b"NONE") == b"NONE" and (weights < 0).any():
        raise Unsupported("its trees give a class weights below 0")  # then onnxruntime's outputs are no probabilities
    values = np.zeros((len(places), outputs))
    nodes = np.array([places[pair] for pair in zip(settings[f"{kind}_treeids"], settings[f"{kind}_nodeids"], strict=True)])
    np.add.at(values, (nodes, np.zeros_like(ids) if binary else ids), weights)
    return values, binary
