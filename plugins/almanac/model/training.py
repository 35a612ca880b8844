"""Training: the best of the user's estimators, chosen on the newest training snapshot and refitted on the whole window.

Rows come sorted by (as_of, keys) and threads are pinned, so that the same rows give the same model.
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

from almanac.columns import all_valid, entities, key_kind, row_places
from almanac.core.entity import in_words
from almanac.core.label import Label
from almanac.core.target import BINARY, MULTICLASS, REGRESSION, Target
from almanac.core.window import LABEL, SNAPSHOT, WEIGHT
from almanac.errors import AlmanacError, DataError, DescriptionError, examples
from almanac.model.bundles import Scores, line, stacked

THREADS = 1
GOLDEN_ROWS = 64
TINY = np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A candidate.

    Args:
        name: its name in `estimators()`.
        model: fitted on the whole window.
        choice: estimator to its figure on the snapshot that chose, by `chosen_by`.
        target: what it predicts.
    """

    name: str
    model: Any
    choice: Mapping[str, float]
    target: Target = Target()


def label_rows(rows: pa.Table, labels: pa.Table, keys: Sequence[str], label: Label) -> pd.DataFrame:
    """A snapshot's rows with the label joined by entity; no row is added or dropped. A label without an entity is ignored.

    Adds `label`: int8 for a binary one, int64 or text for classes, float64 for a regression's.

    Raises:
        DescriptionError: the function returned no `label`, values that the kind does not allow, or keys of another type.
        DataError: an entity is labelled twice, or not at all while `label.absent` is None.
    """
    what, target = f"Function {label.name!r}", label.target
    if missing := [column for column in (*keys, LABEL) if column not in labels.column_names]:
        raise DescriptionError(
            f"{what} returned no column {examples(missing)} (it returned: {examples(labels.column_names)}). Add it."
        )
    if pa.types.is_nested(labels[LABEL].type):
        raise DescriptionError(f"{what}: expected labels {target.allowed}; got {labels[LABEL].type}. Correct the function.")
    for key in keys:
        theirs, ours = labels[key].type, rows[key].type
        if key_kind(theirs) != key_kind(ours):
            raise DescriptionError(
                f"{what}: expected {key} as {ours}, as in the features; got {theirs}. Only keys of one type are matched. "
                "Cast it in the function, or deliver it as one type."
            )
    labels = labels.select([*keys, LABEL]).filter(all_valid(labels, keys))
    counted = labels.group_by(list(keys)).aggregate([([], "count_all")])
    doubled = counted.filter(pc.greater(counted["count_all"], 1))
    if len(doubled):
        several = examples(entities(doubled.sort_by([(key, "ascending") for key in keys]), keys))
        raise DataError(
            f"{what}: expected one row per entity, got several for {in_words(keys)} {several}. Return one row for each."
        )
    if strange := sorted(_shown(one, target) for one in pc.unique(labels[LABEL]).to_pylist() if not target.holds(one)):
        raise DescriptionError(f"{what}: expected labels {target.allowed}; got {examples(strange)}. Correct the function.")
    place = row_places([rows[key] for key in keys], [labels[key].combine_chunks() for key in keys])
    if label.absent is None and place.null_count:
        without = rows.select(list(keys)).filter(place.is_null())
        raise DataError(
            f"{what} returned no label for {len(without)} entities, such as {in_words(keys)} "
            f"{examples(entities(without.slice(0, 6), keys))}. "
            "Label each, or set the label of the others with Label(absent=...)."
        )
    found = pd.Series(labels[LABEL].take(place).to_pylist(), dtype=object)
    whole = found.where(found.notna(), label.absent)
    joined: pd.DataFrame = rows.to_pandas().assign(**{LABEL: whole.astype(label_type(target))})
    return joined


def _shown(label: object, target: Target) -> str:
    """A label that is not one of the target's, with its type: `'1' (text)`."""
    if isinstance(label, str):
        return repr(label) if _of_text(target) else f"{label!r} (text)"
    return "null" if label is None else f"{label} (not text)" if _of_text(target) else str(label)


def _of_text(target: Target) -> bool:
    return isinstance(next(iter(target.classes), 0), str)


def label_type(target: Target) -> np.dtype[Any]:
    """The type of a label's column."""
    if target.kind == MULTICLASS:
        return np.dtype("int64" if isinstance(target.classes[0], int) else "object")
    return np.dtype("int8" if target.kind == BINARY else "float64")


def predict(model: Any, features: pd.DataFrame, target: Target) -> Scores:
    """The scores of rows, float64: of shape (rows,) the probability of 1 or the predicted value, or of shape
    (rows, classes) the probability of each class, in the order of `target.classes`. A class that the model never saw gets 0.
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
    """Scores as prediction columns, by name: `score`, or `score_low`, `score_middle`, `score_high`."""
    return dict(zip(target.columns, np.asarray(scores).reshape(len(scores), len(target.columns)).T, strict=True))


def scores_of(rows: pd.DataFrame, target: Target) -> Scores:
    """The scores in the prediction columns of rows, in the shape that `predict` gives."""
    return stacked(rows[name] for name in target.columns)


def fit(
    estimators: Mapping[str, BaseEstimator], rows: pd.DataFrame, features: Sequence[str], target: Target, period: str = ""
) -> Fitted:
    """Fits all estimators on all but the newest snapshot, picks the one that is best on the newest, and refits it on all.

    With a single snapshot, the last quarter of each label's rows chooses. `chosen_by` defines what is best. Row weights, if any,
    count in fitting and in choosing. `period`: the period of the retrain, for error messages.

    Raises:
        DescriptionError: there is no estimator, or one cannot be pickled or fitted, cannot give the target's scores, or takes no
            weights.
    """
    _check_estimators(estimators, target)
    newest = rows[SNAPSHOT] == rows[SNAPSHOT].max()
    if newest.all():
        newest = _last_quarter(rows, target)
    older, chooser = rows[~newest], rows[newest]
    if not len(features):
        raise DescriptionError("The feature groups have no column but the entity, so there is nothing to train on. Add features.")
    if not len(chooser):
        raise DataError(
            f"The only training snapshot has {len(rows)} rows, one of each label, so none is left to choose an estimator on. "
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
    """The rows of a single snapshot that choose: the last quarter of each label's rows, and never all of them."""
    if target.kind == REGRESSION:
        return pd.Series(np.arange(len(rows)) >= len(rows) * 3 // 4, index=rows.index)
    by_label = rows.groupby(LABEL)[LABEL]
    return by_label.cumcount() >= (by_label.transform("size") * 3 // 4).clip(lower=1)


@contextlib.contextmanager
def named(name: str, period: str, rows: pd.DataFrame, target: Target) -> Iterator[None]:
    """Adds an estimator's name and the rows that it got to whatever it raises. Raises: DescriptionError."""
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
            f"{line(error).rstrip('.')}. {_nulls(rows, error)}Correct it in the user's module, or give it rows that it can "
            "take: a longer window, or other features."
        ) from error


def _nulls(rows: pd.DataFrame, error: Exception) -> str:
    """Which features hold nulls, if that is what an estimator refused."""
    if "NaN" not in str(error):
        return ""
    shares = rows.drop(columns=[LABEL], errors="ignore").isna().mean()
    listed = examples((f"{column} ({share:.1%} of rows)" for column, share in shares[shares > 0].items()), 12)
    return f"Features with nulls: {listed}. Put SimpleImputer before the estimator, or use one that takes nulls. "


def weights(rows: pd.DataFrame) -> Scores | None:
    """The weight of each row, float64; None if rows were not sampled."""
    return rows[WEIGHT].to_numpy(dtype=np.float64) if WEIGHT in rows.columns else None


def _fitted(name: str, model: BaseEstimator, rows: pd.DataFrame, features: Sequence[str], target: Target) -> BaseEstimator:
    found, given, weigh = clone(model), {}, weights(rows)
    if weigh is not None:
        steps = getattr(found, "steps", [("", found)])
        last, estimator = steps[-1]
        if not has_fit_parameter(estimator, "sample_weight"):
            raise DescriptionError(
                f"estimators(): {name!r} ends with {type(estimator).__name__}, whose fit takes no sample_weight, but the "
                "window's rows are sampled. Use an estimator that takes weights, or remove sampling= from MovingWindow."
            )
        given = {f"{last}__sample_weight" if last else "sample_weight": weigh}
    found.fit(rows[list(features)], rows[LABEL], **given)
    # Checked after the fit, because for some estimators their parts decide it.
    if target.kind != REGRESSION and not hasattr(found, "predict_proba"):
        raise DescriptionError(f"estimators(): {name!r} has no predict_proba once it is fitted. Use a classifier that has it.")
    return found


def _check_estimators(estimators: Mapping[str, BaseEstimator], target: Target) -> None:
    if not isinstance(estimators, Mapping):
        raise DescriptionError(
            "estimators(): expected a dict of names to estimators, such as {'logistic': LogisticRegression()}; got "
            f"{type(estimators).__name__}. Correct it in the user's module."
        )
    if not estimators:
        noun = "regressor" if target.kind == REGRESSION else "classifier"
        raise DescriptionError(
            f"estimators(): expected at least one estimator, got none. Add a scikit-learn {noun} under a name."
        )
    for name, model in estimators.items():
        if isinstance(model, type) or not hasattr(model, "fit"):
            kind = (
                f"the class {model.__name__}"
                if isinstance(model, type)
                else f"an instance of {type(model).__name__}, which has no fit"
            )
            raise DescriptionError(f"estimators(): {name!r} is {kind}. Return an instance of an estimator.")
        if target.kind == REGRESSION and (not hasattr(model, "predict") or _is(is_classifier, model)):
            raise DescriptionError(
                f"estimators(): {name!r} does not predict numbers. Use a regressor, or make the label binary or multiclass."
            )
        if target.kind != REGRESSION and _is(is_regressor, model):
            raise DescriptionError(
                f"estimators(): {name!r} has no predict_proba, because it is a regressor. Use a classifier, or a label with "
                "kind='regression'."
            )
        pickled(model, name)  # fail before anything is fitted


def _is(kind: Callable[[Any], bool], model: Any) -> bool:
    """scikit-learn's check, which raises for estimators that are not its own."""
    try:
        return kind(model)
    except AttributeError:
        return False


def pickled(model: Any, name: str = "") -> bytes:
    """The bytes that `loading.open_model` loads. `name`: the model's name in `estimators()`.

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
            f"estimators(): {name!r} cannot be pickled, but a version is stored as a pickle ({type(error).__name__}: "
            f"{why.rstrip('.')}). Define its functions and classes at the top level of the user's module: a lambda or a nested "
            "function cannot be found by its name."
        ) from error
    return body.getvalue()


def chosen_by(label: Any, scores: Scores, target: Target, weight: Scores | None = None) -> float:
    """The figure that chooses an estimator, more is better: ROC AUC for a binary label, the negative log loss for a multiclass
    one, R2 for a regression's. 0.5 or 0 if all rows have the same label, which decides nothing.
    """
    if target.kind == MULTICLASS:
        return -float(np.average(log_losses(codes(label, target), scores), weights=weight))
    varied = len(np.unique(label)) > 1
    if target.kind == BINARY:
        return float(measured.roc_auc_score(label, scores, sample_weight=weight)) if varied else 0.5
    return float(measured.r2_score(label, scores, sample_weight=weight)) if varied else 0.0


def codes(label: Any, target: Target) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Labels as the positions of their classes: scikit-learn takes score columns in sorted order, not in the target's."""
    return np.asarray(pd.Categorical(np.asarray(label), categories=list(target.classes)).codes, dtype=np.int64)


def metrics(label: Any, scores: Any, target: Target = Target(), weight: Scores | None = None) -> dict[str, float]:
    """The metrics of the target, each as scikit-learn defines it, with `weight` as its sample_weight.

    Binary: ROC AUC, average precision, log loss (nats), Brier score. Multiclass: log loss, accuracy, and F1 and one-vs-rest ROC
    AUC as means over classes (NaN if a class has no row). Regression: RMSE, MAE and R2.
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
    """Each row's log loss (nats), from the position of its class; as scikit-learn's, but scores need not sum exactly to one."""
    return np.asarray(-np.log(np.clip(scores[np.arange(len(truth)), truth], TINY, 1 - TINY)))


def _roc_auc_ovr(truth: Any, scores: Scores, weight: Scores | None) -> float:
    """One-vs-rest ROC AUC; as scikit-learn's, but scores need not sum exactly to one. NaN if a class has no row."""
    if len(np.unique(truth)) < scores.shape[1]:
        return float("nan")
    each = [measured.roc_auc_score(truth == place, column, sample_weight=weight) for place, column in enumerate(scores.T)]
    return float(np.mean(each))
