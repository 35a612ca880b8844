"""Shared by all commands: the app, common options, and output."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar
from unicodedata import category

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from almanac.core.canonical import encode
from almanac.core.receipts import RunInfo
from almanac.errors import PromotionError
from almanac.project import load_environment
from almanac.settings import Settings
from almanac.store.home import Home, pipelines

app = typer.Typer(
    help="Versions, the promotion log and predictions of a pipeline. Set ALMANAC_ROOT to where they are kept: s3://bucket/prefix.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
MANY = 100  # rows of a table that people read
Item = TypeVar("Item")


def _entered(folder: Path) -> Path:
    """Takes the variables of the project that a person names, instead of those of the one that they are in."""
    if folder != Path():
        load_environment(folder)
    return folder


Folder = Annotated[
    Path, typer.Option("--folder", callback=_entered, help="The project: the folder that has dags/ and spark_jobs/.")
]
Name = Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.")]
Version = Annotated[str, typer.Argument(help="A version's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Last = Annotated[int | None, typer.Option("--last", min=0, help=f"How many of the newest to show; default {MANY}, 0 for all.")]
Reason = Annotated[str, typer.Option("--reason", help="The reason; it stays in the promotion log for ever.")]


def by_hand() -> RunInfo:
    """The run info of a command: the actor is ALMANAC_ACTOR, else the user of this machine."""
    return RunInfo(actor=os.environ.get("ALMANAC_ACTOR") or getpass.getuser())


def home_of(name: str) -> Home:
    settings = Settings.from_environment()
    home = Home.of(settings.root, name)
    if next(home.objects.walk(f"{home.layout.home}/"), None) is None:
        listed = ", ".join(pipelines(home.objects, settings.root)) or "none"
        raise PromotionError(f"Pipeline {name!r} does not exist in ALMANAC_ROOT (found: {listed}). Name one of these.")
    return home


def figures(values: dict[str, Any] | Any) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in values.items())


def out() -> Console:
    # A pipe has no width of its own; use a wide one, so that no table is cut.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def newest(found: Sequence[Item], last: int | None, as_json: bool) -> Sequence[Item]:
    """The last items, in their order; says on stderr how many are left out. JSON leaves out nothing unless `last` is set."""
    most = (0 if as_json else MANY) if last is None else last
    if left := max(0, len(found) - most) if most else 0:
        complain(f"Showing the newest {most} of {len(found)}. --last 0 also shows the {left} before them.")
    return found[left:]


def show_rows(data: Any, as_json: bool, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if as_json:
        print(json.dumps(encode(data), indent=2))
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # As text, so that square brackets in a reason are not taken as markup.
        table.add_row(*(Text(harmless(text)) for text in row))
    out().print(table)


def complain(text: str) -> None:
    print(harmless(text), file=sys.stderr)


def harmless(text: str) -> str:
    """Text that is safe to print to a terminal: control and format characters, such as those of escape sequences or of the
    direction of writing, are written as escapes. Line breaks and tabs stay.
    """
    return "".join(sign if sign in "\n\t" or category(sign) not in ("Cc", "Cf") else ascii(sign)[1:-1] for sign in text)
