"""`almanac gc`: lists and deletes data files that nothing refers to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from almanac.cli.console import AsJson, Name, app, home_of, out, show_rows
from almanac.cli.find import said
from almanac.core.conditions import age
from almanac.core.garbage import RETENTION, Item, Total, check_age, totals
from almanac.store import garbage
from almanac.store.garbage import Told

LEAST = f"{RETENTION.days}d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The files that were found, and whether they were deleted."""

    pipeline: str
    older_than: timedelta
    deleted: bool
    totals: tuple[Total, ...]
    items: tuple[Item, ...]


@app.command(epilog="Examples: almanac gc purchase_propensity; almanac gc purchase_propensity --older-than 4w --delete")
def gc(
    name: Name,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the files; without this they are only listed.")] = False,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help=f"The minimum age of a file: {LEAST} or more, such as 4w.")
    ] = LEAST,
    as_json: AsJson = False,
) -> None:
    """Lists data files that are no longer needed: replaced and orphaned ones, older than a week. --delete deletes them.

    Never touches visible predictions and features, versions with the features that they were made from, or any record of
    provenance. It can run beside running jobs.
    """
    older = said("--older-than", lambda: check_age(age(older_than)))
    home = home_of(name)
    items = garbage.collect(home, older=older)
    if delete:
        with progress(f"deleting files of {name}", len(items)) as advance:
            items = garbage.delete(home, items, older=older, told=advance)
    found = Collected(pipeline=name, older_than=older, deleted=delete, totals=totals(items), items=items)
    columns = ["deleted" if delete else "would be deleted", "files", "MB", "oldest"]
    show_rows(found, as_json, columns, [_row(total) for total in found.totals])
    if not as_json:
        out().print(_summary(found, older_than))


def _row(total: Total) -> list[str]:
    oldest = f"{total.oldest:%Y-%m-%d}" if total.oldest else ""
    return [total.kind.value, str(total.files), f"{total.bytes / 1e6:.1f}", oldest]


def _summary(found: Collected, older_than: str) -> str:
    files, size = len(found.items), f"{sum(item.bytes for item in found.items) / 1e6:.1f} MB"
    if found.deleted:
        return f"Deleted {files} files, {size}."
    if not files:
        return f"No unused file is older than {older_than}. Nothing was deleted."
    aged = "" if older_than == LEAST else f" --older-than {older_than}"
    return f"{files} files, {size}. Nothing was deleted. To delete them: almanac gc {found.pipeline}{aged} --delete"


@contextmanager
def progress(what: str, whole: int) -> Iterator[Told]:
    """Gives a function that advances a progress bar on a terminal, and does nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=whole)
        yield lambda done: shown.advance(task, done)
