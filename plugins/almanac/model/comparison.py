"""What the gate's policy needs from a holdout beyond its metrics: how sure a gain is, and the metric on parts of the holdout.

Candidate and version in force get the same resample of the holdout's rows (a paired bootstrap), so that rows that are hard for
both do not hide the difference between them. `scipy.stats.bootstrap`, its percentile method, one-sided.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from almanac.core.gate import GainBound, Gate, Slice, SliceFigure
from almanac.core.target import BINARY, MULTICLASS, REGRESSION, Target
from almanac.core.window import LABEL
from almanac.errors import DescriptionError, examples
from almanac.model.bootstrap import Column, prepared
from almanac.model.training import metrics, scores_of

RESAMPLES = 1000
# At most this many rows of the holdout are resampled, evenly spaced: it bounds time and memory, not what is measured.
MOST_ROWS = 50_000
# A resample whose rows have one class has no ROC AUC; with more of these than this there is no bound.
MOST_LEFT_OUT = RESAMPLES // 10
LEFT_OUT = {BINARY: "have one class alone", MULTICLASS: "lack a class", REGRESSION: "have one value alone"}
SEED = 20170601
BATCH_CELLS = 1_000_000
MOST_VALUES = 20


def bound(label: Any, candidate: Any, champion: Any, gate: Gate, target: Target = Target()) -> GainBound:
    """The lower bound of the candidate's gain in the gate's metric, at the gate's one-sided confidence.

    `label`, `candidate` and `champion` are for the same rows in the same order: labels, and scores as `training.predict` gives
    them. The same input gives the same bound.
    """
    rows = _spaced(len(label))
    truth, new, old = (np.asarray(column)[rows] for column in (label, candidate, champion))
    columns, statistic = prepared(truth, new, old, gate.metric, target)
    if len(rows) < 2:
        return GainBound(rows=len(rows), obstacle=f"the holdout has {len(rows)} rows")
    with warnings.catch_warnings():
        # The warnings are about resamples without a figure, which are counted below.
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
        obstacle = f"{RESAMPLES - len(gains)} of {RESAMPLES} resamples of {len(rows)} rows {LEFT_OUT[target.kind]}"
        return GainBound(rows=len(rows), resamples=len(gains), obstacle=obstacle)
    # If a resample is left out, the bound comes from the others, by the same method.
    low = found.confidence_interval.low if len(gains) == RESAMPLES else np.quantile(gains, 1 - float(gate.confidence or 0.5))
    return GainBound(gain_at=float(low), rows=len(rows), resamples=len(gains))


def _spaced(rows: int) -> Column:
    return np.arange(rows) if rows <= MOST_ROWS else np.arange(MOST_ROWS) * rows // MOST_ROWS


def slices(
    holdout: pd.DataFrame, gate: Gate, features: Sequence[str], period: str, target: Target = Target()
) -> tuple[SliceFigure, ...]:
    """The candidate's figure in the gate's metric for each value of each slice's feature; null counts as a value.

    `holdout` has the features as float32, `label` and the candidate's scores in the target's columns.

    Raises:
        DescriptionError: a slice's feature is not one of the candidate's, or has too many values.
    """
    return tuple(
        _figure(rows, part, value, gate.metric, target)
        for part in gate.slices
        for value, rows in _parts(holdout, part, features, period)
    )


def _parts(holdout: pd.DataFrame, part: Slice, features: Sequence[str], period: str) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each value of a slice's feature, by the value's text."""
    if part.by not in features:
        raise DescriptionError(
            f"Slice.by: expected a feature of the candidate ({examples(features, 20)}), got {part.by!r}. Change the Slice."
        )
    values = holdout[part.by]
    if (found := values.nunique(dropna=False)) > MOST_VALUES:
        raise DescriptionError(
            f"Slice.by: expected a feature with at most {MOST_VALUES} values on the holdout {period}, got {part.by!r} with "
            f"{found}. Slice by a feature with few values."
        )
    known = [(f"{value:g}", holdout[values == value]) for value in sorted(values.dropna().unique())]
    return [*known, ("null", holdout[values.isna()])] if values.isna().any() else known


def _figure(rows: pd.DataFrame, part: Slice, value: str, metric: str, target: Target) -> SliceFigure:
    figure, obstacle = None, _obstacle(rows[LABEL], part, metric, target)
    if not obstacle:
        figure = metrics(rows[LABEL], scores_of(rows, target), target)[metric]
    return SliceFigure(by=part.by, value=value, rows=len(rows), figure=figure, obstacle=obstacle)


def _obstacle(label: pd.Series[Any], part: Slice, metric: str, target: Target) -> str:
    """Why rows with these labels cannot be judged, in plain words: too few, or of one class or value; empty if they can."""
    count, labels = f"{len(label)} rows", label.nunique()
    if len(label) < part.minimum_rows:
        return f"{count}, {part.minimum_rows} are needed"
    if target.kind == REGRESSION:
        return f"{count} of one value" if labels < 2 and metric == "r2" else ""
    if labels < 2:
        return f"{count} of one class"
    missing = [one for one in target.classes if not (label == one).any()] if metric == "roc_auc_ovr" else []
    return f"{count} without the class {examples(missing)}" if missing else ""
