"""The report of a candidate, in figures and plain words, which is kept with the version."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from almanac.core import suspicion
from almanac.core.suspicion import Suspect
from almanac.core.target import BINARY, MULTICLASS, REGRESSION, Target
from almanac.core.window import LABEL
from almanac.model.bundles import Scores
from almanac.model.training import Fitted, codes, metrics, predict, weights

# By kind: the metric of the verdict and its name, then the thresholds of "variance" (the loss from training to holdout) and
# "bias" (the figure in training). Two classes of equal size that a ROC AUC of 0.65 tells apart (Cohen's d 0.54) have
# an R2 of 0.07, and a fall from 0.80 to 0.75 in ROC AUC is one from 0.26 to 0.19 in R2.
VERDICTS = {
    BINARY: ("roc_auc", "ROC AUC", 0.05, 0.65),
    MULTICLASS: ("roc_auc_ovr", "one-vs-rest ROC AUC", 0.05, 0.65),
    REGRESSION: ("r2", "R2", 0.08, 0.07),
}
DECILES = 10
QUANTILES = (0.1, 0.5, 0.9)


def report(
    fitted: Fitted,
    training: pd.DataFrame,
    holdout: pd.DataFrame,
    features: Sequence[str],
    suspects: Sequence[Suspect] = (),
) -> dict[str, Any]:
    """The report of a candidate: metrics on training and holdout, verdict, and the result of `held_against`. `suspects`: its
    features that look like leaks, which the verdict names.
    """
    target = fitted.target
    seen, unseen = (predict(fitted.model, rows[list(features)], target) for rows in (training, holdout))
    on_training = metrics(training[LABEL], seen, target, weights(training))
    on_holdout = metrics(holdout[LABEL], unseen, target)
    metric, *_ = VERDICTS[target.kind]
    return {
        "estimator": fitted.name,
        "choice": dict(fitted.choice),
        "training": {"rows": len(training), **labels(training[LABEL], target, weights(training)), "metrics": on_training},
        "holdout": {"rows": len(holdout), **labels(holdout[LABEL], target), "metrics": on_holdout},
        **held_against(holdout[LABEL].to_numpy(), unseen, target),
        "verdict": verdict(on_training[metric], on_holdout[metric], target, suspects),
    }


def labels(label: pd.Series[Any], target: Target, weight: Scores | None = None) -> dict[str, Any]:
    """A summary of labels: the share of positive ones, the share of each class, or mean and standard deviation. Sampled rows
    count with their weights.
    """
    mean = functools.partial(np.average, weights=weight)
    if target.kind == REGRESSION:
        return {"mean": float(mean(label)), "deviation": float(np.sqrt(mean((label - mean(label)) ** 2)))}
    if target.kind == MULTICLASS:
        return {"classes": {str(one): float(mean(label == one)) for one in target.classes}}
    return {"positive": float(mean(label))}


def held_against(label: Any, scores: Scores, target: Target) -> dict[str, Any]:
    """Scores compared with labels: confusion matrix and calibration (for each class if multiclass); residuals for values."""
    if target.kind == REGRESSION:
        return {"residuals": residuals(label, scores)}
    if target.kind == MULTICLASS:
        truth, places = codes(label, target), range(len(target.classes))
        matrix = confusion_matrix(truth, scores.argmax(axis=1), labels=list(places))
        return {
            "confusion_matrix": {"classes": list(target.classes), "true_by_predicted": matrix.tolist()},
            "calibration": {str(target.classes[one]): calibration(truth == one, scores[:, one]) for one in places},
        }
    matrix = confusion_matrix(label, scores >= 0.5, labels=[0, 1])
    return {
        "confusion_matrix": {
            "threshold": 0.5,
            "true_negative": int(matrix[0, 0]),
            "false_positive": int(matrix[0, 1]),
            "false_negative": int(matrix[1, 0]),
            "true_positive": int(matrix[1, 1]),
        },
        "calibration": calibration(label, scores),
    }


def calibration(label: Any, score: Any) -> list[dict[str, float]]:
    """By decile of the score, lowest first: rows, mean predicted probability, share of positives."""
    return [
        {"decile": number, "rows": len(part), "predicted": float(score[part].mean()), "observed": float(label[part].mean())}
        for number, part in _deciles(score)
    ]


def residuals(label: Any, score: Any) -> list[dict[str, float]]:
    """By decile of the prediction, lowest first: rows, mean predicted and observed value, quantiles of label minus prediction."""
    return [
        {
            "decile": number,
            "rows": len(part),
            "predicted": float(score[part].mean()),
            "observed": float(label[part].mean()),
            **{f"residual_{100 * one:.0f}": float(np.quantile(label[part] - score[part], one)) for one in QUANTILES},
        }
        for number, part in _deciles(score)
    ]


def _deciles(score: Any) -> list[tuple[int, Any]]:
    """The positions of rows by decile of their score; empty deciles are left out."""
    parts = np.array_split(np.argsort(score, kind="stable"), DECILES)
    return [(number, part) for number, part in enumerate(parts, start=1) if len(part)]


def verdict(training: float, holdout: float, target: Target, suspects: Sequence[Suspect] = ()) -> str:
    """Training compared with holdout in the kind's metric, in plain words: variance, bias or fine; but suspect if a feature looks
    like a leak, because then both figures may be worth nothing.
    """
    _, name, gap, least = VERDICTS[target.kind]
    scores = f"{name} {training:.3f} in training, {holdout:.3f} on the holdout"
    if suspects:
        return f"{suspicion.summary(suspects)}. {scores}. {suspicion.ADVICE}."
    if training - holdout > gap:
        return f"variance: {scores}; the model remembers rows that it has seen. Simplify it or give it more periods."
    if training < least:
        return f"bias: {scores}; the model does not even fit its training rows. Give it better features."
    return f"fine: {scores}."
