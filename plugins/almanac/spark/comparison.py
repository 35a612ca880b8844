"""What the gate's policy asks of a holdout beyond its metrics: how sure a gain is, and how parts of the holdout fare.

A resample of the holdout's rows is taken for candidate and version in force alike (a paired bootstrap), so that what makes
a row hard for both does not hide the difference between them. `scipy.stats.bootstrap`, its percentile method, one-sided.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from almanac.core.gate import LOWER_IS_BETTER, Bound, Gate, Slice, SliceFigure
from almanac.errors import DescriptionError, examples
from almanac.spark.training import LABEL, metrics

RESAMPLES = 1000
# Of the holdout at most so many rows are resampled, evenly spaced: that bounds time and memory, not what is measured.
MOST_ROWS = 50_000
# A resample whose rows have one class has no ROC AUC; with more such than this there is no bound either.
MOST_LEFT_OUT = RESAMPLES // 10
SEED = 20170601
BATCH_CELLS = 1_000_000
MOST_VALUES = 20
SCORE = "score"
TINY = np.finfo(np.float64).eps

Column = np.ndarray[Any, np.dtype[Any]]
Statistic = Callable[..., float]


def bound(label: Any, candidate: Any, champion: Any, gate: Gate) -> Bound:
    """The lower bound of the candidate's gain in the gate's metric, at the gate's one-sided confidence.

    `label`, `candidate` and `champion` are columns of the same rows in the same order: 0 or 1, and two scores. The same
    columns give the same bound.
    """
    rows = _spaced(len(label))
    truth, new, old = (np.asarray(column)[rows] for column in (label, candidate, champion))
    columns, statistic = _prepared(truth, new, old, gate.metric)
    if len(rows) < 2:
        return Bound(rows=len(rows), obstacle=f"the holdout has {len(rows)} rows")
    with warnings.catch_warnings():
        # Of resamples that have no figure: they are counted below.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            columns,
            statistic,
            paired=True,
            vectorized=False,
            method="percentile",
            alternative="greater",
            confidence_level=gate.confidence,
            n_resamples=RESAMPLES,
            batch=max(1, BATCH_CELLS // len(rows)),
            rng=np.random.default_rng(SEED),
        )
    gains = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    if RESAMPLES - len(gains) > MOST_LEFT_OUT:
        told = f"{RESAMPLES - len(gains)} of {RESAMPLES} resamples of {len(rows)} rows have one class alone"
        return Bound(rows=len(rows), resamples=len(gains), obstacle=told)
    # With a resample left out, the bound is that of the others, by the same method.
    low = found.confidence_interval.low if len(gains) == RESAMPLES else np.quantile(gains, 1 - float(gate.confidence or 0.5))
    return Bound(gain_at=float(low), rows=len(rows), resamples=len(gains))


def _spaced(rows: int) -> Column:
    return np.arange(rows) if rows <= MOST_ROWS else np.arange(MOST_ROWS) * rows // MOST_ROWS


def _prepared(label: Column, candidate: Column, champion: Column, metric: str) -> tuple[tuple[Column, ...], Statistic]:
    """The columns to resample and the gain of a resample.

    Both losses are means over rows, so each row's loss is taken once; both areas depend on the order of scores alone, so
    scores are ranked once and a resample only counts its ranks.
    """
    if metric in LOWER_IS_BETTER:
        losses = tuple(_losses(metric, label, score) for score in (candidate, champion))
        return losses, lambda new, old: float(old.mean() - new.mean())
    area = _roc_auc if metric == "roc_auc" else _average_precision
    ranks = [np.unique(score, return_inverse=True) for score in (candidate, champion)]
    sizes = [len(values) for values, _ in ranks]

    def gain(truth: Column, new: Column, old: Column) -> float:
        return area(truth, new, sizes[0]) - area(truth, old, sizes[1])

    return (label.astype(np.int64), *(rank for _, rank in ranks)), gain


def _losses(metric: str, label: Column, score: Column) -> Column:
    """Each row's part of the log loss (nats) or the Brier score."""
    if metric == "brier_score":
        return np.asarray((score - label) ** 2)
    bounded = np.clip(score, TINY, 1 - TINY)
    return np.asarray(-np.where(label == 1, np.log(bounded), np.log1p(-bounded)))


def _counts(truth: Column, rank: Column, size: int) -> tuple[Column, Column]:
    """By rank: rows of the positive class, rows of the negative one."""
    positive = np.bincount(rank[truth == 1], minlength=size)
    return positive, np.bincount(rank, minlength=size) - positive


def _roc_auc(truth: Column, rank: Column, size: int) -> float:
    """The share of pairs in which the positive row ranks higher; a tie counts half. NaN when there is no pair."""
    positive, negative = _counts(truth, rank, size)
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


def _average_precision(truth: Column, rank: Column, size: int) -> float:
    """The precision at each threshold, weighted by the recall that it adds. NaN when a class is missing."""
    positive, negative = (counts[::-1] for counts in _counts(truth, rank, size))
    if not positive.sum() or not negative.sum():
        return float("nan")
    found = np.cumsum(positive)
    precision = found / np.maximum(found + np.cumsum(negative), 1)
    return float((positive * precision).sum() / positive.sum())


def slices(holdout: pd.DataFrame, gate: Gate, features: Sequence[str], period: str) -> tuple[SliceFigure, ...]:
    """The candidate's figure in the gate's metric for each value of each slice's feature; null is a value of its own.

    `holdout` has the features as float32, `label` and the candidate's `score`.

    Raises:
        DescriptionError: a slice's feature is not one of the candidate's, or has too many values.
    """
    return tuple(figure for part in gate.slices for figure in _slice(holdout, part, gate.metric, features, period))


def _slice(holdout: pd.DataFrame, part: Slice, metric: str, features: Sequence[str], period: str) -> list[SliceFigure]:
    if part.by not in features:
        raise DescriptionError(
            f"Slice.by: found {part.by!r}, allowed is a feature of the candidate ({examples(features, 20)}). Change the Slice."
        )
    values = holdout[part.by]
    if (found := values.nunique(dropna=False)) > MOST_VALUES:
        raise DescriptionError(
            f"Slice.by: {part.by!r} has {found} values on the holdout {period}, allowed are at most {MOST_VALUES}. Slice by a "
            "feature of few values."
        )
    known = [(f"{value:g}", values == value) for value in sorted(values.dropna().unique())]
    parts = [*known, ("null", values.isna())] if values.isna().any() else known
    return [_figure(holdout[rows], part, name, metric) for name, rows in parts]


def _figure(rows: pd.DataFrame, part: Slice, value: str, metric: str) -> SliceFigure:
    count = f"{len(rows)} rows"
    if len(rows) < part.minimum_rows:
        return SliceFigure(by=part.by, value=value, rows=len(rows), obstacle=f"{count}, {part.minimum_rows} are needed")
    if rows[LABEL].nunique() < 2:
        return SliceFigure(by=part.by, value=value, rows=len(rows), obstacle=f"{count} of one class")
    return SliceFigure(by=part.by, value=value, rows=len(rows), figure=metrics(rows[LABEL], rows[SCORE])[metric])
