"""Opening a model: the one place where anything is unpickled, in the driver and in the tasks.

joblib is code. Both files of a bundle are held against their digests before the first byte is deserialised, and what was
loaded must give the scores that are stored with it again before it scores anything else.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import pickle
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.base import BaseEstimator

from almanac.core.bundle import GOLDEN_TOLERANCE, Bundle, drift
from almanac.core.canonical import decode, dumps, sha256
from almanac.core.receipts import Output
from almanac.errors import Drifted, IntegrityError, NotFound, Unreachable
from almanac.spark import arrow
from almanac.spark.training import probability

# What unpickling raises where a library or the user's module is another one.
UNLOADABLE = (ImportError, AttributeError, TypeError, ValueError, KeyError, IndexError, EOFError, pickle.UnpicklingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model that was loaded and gave its golden scores again: so many rows, and by how much a score differed at most."""

    model: Any
    golden_rows: int
    worst: float


def open_model(bundle: Bundle) -> Opened:
    """The fitted scikit-learn pipeline of a version.

    Raises:
        NotFound, Unreachable: a file cannot be read.
        IntegrityError: a file's bytes are not those of the manifest; nothing was unpickled.
        Drifted: it cannot be loaded here, or does not give the scores of its golden rows again.
    """
    body, golden = (_verified(output) for output in (bundle.model, bundle.golden))
    model = _unpickled(bundle, body)
    rows = pq.read_table(pa.BufferReader(golden)).to_pandas()
    with _loadable(bundle):
        again = probability(model, rows[list(bundle.features)])
    worst = float(abs(again - rows["score"]).max())
    if not worst <= GOLDEN_TOLERANCE:
        raise Drifted(
            f"Version {bundle.version} does not score here as it did where it was trained: a golden row's score differs by "
            f"{worst:.3g}, {GOLDEN_TOLERANCE:.0e} is allowed, so nothing is scored with it. {_differing(bundle)}"
        )
    return Opened(model=model, golden_rows=len(rows), worst=worst)


def opened_once(bundle: Bundle) -> Any:
    """The fitted pipeline of a version, in a task; opened once a worker."""
    return _opened(dumps(bundle))


@functools.lru_cache(maxsize=2)
def _opened(bundle: bytes) -> Any:
    return open_model(decode(Bundle, json.loads(bundle))).model


def _verified(output: Output) -> bytes:
    body = read_file(output.uri)
    found = sha256(body)
    if found != output.sha256:
        raise IntegrityError(
            f"{output.uri}: found bytes with SHA-256 {found[:16]}..., {output.sha256[:16]}... was written. The file was altered; "
            "it is not used and nothing was unpickled. Restore it from the bucket's versions, or make it again."
        )
    return body


def read_file(uri: str) -> bytes:
    """The bytes of a file; a task has no other way to the store. Raises: NotFound, Unreachable."""
    system, path = arrow.locate(uri)
    try:
        with system.open_input_stream(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        raise NotFound(f"{uri}: nothing is kept there. Restore it from the bucket's versions, or make it again.") from None
    except OSError as error:
        raise Unreachable(f"{uri}: the file cannot be read ({error}). Check the store and its credentials.") from error


def _unpickled(bundle: Bundle, body: bytes) -> Any:
    import joblib

    with _loadable(bundle):
        return joblib.load(io.BytesIO(body))


@contextlib.contextmanager
def _loadable(bundle: Bundle) -> Iterator[None]:
    """A pickle of another library fails when it is loaded, or only when it is asked for a score. Raises: Drifted."""
    try:
        yield
    except UNLOADABLE as error:
        raise Drifted(
            f"Version {bundle.version} cannot be loaded here ({type(error).__name__}: {_line(error)}), so nothing is scored with "
            f"it. {_differing(bundle)}"
        ) from error


def _line(error: Exception) -> str:
    """An error's text in one line: of a task's error only one line is told."""
    return " ".join(str(error).split())[:300]


def _differing(bundle: Bundle) -> str:
    return drift(bundle.environment, installed(bundle.environment))


def installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of those of the distributions that are installed here; `python` is the interpreter's."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = platform.python_version() if name == "python" else metadata.version(name)
    return found


def pickled(model: Any) -> bytes:
    """The bytes that `open_model` loads."""
    import joblib

    body = io.BytesIO()
    joblib.dump(model, body, compress=3)
    return body.getvalue()


def class_names(model: Any) -> tuple[str, ...]:
    """The classes of a fitted estimator and of those within it: `("Pipeline", "StandardScaler", "LogisticRegression")`."""
    inner = [step for _, step in getattr(model, "steps", ())] or [getattr(model, "estimator", None)]
    return (type(model).__name__, *(name for part in inner if isinstance(part, BaseEstimator) for name in class_names(part)))
