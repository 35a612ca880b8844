"""Which engine a version gets: its pipeline is exported to ONNX, and the scores of both engines on real rows decide.

Real rows hold nothing unusual, so each feature is also set to null and to values that training did not see, and the features of
a group are set to null together, as they are when the group is left out. If the engines differ on such values, a guard keeps rows
that hold them for scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from almanac.core.bundle import ONNXRUNTIME, SCIKIT_LEARN, Bundle, Engine, Guard
from almanac.core.scoring import AUTO, COMPARED_ROWS, TAIL, Parity, Scoring
from almanac.core.target import BINARY, REGRESSION, Target
from almanac.model.bundles import Scores, apart, line, stacked
from almanac.model.engines import Onnx, ScikitLearn
from almanac.model.export import export

Exported = tuple[Engine, bytes | None]
# A feature with more values is not a category: no guard lists that many.
GUARDED_VALUES = 1000
# Rows on which a feature is set to null: which way a tree sends a null only shows on rows that reach its split.
NULL_ROWS = 500


def decide(
    model: Any,
    bundle: Bundle,
    holdout: pd.DataFrame,
    golden: pd.DataFrame,
    scoring: Scoring,
    groups: Iterable[Sequence[str]] = (),
) -> Exported:
    """The engine of a fitted pipeline, and model.onnx if it is onnxruntime.

    `holdout` and `golden` hold the features, float32, and the target's scores as the pipeline gave them, float64. `groups`: the
    features of each feature group.
    """
    features, target = bundle.features, bundle.target
    if scoring.engine != AUTO:
        return Engine(name=SCIKIT_LEARN, reason="the description asks for it"), None
    try:
        body = export(model, features)
        columns = _columns(model, target)
        onnx = Onnx.of(body, features, target, columns)
        rows = holdout.head(COMPARED_ROWS)
        parity = Parity(
            rows=len(rows), golden=float(_differences(onnx, golden, target).max()), **_figures(_differences(onnx, rows, target))
        )
    except Exception as error:  # whatever the exporter and the runtime raise, scikit-learn still scores
        return Engine(reason=f"the pipeline cannot be exported to ONNX ({type(error).__name__}: {line(error)})"), None
    chosen = scoring.choose(parity, columns)
    if chosen.name != ONNXRUNTIME:
        return chosen, None
    guards = tuple(_guards(ScikitLearn(model, features, target), onnx, rows, scoring.worst, groups))
    if many := [guard for guard in guards if len(guard.seen) > GUARDED_VALUES]:
        reason = (
            f"the engines differ on values of {many[0].feature} that training did not see, and it has {len(many[0].seen)} values"
        )
        return replace(chosen, name=SCIKIT_LEARN, reason=reason, golden=Engine().golden, columns=()), None
    return replace(chosen, guards=guards), body


def _columns(model: Any, target: Target) -> tuple[int, ...]:
    """The position of each of the target's scores in the model's output; -1 if there is none."""
    if target.kind == REGRESSION:
        return (0,)
    seen = list(model.classes_)
    wanted: tuple[int | str, ...] = (1,) if target.kind == BINARY else target.classes
    return tuple(seen.index(one) if one in seen else -1 for one in wanted)


def _differences(onnx: Onnx, rows: pd.DataFrame, target: Target) -> Scores:
    batch = pa.RecordBatch.from_pandas(rows[list(onnx.features)], preserve_index=False)
    return apart(onnx.scores(batch), stacked(rows[name] for name in target.columns))


def _figures(differences: Scores) -> dict[str, float]:
    return {"worst": float(differences.max()), "tail": float(np.quantile(differences, TAIL))}


def _guards(
    pipeline: ScikitLearn, onnx: Onnx, rows: pd.DataFrame, allowed: float, groups: Iterable[Sequence[str]]
) -> Iterator[Guard]:
    """Guards for the values on which the engines differ."""

    def apart_on(features: Sequence[str], value: float, count: int = 1) -> bool:
        return _part_on(pipeline, onnx, rows.head(count), features, value, allowed)

    together = {feature for group in groups if apart_on(group, np.nan, NULL_ROWS) for feature in group}
    for feature in onnx.features:
        seen = np.unique(rows[feature].dropna())
        nulls = feature in together or apart_on([feature], np.nan, NULL_ROWS)
        infinite = apart_on([feature], np.inf)
        new = any(apart_on([feature], value) for value in _new(seen))
        if nulls or infinite or new:
            known = tuple(float(value) for value in seen) if new else ()
            yield Guard(feature=feature, nulls=nulls, infinite=infinite, seen=known)


def _new(seen: npt.NDArray[np.float32]) -> Iterator[float]:
    """A value above all others, one below, and one between two of them."""
    if len(seen):
        yield from (float(seen[-1]) + 1, float(seen[0]) - 1)
        yield float(seen[0] + seen[1]) / 2 if len(seen) > 1 else float(seen[0]) + 0.5


def _part_on(
    pipeline: ScikitLearn, onnx: Onnx, rows: pd.DataFrame, features: Sequence[str], value: float, allowed: float
) -> bool:
    changed = rows[list(onnx.features)].copy()
    changed[list(features)] = np.float32(value)
    batch = pa.RecordBatch.from_pandas(changed, preserve_index=False)
    one, other = _answer(pipeline, batch), _answer(onnx, batch)
    if one is None or other is None:
        # Also if both refuse: onnxruntime's error would name an operator, the pipeline's names the value.
        return True
    return not float(apart(other, one).max()) <= allowed


def _answer(engine: ScikitLearn | Onnx, batch: pa.RecordBatch) -> Scores | None:
    """The scores of a batch; None if the engine fails, or a score is not finite."""
    try:
        found = engine.scores(batch)
    except Exception:
        return None
    return found if np.isfinite(found).all() else None
