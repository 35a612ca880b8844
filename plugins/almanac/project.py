"""A project's folder: where its DAG files and user modules are, and what a DAG file describes, without Airflow."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from almanac.core.pipeline import Pipeline
from almanac.errors import DescriptionError, examples
from almanac.user_module import shown

DAGS = "almanac.airflow"
STATE = ".almanac"
ENVIRONMENT = f"{STATE}/env"
# What an environment file may set: nothing that changes which programs or code run.
TAKEN = ("ALMANAC_", "AWS_")
PERSONAL = ("AWS_PROFILE", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")  # credentials that go with other keys


@dataclass(frozen=True, slots=True)
class Project:
    """The folder of a team's pipelines: `dags/NAME.py` and `spark_jobs/NAME.py`."""

    folder: Path

    @property
    def dags(self) -> Path:
        return self.folder / "dags"

    @property
    def spark_jobs(self) -> Path:
        """The folder of the user modules: that of ALMANAC_SPARK_JOBS, if it is set."""
        return Path(os.environ.get("ALMANAC_SPARK_JOBS") or self.folder / "spark_jobs")

    def state(self) -> Path:
        """The folder of what programs keep for the project, made for its owner alone, and left out of git."""
        found = self.folder.resolve() / STATE
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        (found / ".gitignore").write_text("*\n")
        return found

    def check(self) -> None:
        """Checks that the folder is a project's. Raises: DescriptionError."""
        if missing := [shown(one) for one in (self.dags, self.spark_jobs) if not one.is_dir()]:
            raise DescriptionError(
                f"{shown(self.folder.resolve())}: expected a folder with dags/ and spark_jobs/, found no {examples(missing)}. Go "
                "to the project's folder, or begin one with `almanac new`."
            )

    def every(self) -> tuple[list[Pipeline], list[DescriptionError]]:
        """The pipelines of all DAG files, and the errors of those that fail."""
        found, failed = list[Pipeline](), list[DescriptionError]()
        for file in sorted(self.dags.glob("*.py")):
            try:
                found += _run(file)
            except DescriptionError as error:
                failed.append(error)
        return found, failed

    def described(self, name: str) -> Pipeline:
        """The pipeline that `dags/NAME.py` describes.

        Raises:
            DescriptionError: there is no such file, it fails, or it describes no pipeline of that name.
        """
        file = self.dags / f"{name}.py"
        if not file.is_file():
            there = sorted(one.stem for one in self.dags.glob("*.py")) if self.dags.is_dir() else []
            raise DescriptionError(
                f"Pipeline {name!r} has no DAG file: {shown(file)} does not exist (found in {shown(self.dags)}: "
                f"{examples(there, 20)}). Write it or name another pipeline; run the command in the folder that has dags/, or "
                "with --folder."
            )
        found = {one.name: one for one in _run(file)}
        if name not in found:
            raise DescriptionError(
                f"{shown(file)}: expected build_dags(Pipeline(name={name!r}, ...)), found pipelines: {examples(sorted(found))}. "
                "Give the pipeline the name of its file."
            )
        return found[name]


_loaded: dict[str, str | None] = {}  # what was set from a file, with what stood there before


def load_environment(folder: Path | None = None) -> Path | None:
    """Sets the variables that `almanac up` wrote into a project, if this folder or one above it is that project, and if neither a
    root nor an S3 server is set. Returns the file that was read. What an earlier call set from another project's file is undone.

    The credentials are taken as a whole: a person's own keys or session token are not for this server.
    """
    for name, value in _loaded.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    _loaded.clear()
    if any(os.environ.get(name) for name in ("ALMANAC_ROOT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")):
        return None
    here = (folder or Path()).resolve()
    file = next((one / ENVIRONMENT for one in (here, *here.parents) if (one / ENVIRONMENT).is_file()), None)
    if file is None or file.stat().st_uid != os.getuid():  # another user's settings could lead anywhere
        return None
    lines = [line.partition("=") for line in file.read_text().splitlines()]
    given = {name: "".join(shlex.split(value)) for name, _, value in lines if name.startswith(TAKEN)}
    taken = {name: value for name, value in given.items() if name.startswith("AWS_") or name not in os.environ}
    _loaded.update({name: os.environ.get(name) for name in (*taken, *PERSONAL)})
    for name in PERSONAL:
        os.environ.pop(name, None)
    os.environ.update(taken)
    return file


class _Dag:
    """What stands for the DAGs that a file builds: it takes whatever the file does with them."""

    def __getattr__(self, _name: str) -> _Dag:
        return self

    def __call__(self, *_: Any, **__: Any) -> _Dag:
        return self

    def __getitem__(self, _key: Any) -> _Dag:
        return self

    def __iter__(self) -> Iterator[_Dag]:
        return iter(())

    def __rshift__(self, other: Any) -> Any:
        return other

    __lshift__ = __rrshift__ = __rlshift__ = __rshift__


def _run(file: Path) -> list[Pipeline]:
    """Runs a DAG file; gives the pipelines for which it builds DAGs."""
    found, file = list[Pipeline](), file.resolve()

    def build_dags(pipeline: Pipeline, **_: Any) -> Mapping[str, _Dag]:
        if not isinstance(pipeline, Pipeline):
            raise DescriptionError(f"build_dags: expected a Pipeline, got {type(pipeline).__name__}.")
        found.append(pipeline)
        return {f"{pipeline.name}_{verb}": _Dag() for verb in ("retrain", "score", "rollback")}

    spec = spec_from_file_location(f"_{file.stem}_dags", file)
    assert spec is not None and spec.loader is not None
    try:
        with _instead_of_airflow(build_dags), _on_path(file.parent):
            spec.loader.exec_module(module_from_spec(spec))
    except SyntaxError as error:
        raise DescriptionError(f"{shown(file)}, line {error.lineno or 1}: {error.msg}. Correct the syntax.") from None
    except Exception as error:
        own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        what = str(error) if isinstance(error, DescriptionError) else f"{type(error).__name__}: {error}"
        raise DescriptionError(f"{shown(file)}, line {own[-1] if own else 1}: {what}") from error
    return found


@contextmanager
def _instead_of_airflow(build_dags: Any) -> Iterator[None]:
    """Lets `from almanac.airflow import build_dags` give another function, so that Airflow is not loaded."""
    before = sys.modules.get(DAGS)
    stand_in = ModuleType(DAGS)
    stand_in.build_dags = build_dags  # type: ignore[attr-defined]
    sys.modules[DAGS] = stand_in
    try:
        yield
    finally:
        del sys.modules[DAGS]
        if before is not None:
            sys.modules[DAGS] = before


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Lets a file import its neighbours, as in Airflow's DAG folder. They are forgotten afterwards: they hold this file's
    `build_dags`, and may be edited before the next one is run.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{folder}{os.sep}"):
                del sys.modules[name]
        importlib.invalidate_caches()
