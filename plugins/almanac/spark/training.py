"""Training: the best of the user's estimators, chosen on the newest training snapshot, refitted on the whole window.

Rows come sorted by (as_of, entity) and threads are pinned, so that the same rows give the same model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from almanac.errors import DataError, DescriptionError, examples

LABEL = "label"
SNAPSHOT = "snapshot"
THREADS = 1
GOLDEN_ROWS = 64
# Where "variance" and "bias" begin: a loss of ROC AUC from training to holdout, and a training ROC AUC.
VARIANCE_GAP = 0.05
BIAS_BELOW = 0.65


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A candidate.

    Args:
        name: under which the user's module gave it.
        model: fitted on the whole window.
        choice: estimator to its ROC AUC on the snapshot that chose.
    """

    name: str
    model: Any
    choice: Mapping[str, float]


def label_rows(entities: pd.DataFrame, labels: pd.DataFrame, entity: str, absent: int | None, function: str) -> pd.DataFrame:
    """The label joined to a snapshot's entities: entities in equal entities out. Adds `label`, int8.

    Raises:
        DescriptionError: the function gave no `label`, or other values than 0 and 1.
        DataError: an entity is labelled twice, or not at all where `absent` is None.
    """
    if missing := [column for column in (entity, LABEL) if column not in labels.columns]:
        raise DescriptionError(f"Function {function!r} gave no column {examples(missing)} (it gave: {examples(labels.columns)}).")
    doubled = labels.loc[labels[entity].duplicated(), entity].unique()
    if len(doubled):
        raise DataError(f"Function {function!r} labels {entity} {examples(doubled)} more than once. One row an entity is needed.")
    if strange := sorted(set(labels[LABEL].unique()) - {0, 1}, key=str):
        raise DescriptionError(f"Function {function!r} gave the label {examples(strange)}, allowed are 0 and 1.")
    joined = entities.merge(labels[[entity, LABEL]], on=entity, how="left", validate="one_to_one")
    if absent is None and joined[LABEL].isna().any():
        without = joined.loc[joined[LABEL].isna(), entity]
        raise DataError(
            f"Function {function!r} gave no label for {len(without)} entities, such as {entity} {examples(without[:6])}. "
            "Label each, or say what the others are with Label(absent=...)."
        )
    return joined.assign(**{LABEL: joined[LABEL].fillna(absent).astype("int8")})


def probability(model: Any, features: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The probability of the positive class, float64."""
    with threadpool_limits(THREADS):
        return np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)


def fit(estimators: Mapping[str, BaseEstimator], rows: pd.DataFrame, features: Sequence[str]) -> Fitted:
    """Fits all estimators on all but the newest snapshot, keeps the one with the best ROC AUC there, refits it on all.

    With a single snapshot the last quarter of its rows chooses.

    Raises:
        DescriptionError: there is no estimator, or one has no predict_proba.
    """
    if not estimators:
        raise DescriptionError("estimators() gave none. Give at least one scikit-learn classifier under a name.")
    if blind := [name for name, model in estimators.items() if not hasattr(model, "predict_proba")]:
        raise DescriptionError(f"estimators(): {examples(blind)} has no predict_proba; give classifiers that have.")
    newest = rows[SNAPSHOT] == rows[SNAPSHOT].max()
    if newest.all():
        newest = pd.Series(np.arange(len(rows)) >= len(rows) * 3 // 4, index=rows.index)
    older, chooser = rows[~newest], rows[newest]
    choice = {}
    with threadpool_limits(THREADS):
        for name, model in estimators.items():
            trial = clone(model).fit(older[list(features)], older[LABEL])
            choice[name] = _roc_auc(chooser[LABEL], probability(trial, chooser[list(features)]))
        best = max(choice, key=lambda name: choice[name])
        model = clone(estimators[best]).fit(rows[list(features)], rows[LABEL])
    return Fitted(name=best, model=model, choice=choice)


def _roc_auc(label: Any, score: Any) -> float:
    return float(roc_auc_score(label, score)) if len(np.unique(label)) > 1 else 0.5


def metrics(label: Any, score: Any) -> dict[str, float]:
    """ROC AUC, average precision, log loss (nats) and Brier score."""
    return {
        "roc_auc": float(roc_auc_score(label, score)),
        "average_precision": float(average_precision_score(label, score)),
        "log_loss": float(log_loss(label, score, labels=[0, 1])),
        "brier_score": float(brier_score_loss(label, score)),
    }


def report(fitted: Fitted, training: pd.DataFrame, holdout: pd.DataFrame, features: Sequence[str]) -> dict[str, Any]:
    """What is known of a candidate: metrics on training and holdout, confusion matrix, calibration, verdict."""
    seen, unseen = (probability(fitted.model, rows[list(features)]) for rows in (training, holdout))
    on_training, on_holdout = metrics(training[LABEL], seen), metrics(holdout[LABEL], unseen)
    matrix = confusion_matrix(holdout[LABEL], unseen >= 0.5, labels=[0, 1])
    return {
        "estimator": fitted.name,
        "choice": dict(fitted.choice),
        "training": {"rows": len(training), "positive": float(training[LABEL].mean()), "metrics": on_training},
        "holdout": {"rows": len(holdout), "positive": float(holdout[LABEL].mean()), "metrics": on_holdout},
        "confusion_matrix": {
            "threshold": 0.5,
            "true_negative": int(matrix[0, 0]),
            "false_positive": int(matrix[0, 1]),
            "false_negative": int(matrix[1, 0]),
            "true_positive": int(matrix[1, 1]),
        },
        "calibration": calibration(holdout[LABEL].to_numpy(), unseen),
        "verdict": verdict(on_training["roc_auc"], on_holdout["roc_auc"]),
    }


def calibration(label: Any, score: Any) -> list[dict[str, float]]:
    """By decile of the score, lowest first: rows, mean predicted probability, share that was positive."""
    order = np.argsort(score, kind="stable")
    return [
        {"decile": number, "rows": len(part), "predicted": float(score[part].mean()), "observed": float(label[part].mean())}
        for number, part in enumerate(np.array_split(order, 10), start=1)
        if len(part)
    ]


def verdict(training: float, holdout: float) -> str:
    """Training against holdout ROC AUC, in plain words: variance, bias or fine."""
    gap = training - holdout
    scores = f"ROC AUC {training:.3f} in training, {holdout:.3f} on the holdout"
    if gap > VARIANCE_GAP:
        return f"variance: {scores}; the model remembers rows that it has seen. Simplify it or give it more periods."
    if training < BIAS_BELOW:
        return f"bias: {scores}; the model does not even fit its training rows. Give it better features."
    return f"fine: {scores}."
