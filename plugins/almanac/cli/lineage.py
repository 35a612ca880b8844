"""`almanac explain`, `impact` and `verify`: where something is from, what depends on it, and whether it is unaltered."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text
from rich.tree import Tree

from almanac.cli.console import AsJson, Name, app, complain, harmless, home_of, out, show_rows
from almanac.core.canonical import encode
from almanac.core.entity import requested
from almanac.core.target import SCORE
from almanac.errors import examples
from almanac.lineage import explain, trail, verify
from almanac.lineage.explain import Evidence, Node
from almanac.lineage.findings import Verified
from almanac.lineage.impact import Impact, ask, of_features, of_run, of_source, of_version
from almanac.lineage.index import Index, Shown

SHOWN_FILES = 5
Facts = Mapping[str, Any]


@app.command("explain", epilog="Example: almanac explain purchase_propensity 2017-07 --entity 1234")
def explain_period(
    name: Name,
    period: Annotated[str, typer.Argument(help="A visible period of predictions.")],
    entity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VALUE or COLUMN=VALUE",
            help="Also show the row of this entity. Give it once for each column, if several name an entity.",
        ),
    ] = None,
    prov: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write W3C PROV-JSON to this file; - for standard output.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows where predictions come from: version, features, source files, code, checks and runs, as a tree."""
    home = home_of(name)
    seen = trail.shown(home, period)
    found = trail.evidence(home, seen)
    row = trail.row_of(home, seen, requested(found.keys, entity)) if entity else None
    if prov is not None:
        _write_prov(prov, found)
        if prov == "-":
            return
    explained = explain.explain(found, row)
    if as_json:
        print(json.dumps(encode(explained), indent=2))
    else:
        out().print(_drawn(explained))


def _write_prov(target: str, found: Evidence) -> None:
    from almanac.lineage import prov

    body = prov.document(found)
    if target == "-":
        print(body)
        return
    try:
        Path(target).write_text(body, encoding="utf-8")
    except OSError as error:
        complain(f"almanac: --prov: cannot write {target} ({error.strerror}). Name a writable file, or - for standard output.")
        raise typer.Exit(2) from None


def _drawn(node: Node) -> Tree:
    """A node and its children as a tree; of many files the first few, and the number of the rest."""
    drawn = Tree(Text(harmless(_line(node))))
    files = [child for child in node.children if child.kind == "file"]
    for child in node.children:
        if child not in files[SHOWN_FILES:]:
            drawn.children.append(_drawn(child))
    if len(files) > SHOWN_FILES:
        drawn.add(Text(f"and {len(files) - SHOWN_FILES} more files (--json lists them)"))
    return drawn


def _line(node: Node) -> str:
    line = LINES.get(node.kind)
    return f"{node.kind}: {node.name}" if line is None else line(node, node.facts)


def _ran(node: Node, facts: Facts) -> str:
    task = [f"{key} {facts[key]}" for key in ("task", "try") if facts[key]]
    where = f" of DAG {facts['dag']}" if facts["dag"] else ""
    spark = [f"Spark {facts['spark_application']}"] if facts["spark_application"] else []
    when = [f"{facts['began'][:19] or '?'} to {facts['ended'][:19]}"] if facts["ended"] else []
    what = "published by run" if node.kind == "publish" else "run"
    return ", ".join([f"{what} {node.name}{where}", *task, *spark, *when, f"order {facts['order'][:8]}"])


def _code(_: Node, facts: Facts) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    parts = [
        f"code: commit {facts['commit'][:12]}" if facts["commit"] else "code: commit unknown",
        f"module {facts['module'][:12]}",
        f"definition {facts['definition'][:16]}",
        f"almanac {facts['almanac']}",
    ]
    return ", ".join([*parts, *([libraries] if libraries else [])])


def _version(node: Node, facts: Facts) -> str:
    training = ", ".join(facts["training"] or ())
    return f"version {node.name}: {facts['estimator']}, trained on {training}, judged on {facts['holdout']}"


def _checks(node: Node, facts: Facts) -> str:
    report = facts["reports"].get("checks.html", "")
    findings = f" ({'; '.join(facts['findings'])})" if facts["findings"] else ""
    return f"{node.name}{findings}{f': {report}' if report else ''}"


def _entry(node: Node, facts: Facts) -> str:
    by = facts["actor"] or facts["run"] or "unknown"
    by += f", approved by {facts['approver']}" if facts["approver"] else ""
    reason = "" if node.kind == "promotion" and not facts["actor"] else f": {facts['reason']}"
    over = " over a rejection" if facts["over_a_rejection"] else ""
    since = f", in force from {facts['effective']}" if facts["effective"] and node.kind in ("promotion", "rollback") else ""
    return f"{node.kind}{over} by {node.name} of the log{since}, by {by}, {facts['at'][:19]}{reason}"


def _row(node: Node, facts: Facts) -> str:
    sample = ", in-sample" if facts["in_sample"] else ""
    scores = [f"{name.replace('_', ' ', 1)} {value:.6f}" for name, value in facts.items() if name.split("_")[0] == SCORE]
    return f"{node.name}: {', '.join(scores)} by {facts['model_version']}{sample}"


def _features(node: Node, facts: Facts) -> str:
    holdout = " (holdout)" if facts["holdout"] else ""
    text = f"{facts['rows']} rows, definition {facts['definition']}, order {facts['order'][:8]}"
    return f"{node.name}{holdout}: {text}{_without(facts)}"


def _without(facts: Facts) -> str:
    return f", without {examples(facts['left_out'])}" if facts["left_out"] else ""


LINES: Mapping[str, Callable[[Node, Facts], str]] = {
    "predictions": lambda node, facts: f"{node.name}: {facts['rows']} rows, order {facts['order'][:8]}{_without(facts)}",
    "row": _row,
    "run": _ran,
    "publish": _ran,
    "checks": _checks,
    "version": _version,
    "gate": lambda node, facts: f"gate: {node.name}: {'; '.join(facts['reasons'])}",
    "features": _features,
    "part": lambda node, facts: f"{node.name}: {facts['files']} source files",
    "file": lambda node, facts: f"{node.uri} ({facts['size']} bytes, etag {facts['etag']})",
    "code": _code,
    **dict.fromkeys(("promotion", "rollback", "replacement", "withdrawal", "reinstatement"), _entry),
}


@app.command(epilog="Example: almanac impact purchase_propensity --source s3://landing/transactions/2017-05.parquet")
def impact(
    name: Name,
    source: Annotated[str | None, typer.Option(help="The URI of a source file.")] = None,
    features: Annotated[str | None, typer.Option(metavar="PERIOD", help="A period of features.")] = None,
    definition: Annotated[str, typer.Option(help="With --features: only features of this definition.")] = "",
    version: Annotated[str | None, typer.Option(help="A version's id.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN_ID", help="The id of a DAG run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lists what depends on a source file, a period of features, a version or a run."""
    given = [one for one in (source, features, version, run) if one is not None]
    if len(given) != 1 or (definition and features is None):
        complain(
            "almanac: impact: expected one of --source, --features, --version and --run, with --definition only beside "
            f"--features; got {len(given)} of the four{' and --definition' if definition else ''}. Name one."
        )
        raise typer.Exit(2)

    def question(found: Index, shown: Shown) -> Impact:
        if source is not None:
            return of_source(found, shown, source)
        if features is not None:
            return of_features(found, shown, features, definition)
        return of_version(found, shown, version) if version is not None else of_run(found, shown, run or "")

    with _progress() as tell:
        found = ask(home_of(name), question, lambda done, of: tell("receipts", done, of))
    show_rows(found, as_json, ["", found.of], _touched(found))


def _touched(found: Impact) -> list[list[str]]:
    return [
        *(["file", f"{one.size} bytes, etag {one.etag}, seen by {', '.join(one.periods) or 'none'}"] for one in found.deliveries),
        *(["features", f"{one.period} of {one.definition}, {one.state}"] for one in found.features),
        *(["version", f"{one.version}, {one.state}"] for one in found.versions),
        *(["predictions", f"{one.period} by {one.version}, {one.state}"] for one in found.predictions),
        *(["run", f"{one.run}{f' of {one.dag}' if one.dag else ''}: {', '.join(one.artifacts)}"] for one in found.runs),
    ]


@app.command("verify", epilog="Example: almanac verify purchase_propensity")
def verify_pipeline(name: Name, as_json: AsJson = False) -> None:
    """Rereads everything that readers can reach and checks it against its digests; exits with 1 if something differs."""
    with _progress() as tell:
        found = verify.verify(home_of(name), tell)
    if as_json:
        print(json.dumps(encode(found), indent=2))
    else:
        _report(found)
    if found.findings:
        raise typer.Exit(1)


def _report(found: Verified) -> None:
    counted = ", ".join(f"{kind} {count}" for kind, count in found.checked.items())
    lines = [f"{found.pipeline}: reread {counted}; {found.bytes} bytes; the log's head is {found.head[:16]}."]
    if found.gone:
        lines.append(f"{found.gone} staged files no longer exist; no reader needs them.")
    lines += [f"source {text}" for text in found.changed]
    for one in found.findings:
        lines.append(f"{one.uri}\n    found     {one.found}\n    expected  {one.expected}\n    remedy    {one.advice}.")
    count = len(found.findings)
    lines.append(
        "Nothing differs from what was written."
        if not count
        else f"{count} {'objects differ' if count > 1 else 'object differs'}."
    )
    for line in lines:
        print(harmless(line))


@contextlib.contextmanager
def _progress() -> Iterator[verify.Progress]:
    """A progress bar on a terminal for each kind of object that is read; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _kind, _done, _of: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        known: dict[str, Any] = {}

        def tell(kind: str, done: int, of: int) -> None:
            if kind not in known:
                known[kind] = bars.add_task(kind, total=of)
            bars.update(known[kind], completed=done, total=of)

        yield tell
