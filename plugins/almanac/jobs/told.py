"""What `almanac try` tells: a line for each function as it goes on, warnings, the first error, and a table at the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from almanac import user_module
from almanac.errors import AlmanacError
from almanac.jobs.failures import plain, user_lines


class Stopped(Exception):
    """The trial found an error; it was told."""


@dataclass
class Timed:
    """What is told of a function's call."""

    rows: int = 0
    table: pa.Table | None = None


class Told:
    """What a trial tells, as it goes on: a table of functions, warnings, and the first error."""

    def __init__(self) -> None:
        self._console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
        self.warnings: list[str] = []
        self._table: list[tuple[str, str, Timed, float]] = []

    def say(self, text: str) -> None:
        self._console.print(Text(text))

    def warn(self, notes: Sequence[str]) -> None:
        """Tells what is not an error; each once."""
        for note in notes:
            if note not in self.warnings:
                self.warnings.append(note)
                self._console.print(Text(f"warning: {note}", style="yellow"))

    def function(self, name: str, period: str, timed: Timed, seconds: float) -> None:
        self.say(f"{period}  {name}: {timed.rows} rows, {seconds:.1f} s")
        self._table.append((name, period, timed, seconds))

    def fail(self, what: str, error: Exception, file: Path) -> None:
        """Tells an error with the lines of the user's module that led to it. Raises: Stopped."""
        for line in user_lines(error, lambda name: user_module.shown(file) if name == str(file) else ""):
            self._console.print(Text(line, style="" if line.startswith(" ") else "bold red"))
        self._console.print(Text(f"{what}: {plain(error)}" if not isinstance(error, AlmanacError) else str(error), style="red"))
        raise Stopped from error

    def tables(self, period: str) -> None:
        """The functions of one period, column by column."""
        shown = Table("function", "rows", "seconds", "column", "type", "nulls", "least", "most", box=None, pad_edge=False)
        for name, when, timed, seconds in self._table:
            if when != period:
                continue
            start = [name, str(timed.rows), f"{seconds:.1f}"]
            columns = timed.table.column_names if timed.table is not None else []
            for column in columns or [""]:
                shown.add_row(*(Text(one) for one in (*start, *(_described(timed.table, column) if column else ("",) * 5))))
                start = ["", "", ""]
        self._console.print(shown)


def _described(table: pa.Table, column: str) -> tuple[str, str, str, str, str]:
    values = table[column]
    try:
        bounds = pc.min_max(values).as_py()
    except pa.ArrowNotImplementedError:
        bounds = {"min": "", "max": ""}
    share = values.null_count / len(values) if len(values) else 0.0
    return (column, str(values.type), f"{share:.1%}", _short(bounds["min"]), _short(bounds["max"]))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else str(value)
    return "" if value is None else str(value)
