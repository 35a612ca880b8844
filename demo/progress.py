"""The live display: a line for each DAG run, a mark for each of its tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from almanac.local.scheduler import Airflow

MARKS = {
    "success": ("●", "green"),
    "running": ("◐", "yellow"),
    "failed": ("✗", "bold red"),
    "upstream_failed": ("✗", "red"),
    "skipped": ("○", "magenta"),
    "up_for_retry": ("↻", "yellow"),
}
WAITING = ("·", "dim")
ENDED = ("success", "failed")


@dataclass(frozen=True, slots=True)
class Run:
    """A watched DAG run."""

    dag: str
    run: str
    title: str


def watch(airflow: Airflow, runs: list[Run], console: Console, poll: float = 1.5) -> dict[Run, str]:
    """Shows runs until all have ended; returns the final state of each."""
    began = time.monotonic()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            return _until_ended(airflow, runs, lambda seen: live.update(_table(seen, time.monotonic() - began)), poll)
    shown: dict[tuple[str, str], str] = {}

    def tell(seen: Iterable[tuple[Run, str, list[dict[str, Any]]]]) -> None:
        for run, state, tasks in seen:
            for name, now in [(_name(task), str(task["state"])) for task in tasks] + [("run", state)]:
                if shown.get((run.run, name)) != now and now in ("running", "success", "failed", "skipped", "up_for_retry"):
                    console.print(f"{time.monotonic() - began:6.1f} s  {run.title}  {name}: {now}")
                shown[run.run, name] = now

    return _until_ended(airflow, runs, tell, poll)


def _until_ended(airflow: Airflow, runs: list[Run], show: Callable[[Any], None], poll: float) -> dict[Run, str]:
    while True:
        seen = [(run, airflow.state(run.dag, run.run), airflow.tasks(run.dag, run.run)) for run in runs]
        show(seen)
        if all(state in ENDED for _, state, _ in seen):
            return {run: state for run, state, _ in seen}
        time.sleep(poll)


def _table(seen: Iterable[tuple[Run, str, list[dict[str, Any]]]], seconds: float) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for run, state, tasks in seen:
        marks = Text()
        for task in sorted(tasks, key=_order):
            mark, style = MARKS.get(str(task["state"]), WAITING)
            marks.append(mark, style)
        now = ", ".join(_name(task) for task in tasks if task["state"] == "running") or state
        table.add_row(run.title, marks, f"{seconds:4.0f} s", Text(now, "dim"))
    return table


def _order(task: dict[str, Any]) -> tuple[str, str]:
    return (str(task.get("start_date") or "~"), str(task["task_id"]))


def _name(task: dict[str, Any]) -> str:
    mapped = int(task.get("map_index", -1))
    return f"{task['task_id']}[{mapped}]" if mapped >= 0 else str(task["task_id"])
