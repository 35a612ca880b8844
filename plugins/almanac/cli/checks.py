"""`almanac checks draft`: drafts a suite of checks from the profiles of published features."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from almanac.cli.console import AsJson, Name, app, home_of
from almanac.core.canonical import encode
from almanac.core.profile import draft, python
from almanac.store import profiles

checks = typer.Typer(
    help="Checks of features.",
    epilog="Example: almanac checks draft purchase_propensity",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(checks, name="checks")


@checks.command(
    "draft", epilog="Examples: almanac checks draft purchase_propensity --periods 6; almanac checks draft churn --json"
)
def draft_checks(
    name: Name,
    periods: Annotated[int, typer.Option(min=1, help="How many of the newest periods to draft from.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Drafts `checks()` for spark_jobs/PIPELINE.py: row count, nulls, values and ranges, each with a margin.

    Every audit of features stores a profile of them; the draft uses the newest ones. Changes nothing.
    """
    found = profiles.newest(home_of(name), periods)
    if as_json:
        print(json.dumps({"profiles": encode(found), "checks": encode(draft(found))}, indent=2))
    else:
        print(python(name, found), end="")
