"""`almanac score`: many periods scored in one run."""

from __future__ import annotations

from typing import Annotated

import typer

from almanac.cli.console import AsJson, Name, app, home_of, show_rows
from almanac.cli.dag_runs import Wait, leave, start
from almanac.runs import plan
from almanac.store import overview


@app.command(
    epilog="Examples: almanac score purchase_propensity --from 2017-08 --to 2017-10 --dry-run; "
    "almanac score purchase_propensity --from 2017-08 --to 2017-10 --wait"
)
def score(
    name: Name,
    first: Annotated[str, typer.Option("--from", help="The first period.")],
    last: Annotated[str, typer.Option("--to", help="The last period.")],
    version: Annotated[str | None, typer.Option(help="Score with this version; each period's own, by default.")] = None,
    allow_in_sample: Annotated[
        bool, typer.Option("--allow-in-sample", help="Score also what the version was trained on; recorded as such.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; start nothing.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Scores many periods in one Spark application: starts one run of the DAG PIPELINE_score. Each gets a commit of its own.

    The plan is made from the bucket alone. Starting the DAG needs ALMANAC_AIRFLOW_URL and a login: ALMANAC_AIRFLOW_TOKEN, or
    ALMANAC_AIRFLOW_USER and ALMANAC_AIRFLOW_PASSWORD.
    """
    home = home_of(name)
    periods = overview.newest_description(home).range(first, last)
    found = plan.score_all(home, periods, version=version, allow_in_sample=allow_in_sample)
    rows = [[one.period, one.version, "are built" if one.build else "are there"] for one in found]
    columns = ["period", "version", "features"]
    if dry_run:
        show_rows(found, as_json, columns, rows)
        return
    conf = {"from": first, "to": last, "version": version, "allow_in_sample": allow_in_sample}
    told = start(f"{name}_score", conf, wait=wait)
    show_rows({**told, "plan": [one.period for one in found]}, as_json, columns, [*rows, ["", told["run"], told["state"]]])
    leave(told["state"])
