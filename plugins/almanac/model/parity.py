"""Which engine a version gets: its pipeline is exported to ONNX, and the scores of both engines on real rows decide.

Real rows hold nothing unusual, so each feature is also set to null and to values that training did not see, and the features of
a group are set to null together, as they are when the group is left out. If the engines differ on such values, a guard keeps rows
that hold them for scikit-learn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from almanac.core.bundle import NUMPY, ONNX, ONNXRUNTIME, SCIKIT_LEARN, TREES, Bundle, Engine, Guard
from almanac.core.scoring import AUTO, COMPARED_ROWS, TAIL, Parity, Scoring
from almanac.core.target import BINARY, REGRESSION, Target
from almanac.model import histograms
from almanac.model.bundles import Scores, apart, line, stacked
from almanac.model.engines import PART_ROWS, InferenceEngine, Onnx, ScikitLearn, Trees
from almanac.model.export import export
from almanac.model.splits import check_few
from almanac.model.trees import Cut, Unsupported, cut

# How often each engine scores a batch to be timed.
TURNS = 7
# Below this share of onnxruntime's speed numpy is not used. On a busy machine two times of one engine may differ by as much.
SLOWER = 0.8
# A feature with more values is not a category: no guard lists that many.
GUARDED_VALUES = 1000
# Rows on which a feature is set to null: which way a tree sends a null only shows on rows that reach its split.
NULL_ROWS = 500
# Rows on which it is set to a value that it does not have: an infinity, or one that was never seen.
ODD_ROWS = 100


def decide(
    model: Any,
    bundle: Bundle,
    holdout: pd.DataFrame,
    golden: pd.DataFrame,
    scoring: Scoring,
    groups: Iterable[Sequence[str]] = (),
) -> tuple[Engine, Mapping[str, bytes]]:
    """The engine of a fitted pipeline, and the files that it needs, by name: none for scikit-learn.

    `holdout` and `golden` hold the features, float32, and the target's scores as the pipeline gave them, float64. `groups`: the
    features of each feature group.
    """
    features, target = bundle.features, bundle.target
    if scoring.engine != AUTO:
        return Engine(name=SCIKIT_LEARN, reason="the description asks for it"), {}
    rows = holdout.head(COMPARED_ROWS)
    try:
        body = export(model, features)
        onnx = Onnx.of(body, features, target, _columns(model, target))
        found = Candidate(onnx, scoring.choose(_parity(onnx, rows, golden), onnx.columns), {ONNX: body})
    except Exception as error:  # whatever the exporter and the runtime raise, scikit-learn still scores
        return Engine(reason=f"the pipeline cannot be exported to ONNX ({type(error).__name__}: {line(error)})"), {}
    found = _with_trees(model, found, rows, golden, scoring)
    if found.engine.name == SCIKIT_LEARN:
        return found.engine, {}
    guards = tuple(_guards(ScikitLearn(model, features, target), found.exported, rows, scoring.worst, groups))
    if many := [guard for guard in guards if len(guard.seen) > GUARDED_VALUES]:
        reason = (
            f"the engines differ on values of {many[0].feature} that training did not see, and it has {len(many[0].seen)} values"
        )
        return Engine(reason=reason, rows=found.engine.rows, worst=found.engine.worst, tail=found.engine.tail), {}
    return replace(found.engine, guards=guards), found.files


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exported pipeline, the engine that was chosen for it, and the files that it needs."""

    exported: Onnx | Trees
    engine: Engine
    files: Mapping[str, bytes]


def _with_trees(model: Any, onnx: Candidate, rows: pd.DataFrame, golden: pd.DataFrame, scoring: Scoring) -> Candidate:
    """The same export with its trees in numpy, if numpy reproduces the scores and is faster; otherwise `onnx`, and why.

    If scikit-learn's own nodes can be read, numpy may reproduce scores that the export does not.
    """
    whole, reproduced = onnx.exported, onnx.engine.name == ONNXRUNTIME
    assert isinstance(whole, Onnx)
    try:
        if (taken := trees_of(model, onnx.files[ONNX], whole.wanted)) is None:
            return onnx
        check_few(taken.ensemble)
        trees = Trees.of(taken, whole.features, whole.target, whole.columns)
        chosen = scoring.choose(_parity(trees, rows, golden), whole.columns, NUMPY)
        if chosen.name != NUMPY:
            raise Unsupported(f"in numpy, {chosen.reason}")
        if not reproduced:
            reason = f"{chosen.reason}; those of onnxruntime by {onnx.engine.worst:.2g}"
            return Candidate(trees, replace(chosen, reason=reason), {TREES: taken.packed()})
        speedup = timed(whole, trees, rows)
        if speedup < SLOWER:
            raise Unsupported(f"numpy took {1 / speedup:.1f} times as long")
    except Exception as error:  # an operator that nothing here knows is no reason to refuse the export
        if not reproduced:
            return onnx
        why = line(error) if isinstance(error, Unsupported) else f"{type(error).__name__}: {line(error)}"
        return replace(onnx, engine=replace(onnx.engine, reason=f"{onnx.engine.reason}; onnxruntime keeps its trees: {why}"))
    return Candidate(trees, replace(chosen, speedup=speedup), {**onnx.files, TREES: taken.packed()})


def trees_of(model: Any, exported: bytes, wanted: str) -> Cut | None:
    """An exported pipeline, cut before its trees; None if it has none. Raises: Unsupported."""
    taken, estimator = cut(exported, wanted), histograms.last_of(model)
    return taken if taken is None or estimator is None else replace(taken, ensemble=histograms.read(estimator))


def timed(one: Onnx, other: Trees, rows: pd.DataFrame) -> float:
    """How many times as fast the other engine scores a batch of real rows: the ratio of the medians of some turns."""
    many = rows[list(one.features)]
    batch = pa.RecordBatch.from_pandas(many.iloc[np.arange(PART_ROWS) % len(many)], preserve_index=False)
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(TURNS):
        for place, engine in enumerate((one, other)):
            began = time.perf_counter()
            engine.scores(batch)
            seconds[place].append(time.perf_counter() - began)
    return round(statistics.median(seconds[0]) / statistics.median(seconds[1]), 2)


def _columns(model: Any, target: Target) -> tuple[int, ...]:
    """The position of each of the target's scores in the model's output; -1 if there is none."""
    if target.kind == REGRESSION:
        return (0,)
    seen = list(model.classes_)
    wanted: tuple[int | str, ...] = (1,) if target.kind == BINARY else target.classes
    return tuple(seen.index(one) if one in seen else -1 for one in wanted)


def _parity(exported: Onnx | Trees, rows: pd.DataFrame, golden: pd.DataFrame) -> Parity:
    found = _differences(exported, rows)
    return Parity(
        rows=len(rows),
        worst=float(found.max()),
        tail=float(np.quantile(found, TAIL)),
        golden=float(_differences(exported, golden).max()),
    )


def _differences(exported: Onnx | Trees, rows: pd.DataFrame) -> Scores:
    batch = pa.RecordBatch.from_pandas(rows[list(exported.features)], preserve_index=False)
    return apart(exported.scores(batch), stacked(rows[name] for name in exported.target.columns))


@dataclass(frozen=True, slots=True)
class Case:
    """Real rows, changed: the features are set to the value in the first `count` of them."""

    features: Sequence[str]
    value: float
    count: int


def _guards(
    pipeline: ScikitLearn, exported: Onnx | Trees, rows: pd.DataFrame, allowed: float, groups: Iterable[Sequence[str]]
) -> Iterator[Guard]:
    """Guards for the values on which the engines differ."""
    features, together = exported.features, [Case(group, np.nan, NULL_ROWS) for group in groups]
    seen = {feature: np.unique(rows[feature].dropna()) for feature in features}
    nulls = [Case([feature], np.nan, NULL_ROWS) for feature in features]
    infinite = [Case([feature], value, ODD_ROWS) for feature in features for value in (np.inf, -np.inf)]
    new = [Case([feature], value, ODD_ROWS) for feature in features for value in _new(seen[feature])]
    apart_on = [_apart_on(pipeline, exported, rows, cases, allowed) for cases in ([*together, *nulls], infinite, new)]
    refused = [{feature for case in cases for feature in case.features} for cases in apart_on]
    for feature in features:
        if any(feature in some for some in refused):
            known = tuple(float(value) for value in seen[feature]) if feature in refused[2] else ()
            yield Guard(feature=feature, nulls=feature in refused[0], infinite=feature in refused[1], seen=known)


def _new(seen: npt.NDArray[np.float32]) -> Iterator[float]:
    """A value above all others, one below, and one between two of them."""
    if len(seen):
        yield from (float(seen[-1]) + 1, float(seen[0]) - 1)
        yield float(seen[0] + seen[1]) / 2 if len(seen) > 1 else float(seen[0]) + 0.5


def _apart_on(
    pipeline: ScikitLearn, exported: Onnx | Trees, rows: pd.DataFrame, cases: Sequence[Case], allowed: float
) -> list[Case]:
    """The cases on which the engines differ. All are scored at once; if an engine refuses some, each half of them by itself."""
    if not cases:
        return []
    some = [rows.head(case.count)[list(exported.features)] for case in cases]
    changed = [
        part.assign(**dict.fromkeys(case.features, np.float32(case.value))) for part, case in zip(some, cases, strict=True)
    ]
    batch = pa.RecordBatch.from_pandas(pd.concat(changed), preserve_index=False)
    one, other = _answer(pipeline, batch), _answer(exported, batch)
    if one is not None and other is not None:
        ends = np.cumsum([len(part) for part in some])
        worst = (float(part.max()) for part in np.split(apart(other, one), ends[:-1]))
        return [case for case, most in zip(cases, worst, strict=True) if not most <= allowed]
    if len(cases) == 1:
        # Also if both refuse: onnxruntime's error would name an operator, the pipeline's names the value.
        return list(cases)
    half = len(cases) // 2
    return [case for part in (cases[:half], cases[half:]) for case in _apart_on(pipeline, exported, rows, part, allowed)]


def _answer(engine: InferenceEngine, batch: pa.RecordBatch) -> Scores | None:
    """The scores of a batch; None if the engine fails, or a score is not finite."""
    try:
        found = engine.scores(batch)
    except Exception:
        return None
    return found if np.isfinite(found).all() else None
