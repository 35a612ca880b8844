"""The story of the demo: two good months, a bad version that a person promotes, and its rollback.

Every step has a fixed run id, so that a stopped demo resumes where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from almanac.local.scheduler import Airflow
from almanac.local.seaweed import Store
from demo import landing, progress
from demo.progress import Run

PIPELINE = "purchase_propensity"
DAGS = [f"{PIPELINE}_{verb}" for verb in ("retrain", "score", "rollback")]
FAULT = (date(2017, 6, 1), date(2017, 9, 30))
PROMISE = "the autumn campaign needs a fresh model"
REGRET = "trained on a feed with exchanged households"


class Astray(RuntimeError):
    """The story did not go as planned."""


@dataclass
class Story:
    """The running Airflow, the store, and a record of the finished steps."""

    airflow: Airflow
    store: Store
    environment: Mapping[str, str]
    console: Console
    notes: Path

    def tell(self) -> None:
        """Plays the story to its end. Raises: Astray."""
        self.chapter("July: train the first version. Nothing is in force, so only the gate's floor decides.")
        self.run(retrain("2017-07"))
        self.expect_promoted("2017-07", True)
        self.chapter("August: score it; meanwhile train a second version and compare it with the first at the gate.")
        self.run(score("2017-08"), retrain("2017-08"))
        self.chapter("September: score it with the version in force.")
        self.run(score("2017-09"))
        self.chapter("The feed breaks: its newest days carry exchanged households, which no range check notices.")
        self.once("fault", lambda: landing.shuffle_households(self.store, *FAULT))
        self.run(retrain("2017-09"))
        self.expect_promoted("2017-09", False)
        self.chapter("The gate rejects the version. The feed is repaired, but a person promotes the version anyway.")
        self.once("repair", lambda: landing.repair(self.store, *FAULT))
        bad = self.version_of("2017-09")
        if bad not in self.promoted():
            self.almanac("promote", PIPELINE, bad, "--reason", PROMISE)
        self.chapter("October: score it with that version.")
        self.run(score("2017-10"))
        self.once("plan", lambda: self.almanac("rollback", PIPELINE, "--dry-run"))
        self.chapter("Rollback: withdraw the version, and score again exactly what it wrote.")
        self.run(Run(DAGS[2], "demo-rollback", "roll back"), conf={"reason": REGRET, "to": None})
        self.expect_repaired(bad)
        self.chapter("Proof: reread everything that a reader can reach, and check it against its digests.")
        self.almanac("verify", PIPELINE)

    def chapter(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def run(self, *runs: Run, conf: Mapping[str, Any] | None = None) -> None:
        """Starts runs and watches them until they end. Raises: Astray, if one failed."""
        for run in runs:
            self.airflow.trigger(run.dag, run.run, conf or {"period": run.run[-7:]})
        ended = progress.watch(self.airflow, list(runs), self.console)
        for run, state in ended.items():
            if state != "success":
                failed = [task for task in self.airflow.tasks(run.dag, run.run) if task["state"] == "failed"]
                why = "\n".join(self.airflow.why(run.dag, run.run, task["task_id"], task["try_number"]) for task in failed[:1])
                raise Astray(f"{run.title} ended as {state} ({', '.join(task['task_id'] for task in failed)}):\n{why}")

    def once(self, step: str, work: Any) -> None:
        """Runs a step that is not a DAG run, once, and records it as done."""
        done = json.loads(self.notes.read_text()) if self.notes.exists() else []
        if step not in done:
            work()
            self.notes.write_text(json.dumps([*done, step]))

    def almanac(self, *arguments: str) -> str:
        """Runs the command line as a person would, and shows it."""
        shown = " ".join(f"'{word}'" if " " in word else word for word in arguments)
        self.console.print(f"\n$ almanac {shown}", style="cyan")
        output = self._ask(*arguments)
        self.console.print(output.rstrip(), highlight=False, markup=False)
        return output

    def _ask(self, *arguments: str) -> str:
        command = [str(Path(sys.executable).parent / "almanac"), *arguments]
        env = {**self.environment, "COLUMNS": str(self.console.width)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Astray(f"almanac {' '.join(arguments)} exited with {done.returncode}: {done.stderr}")
        return done.stdout

    def versions(self) -> list[dict[str, Any]]:
        return list(json.loads(self._ask("versions", PIPELINE, "--json")))

    def history(self) -> list[dict[str, Any]]:
        return list(json.loads(self._ask("history", PIPELINE, "--json")))

    def promoted(self) -> set[str]:
        return {str(entry["version"]) for entry in self.history()}

    def version_of(self, period: str) -> str:
        return str(next(row["version"] for row in self.versions() if row["period"] == period))

    def expect_promoted(self, period: str, wanted: bool) -> None:
        version = self.version_of(period)
        gates = [entry["verdict"] for entry in self.history() if entry["version"] == version and entry["action"] == "promote"]
        if ("promote" in gates) != wanted:
            raise Astray(f"Version {version}: expected the gate to {'promote' if wanted else 'reject'} it, but it did not.")

    def expect_repaired(self, bad: str) -> None:
        left = [row["period"] for row in json.loads(self._ask("predictions", PIPELINE, "--json")) if row["version"] == bad]
        if left:
            raise Astray(f"Periods {', '.join(left)} still show predictions of {bad}.")

    def tables(self) -> None:
        """Shows the final tables."""
        for command in ("versions", "predictions", "history"):
            self.almanac(command, PIPELINE)


def retrain(period: str) -> Run:
    return Run(DAGS[0], f"demo-retrain-{period}", f"retrain {period}")


def score(period: str) -> Run:
    return Run(DAGS[1], f"demo-score-{period}", f"score {period}")
