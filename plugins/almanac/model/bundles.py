"""A version's files as a load reads them, and the errors for a version that does not score here as it did where it was trained.

Imported by every task that scores: no scikit-learn.
"""

from __future__ import annotations

import contextlib
import pickle
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from almanac.core.bundle import Bundle, drift
from almanac.core.canonical import sha256
from almanac.core.receipts import Output
from almanac.errors import Drifted, IntegrityError, NotFound, Unreachable
from almanac.files import locate

Scores = npt.NDArray[np.float64]
# What unpickling raises if a library or the user's module has changed.
UNLOADABLE = (ImportError, AttributeError, TypeError, ValueError, KeyError, IndexError, EOFError, pickle.UnpicklingError)


def verified(output: Output) -> bytes:
    """The bytes of a version's file. Raises: NotFound, Unreachable, IntegrityError."""
    body = read_file(output.uri)
    found = sha256(body)
    if found != output.sha256:
        raise IntegrityError(
            f"{output.uri}: expected bytes with SHA-256 {output.sha256[:16]}..., got {found[:16]}...: the file was altered. It "
            "is not used, and nothing was unpickled. Restore it from the bucket's versions, or build it again."
        )
    return body


def read_file(uri: str) -> bytes:
    """The bytes of a file; a task has no other way to the store. Raises: NotFound, Unreachable."""
    system, path = locate(uri)
    try:
        with system.open_input_stream(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        raise NotFound(f"{uri}: expected a file, found none. Restore it from the bucket's versions, or build it again.") from None
    except OSError as error:
        raise Unreachable(f"{uri}: the file cannot be read ({error}). Check the store and its credentials.") from error


def check_golden(bundle: Bundle, again: Scores, stored: Scores, allowed: float) -> float:
    """The largest difference between golden scores and those stored with them. Raises: Drifted."""
    worst = float(apart(again, stored).max())
    if not worst <= allowed:
        raise Drifted(
            f"Version {bundle.version} does not score here as it did where it was trained: a golden row's score differs by "
            f"{worst:.3g}, expected at most {allowed:.0e}. Nothing is scored with it. {_differing(bundle)}"
        )
    return worst


def apart(scores: Scores, stored: Scores) -> Scores:
    """The differences between scores; relative for values beyond -1 to 1, which only a regression has."""
    return np.abs(scores - stored) / np.maximum(1.0, np.abs(stored))


@contextlib.contextmanager
def loadable(bundle: Bundle, errors: tuple[type[Exception], ...] = UNLOADABLE) -> Iterator[None]:
    """Wraps loading and scoring: a pickle of another library may fail in either. Raises: Drifted."""
    try:
        yield
    except errors as error:
        raise Drifted(
            f"Version {bundle.version} cannot be loaded here ({type(error).__name__}: {line(error)}). Nothing is scored with "
            f"it. {_differing(bundle)}"
        ) from error


@contextlib.contextmanager
def own_module(path: str) -> Iterator[None]:
    """Loads a model with the user's module of its own version: the worker may have scored with another version before, whose
    module has the same name. `path`: the zipped module; empty if the module is importable anyway.
    """
    if not path:
        yield
        return
    name = Path(path).name.rsplit("-", 1)[0]
    for known in [one for one in sys.modules if one.split(".")[0] == name]:
        del sys.modules[known]
    sys.path.insert(0, path)
    sys.path_importer_cache.pop(path, None)
    try:
        yield
    finally:
        sys.path.remove(path)


def line(error: Exception) -> str:
    """An error's text in one line, because only one line of a task's error is reported."""
    return " ".join(str(error).split())[:300]


def _differing(bundle: Bundle) -> str:
    return drift(bundle.environment, installed(bundle.environment))


def installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of the named distributions that are installed here; `python` is the interpreter's."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = platform.python_version() if name == "python" else metadata.version(name)
    return found


def stacked(columns: Iterable[Any]) -> Scores:
    """Columns of scores in the shape that an engine returns: `(rows,)` for one, `(rows, classes)` for several."""
    found = [np.asarray(column, dtype=np.float64) for column in columns]
    return found[0] if len(found) == 1 else np.column_stack(found)
