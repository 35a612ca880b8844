"""The trees of scikit-learn's HistGradientBoosting estimators, read from their own nodes.

The exporter rounds what they hold to float32, and exports splits by category wrongly without an error. Read here, the trees give
scikit-learn's own scores. Nodes are private to scikit-learn: whoever uses this compares the scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from almanac.model.trees import Ensemble, Unsupported

# The class of scikit-learn's link, and the ensemble's name of it.
LINKS = {"IdentityLink": "NONE", "LogLink": "LOG", "LogitLink": "LOGISTIC", "MultinomialLogit": "SOFTMAX"}


def last_of(model: Any) -> Any:
    """The estimator that a fitted pipeline ends with; None if it is no HistGradientBoosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return model if isinstance(model, HistGradientBoostingClassifier | HistGradientBoostingRegressor) else None


def read(estimator: Any) -> Ensemble:
    """Raises: Unsupported; AttributeError, KeyError, if scikit-learn's own names have changed."""
    link = LINKS.get(name := type(estimator._loss.link).__name__)
    if link is None:
        raise Unsupported(f"its trees have the link {name}")
    columns, categories = _columns(estimator)
    trees = [(output, tree) for round_ in estimator._predictors for output, tree in enumerate(round_)]
    sizes = [len(tree.nodes) for _, tree in trees]
    begins = np.cumsum([0, *sizes[:-1]])
    nodes = np.concatenate([tree.nodes for _, tree in trees])
    begin_of = np.repeat(begins, sizes)
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64) + begin_of).astype(np.int32) for side in ("left", "right"))
    missing = nodes["missing_go_to_left"].astype(bool) & ~leaf
    values = np.zeros((len(nodes), len(estimator._predictors[0])))
    outputs = np.repeat([output for output, _ in trees], sizes)
    values[leaf, outputs[leaf]] = nodes["value"][leaf]

    members: list[npt.NDArray[np.float32]] = []
    group = np.full(len(nodes), -1, np.int32)
    for place in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf):
        _, tree = trees[np.searchsorted(begins, place, side="right") - 1]
        known = categories[int(nodes["feature_idx"][place])]
        goes_left = _bits(tree.raw_left_cat_bitsets[nodes["bitset_idx"][place]])[: len(known)]
        # A null and an unknown category go where `missing` says, so the categories that go the other way are named.
        if missing[place]:
            left[place], right[place], missing[place], goes_left = right[place], left[place], False, ~goes_left
        group[place] = len(members)
        members.append(known[goes_left])
    return Ensemble(
        roots=begins.astype(np.int32),
        feature=np.where(leaf, -1, columns[nodes["feature_idx"]]).astype(np.int32),
        threshold=_below(nodes["num_threshold"]),
        missing=missing,
        yes=left,
        no=right,
        values=values,
        base=np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1),
        link=link,
        binary=link == "LOGISTIC",
        group=group,
        members=_padded(members),
    )


def _columns(estimator: Any) -> tuple[npt.NDArray[np.intp], dict[int, npt.NDArray[np.float32]]]:
    """The column of its input that each of its own features is, and the known categories of those that are categories."""
    categorical = estimator.is_categorical_
    if categorical is None:
        return np.arange(estimator.n_features_in_), {}
    known = estimator._preprocessor.named_transformers_["encoder"].categories_
    finite = (np.asarray(values, dtype=np.float32) for values in known)
    # Categories come first among its own features.
    columns = np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])
    return columns, {number: values[~np.isnan(values)] for number, values in enumerate(finite)}


def _below(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above a threshold: of float32 values, the same ones are at most that."""
    with np.errstate(over="ignore"):
        found = thresholds.astype(np.float32)
    return np.where(found > thresholds, np.nextafter(found, np.float32(-np.inf)), found)


def _bits(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    return np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").astype(bool)


def _padded(rows: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    found = np.full((len(rows), max(map(len, rows), default=0)), np.nan, np.float32)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found
