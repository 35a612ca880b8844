"""Training: the best of the user's estimators, chosen on the newest training snapshot, refitted on the whole window.

Rows come sorted by (as_of, entity) and threads are pinned, so that the same rows give the same model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as measured
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from almanac.core.target import BINARY, MULTICLASS, REGRESSION, Target
from almanac.core.window import Label
from almanac.errors import DataError, DescriptionError, examples
from almanac.spark.bundles import Scores, stacked

LABEL = "label"
SNAPSHOT = "snapshot"
WEIGHT = "@weight"  # of a training row, where the window asks for a sample
THREADS = 1
GOLDEN_ROWS = 64
TINY = np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A candidate.

    Args:
        name: under which the user's module gave it.
        model: fitted on the whole window.
        choice: estimator to its figure on the snapshot that chose, as `chosen_by` has it.
        target: what it predicts.
    """

    name: str
    model: Any
    choice: Mapping[str, float]
    target: Target = Target()


def label_rows(entities: pd.DataFrame, labels: pd.DataFrame, entity: str, label: Label) -> pd.DataFrame:
    """The label joined to a snapshot's entities: entities in equal entities out.

    Adds `label`: int8 for a binary one, int64 or text for classes, float64 for a regression's.

    Raises:
        DescriptionError: the function gave no `label`, or other values than the kind allows.
        DataError: an entity is labelled twice, or not at all where `label.absent` is None.
    """
    function, target = label.name, label.target
    if missing := [column for column in (entity, LABEL) if column not in labels.columns]:
        raise DescriptionError(f"Function {function!r} gave no column {examples(missing)} (it gave: {examples(labels.columns)}).")
    doubled = labels.loc[labels[entity].duplicated(), entity].unique()
    if len(doubled):
        raise DataError(f"Function {function!r} labels {entity} {examples(doubled)} more than once. One row an entity is needed.")
    if strange := sorted((one for one in labels[LABEL].unique().tolist() if not target.holds(one)), key=str):
        raise DescriptionError(f"Function {function!r} gave the label {examples(strange)}, allowed are {target.allowed}.")
    joined = entities.merge(labels[[entity, LABEL]], on=entity, how="left", validate="one_to_one")
    unnamed = joined[LABEL].isna()
    if label.absent is None and unnamed.any():
        without = joined.loc[unnamed, entity]
        raise DataError(
            f"Function {function!r} gave no label for {len(without)} entities, such as {entity} {examples(without[:6])}. "
            "Label each, or say what the others are with Label(absent=...)."
        )
    whole = joined[LABEL].astype(object).where(~unnamed, label.absent)
    return joined.assign(**{LABEL: whole.astype(label_type(target))})


def label_type(target: Target) -> np.dtype[Any]:
    """The type of a label's column."""
    if target.kind == MULTICLASS:
        return np.dtype("int64" if isinstance(target.classes[0], int) else "object")
    return np.dtype("int8" if target.kind == BINARY else "float64")


def predict(model: Any, features: pd.DataFrame, target: Target) -> Scores:
    """The scores of rows, float64: of shape (rows,) the probability of 1 or the predicted value, or of shape
    (rows, classes) the probability of each class, in the order of `target.classes`. A class that the model never saw has 0.
    """
    with threadpool_limits(THREADS):
        if target.kind == REGRESSION:
            return np.asarray(model.predict(features), dtype=np.float64).reshape(len(features))
        found = np.asarray(model.predict_proba(features), dtype=np.float64)
    wanted = target.classes or (0, 1)
    seen = list(getattr(model, "classes_", wanted))
    scores = np.zeros((len(features), len(wanted)))
    for place, one in enumerate(wanted):
        if one in seen:
            scores[:, place] = found[:, seen.index(one)]
    return scores if target.kind == MULTICLASS else scores[:, 1]


def score_columns(scores: Any, target: Target) -> dict[str, Scores]:
    """Scores as the columns of a prediction, by name: `score`, or `score_low`, `score_middle`, `score_high`."""
    return dict(zip(target.columns, np.asarray(scores).reshape(len(scores), len(target.columns)).T, strict=True))


def scores_of(rows: pd.DataFrame, target: Target) -> Scores:
    """The scores that rows hold in a prediction's columns, in the shape that `predict` gives."""
    return stacked(rows[name] for name in target.columns)


def fit(estimators: Mapping[str, BaseEstimator], rows: pd.DataFrame, features: Sequence[str], target: Target) -> Fitted:
    """Fits all estimators on all but the newest snapshot, keeps the one that is best there, refits it on all.

    With a single snapshot the last quarter of its rows chooses. What is best says `chosen_by`. Where rows have a weight, it
    counts in both.

    Raises:
        DescriptionError: there is no estimator, or one that cannot give the target's scores, or takes no weights.
    """
    _check_estimators(estimators, target)
    newest = rows[SNAPSHOT] == rows[SNAPSHOT].max()
    if newest.all():
        newest = pd.Series(np.arange(len(rows)) >= len(rows) * 3 // 4, index=rows.index)
    older, chooser = rows[~newest], rows[newest]
    choice = {}
    with threadpool_limits(THREADS):
        for name, model in estimators.items():
            trial = _fitted(name, model, older, features)
            choice[name] = chosen_by(chooser[LABEL], predict(trial, chooser[list(features)], target), target, weights(chooser))
        best = max(choice, key=lambda name: choice[name])
        model = _fitted(best, estimators[best], rows, features)
    return Fitted(name=best, model=model, choice=choice, target=target)


def weights(rows: pd.DataFrame) -> Scores | None:
    """What each row weighs, float64; None where they were not sampled."""
    return rows[WEIGHT].to_numpy(dtype=np.float64) if WEIGHT in rows.columns else None


def _fitted(name: str, model: BaseEstimator, rows: pd.DataFrame, features: Sequence[str]) -> BaseEstimator:
    found, given, weigh = clone(model), {}, weights(rows)
    if weigh is not None:
        steps = getattr(found, "steps", [("", found)])
        last, estimator = steps[-1]
        if not has_fit_parameter(estimator, "sample_weight"):
            raise DescriptionError(
                f"estimators(): {name!r} ends with {type(estimator).__name__}, whose fit takes no sample_weight, and the "
                "window's rows are sampled. Give an estimator that takes weights, or take sampling= out of MovingWindow."
            )
        given = {f"{last}__sample_weight" if last else "sample_weight": weigh}
    return found.fit(rows[list(features)], rows[LABEL], **given)


def _check_estimators(estimators: Mapping[str, BaseEstimator], target: Target) -> None:
    if not estimators:
        noun = "regressor" if target.kind == REGRESSION else "classifier"
        raise DescriptionError(f"estimators() gave none. Give at least one scikit-learn {noun} under a name.")
    if target.kind == REGRESSION:
        if blind := [name for name, model in estimators.items() if not hasattr(model, "predict") or is_classifier(model)]:
            raise DescriptionError(
                f"estimators(): {examples(blind)} gives no number; give regressors, or make the label binary or multiclass."
            )
    elif blind := [name for name, model in estimators.items() if not hasattr(model, "predict_proba")]:
        raise DescriptionError(f"estimators(): {examples(blind)} has no predict_proba; give classifiers that have.")


def chosen_by(label: Any, scores: Scores, target: Target, weight: Scores | None = None) -> float:
    """The figure that chooses an estimator, the more the better: ROC AUC of a binary label, the negative log loss of a
    multiclass one, R2 of a regression's. 0.5 or 0 where the rows have one label alone and so choose nothing.
    """
    if target.kind == MULTICLASS:
        return -float(np.average(log_losses(codes(label, target), scores), weights=weight))
    told = len(np.unique(label)) > 1
    if target.kind == BINARY:
        return float(measured.roc_auc_score(label, scores, sample_weight=weight)) if told else 0.5
    return float(measured.r2_score(label, scores, sample_weight=weight)) if told else 0.0


def codes(label: Any, target: Target) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Labels as the places of their classes: scikit-learn takes columns of scores in sorted order, not in the target's."""
    return np.asarray(pd.Categorical(np.asarray(label), categories=list(target.classes)).codes, dtype=np.int64)


def metrics(label: Any, scores: Any, target: Target = Target(), weight: Scores | None = None) -> dict[str, float]:
    """What the target is measured by, each as scikit-learn has it, with `weight` as its sample_weight.

    ROC AUC, average precision, log loss (nats), Brier score; of classes log loss, accuracy, F1 and one-vs-rest ROC AUC as
    means over classes (NaN where a class has no row); of a regression's values RMSE, MAE and R2.
    """
    weighed = {"sample_weight": weight}
    if target.kind == REGRESSION:
        return {
            "rmse": float(measured.root_mean_squared_error(label, scores, **weighed)),
            "mae": float(measured.mean_absolute_error(label, scores, **weighed)),
            "r2": float(measured.r2_score(label, scores, **weighed)),
        }
    if target.kind == MULTICLASS:
        truth, found = codes(label, target), np.asarray(scores)
        return {
            "log_loss": float(np.average(log_losses(truth, found), weights=weight)),
            "accuracy": float(measured.accuracy_score(truth, found.argmax(axis=1), **weighed)),
            "f1_macro": float(measured.f1_score(truth, found.argmax(axis=1), average="macro", **weighed)),
            "roc_auc_ovr": _roc_auc_ovr(truth, found, weight),
        }
    return {
        "roc_auc": float(measured.roc_auc_score(label, scores, **weighed)),
        "average_precision": float(measured.average_precision_score(label, scores, **weighed)),
        "log_loss": float(measured.log_loss(label, scores, labels=[0, 1], **weighed)),
        "brier_score": float(measured.brier_score_loss(label, scores, **weighed)),
    }


def log_losses(truth: Any, scores: Scores) -> Scores:
    """Each row's log loss (nats), of the places of its class; scikit-learn's, but scores need not sum to one to its digit."""
    return np.asarray(-np.log(np.clip(scores[np.arange(len(truth)), truth], TINY, 1 - TINY)))


def _roc_auc_ovr(truth: Any, scores: Scores, weight: Scores | None) -> float:
    """scikit-learn's, as freely; NaN where a class has no row."""
    if len(np.unique(truth)) < scores.shape[1]:
        return float("nan")
    each = [measured.roc_auc_score(truth == place, column, sample_weight=weight) for place, column in enumerate(scores.T)]
    return float(np.mean(each))
