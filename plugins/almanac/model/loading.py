"""Opening a model: the only place where anything is unpickled, in the driver and in the tasks.

A joblib file is code. Both files of a bundle are checked against their digests before the first byte is deserialised, and the
loaded model must reproduce the scores stored with it before it scores anything else.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.base import BaseEstimator

from almanac.core.bundle import GOLDEN, GOLDEN_TOLERANCE, MODEL, Bundle
from almanac.model import bundles
from almanac.model.training import predict


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A loaded model that reproduced its golden scores: how many rows, and the largest difference of a score."""

    model: Any
    golden_rows: int
    worst: float


def open_model(bundle: Bundle) -> Opened:
    """The fitted scikit-learn pipeline of a version.

    Raises:
        NotFound, Unreachable: a file cannot be read.
        IntegrityError: a file's bytes are not those of the manifest; nothing was unpickled.
        Drifted: it cannot be loaded here, or does not reproduce the scores of its golden rows.
    """
    body, golden = (bundles.verified(output) for output in (bundle.files[MODEL], bundle.files[GOLDEN]))
    model = _unpickled(bundle, body)
    rows = pq.read_table(pa.BufferReader(golden)).to_pandas()
    with bundles.loadable(bundle):
        again = predict(model, rows[list(bundle.features)], bundle.target)
    stored = bundles.stacked(rows[name] for name in bundle.target.columns)
    return Opened(model=model, golden_rows=len(rows), worst=bundles.check_golden(bundle, again, stored, GOLDEN_TOLERANCE))


def _unpickled(bundle: Bundle, body: bytes) -> Any:
    import joblib

    with bundles.loadable(bundle):
        return joblib.load(io.BytesIO(body))


class _Classes(pickle.Pickler):
    """Pickles to nowhere, and records which packages the pickled classes and functions come from."""

    def __init__(self) -> None:
        super().__init__(_Nowhere(), protocol=5, buffer_callback=lambda _: None)
        self.packages: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        for one in (obj, type(obj)):
            if isinstance(module := getattr(one, "__module__", None), str):
                self.packages.add(module.split(".")[0])
        return NotImplemented


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def libraries(model: Any) -> dict[str, str]:
    """Distribution to version, for the distributions of a model's classes: what loading it needs."""
    seen = _Classes()
    seen.dump(model)
    distributions = metadata.packages_distributions()
    names = {name for package in seen.packages for name in distributions.get(package, ())}
    return {name: metadata.version(name) for name in sorted(names)}


def class_names(model: Any) -> tuple[str, ...]:
    """The class names of a fitted estimator and those within it: `("Pipeline", "StandardScaler", "LogisticRegression")`."""
    inner = [step for _, step in getattr(model, "steps", ())] or [getattr(model, "estimator", None)]
    return (type(model).__name__, *(name for part in inner if isinstance(part, BaseEstimator) for name in class_names(part)))
