"""`almanac promote`, `withdraw`, `reinstate` and `rollback`: change which version is in force."""

from __future__ import annotations

from typing import Annotated

import typer

from almanac.cli.console import AsJson, Name, Reason, Version, app, by_hand, home_of, show_rows
from almanac.cli.dag_runs import Unpause, Wait, leave, start
from almanac.cli.show import entry_row
from almanac.core.canonical import encode
from almanac.errors import examples
from almanac.runs import promotions, rollback
from almanac.store import overview


@app.command(epilog="Example: almanac promote purchase_propensity 2017-09-1a2b3c4d --reason 'campaign starts on Monday'")
def promote(name: Name, version: Version, reason: Reason = "", as_json: AsJson = False) -> None:
    """Promotes a version by hand, even over the gate's rejection; the log then shows that for ever."""
    home = home_of(name)
    manifest = home.versions.read(version)
    described = home.receipts.description(manifest.description)
    gate = overview.last_gate(home, version)
    entry = promotions.promote(home, described, home.log(), version, reason=reason, gate=gate, run_info=by_hand())
    show_rows(entry, as_json, ["#", "action", "version", "in force from"], [entry_row(entry)[:4]])


@app.command(epilog="Example: almanac withdraw purchase_propensity 2017-09-1a2b3c4d --reason 'trained on a broken feed'")
def withdraw(name: Name, version: Version, reason: Reason = "", as_json: AsJson = False) -> None:
    """Withdraws a version that is in force nowhere, so that it cannot be promoted or scored with."""
    entry = promotions.withdraw(home_of(name), version, reason=reason, run_info=by_hand())
    show_rows(entry, as_json, ["#", "action", "version", "reason"], [[*entry_row(entry)[:3], entry.reason]])


@app.command(epilog="Example: almanac reinstate purchase_propensity 2017-09-1a2b3c4d --reason 'the feed was right after all'")
def reinstate(name: Name, version: Version, reason: Reason = "", as_json: AsJson = False) -> None:
    """Reverts a withdrawal: the version is in the history again, and in force again once it is promoted."""
    entry = promotions.reinstate(home_of(name), version, reason=reason, run_info=by_hand())
    show_rows(entry, as_json, ["#", "action", "version", "reason"], [[*entry_row(entry)[:3], entry.reason]])


@app.command(
    "rollback",
    epilog="Examples: almanac rollback purchase_propensity --dry-run; "
    "almanac rollback purchase_propensity --reason 'scores of students are too high' --wait",
)
def roll_back(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing, start nothing.")] = False,
    reason: Reason = "",
    to: Annotated[str | None, typer.Option(help="The version to go back to; default the one in force before.")] = None,
    bad: Annotated[
        str | None, typer.Option("--from", help="The version to take out of force; default the one in force now.")
    ] = None,
    periods: Annotated[list[str] | None, typer.Option("--period", help="Only this affected period; may be repeated.")] = None,
    withdraw: Annotated[bool, typer.Option(help="Withdraw the bad version and score again what it wrote.")] = True,
    unpause: Unpause = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Rolls back: starts the DAG PIPELINE_rollback, which scores again what the bad version wrote. Try --dry-run first.

    The plan needs only the bucket. Starting the DAG needs ALMANAC_AIRFLOW_URL and a login: ALMANAC_AIRFLOW_TOKEN, or
    ALMANAC_AIRFLOW_USER and ALMANAC_AIRFLOW_PASSWORD.
    """
    home = home_of(name)
    found = rollback.planned(
        home,
        overview.newest_description(home),
        reason=reason or ("dry run" if dry_run else ""),
        to=to,
        bad=bad,
        withdraw=withdraw,
        periods=periods,
    )
    lines = [
        ["from", found.bad],
        ["to", found.to],
        ["in force from", found.effective],
        ["to score again", f"{', '.join(found.periods) or 'nothing'} ({found.rows} rows)"],
        ["tainted gate decisions", examples((f"{item.candidate} ({item.verdict})" for item in found.tainted), 12)],
        *([["finishes", f"entry {found.finishes} of the promotion log"]] if found.finishes else []),
    ]
    if dry_run:
        show_rows(found, as_json, ["rollback of", name], lines)
        return
    # Start exactly what was shown, whatever happens meanwhile, so that a repeated start goes no further back.
    conf = {"reason": reason, "to": found.to, "from": found.bad, "withdraw": withdraw, "periods": periods}
    run = start(f"{name}_rollback", conf, wait=wait, unpause=unpause)
    lines += [[key, run[key]] for key in ("run", "state", "page")]
    show_rows({**run, "plan": encode(found)}, as_json, ["rollback of", name], lines)
    leave(run["state"])
