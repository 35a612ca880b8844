"""Everything that a project needs, on this machine: an S3 server, Airflow, and Spark with a Java to run it.

All state is below one folder, `.almanac/` in the project's. What `start` begins goes on when its process ends, until `stop`.

    store/ airflow/ spark/ java/   each program's data and logs
    env                            the variables by which `almanac` and other programs reach it; only its owner can read it
    up.json                        what was started, from the moment it is healthy
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from almanac.local import java, scheduler, seaweed, spark_conf
from almanac.local.processes import is_running, stop_leftovers
from almanac.project import STATE, Project

PROGRAMS = {"store": ("weed",), "airflow": scheduler.PROCESSES}
# What other programs need of the environment of Airflow's processes.
SHARED = ("ALMANAC_ROOT", "ALMANAC_LANDING", "ALMANAC_SPARK_JOBS")
Tell = Callable[[str], None]


class Busy(RuntimeError):
    """Another process is starting or stopping the same folder's programs."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was started: the address and login of the UI, and the variables by which other programs reach all of it."""

    project: str
    address: str
    user: str
    password: str
    environment: Mapping[str, str]


def start(project: Path, tell: Tell, *, port: int = 0, given: Mapping[str, str] | None = None) -> Machine:
    """Starts everything, and returns when all of it is healthy. Does nothing if all of it runs; if a part does, stops that first.

    Args:
        project: the folder with `dags/` and `spark_jobs/`.
        tell: gets a line about each step.
        port: of the UI; that of the last start, or another free one, when 0.
        given: variables of Airflow's processes and their jobs, which override all others.

    Raises:
        NotStarted, NotUp, NoJava: a program did not start; what was started is stopped again.
        Busy: another process is at it.
    """
    state = project.resolve() / STATE
    with _alone(state):
        if (running := _read(state)) is not None and all(alive for _, alive in programs(project)):
            tell("Everything is running already.")
            return running
        _stop(state)
        with ExitStack() as undo:
            tell("Starting an S3 server with its own keys ...")
            store = seaweed.start(state / "store")
            undo.callback(store.stop)
            tell("Starting Airflow: API server, scheduler, DAG processor, triggerer ...")
            with ThreadPoolExecutor() as pool:
                spark = pool.submit(_spark, state)  # while Airflow creates its database
                airflow, environment = scheduler.start(
                    state / "airflow", project.resolve(), store, spark.result, given, port=port
                )
            undo.callback(airflow.stop)
            found = Machine(
                project=str(project.resolve()),
                address=airflow.address,
                user=scheduler.USER,
                password=airflow.password,
                environment={
                    **{name: environment[name] for name in SHARED},
                    **store.environment(),
                    "ALMANAC_AIRFLOW_URL": airflow.address,
                    "ALMANAC_AIRFLOW_USER": scheduler.USER,
                    "ALMANAC_AIRFLOW_PASSWORD": airflow.password,
                },
            )
            lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(found.environment.items())]
            _private(state / "env", "".join(lines))
            _private(state / "up.json", json.dumps(asdict(found)))
            undo.pop_all()
        return found


def stop(project: Path) -> list[str]:
    """Stops what runs; returns the names of the programs that did. Data and logs stay. Raises: Busy."""
    state = project.resolve() / STATE
    if not state.is_dir():
        return []
    with _alone(state):
        return _stop(state)


def running(project: Path) -> Machine | None:
    """What was started in a project and has not been stopped, whether or not each program still runs."""
    return _read(project.resolve() / STATE)


def programs(project: Path) -> list[tuple[str, bool]]:
    """Each program's name, and whether it runs."""
    state = project.resolve() / STATE
    return [(name, is_running(state / folder, name)) for folder, names in PROGRAMS.items() for name in names]


def _stop(state: Path) -> list[str]:
    for name in ("up.json", "env"):
        (state / name).unlink(missing_ok=True)
    return [name for folder in reversed(PROGRAMS) for name in stop_leftovers(state / folder, patience=8.0)]


def _spark(state: Path) -> dict[str, str]:
    return spark_conf.environment(state / "spark", java.java_home(state / "java"))


def _read(state: Path) -> Machine | None:
    with suppress(FileNotFoundError, ValueError, TypeError):  # not ours, or of another version: as if nothing was started
        return Machine(**json.loads((state / "up.json").read_text()))
    return None


def _private(file: Path, text: str) -> None:
    """Writes a file at once and whole, which only its owner can read."""
    draft = file.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
    draft.replace(file)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Keeps other processes from starting or stopping the same programs meanwhile. Raises: Busy."""
    with (Project(state.parent).state() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"Another process is starting or stopping what is in {state}. Wait until it is done.") from None
        yield
