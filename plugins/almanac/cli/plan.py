"""`almanac plan`: what late or corrected data make stale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from almanac.cli.console import AsJson, Name, app, complain, home_of, out, show_rows
from almanac.cli.dag_runs import SUCCESS, leave, start
from almanac.core.redo import Redo
from almanac.runs import redo


@app.command(epilog="Examples: almanac plan purchase_propensity; almanac plan purchase_propensity --run")
def plan(
    name: Name,
    run: Annotated[
        bool, typer.Option("--run", help="Redo it: start the retrains, then the scoring, and wait for each run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compares what was used with what the sources hold now, and lists the features, versions and predictions to redo.

    Considers what is visible or in force. --run starts the DAGs PIPELINE_retrain and PIPELINE_score with `refresh` for the listed
    periods; if the gate rejects a new version, the previous one stays in force. --run needs ALMANAC_AIRFLOW_URL and a login, as
    `almanac score` does.
    """
    home = home_of(name)
    found = redo.found(home)
    if run:
        for dag, conf in runs(name, found):
            _run(dag, conf)
        found = redo.found(home)
    show_rows(found, as_json, ["redo", "period", "what", "because"], list(_rows(found)))
    if found.nothing and not as_json:
        out().print("Nothing to redo: every source still holds what was used.")


def runs(name: str, found: Redo) -> Iterator[tuple[str, dict[str, Any]]]:
    """The DAG runs that redo it, in order: a version is trained before a period is scored with it."""
    for version in sorted(found.versions, key=lambda one: one.period):
        yield f"{name}_retrain", {"period": version.period, "refresh": True}
    for one in found.predictions:
        yield f"{name}_score", {"period": one.period, "refresh": True, "allow_in_sample": one.in_sample}


def _run(dag: str, conf: dict[str, Any]) -> None:
    complain(f"{dag} {conf['period']}")
    run = start(dag, conf, wait=True)
    if run["state"] != SUCCESS:
        complain(f"almanac: {dag} of {conf['period']} ended as {run['state']}; later runs were not started: {run['page']}")
    leave(run["state"])


def _rows(found: Redo) -> Iterator[list[str]]:
    for stale in found.features:
        why = [f"{', '.join(stale.sources)} changed"] if stale.sources else []
        why += [f"{', '.join(stale.left_out)} left out"] if stale.left_out else []
        yield ["features", stale.period, f"definition {stale.definition}", "; ".join(why)]
    for version in found.versions:
        parts = [f"features of {', '.join(version.features)}"] if version.features else []
        parts += [f"labels of {', '.join(version.labels)}"] if version.labels else []
        yield ["version", version.period, version.version, f"{' and '.join(parts)} change"]
    for one in found.predictions:
        yield ["predictions", one.period, f"by {one.version}", "; ".join(one.reasons)]
