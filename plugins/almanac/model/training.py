"""Training: the best of the user's estimators, chosen on the newest training snapshot, refitted on the whole window.

Rows come sorted by (as_of, entity) and threads are pinned, so that the same rows give the same model.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sklearn import metrics as measured
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from almanac.columns import key_kind, places
from almanac.core.target import BINARY, MULTICLASS, REGRESSION, Target
from almanac.core.window import Label
from almanac.errors import AlmanacError, DataError, DescriptionError, examples
from almanac.model.bundles import Scores, line, stacked

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


def label_rows(rows: pa.Table, labels: pa.Table, entity: str, label: Label) -> pd.DataFrame:
    """A snapshot's rows with the label joined by entity: rows in equal rows out. A label without an entity is nobody's.

    Adds `label`: int8 for a binary one, int64 or text for classes, float64 for a regression's.

    Raises:
        DescriptionError: the function gave no `label`, other values than the kind allows, or keys of another type.
        DataError: an entity is labelled twice, or not at all where `label.absent` is None.
    """
    what, target = f"Function {label.name!r}", label.target
    if missing := [column for column in (entity, LABEL) if column not in labels.column_names]:
        raise DescriptionError(f"{what} gave no column {examples(missing)} (it gave: {examples(labels.column_names)}).")
    keys, ours = labels[entity], rows[entity]
    if pa.types.is_nested(labels[LABEL].type):
        raise DescriptionError(f"{what} gave the label as {labels[LABEL].type}, allowed are {target.allowed}.")
    if key_kind(keys.type) != key_kind(ours.type):
        raise DescriptionError(
            f"{what} gave {entity} as {keys.type}, the features have it as {ours.type}, and only keys of one type are matched. "
            "Cast it in the function, or deliver it as one type."
        )
    labels = labels.select([entity, LABEL]).filter(keys.is_valid())
    counted = labels.group_by(entity).aggregate([([], "count_all")])
    if doubled := sorted(counted.filter(pc.greater(counted["count_all"], 1))[entity].to_pylist()):
        raise DataError(f"{what} labels {entity} {examples(doubled)} more than once. One row an entity is needed.")
    if strange := sorted(_shown(one, target) for one in pc.unique(labels[LABEL]).to_pylist() if not target.holds(one)):
        raise DescriptionError(f"{what} gave the label {examples(strange)}, allowed are {target.allowed}.")
    place = places(ours, labels[entity].combine_chunks())
    if label.absent is None and place.null_count:
        without = ours.filter(place.is_null())
        raise DataError(
            f"{what} gave no label for {len(without)} entities, such as {entity} {examples(without[:6].to_pylist())}. "
            "Label each, or say what the others are with Label(absent=...)."
        )
    found = pd.Series(labels[LABEL].take(place).to_pylist(), dtype=object)
    whole = found.where(found.notna(), label.absent)
    joined: pd.DataFrame = rows.to_pandas().assign(**{LABEL: whole.astype(label_type(target))})
    return joined


def _shown(label: object, target: Target) -> str:
    """A label that is none of the target's, so that its type is told: `'1' (text)`."""
    if isinstance(label, str):
        return repr(label) if _of_text(target) else f"{label!r} (text)"
    return "null" if label is None else f"{label} (no text)" if _of_text(target) else str(label)


def _of_text(target: Target) -> bool:
    return isinstance(next(iter(target.classes), 0), str)


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


def fit(
    estimators: Mapping[str, BaseEstimator], rows: pd.DataFrame, features: Sequence[str], target: Target, period: str = ""
) -> Fitted:
    """Fits all estimators on all but the newest snapshot, keeps the one that is best there, refits it on all.

    With a single snapshot the last quarter of each label's rows chooses. What is best says `chosen_by`. Where rows have a weight,
    it counts in both. `period`: which one the retrain is for, as errors tell.

    Raises:
        DescriptionError: there is no estimator, or one that cannot be pickled or fitted, cannot give the target's scores, or
            takes no weights.
    """
    _check_estimators(estimators, target)
    newest = rows[SNAPSHOT] == rows[SNAPSHOT].max()
    if newest.all():
        newest = _last_quarter(rows, target)
    older, chooser = rows[~newest], rows[newest]
    if not len(features):
        raise DescriptionError("The feature groups give no column but the entity, so there is nothing to train on. Add features.")
    if not len(chooser):
        raise DataError(
            f"The only training snapshot has {len(rows)} rows, one of each label, so none is left to choose an estimator by. "
            "Train on more periods, or on more entities."
        )
    choice = {}
    with threadpool_limits(THREADS):
        for name, model in estimators.items():
            with named(name, period, older, target):
                trial = _fitted(name, model, older, features, target)
                scores = predict(trial, chooser[list(features)], target)
                choice[name] = chosen_by(chooser[LABEL], scores, target, weights(chooser))
        best = max(choice, key=lambda name: choice[name])
        with named(best, period, rows, target):
            model = _fitted(best, estimators[best], rows, features, target)
    return Fitted(name=best, model=model, choice=choice, target=target)


def _last_quarter(rows: pd.DataFrame, target: Target) -> pd.Series[bool]:
    """Which rows of one snapshot choose: of each label the last quarter, and never all of its rows."""
    if target.kind == REGRESSION:
        return pd.Series(np.arange(len(rows)) >= len(rows) * 3 // 4, index=rows.index)
    by_label = rows.groupby(LABEL)[LABEL]
    return by_label.cumcount() >= (by_label.transform("size") * 3 // 4).clip(lower=1)


@contextlib.contextmanager
def named(name: str, period: str, rows: pd.DataFrame, target: Target) -> Iterator[None]:
    """What an estimator raises is told with its name and the rows that it was given. Raises: DescriptionError."""
    try:
        yield
    except AlmanacError:
        raise
    except Exception as error:
        labels = rows[LABEL].value_counts().sort_index()
        given = f"{len(rows)} rows" + (
            "" if target.kind == REGRESSION else f" ({', '.join(f'{n} of {one}' for one, n in labels.items())})"
        )
        raise DescriptionError(
            f"estimators(): {name!r} failed{f' for {period}' if period else ''} on {given}: {type(error).__name__}: "
            f"{line(error).rstrip('.')}. Correct it in the user's module, or give it rows that it can take: a longer window, or "
            "other features."
        ) from error


def weights(rows: pd.DataFrame) -> Scores | None:
    """What each row weighs, float64; None where they were not sampled."""
    return rows[WEIGHT].to_numpy(dtype=np.float64) if WEIGHT in rows.columns else None


def _fitted(name: str, model: BaseEstimator, rows: pd.DataFrame, features: Sequence[str], target: Target) -> BaseEstimator:
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
    found.fit(rows[list(features)], rows[LABEL], **given)
    # Asked once it is fitted: of some estimators their parts decide it.
    if target.kind != REGRESSION and not hasattr(found, "predict_proba"):
        raise DescriptionError(f"estimators(): {name!r} has no predict_proba when it is fitted; give classifiers that have.")
    return found


def _check_estimators(estimators: Mapping[str, BaseEstimator], target: Target) -> None:
    if not isinstance(estimators, Mapping):
        raise DescriptionError(
            f"estimators() gave {type(estimators).__name__}; give a dict of names to estimators, such as "
            "{'logistic': LogisticRegression()}."
        )
    if not estimators:
        noun = "regressor" if target.kind == REGRESSION else "classifier"
        raise DescriptionError(f"estimators() gave none. Give at least one scikit-learn {noun} under a name.")
    for name, model in estimators.items():
        if isinstance(model, type) or not hasattr(model, "fit"):
            kind = (
                f"the class {model.__name__}"
                if isinstance(model, type)
                else f"of the class {type(model).__name__}, which has no fit"
            )
            raise DescriptionError(f"estimators(): {name!r} is {kind}; give an instance of an estimator.")
        if target.kind == REGRESSION and (not hasattr(model, "predict") or _is(is_classifier, model)):
            raise DescriptionError(
                f"estimators(): {name!r} gives no number; give regressors, or make the label binary or multiclass."
            )
        if target.kind != REGRESSION and _is(is_regressor, model):
            raise DescriptionError(
                f"estimators(): {name!r} has no predict_proba, as it is a regressor; give classifiers, or make the label one of "
                "kind='regression'."
            )
        pickled(model, name)  # what cannot be kept is told before anything is fitted


def _is(kind: Callable[[Any], bool], model: Any) -> bool:
    """scikit-learn's question, which it asks of its own estimators alone."""
    try:
        return kind(model)
    except AttributeError:
        return False


def pickled(model: Any, name: str = "") -> bytes:
    """The bytes that `models.open_model` loads. `name`: under which the user's module gave it.

    Raises:
        DescriptionError: it cannot be pickled.
    """
    import joblib

    body = io.BytesIO()
    try:
        joblib.dump(model, body, compress=3)
    except Exception as error:
        why = re.sub(r" at 0x[0-9a-fA-F]+", "", line(error))
        raise DescriptionError(
            f"estimators(): {name!r} cannot be pickled, and a version is kept as a pickle ({type(error).__name__}: "
            f"{why.rstrip('.')}). Define its functions and classes at the top level of the user's module: a lambda, or one "
            "inside another function, has no name to be found by."
        ) from error
    return body.getvalue()


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
