"""What every command shares: the app, its options, and how an answer is shown."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar
from unicodedata import category

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from almanac.core.canonical import encode
from almanac.core.receipts import RunInfo
from almanac.errors import PromotionError
from almanac.settings import Settings
from almanac.store.home import Home, pipelines

app = typer.Typer(
    help="What is kept of a pipeline: versions, the promotion log, predictions. ALMANAC_ROOT says where: s3://bucket/prefix.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
MANY = 100  # rows of a table that people read
Item = TypeVar("Item")

Name = Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.")]
Version = Annotated[str, typer.Argument(help="A version's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Plain JSON, for scripts.")]
Last = Annotated[int | None, typer.Option("--last", min=0, help=f"Only the newest ones, {MANY} unless told; 0 for all.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the promotion log for ever.")]


def by_hand() -> RunInfo:
    """Who calls: ALMANAC_ACTOR, else the user of this machine."""
    return RunInfo(actor=os.environ.get("ALMANAC_ACTOR") or getpass.getuser())


def home_of(name: str) -> Home:
    settings = Settings.from_environment()
    home = Home.of(settings.root, name)
    if next(home.objects.walk(f"{home.layout.home}/"), None) is None:
        listed = ", ".join(pipelines(home.objects, settings.root)) or "none"
        raise PromotionError(f"Nothing is kept of a pipeline {name!r} (there are: {listed}). Name one of them.")
    return home


def figures(values: dict[str, Any] | Any) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in values.items())


def out() -> Console:
    # A pipe has no width of its own, and a table that is cut says less than a wide one.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def newest(found: Sequence[Item], last: int | None, as_json: bool) -> Sequence[Item]:
    """The last of many, in their order; how many come before them is told. Of JSON nothing is left out unless it is asked for."""
    asked = (0 if as_json else MANY) if last is None else last
    if left := max(0, len(found) - asked) if asked else 0:
        complain(f"The newest {asked} of {len(found)}. --last 0 shows the {left} before them too.")
    return found[left:]


def show_rows(data: Any, as_json: bool, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if as_json:
        print(json.dumps(encode(data), indent=2))
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # As text: a reason with square brackets is no markup.
        table.add_row(*(Text(harmless(text)) for text in row))
    out().print(table)


def complain(text: str) -> None:
    print(harmless(text), file=sys.stderr)


def harmless(text: str) -> str:
    """Text that steers no terminal: signs that are not shown, such as those that begin an escape sequence or turn the direction
    of writing, are written as escapes. Line breaks and tabs stay.
    """
    return "".join(sign if sign in "\n\t" or category(sign) not in ("Cc", "Cf") else ascii(sign)[1:-1] for sign in text)
