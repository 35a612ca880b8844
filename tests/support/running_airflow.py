"""A running Airflow that knows the small pipeline, and what a person does with it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        body = {"dag_id": f"shop_{verb}", "from_date": f"{first}-01T00:00:00Z", "to_date": f"{last}-28T00:00:00Z", **more}
        answer = self.airflow.ask("POST", "backfills", body)
        assert answer.status_code == 200, answer.text
        self.wait(f"shop_{verb}")

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
        return {run["data_interval_start"][:7]: run["state"] for run in runs}

    def table(self) -> dict[str, tuple[str, str]]:
        """Visible period to version and content digest."""
        shop = self.shop
        published = shop.home.published(shop.home.predictions, MONTHS)
        return {item.period: (item.version, published[item.period].content) for item in shop.home.written()}
