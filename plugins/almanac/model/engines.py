"""Inference engines behind one interface: scikit-learn from model.joblib, onnxruntime from model.onnx, numpy from trees.npz; one
thread per task.

A version's engine is decided in its audit (`model.parity`) and recorded in its manifest. A task opens it once, and imports
scikit-learn only if that scores.
"""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from almanac.core.bundle import GOLDEN, GOLDEN_TOLERANCE, MODEL, NUMPY, ONNX, ONNXRUNTIME, SCIKIT_LEARN, TREES, Bundle, Guard
from almanac.core.canonical import decode, dumps
from almanac.core.receipts import Output
from almanac.core.scoring import Scoring
from almanac.core.target import BINARY, REGRESSION, Target
from almanac.errors import Drifted
from almanac.model import bundles
from almanac.model.bundles import Scores
from almanac.model.splits import Splits
from almanac.model.trees import JOINED, Cut, Ensemble

Columns = Mapping[str, npt.NDArray[np.float32]]
# Rows of a batch that fit into a core's cache while a model's operators pass over them.
PART_ROWS = 16_384
PROBABILITIES = "probabilities"
AnExport = TypeVar("AnExport", bound="Exported")


class InferenceEngine(Protocol):
    """Gives the scores of a batch of features, float64: of shape (rows,), or (rows, classes) for a multiclass target."""

    def scores(self, batch: pa.RecordBatch) -> Scores: ...


@dataclass(frozen=True, slots=True)
class ScikitLearn:
    """The fitted pipeline itself."""

    model: Any
    features: tuple[str, ...]
    target: Target

    def scores(self, batch: pa.RecordBatch) -> Scores:
        from almanac.model.training import predict

        return predict(self.model, batch.select(list(self.features)).to_pandas(), self.target)


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX graph in onnxruntime, on one thread.

    Args:
        inputs: its inputs, and the features that each one joins.
    """

    session: Any
    inputs: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, body: bytes) -> Graph:
        """Raises: whatever onnxruntime raises for bytes that are not an ONNX model."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # errors are raised, not logged
        session = onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])
        joined = json.loads(session.get_modelmeta().custom_metadata_map.get(JOINED, "{}"))
        return cls(session, {item.name: tuple(joined.get(item.name, [item.name])) for item in session.get_inputs()})

    @property
    def outputs(self) -> list[str]:
        return [item.name for item in self.session.get_outputs()]

    def run(self, outputs: list[str], rows: Columns) -> list[npt.NDArray[Any]]:
        given = {name: _beside([rows[feature] for feature in features]) for name, features in self.inputs.items()}
        return list(self.session.run(outputs, given))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported(ABC):
    """An exported pipeline; what it must not get, the pipeline itself scores.

    Args:
        columns: the position of each of the target's scores in its output, -1 if there is none.
        guards: the values that it must not get.
        beyond: opens the pipeline itself, which scores the rows that hold such values.
    """

    features: tuple[str, ...]
    target: Target
    columns: tuple[int, ...]
    guards: tuple[Guard, ...] = ()
    beyond: Callable[[], InferenceEngine] | None = None

    def scores(self, batch: pa.RecordBatch) -> Scores:
        parts = [self._part(batch.slice(begin, PART_ROWS)) for begin in range(0, batch.num_rows, PART_ROWS)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, batch: pa.RecordBatch) -> Scores:
        # A null becomes NaN, as it does in pandas.
        rows = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in self.features}
        if self.beyond is not None and not all(admits(guard, rows[guard.feature]) for guard in self.guards):
            return self.beyond().scores(batch)
        found = self.output(rows)
        if self.target.kind == REGRESSION:
            return np.asarray(found, dtype=np.float64).reshape(-1)
        if self.target.kind == BINARY:
            return np.asarray(found[:, self.columns[0]], dtype=np.float64)
        scores = np.zeros((len(found), len(self.columns)))
        for place, column in enumerate(self.columns):
            if column >= 0:
                scores[:, place] = found[:, column]
        return scores

    @abstractmethod
    def output(self, rows: Columns) -> npt.NDArray[Any]:
        """Probabilities, of shape (rows, classes); or values, of shape (rows, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Onnx(Exported):
    """All of it in onnxruntime."""

    graph: Graph
    wanted: str

    @classmethod
    def of(cls, body: bytes, features: Sequence[str], target: Target, columns: Sequence[int]) -> Onnx:
        """Raises: as `Graph.of`."""
        graph = Graph.of(body)
        wanted = output_of(graph.outputs)
        return cls(features=tuple(features), target=target, columns=tuple(columns), graph=graph, wanted=wanted)

    def output(self, rows: Columns) -> npt.NDArray[Any]:
        (found,) = self.graph.run([self.wanted], rows)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees(Exported):
    """Its trees in numpy; what comes before them, in onnxruntime.

    Args:
        parts: of the trees' matrix, as in `Cut`.
        before: what makes the parts that are no features; None if there are none.
    """

    ensemble: Ensemble
    splits: Splits
    parts: tuple[tuple[str, ...] | None, ...]
    before: Graph | None

    @classmethod
    def of(cls, cut: Cut, features: Sequence[str], target: Target, columns: Sequence[int]) -> Trees:
        """Raises: Unsupported; or as `Graph.of`."""
        return cls(
            features=tuple(features),
            target=target,
            columns=tuple(columns),
            ensemble=cut.ensemble,
            splits=Splits(cut.ensemble),
            parts=cut.parts,
            before=Graph.of(cut.before) if cut.before else None,
        )

    def output(self, rows: Columns) -> npt.NDArray[Any]:
        made = iter(() if self.before is None else self.before.run(self.before.outputs, rows))
        matrix: list[npt.NDArray[np.float32]] = []
        for part in self.parts:
            matrix.extend(next(made).T if part is None else (rows[feature] for feature in part))
        return self.ensemble.linked(self.splits.sums(matrix))


def output_of(names: Sequence[str]) -> str:
    """The output of an exported pipeline that holds the scores: a classifier also returns labels."""
    return PROBABILITIES if PROBABILITIES in names else names[0]


def _beside(columns: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Columns joined to a matrix, of shape (rows, columns)."""
    return columns[0].reshape(-1, 1) if len(columns) == 1 else np.ascontiguousarray(np.stack(columns).T)


def admits(guard: Guard, values: npt.NDArray[np.float32]) -> bool:
    """Whether an exported pipeline treats all of a feature's values as the pipeline does."""
    finite = np.isfinite(values)
    if not finite.all():
        if (guard.nulls and np.isnan(values).any()) or (guard.infinite and np.isinf(values).any()):
            return False
        values = values[finite]
    return not guard.seen or bool(np.isin(values, np.array(guard.seen, dtype=np.float32)).all())


def open_engine(bundle: Bundle) -> InferenceEngine:
    """Opens the engine that scores with a version.

    Raises:
        NotFound, Unreachable: a file cannot be read.
        IntegrityError: a file's bytes are not those of the manifest.
        Drifted: it cannot be loaded here, or does not reproduce the scores of its golden rows.
    """
    return kind_of(bundle).open(bundle)


def kind_of(bundle: Bundle) -> EngineKind:
    """The engine of a version. Raises: Drifted."""
    if (found := ENGINES.get(bundle.engine.name)) is None:
        raise Drifted(
            f"Version {bundle.version}: expected one of the engines {', '.join(map(repr, ENGINES))}; got {bundle.engine.name!r}. "
            "Use the version of Almanac that trained it, or retrain."
        )
    return found


def files_of(bundle: Bundle) -> list[Output]:
    """The files that a load may read: rows that a guard keeps from an exported pipeline need the pipeline itself."""
    return [bundle.files[name] for name in dict.fromkeys((GOLDEN, MODEL, kind_of(bundle).file))]


def _open_pipeline(bundle: Bundle) -> ScikitLearn:
    from almanac.model.loading import open_model

    with bundles.own_module(bundle.shipped):
        return ScikitLearn(open_model(bundle).model, bundle.features, bundle.target)


def _open_onnx(bundle: Bundle) -> Onnx:
    return _open_exported(bundle, ONNX, lambda body: Onnx.of(body, bundle.features, bundle.target, bundle.engine.columns))


def _open_trees(bundle: Bundle) -> Trees:
    def opened(body: bytes) -> Trees:
        return Trees.of(Cut.unpacked(body), bundle.features, bundle.target, bundle.engine.columns)

    return _open_exported(bundle, TREES, opened)


def _open_exported(bundle: Bundle, name: str, opened: Callable[[bytes], AnExport]) -> AnExport:
    body, golden = (bundles.verified(bundle.files[file]) for file in (name, GOLDEN))
    rows = pq.read_table(pa.BufferReader(golden)).combine_chunks().to_batches()[0]
    with bundles.loadable(bundle, (Exception,)):  # onnxruntime's errors have no common class
        beyond = functools.cache(lambda: _open_pipeline(bundle))
        engine = replace(opened(body), guards=bundle.engine.guards, beyond=beyond)
        again = engine.scores(rows)
    stored = bundles.stacked(rows.column(name) for name in bundle.target.columns)
    bundles.check_golden(bundle, again, stored, bundle.engine.golden)
    return engine


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """A kind of inference engine.

    Args:
        file: the file of a version that it is opened from.
        open: opens it. Raises: as `open_engine`.
        tolerance: how much its scores may differ from the fitted pipeline's, given the description's `Scoring`.
    """

    name: str
    file: str
    open: Callable[[Bundle], InferenceEngine]
    tolerance: Callable[[Scoring], float]


ENGINES: Mapping[str, EngineKind] = {
    kind.name: kind
    for kind in (
        EngineKind(name=SCIKIT_LEARN, file=MODEL, open=_open_pipeline, tolerance=lambda _: GOLDEN_TOLERANCE),
        EngineKind(name=ONNXRUNTIME, file=ONNX, open=_open_onnx, tolerance=lambda scoring: scoring.worst),
        EngineKind(name=NUMPY, file=TREES, open=_open_trees, tolerance=lambda scoring: scoring.worst),
    )
}


def opened_once(bundle: Bundle) -> InferenceEngine:
    """The engine that scores with a version, in a task; opened once per worker."""
    return _opened(dumps(bundle))


@functools.lru_cache(maxsize=2)
def _opened(bundle: bytes) -> InferenceEngine:
    return open_engine(decode(Bundle, json.loads(bundle)))
