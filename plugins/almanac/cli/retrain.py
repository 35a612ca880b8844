"""`almanac retrain`: trains a version for a period."""

from __future__ import annotations

from typing import Annotated

import typer

from almanac.cli.console import AsJson, Name, app, show_rows
from almanac.cli.dag_runs import Unpause, Wait, leave, start


@app.command(
    epilog="Examples: almanac retrain purchase_propensity 2017-08 --wait; almanac retrain churn 2017-08 --dry-run --wait"
)
def retrain(
    name: Name,
    period: Annotated[str, typer.Argument(help="The period to train for, such as 2017-08; it must have ended.")],
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Rebuild features whose sources changed since they were built.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The run plans only, and changes nothing.")] = False,
    unpause: Unpause = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Builds features, trains a version and lets the gate decide: starts the DAG PIPELINE_retrain.

    Needs ALMANAC_AIRFLOW_URL and a login: ALMANAC_AIRFLOW_TOKEN, or ALMANAC_AIRFLOW_USER and ALMANAC_AIRFLOW_PASSWORD.
    """
    conf = {"period": period, "refresh": refresh or None, "dry_run": dry_run or None}
    run = start(f"{name}_retrain", conf, wait=wait, unpause=unpause)
    show_rows(run, as_json, ["retrain of", name], [["period", period], *([key, run[key]] for key in ("run", "state", "page"))])
    leave(run["state"])
