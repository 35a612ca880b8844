"""`almanac pipelines`, `versions`, `predictions`, `history`, and `show`: these commands only read."""

from __future__ import annotations

import json
from collections.abc import Iterator

from almanac.cli.console import AsJson, Last, Name, Version, app, figures, home_of, newest, show_rows
from almanac.core.bundle import REPORT, Engine
from almanac.core.canonical import encode
from almanac.core.gate import METRICS
from almanac.core.notes import in_words
from almanac.core.promotions import Entry
from almanac.settings import Settings
from almanac.store import overview
from almanac.store.home import Home, pipelines
from almanac.store.notes import notes
from almanac.store.objects import Objects

HEADS = {"roc_auc": "ROC AUC", "average_precision": "avg. precision"}


@app.command("pipelines", epilog="Example: almanac pipelines")
def list_pipelines(as_json: AsJson = False) -> None:
    """Lists the pipelines in ALMANAC_ROOT."""
    found = pipelines(Objects(), Settings.from_environment().root)
    show_rows(found, as_json, ["pipeline"], [[name] for name in found])


@app.command(epilog="Example: almanac versions purchase_propensity")
def versions(name: Name, as_json: AsJson = False, last: Last = None) -> None:
    """Lists the versions: period, metrics on the holdout, the gate's decision, and the periods each is in force for."""
    rows = newest(overview.versions(home_of(name)), last, as_json)
    measured = [name for name in METRICS if any(name in row.metrics for row in rows)][:2]
    columns = ["version", "period", "estimator", *(HEADS.get(name, name) for name in measured), "gate", "in force"]
    show_rows(
        rows,
        as_json,
        columns,
        [
            [
                row.version,
                row.period,
                row.estimator,
                *(f"{row.metrics[name]:.4f}" if name in row.metrics else "" for name in measured),
                f"{row.decision}, suspect" if row.suspects else row.decision,
                "withdrawn" if row.withdrawn else ", ".join(row.in_force) or "never",
            ]
            for row in rows
        ],
    )


@app.command(epilog="Example: almanac predictions purchase_propensity")
def predictions(name: Name, as_json: AsJson = False, last: Last = None) -> None:
    """Lists the visible prediction periods: rows, and the version that wrote each."""
    rows = newest(home_of(name).written(), last, as_json)
    show_rows(
        rows, as_json, ["period", "rows", "version", "order"], [[r.period, str(r.rows), r.version, r.order[:8]] for r in rows]
    )


@app.command(epilog="Examples: almanac history purchase_propensity; almanac history churn --last 5")
def history(name: Name, as_json: AsJson = False, last: Last = None) -> None:
    """Shows the promotion log, entry by entry."""
    entries = newest(home_of(name).log().entries, last, as_json)
    columns = ["#", "action", "version", "in force from", "before", "reason", "by", "at"]
    show_rows(entries, as_json, columns, [entry_row(entry) for entry in entries])


def entry_row(entry: Entry) -> list[str]:
    action = f"{entry.action.value} over a rejection" if entry.over_a_rejection else entry.action.value
    withdrawn = f"{entry.previous} (withdrawn)" if entry.withdraw else entry.previous
    by, at = entry.actor or entry.run, f"{entry.at:%Y-%m-%d %H:%M}"
    by += f", approved by {entry.approver}" if entry.approver else ""
    return [str(entry.sequence), action, entry.version, entry.effective, withdrawn, entry.reason, by, at]


@app.command(epilog="Example: almanac show purchase_propensity 2017-07-1a2b3c4d")
def show(name: Name, version: Version, as_json: AsJson = False) -> None:
    """Shows one version: its manifest, its report and its notes."""
    home = home_of(name)
    manifest = home.versions.read(version)
    report = json.loads(home.versions.file(manifest.files[REPORT]))
    about = notes(home).get(version, ())
    whole = {"manifest": encode(manifest), "report": report, "notes": encode(about)}
    lines = {
        "version": manifest.version,
        "estimator": f"{manifest.estimator} (chosen by {figures(report['choice'])})",
        "training": ", ".join(manifest.training),
        "holdout": manifest.holdout,
        "on the holdout": figures(manifest.metrics),
        "verdict": report["verdict"],
        "promotion": "\n".join(_promotions(home, version)) or "none",
        "scored by": _engine(manifest.engine),
        "importance": figures(report.get("importance", {})),
        "features": f"{len(manifest.features)} of definition {manifest.definition}",
        "files": ", ".join(sorted(manifest.files)),
        "training content": manifest.content[:16],
        "environment": ", ".join(f"{key} {value}" for key, value in manifest.environment.items()),
        "notes": "\n".join(in_words(note) for note in about) or "none",
    }
    show_rows(whole, as_json, ["", manifest.pipeline], [[key, value] for key, value in lines.items()])


def _engine(engine: Engine) -> str:
    faster = f", {engine.speedup:g} times as fast as onnxruntime" if engine.speedup else ""
    return f"{engine.name}{faster} ({engine.reason or 'no other engine was tried'})"


def _promotions(home: Home, version: str) -> Iterator[str]:
    """The log entries of a version, one a line."""
    for entry in home.log().entries:
        if version in (entry.version, entry.replaces):
            number, action, named, effective, _, reason, by, at = entry_row(entry)
            since = f" from {effective}" if effective else ""
            yield f"{number}: {action} of {named}{since}, by {by}, {at}: {reason}"
