"""A running Airflow that knows the small pipeline, and what a person does with it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from almanac.core.period import Period
from almanac.local import scheduler
from tests.support.shop import Memory, Shop

MONTHS = ("2017-08", "2017-09")


@dataclass
class Running:
    """The shop with two versions in force, one after the other, and an Airflow that knows its DAGs."""

    shop: Shop
    versions: dict[str, str]
    airflow: scheduler.Airflow
    environment: dict[str, str]
    memory: Memory

    def restored(self) -> Running:
        """The bucket as it was before anything ran; Airflow remembers its runs."""
        self.shop.restore(self.memory)
        return self

    def by_command(self, verb: str, *more: str) -> None:
        """`airflow backfill create`, as a person types it, and its runs waited for."""
        self.create(verb, *more)
        self.wait(f"shop_{verb}")

    def create(self, verb: str, *more: str) -> None:
        command = ["airflow", "backfill", "create", "--dag-id", f"shop_{verb}", *more]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]

    def answer(self, option: str) -> dict[str, Any]:
        """A person answers the one question that is open, once it is; gives the question.

        Airflow shows a question a moment before its task waits for the answer, and forgets one that comes sooner.
        """
        everywhere = "dags/~/dagRuns/~/hitlDetails?response_received=false"
        deadline, waiting = time.monotonic() + 600, list[Any]()
        while not waiting:
            assert time.monotonic() < deadline, "nobody was asked"
            time.sleep(1)
            asked = self.airflow.ask("GET", everywhere).json()["hitl_details"]
            waiting = [one for one in asked if one["task_instance"]["state"] == "awaiting_input"]
        (question,) = waiting
        task = question["task_instance"]
        where = f"dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/-1/hitlDetails"
        answered = self.airflow.ask("PATCH", where, {"chosen_options": [option], "params_input": {}})
        assert answered.status_code == 200, answered.text
        return dict(question)

    def by_page(self, verb: str, first: str, last: str, **more: Any) -> None:
        """What the UI's backfill asks of the REST API."""
        dates = {"from_date": self.begin(first), "to_date": self.begin(last)}
        body = {"dag_id": f"shop_{verb}", **dates, **more}
        answer = self.airflow.ask("POST", "backfills", body)
        assert answer.status_code == 200, answer.text
        self.wait(f"shop_{verb}")

    def by_date(self, verb: str, logical_date: str) -> tuple[str, dict[str, str]]:
        """A run that a person triggers with a logical date, waited for: its state, and those of its tasks."""
        runs = f"dags/shop_{verb}/dagRuns"
        answer = self.airflow.ask("POST", runs, {"logical_date": logical_date, "conf": {}})
        assert answer.status_code == 200, answer.text
        where, deadline = f"{runs}/{answer.json()['dag_run_id']}", time.monotonic() + 600
        while (state := self.airflow.ask("GET", where).json()["state"]) not in ("success", "failed"):
            assert time.monotonic() < deadline, "the run did not end"
            time.sleep(1)
        tasks = self.airflow.ask("GET", f"{where}/taskInstances").json()["task_instances"]
        return state, {task["task_id"]: task["state"] for task in tasks}

    def almanac(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, as a person types it who may start DAG runs."""
        login = {
            "ALMANAC_AIRFLOW_URL": self.airflow.address,
            "ALMANAC_AIRFLOW_USER": scheduler.USER,
            "ALMANAC_AIRFLOW_PASSWORD": self.airflow.password,
            "ALMANAC_ACTOR": "ann",
        }
        command = [str(Path(sys.executable).parent / "almanac"), *arguments]
        env = {**self.environment, **login}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)

    def begin(self, period: str) -> str:
        """When a period begins, as a person gives it to a backfill."""
        return self.shop.pipeline.period(period).start.isoformat()

    def wait(self, dag: str) -> None:
        deadline = time.monotonic() + 600
        while any(
            item["completed_at"] is None for item in self.airflow.ask("GET", f"backfills?dag_id={dag}").json()["backfills"]
        ):
            assert time.monotonic() < deadline, "the backfill did not end"
            time.sleep(1)

    def states(self, verb: str) -> dict[str, str]:
        """The backfill's runs: period to state."""
        runs = self.airflow.ask("GET", f"dags/shop_{verb}/dagRuns?run_type=backfill&limit=50").json()["dag_runs"]
        begun = {datetime.fromisoformat(run["data_interval_start"]): run["state"] for run in runs}
        return {Period.holding(start, self.shop.pipeline.calendar).key: state for start, state in begun.items()}

    def table(self) -> dict[str, tuple[str, str]]:
        """Visible period to version and content digest."""
        shop = self.shop
        published = shop.home.published(shop.home.predictions, MONTHS)
        return {item.period: (item.version, published[item.period].content) for item in shop.home.written()}
