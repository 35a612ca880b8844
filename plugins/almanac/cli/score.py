"""`almanac score`: scores many periods in one run."""

from __future__ import annotations

from typing import Annotated

import typer

from almanac.cli.console import AsJson, Name, app, home_of, show_rows
from almanac.cli.dag_runs import Unpause, Wait, leave, start
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
    version: Annotated[
        str | None, typer.Option(help="Score with this version; default the one in force for each period.")
    ] = None,
    allow_in_sample: Annotated[
        bool, typer.Option("--allow-in-sample", help="Also score periods that the version was trained on; recorded as in-sample.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; start nothing.")] = False,
    unpause: Unpause = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Scores many periods in one Spark application, each with a commit of its own: starts one run of the DAG PIPELINE_score.

    The plan needs only the bucket. Starting the DAG needs ALMANAC_AIRFLOW_URL and a login: ALMANAC_AIRFLOW_TOKEN, or
    ALMANAC_AIRFLOW_USER and ALMANAC_AIRFLOW_PASSWORD.
    """
    home = home_of(name)
    periods = overview.newest_description(home).range(first, last)
    found = plan.score_all(home, periods, version=version, allow_in_sample=allow_in_sample)
    rows = [[one.period, one.version, "will be built" if one.build else "published"] for one in found]
    columns = ["period", "version", "features"]
    if dry_run:
        show_rows(found, as_json, columns, rows)
        return
    conf = {"from": first, "to": last, "version": version, "allow_in_sample": allow_in_sample}
    run = start(f"{name}_score", conf, wait=wait, unpause=unpause)
    show_rows({**run, "plan": [one.period for one in found]}, as_json, columns, [*rows, ["", run["run"], run["state"]]])
    leave(run["state"])
