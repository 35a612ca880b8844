"""What is needed to load a version, and the message when it does not score here as it did where it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from almanac.core.canonical import later
from almanac.core.receipts import Output
from almanac.core.target import Target

# The files of a version: the pickled scikit-learn pipeline, its export, the export's trees, its report; and feature rows with the
# scores that the pipeline gave them: a few golden rows, the holdout, a sample of the training rows.
MODEL, ONNX, TREES, REPORT = "model.joblib", "model.onnx", "trees.npz", "report.json"
GOLDEN, HOLDOUT, TRAINED = "golden.parquet", "holdout.parquet", "trained.parquet"
# How much the score of a golden row may differ from its stored score.
GOLDEN_TOLERANCE = 1e-6
SCIKIT_LEARN, ONNXRUNTIME, NUMPY = "scikit-learn", "onnxruntime", "numpy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Values of a feature that a version's engine treats differently from the pipeline: rows that hold one go to scikit-learn.

    Args:
        nulls: whether nulls and NaN are such values.
        infinite: whether infinities are.
        seen: every value not listed here is one; if this is empty, no number is.
    """

    feature: str
    nulls: bool = False
    infinite: bool = False
    seen: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What scores with a version, and why: decided once, when the version is audited.

    Args:
        name: `scikit-learn` (from model.joblib), `onnxruntime` (from model.onnx) or `numpy` (from trees.npz).
        reason: in plain words.
        rows: how many real rows it was compared with scikit-learn on; 0 when it was not.
        worst, tail: the largest and the 99.99th percentile of the score differences on these rows.
        golden: by how much a golden row's score may differ when the version is loaded.
        columns: the index of each of the target's scores in the output of model.onnx; -1 for a class that the model never saw.
        guards: the values that the engine is not given.
        speedup: how many times as fast as onnxruntime numpy scored real rows in the audit; None if it was not timed.
    """

    name: str = SCIKIT_LEARN
    reason: str = ""
    rows: int = 0
    worst: float | None = None
    tail: float | None = None
    golden: float = GOLDEN_TOLERANCE
    columns: tuple[int, ...] = ()
    guards: tuple[Guard, ...] = ()
    speedup: float | None = later(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a version is loaded from.

    Args:
        files: by name, from the manifest, or from the receipt if there is no manifest yet.
        features: their names, in the model's order.
        environment: distribution to version, where it was trained.
        target: what it predicts.
        engine: what scores with it.
        shipped: the zipped user module, such as `shop-0123abcd.zip`: its name among Spark's files, or its path in a task; empty
            where the module is importable anyway.
    """

    version: str
    files: Mapping[str, Output]
    features: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    target: Target = Target()
    engine: Engine = Engine()
    shipped: str = ""


def drift(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The distributions whose version differs from the recorded one, in plain words, and what to do."""
    moved = [f"{name} was {version}, is {now.get(name, 'missing')}" for name, version in then.items() if now.get(name) != version]
    if moved:
        return f"These differ from the training environment: {'; '.join(moved)}. Install the recorded versions, or retrain."
    recorded = f" ({', '.join(then)})" if then else ""
    return (
        f"None of the distributions that its manifest records{recorded} differs from the training environment; something else "
        "does, such as the processor or another library. Retrain it here."
    )
