"""`almanac`: what is kept of a pipeline, asked of the bucket alone. No Airflow is needed.

Exit codes: 0 done, 1 an error that Almanac explains, 2 the command was called wrongly.
"""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from almanac.core.canonical import encode
from almanac.core.functions import check_module
from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Entry
from almanac.core.receipts import Witness
from almanac.doors import plan, publish
from almanac.errors import AlmanacError, PromotionError
from almanac.settings import Settings
from almanac.store import overview
from almanac.store.home import Home, pipelines
from almanac.store.objects import Objects

app = typer.Typer(
    help="What is kept of a pipeline: versions, the promotion log, predictions. ALMANAC_ROOT says where: s3://bucket/prefix.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Name = Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Plain JSON, for scripts.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the promotion log for ever.")]


@app.command("pipelines", epilog="Example: almanac pipelines")
def list_pipelines(as_json: AsJson = False) -> None:
    """The pipelines that something is kept of."""
    found = pipelines(Objects(), Settings.from_environment().root)
    _show(found, as_json, ["pipeline"], [[name] for name in found])


@app.command(epilog="Example: almanac versions purchase_propensity")
def versions(name: Name, as_json: AsJson = False) -> None:
    """Every version: its period, metrics on the holdout, the gate's decision, and the periods it is in force for."""
    rows = overview.versions(_home(name))
    columns = ["version", "period", "estimator", "ROC AUC", "avg. precision", "gate", "in force"]
    _show(
        rows,
        as_json,
        columns,
        [
            [
                row.version,
                row.period,
                row.estimator,
                f"{row.metrics['roc_auc']:.4f}",
                f"{row.metrics['average_precision']:.4f}",
                row.decision,
                "withdrawn" if row.withdrawn else ", ".join(row.in_force) or "never",
            ]
            for row in rows
        ],
    )


@app.command(epilog="Example: almanac predictions purchase_propensity")
def predictions(name: Name, as_json: AsJson = False) -> None:
    """The visible prediction periods: rows, and the version that wrote each."""
    rows = _home(name).written()
    _show(rows, as_json, ["period", "rows", "version", "order"], [[r.period, str(r.rows), r.version, r.order[:8]] for r in rows])


@app.command(epilog="Example: almanac history purchase_propensity")
def history(name: Name, as_json: AsJson = False) -> None:
    """The promotion log, entry by entry."""
    entries = _home(name).log().entries
    columns = ["#", "action", "version", "in force from", "before", "reason", "by", "at"]
    _show(entries, as_json, columns, [_entry_row(entry) for entry in entries])


def _entry_row(entry: Entry) -> list[str]:
    action = f"{entry.action.value} over a rejection" if entry.over_a_rejection else entry.action.value
    withdrawn = f"{entry.previous} (withdrawn)" if entry.withdraw else entry.previous
    by, at = entry.actor or entry.run, f"{entry.at:%Y-%m-%d %H:%M}"
    return [str(entry.sequence), action, entry.version, entry.effective, withdrawn, entry.reason, by, at]


@app.command(epilog="Example: almanac show purchase_propensity 2017-07-1a2b3c4d")
def show(name: Name, version: Annotated[str, typer.Argument(help="A version's id.")], as_json: AsJson = False) -> None:
    """One version: its manifest and its report."""
    home = _home(name)
    manifest = home.versions.read(version)
    report = json.loads(home.versions.file(manifest.files["report.json"]))
    whole = {"manifest": encode(manifest), "report": report}
    lines = {
        "version": manifest.version,
        "estimator": f"{manifest.estimator} (chosen by {_figures(report['choice'])})",
        "training": ", ".join(manifest.training),
        "holdout": manifest.holdout,
        "on the holdout": _figures(manifest.metrics),
        "verdict": report["verdict"],
        "features": f"{len(manifest.features)} of definition {manifest.definition}",
        "files": ", ".join(sorted(manifest.files)),
        "training content": manifest.content[:16],
        "environment": ", ".join(f"{key} {value}" for key, value in manifest.environment.items()),
    }
    _show(whole, as_json, ["", manifest.pipeline], [[key, value] for key, value in lines.items()])


@app.command(epilog="Example: almanac promote purchase_propensity 2017-09-1a2b3c4d --reason 'campaign starts on Monday'")
def promote(
    name: Name, version: Annotated[str, typer.Argument(help="A version's id.")], reason: Reason = "", as_json: AsJson = False
) -> None:
    """Promotes a version by hand, also over the gate's rejection; the log shows it as such for ever."""
    home = _home(name)
    manifest = home.versions.read(version)
    described = home.receipts.description(manifest.description)
    gate = overview.last_gate(home, version)
    by = Witness(actor=os.environ.get("ALMANAC_ACTOR") or getpass.getuser())
    entry = publish.promote(home, described, home.log(), version, reason=reason, gate=gate, witness=by)
    _show(entry, as_json, ["#", "action", "version", "in force from"], [_entry_row(entry)[:4]])


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
        _complain(
            f"A rollback scores periods again, which needs Spark: start the DAG {name}_rollback with a reason, in the Airflow UI "
            f"or with `airflow dags trigger {name}_rollback --conf '{{\"reason\": \"...\"}}'`. With --dry-run this shows "
            "its plan."
        )
        raise typer.Exit(2)
    home = _home(name)
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
    _show(found, as_json, ["rollback of", name], lines)


@app.command(epilog="Example: almanac check purchase_propensity")
def check(name: Name) -> None:
    """Holds the functions of spark_jobs/PIPELINE.py against the newest description that a run has used."""
    settings = Settings.from_environment()
    home = _home(name)
    newest = max(home.versions.names(), default=None)
    if newest is None:
        raise PromotionError(f"Pipeline {name} has no version yet, so no description of it is kept. Run its retrain DAG first.")
    described: Pipeline = home.receipts.description(home.versions.read(newest).description)
    plan.module_zip(settings.spark_jobs, name)
    found = importlib.util.spec_from_file_location(name, settings.spark_jobs / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    check_module(module, described)
    _out().print(f"{name}: every function is there and takes what the description reads.")


def _home(name: str) -> Home:
    settings = Settings.from_environment()
    home = Home.of(settings.root, name)
    if next(home.objects.walk(f"{home.layout.home}/"), None) is None:
        listed = ", ".join(pipelines(home.objects, settings.root)) or "none"
        raise PromotionError(f"Nothing is kept of a pipeline {name!r} (there are: {listed}). Name one of them.")
    return home


def _figures(values: dict[str, Any] | Any) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in values.items())


def _out() -> Console:
    # A pipe has no width of its own, and a table that is cut says less than a wide one.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def _show(data: Any, as_json: bool, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if as_json:
        print(json.dumps(encode(data), indent=2))
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    _out().print(table)


def _complain(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """The entry point: an error on purpose is one line, not a traceback."""
    try:
        app()
    except AlmanacError as error:
        _complain(f"almanac: {error}")
        sys.exit(1)
