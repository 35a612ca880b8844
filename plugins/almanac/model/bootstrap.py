"""The gain on a resample of the holdout's rows, by metric: the gate's bootstrap computes it a thousand times.

Whatever a metric needs from all rows is computed once. A loss is a mean over rows, so each row's part is computed once; an area
depends only on the order of scores, so scores are ranked once and a resample only counts its ranks. A test checks each against
`training.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from almanac.core.target import BINARY, REGRESSION, Target
from almanac.model.training import TINY, codes, log_losses

Column = np.ndarray[Any, np.dtype[Any]]
# The gain on a resample of the columns; NaN if the resample has none.
Gain = Callable[..., float]


def prepared(label: Column, candidate: Column, champion: Column, metric: str, target: Target) -> tuple[tuple[Column, ...], Gain]:
    """The columns to resample, all of the same length, and the gain on a resample: more is better for the candidate."""
    if target.kind == REGRESSION:
        return _of_values(label, candidate, champion, metric)
    if metric in ("log_loss", "brier_score", "accuracy"):
        return tuple(_parts(metric, label, scores, target) for scores in (candidate, champion)), _less
    if metric == "f1_macro":
        return _of_decisions(codes(label, target), candidate.argmax(axis=1), champion.argmax(axis=1), len(target.classes))
    truth = label.astype(np.int64) if target.kind == BINARY else codes(label, target)
    return _of_areas(truth, candidate, champion, _average_precision if metric == "average_precision" else _roc_auc)


def _less(new: Column, old: Column) -> float:
    """How much lower the candidate's mean loss is."""
    return float(old.mean() - new.mean())


def _parts(metric: str, label: Column, scores: Column, target: Target) -> Column:
    """Each row's part of a mean to be minimised: the Brier score, the log loss (nats), or the share of wrong classes."""
    if metric == "brier_score":
        return np.asarray((scores - label) ** 2)
    if metric == "accuracy":
        return np.asarray(scores.argmax(axis=1) != codes(label, target), dtype=np.float64)
    if target.kind == BINARY:
        bounded = np.clip(scores, TINY, 1 - TINY)
        return np.asarray(-np.where(label == 1, np.log(bounded), np.log1p(-bounded)))
    return log_losses(codes(label, target), scores)


def _of_values(label: Column, candidate: Column, champion: Column, metric: str) -> tuple[tuple[Column, ...], Gain]:
    """For a regression: mean absolute error, root mean square error, or R2, the explained share of the label's variance."""
    errors = [np.asarray(scores - label, dtype=np.float64) for scores in (candidate, champion)]
    if metric == "mae":
        return tuple(np.abs(error) for error in errors), _less
    squares = tuple(error**2 for error in errors)
    if metric == "rmse":
        return squares, lambda new, old: float(np.sqrt(old.mean()) - np.sqrt(new.mean()))

    def explained(truth: Column, new: Column, old: Column) -> float:
        if np.ptp(truth) == 0:
            return float("nan")
        return float((old.sum() - new.sum()) / ((truth - truth.mean()) ** 2).sum())

    return (label.astype(np.float64), *squares), explained


def _of_decisions(truth: Column, new: Column, old: Column, size: int) -> tuple[tuple[Column, ...], Gain]:
    """F1, averaged over classes. A row is one of `size` times `size` pairs of true and predicted class."""

    def f1(pair: Column) -> float:
        matrix = np.bincount(pair, minlength=size * size).reshape(size, size)
        right, all_of = np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1)
        return float((2 * right[all_of > 0] / all_of[all_of > 0]).mean())

    return (truth * size + new, truth * size + old), lambda one, other: f1(one) - f1(other)


def _of_areas(truth: Column, candidate: Column, champion: Column, area: Gain) -> tuple[tuple[Column, ...], Gain]:
    """The positive class's area, or the mean of the one-vs-rest areas. `truth` is 0 or 1, or a class's position."""
    places = range(candidate.shape[1]) if candidate.ndim == 2 else [1]
    columns = [column for scores in (candidate, champion) for column in scores.reshape(len(scores), len(places)).T]
    ranked = [np.unique(column, return_inverse=True) for column in columns]
    sizes = [len(values) for values, _ in ranked]
    half = len(places)

    def gain(labels: Column, *ranks: Column) -> float:
        areas = [
            area((labels == places[number % half]).astype(np.int64), rank, size)
            for number, (rank, size) in enumerate(zip(ranks, sizes, strict=True))
        ]
        return float(np.mean(areas[:half]) - np.mean(areas[half:]))

    return (truth, *(rank for _, rank in ranked)), gain


def _counts(truth: Column, rank: Column, size: int) -> tuple[Column, Column]:
    """By rank: rows of the positive class, rows of the negative one."""
    positive = np.bincount(rank[truth == 1], minlength=size)
    return positive, np.bincount(rank, minlength=size) - positive


def _roc_auc(truth: Column, rank: Column, size: int) -> float:
    """The share of pairs in which the positive row ranks higher; a tie counts half. NaN if there is no pair."""
    positive, negative = _counts(truth, rank, size)
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


def _average_precision(truth: Column, rank: Column, size: int) -> float:
    """The precision at each threshold, weighted by the recall that it adds. NaN if a class is missing."""
    positive, negative = (counts[::-1] for counts in _counts(truth, rank, size))
    if not positive.sum() or not negative.sum():
        return float("nan")
    found = np.cumsum(positive)
    precision = found / np.maximum(found + np.cumsum(negative), 1)
    return float((positive * precision).sum() / positive.sum())
