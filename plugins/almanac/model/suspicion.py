"""What each feature tells of the label by itself, on the holdout: the evidence from which `core.suspicion` finds leaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from almanac.core import suspicion
from almanac.core.suspicion import Evidence, Sign, Suspect
from almanac.core.target import BINARY, REGRESSION, Target
from almanac.core.window import LABEL
from almanac.model import importance
from almanac.model.reports import VERDICTS
from almanac.model.training import Fitted, codes, metrics, predict

Values = np.ndarray[Any, np.dtype[Any]]
# At most this many rows of the holdout, evenly spaced: 100 features of them take about half a second.
ROWS = 20_000


def suspects(fitted: Fitted, holdout: pd.DataFrame, features: Sequence[str]) -> tuple[Suspect, ...]:
    """The features of a candidate that look like leaks. The same rows give the same result. `holdout`: with `label`; at most
    20,000 rows of it are used, evenly spaced among those of each class.
    """
    target, rows = fitted.target, _spaced(holdout, fitted.target)
    if len(rows) < suspicion.LEAST_ROWS:
        return ()
    found = evidence(rows, features, target)
    figure = metrics(rows[LABEL], predict(fitted.model, rows[list(features)], target), target)[VERDICTS[target.kind][0]]
    varied = [name for name in features if rows[name].nunique(dropna=False) > 1]
    if len(varied) > 1 and suspicion.is_strong(figure, target) and _is_sure(figure, rows[LABEL], target):
        name, share = importance.leading(fitted, rows, features)
        found.append(Evidence(feature=name, sign=Sign.IMPORTANCE, figure=share))
    return suspicion.suspects(found, len(rows), target)


def _is_sure(figure: float, label: pd.Series[Any], target: Target) -> bool:
    """Whether a model of two classes is good beyond what few rows of one of them can do by chance."""
    if target.kind != BINARY:
        return True
    ones = int((label == 1).sum())
    return 0 < ones < len(label) and suspicion.lower_bound(figure, ones, len(label) - ones) >= suspicion.STRONG_AREA


def _spaced(holdout: pd.DataFrame, target: Target) -> pd.DataFrame:
    """At most `ROWS` rows: evenly spaced, of each class at most its share of them, so that rare classes keep their rows. A ROC
    AUC does not depend on how frequent a class is.
    """
    if len(holdout) <= ROWS:
        return holdout
    groups = [np.arange(len(holdout))]
    if target.kind != REGRESSION:
        label = holdout[LABEL].to_numpy()
        groups = [np.flatnonzero(label == one) for one in pd.unique(label)]
    most = ROWS // len(groups)
    kept = [one if len(one) <= most else one[np.arange(most) * len(one) // most] for one in groups]
    return holdout.iloc[np.sort(np.concatenate(kept))]


def evidence(holdout: pd.DataFrame, features: Sequence[str], target: Target) -> list[Evidence]:
    """What each feature's value tells of the label, and being null where some values are; nothing of a feature with one value.

    Nulls rank lowest or highest, whichever tells more. Infinities rank as the largest float32.
    """
    rows = _spaced(holdout, target)
    # A feature is a row here, so that its values lie together.
    given = np.ascontiguousarray(rows[list(features)].to_numpy(dtype=np.float32).T)
    largest = np.finfo(np.float32).max
    nulls = np.isnan(given)
    values = np.clip(given, -largest, largest)
    varied = (values != values[:, :1]).any(axis=1) & ~nulls.all(axis=1)
    kept = [name for name, one in zip(features, varied, strict=True) if one]
    nulls = nulls[varied]
    # Nulls rank highest, each the same; ranks of the others do not depend on them.
    high = stats.rankdata(np.where(nulls, np.inf, values[varied]), axis=1)
    count = nulls.sum(axis=1, keepdims=True)
    low = np.where(nulls, (count + 1) / 2, high + count)
    if target.kind == REGRESSION:
        return [*_correlated(kept, high, low, rows[LABEL].to_numpy()), *_told_by_nulls(kept, nulls, rows[LABEL].to_numpy())]
    label = rows[LABEL].to_numpy() if target.kind == BINARY else codes(rows[LABEL], target)
    found: list[Evidence] = []
    for place, one in [(1, "")] if target.kind == BINARY else list(enumerate(map(str, target.classes))):
        found += _areas(kept, high, low, nulls, label == place, one)
    return found


def _areas(names: Sequence[str], high: Values, low: Values, nulls: Values, truth: Values, told: str) -> Iterator[Evidence]:
    """The ROC AUC of each feature's values, and of its nulls, for one class against the others."""
    ones, zeros = int(truth.sum()), int((~truth).sum())
    if not ones or not zeros:
        return
    areas = np.maximum(*(_both_ways(ranks[:, truth].sum(axis=1), ones, zeros) for ranks in (high, low)))
    shares = [nulls[:, side].mean(axis=1) for side in (truth, ~truth)]
    of_nulls = 0.5 + np.abs(shares[0] - shares[1]) / 2
    for name, area, missing, null in zip(names, areas, of_nulls, nulls, strict=True):
        yield Evidence(feature=name, sign=Sign.VALUE, figure=float(area), sides=(ones, zeros), told=told)
        if null.any():
            yield Evidence(feature=name, sign=Sign.NULLS, figure=float(missing), sides=(ones, zeros), told=told)


def _both_ways(ranks: Values, ones: int, zeros: int) -> Values:
    """The ROC AUC from the sum of ranks of the rows with label 1 (Mann-Whitney), or that of the opposite order if larger."""
    area = (ranks - ones * (ones + 1) / 2) / (ones * zeros)
    return np.asarray(np.clip(np.maximum(area, 1 - area), 0.5, 1.0))


def _correlated(names: Sequence[str], high: Values, low: Values, label: Values) -> Iterator[Evidence]:
    """Spearman's rank correlation of each feature with a regression's label, without its sign."""
    truth = stats.rankdata(label)
    truth -= truth.mean()
    best = np.zeros(len(names))
    for ranks in (high, low):
        centred = ranks - ranks.mean(axis=1, keepdims=True)
        scale = np.sqrt((centred**2).sum(axis=1) * (truth**2).sum())
        best = np.maximum(best, np.abs(np.divide(centred @ truth, scale, out=np.zeros(len(names)), where=scale > 0)))
    for name, one in zip(names, best, strict=True):
        yield Evidence(feature=name, sign=Sign.VALUE, figure=float(min(one, 1.0)))


def _told_by_nulls(names: Sequence[str], nulls: Values, label: Values) -> Iterator[Evidence]:
    """How well a regression's label divides the rows in which a feature is null from the others."""
    truth = stats.rankdata(label)
    for name, missing in zip(names, nulls, strict=True):
        sides = int(missing.sum()), int((~missing).sum())
        if all(sides):
            area = _both_ways(truth[missing].sum(), *sides)
            yield Evidence(feature=name, sign=Sign.NULLS, figure=float(area), sides=sides)
