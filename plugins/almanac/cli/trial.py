"""`almanac try`: runs a pipeline's functions on a sample of the data, before Airflow does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from almanac import user_module
from almanac.cli.console import Folder, Name, app, complain
from almanac.errors import AlmanacError
from almanac.project import Project
from almanac.settings import PACKAGE


@app.command(
    "try",
    epilog="Examples: almanac try purchase_propensity; almanac try churn --period 2017-08 --whole; almanac try churn --watch",
)
def try_pipeline(
    name: Name,
    folder: Folder = Path(),
    period: Annotated[
        str | None, typer.Option(help="The period to retrain, such as 2017-08; the newest that the events fill, if not given.")
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="All entities and all snapshots of the window, not a sample.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Do it again whenever one of the two files is saved.")] = False,
) -> None:
    """Runs population, feature groups, label, checks and estimators once in a local Spark session. Stores and publishes nothing.

    Works on about 2,000 entities of the newest training snapshot and the holdout. Prints each function's rows, seconds and
    columns, warnings, and the gate's metric on the holdout; or the first error, with its line in the user's module. Needs the
    sources on S3, not Airflow. Exit code 1 if anything failed.
    """
    project = Project(folder)
    user_module.check(project.spark_jobs, project.described(name))  # before anything is started
    command = [sys.executable, "-m", "almanac.jobs.trial", name, "--folder", str(folder)]
    command += ["--period", period] if period else []
    command += [*(["--whole"] if whole else []), *(["--watch"] if watch else [])]
    environment = {**os.environ, **_spark(folder)}
    path = filter(None, (str(PACKAGE.parent), environment.get("PYTHONPATH")))
    environment["PYTHONPATH"] = os.pathsep.join(path)
    try:
        code = subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


def _spark(folder: Path) -> dict[str, str]:
    """Java and the settings with which Spark starts fast, where they are installed; else this process's own."""
    try:
        from almanac.local import java, spark_conf
    except ImportError:
        return {}
    state = Project(folder).state()
    if not (state / "spark").exists():
        complain("Preparing Spark, once for this folder ...")
    try:
        return spark_conf.environment(state / "spark", java.java_home(state / "java"))
    except RuntimeError as error:  # no Java, or no Spark
        raise AlmanacError(str(error)) from None
