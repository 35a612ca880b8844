"""Commands that change which version is in force."""

from __future__ import annotations

from typing import Annotated

import typer

from almanac.cli.console import AsJson, Name, Reason, Version, app, by_hand, complain, home_of, show_rows
from almanac.cli.kept import entry_row
from almanac.doors import plan, publish
from almanac.errors import PromotionError
from almanac.store import overview


@app.command(epilog="Example: almanac promote purchase_propensity 2017-09-1a2b3c4d --reason 'campaign starts on Monday'")
def promote(name: Name, version: Version, reason: Reason = "", as_json: AsJson = False) -> None:
    """Promotes a version by hand, also over the gate's rejection; the log shows it as such for ever."""
    home = home_of(name)
    manifest = home.versions.read(version)
    described = home.receipts.description(manifest.description)
    gate = overview.last_gate(home, version)
    entry = publish.promote(home, described, home.log(), version, reason=reason, gate=gate, witness=by_hand())
    show_rows(entry, as_json, ["#", "action", "version", "in force from"], [entry_row(entry)[:4]])


@app.command(epilog="Example: almanac rollback purchase_propensity --dry-run")
def rollback(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing.")] = False,
    to: Annotated[str | None, typer.Option(help="The version to go back to; what was in force before, by default.")] = None,
    periods: Annotated[list[str] | None, typer.Option("--period", help="Only this affected period; may be repeated.")] = None,
    withdraw: Annotated[bool, typer.Option(help="Score again what the bad version wrote.")] = True,
    as_json: AsJson = False,
) -> None:
    """What a rollback would do: from which version, to which, and which periods are scored again."""
    if not dry_run:
        complain(
            f"A rollback scores periods again, which needs Spark: start the DAG {name}_rollback with a reason, in the Airflow UI "
            f'or with `airflow dags trigger {name}_rollback --conf \'{{"reason": "..."}}\'`. With --dry-run this shows '
            "its plan."
        )
        raise typer.Exit(2)
    home = home_of(name)
    champion = home.log().champion
    if champion is None:
        raise PromotionError(f"Pipeline {name} has no version in force, so there is nothing to roll back.")
    described = home.receipts.description(home.versions.read(champion).description)
    found = plan.rollback(home, described, reason="dry run", to=to, withdraw=withdraw, periods=periods)
    lines = [
        ["from", found.bad],
        ["to", found.to],
        ["in force from", found.effective],
        ["scored again", f"{', '.join(found.periods) or 'nothing'} ({found.rows} rows)"],
        ["tainted gate decisions", ", ".join(f"#{number}" for number in found.tainted) or "none"],
    ]
    show_rows(found, as_json, ["rollback of", name], lines)
