"""`almanac find`, `compare` and `annotate`: find versions, compare two, and add notes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from almanac.cli.console import AsJson, Name, Version, app, by_hand, home_of, out, show_rows
from almanac.core import conditions
from almanac.core.conditions import Candidate, Conditions, Fate, newest_first
from almanac.core.notes import Note, in_words
from almanac.settings import Settings
from almanac.store import comparison, notes, overview
from almanac.store.comparison import Figure, SideBySide
from almanac.store.home import Home, pipelines
from almanac.store.objects import Objects

Answer = TypeVar("Answer")
SHORT = 12


def said(option: str, read: Callable[[], Answer]) -> Answer:
    """The value of an option. An invalid one is wrong usage: exit code 2, with an example."""
    try:
        return read()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@app.command(
    epilog="Examples: almanac find --estimator LogisticRegression --since 7d --feature baskets_30d; "
    "almanac find --pipeline purchase_propensity --metric 'roc_auc>=0.8' --promoted"
)
def find(
    pipeline: Annotated[str | None, typer.Option(metavar="NAME", help="Only versions of this pipeline; default all.")] = None,
    estimator: Annotated[str, typer.Option(metavar="TEXT", help="A part of the estimator's name, or of a class name.")] = "",
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Trained at most this long ago (36h, 7d, 2w), or on or after a day (2017-01-01)."),
    ] = None,
    feature: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Uses this feature; may be repeated.")] = None,
    period: Annotated[str | None, typer.Option(metavar="PERIOD", help="Trained for this period, such as 2017-09.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="BOUND", help="A bound for a metric on its holdout: 'roc_auc>=0.8'; may be repeated."),
    ] = None,
    promoted: Annotated[bool, typer.Option("--promoted", help="Is or was in force.")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="Its last gate decision was a rejection.")] = False,
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="Is withdrawn.")] = False,
    suspect: Annotated[bool, typer.Option("--suspect", help="A feature of it looks like a leak.")] = False,
    note: Annotated[str, typer.Option(metavar="TEXT", help="A part of a note's text.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Has a note with this tag; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lists the versions that meet all conditions, the newest trained first. Exits with 0 also if there is none."""
    wanted = Conditions(
        estimator=estimator,
        since=None if since is None else said("--since", lambda: conditions.since(since, datetime.now(UTC))),
        features=tuple(feature or ()),
        period="" if period is None else said("--period", lambda: conditions.period(period)),
        metrics=tuple(said("--metric", lambda: [conditions.bound(text) for text in metric or ()])),
        fates=tuple(fate for fate, met in zip(Fate, (promoted, rejected, withdrawn, suspect), strict=True) if met),
        note=note,
        tags=tuple(tag or ()),
    )
    known = [one for home in homes(pipeline) for one in overview.candidates(home)]
    fitting = newest_first(one for one in known if wanted.fit(one))
    if not fitting and not as_json:
        out().print(f"None of {len(known)} versions meets these conditions. Leave one out, or list all versions: almanac find")
        return
    columns = ["pipeline", "version", "period", "trained", "estimator", "ROC AUC", "avg. precision", "became", "notes"]
    show_rows(fitting, as_json, columns, [_found_row(one) for one in fitting])


def homes(pipeline: str | None) -> list[Home]:
    if pipeline is not None:
        return [home_of(pipeline)]
    objects, root = Objects(), Settings.from_environment().root
    return [Home.of(root, name, objects) for name in pipelines(objects, root)]


def _found_row(one: Candidate) -> list[str]:
    return [
        one.pipeline,
        one.version,
        one.period,
        f"{one.trained:%Y-%m-%d %H:%M}" if one.trained else "",
        one.estimator,
        *(_number(one.metrics.get(name)) for name in ("roc_auc", "average_precision")),
        ", ".join(fate.value for fate in one.fates) or "history",
        _notes(one.notes),
    ]


@app.command(epilog="Example: almanac compare purchase_propensity 2017-08-0f1e2d3c 2017-09-1a2b3c4d")
def compare(
    name: Name,
    a: Annotated[str, typer.Argument(metavar="A", help="A version's id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another version's id; differences are B - A.")],
    as_json: AsJson = False,
) -> None:
    """Compares two versions: metrics, periods, features, code, libraries, and gate decisions."""
    found = comparison.compare(home_of(name), a, b)
    show_rows(found, as_json, ["", found.a.version, found.b.version, "B - A"], [_cut(row) for row in _lines(found)])
    if not as_json and found.remark:
        out().print(found.remark)


def _lines(found: SideBySide) -> list[list[str]]:
    rows = found.rows
    in_force = ["withdrawn" if row.withdrawn else ", ".join(row.in_force) or "never" for row in rows]
    return [
        *([name, *_figures(figure)] for name, figure in found.metrics.items()),
        *([name, pair.a, pair.b, "" if pair.same else "differs"] for name, pair in found.properties.items()),
        ["features only in one", ", ".join(found.removed) or "none", ", ".join(found.added) or "none", ""],
        *([name, pair.a, pair.b, "differs"] for name, pair in found.libraries.items()),
        ["gate", *(row.decision for row in rows), ""],
        ["gate reasons", *("; ".join(row.reasons) or "none" for row in rows), ""],
        ["in force", *in_force, ""],
        ["notes", *(_notes(row.notes) or "none" for row in rows), ""],
    ]


def _cut(row: list[str]) -> list[str]:
    """Shortens digests."""
    return [text[:SHORT] if len(text) == 64 and " " not in text else text for text in row]


def _figures(figure: Figure) -> list[str]:
    difference = "" if figure.difference is None else f"{figure.difference:+.4f}"
    return [_number(figure.a), _number(figure.b), difference or "not comparable"]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _notes(listed: tuple[Note, ...]) -> str:
    return "\n".join(in_words(note) for note in listed)


@app.command(epilog="Example: almanac annotate purchase_propensity 2017-09-1a2b3c4d 'trained on the sales week' --tag campaign")
def annotate(
    name: Name,
    version: Version,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The note.")],
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to find it by; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Adds a note to a version, with your name and the time. The same text and tags again are the same note."""
    home = home_of(name)
    kept = said("TEXT", lambda: notes.annotate(home, version, text, tag or (), by_hand()))
    at = f"{kept.at:%Y-%m-%d %H:%M}" if kept.at else ""
    show_rows(kept, as_json, ["version", "note", "tags", "by", "at"], [
        [version, kept.text, ", ".join(kept.tags), kept.actor, at],
    ])  # fmt: skip
