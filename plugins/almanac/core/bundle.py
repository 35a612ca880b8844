"""What a load needs of a version, and what it says when the version does not score here as it did where it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from almanac.core.receipts import Output
from almanac.core.target import Target

# The files of a version: the pickled scikit-learn pipeline, its export, its report; and rows of features with the scores that the
# pipeline gave them: a few golden ones, the holdout, a sample of those it was trained on.
MODEL, ONNX, REPORT = "model.joblib", "model.onnx", "report.json"
GOLDEN, HOLDOUT, TRAINED = "golden.parquet", "holdout.parquet", "trained.parquet"
# How much a score of a golden row may differ from the one that is stored with it.
GOLDEN_TOLERANCE = 1e-6
SCIKIT_LEARN, ONNXRUNTIME = "scikit-learn", "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Values of a feature that onnxruntime takes otherwise than the pipeline: rows with such ones go to scikit-learn.

    Args:
        nulls: nulls and NaN are such values.
        infinite: so are the infinities.
        seen: so are all that are not among these; where it is empty, no number is.
    """

    feature: str
    nulls: bool = False
    infinite: bool = False
    seen: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What scores with a version, and why: decided once, when the version is audited.

    Args:
        name: `scikit-learn` (from model.joblib) or `onnxruntime` (from model.onnx).
        reason: in plain words.
        rows: on how many real rows the two were compared; 0 when they were not.
        worst, tail: the largest and the 99.99th percentile of the differences of a score there.
        golden: by how much a golden row's score may differ at a load.
        columns: the place of each of the target's scores among those that model.onnx gives; -1 for a class that the model
            never saw.
        guards: the values that onnxruntime is not given.
    """

    name: str = SCIKIT_LEARN
    reason: str = ""
    rows: int = 0
    worst: float | None = None
    tail: float | None = None
    golden: float = GOLDEN_TOLERANCE
    columns: tuple[int, ...] = ()
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A version as it is loaded.

    Args:
        files: by name, those of the manifest, or of the receipt where there is no manifest yet.
        features: their names, in the model's order.
        environment: distribution to version, where it was trained.
        target: what it predicts.
        engine: what scores with it.
        shipped: the zipped user module, such as `shop-0123abcd.zip`: its name among Spark's files, in a task its path; empty
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
    """The distributions whose version differs from the one that is recorded, in plain words, and what to do."""
    moved = [f"{name} was {version}, is {now.get(name, 'missing')}" for name, version in then.items() if now.get(name) != version]
    if moved:
        return f"These differ from where it was trained: {'; '.join(moved)}. Install the versions of then, or retrain."
    recorded = f" ({', '.join(then)})" if then else ""
    return (
        f"None of the distributions that its manifest records{recorded} differs from where it was trained: something else does, "
        "such as the processor or another library. Retrain it here."
    )
