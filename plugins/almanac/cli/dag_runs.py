"""Starts and watches DAG runs through Airflow's REST API, for the commands that need Spark.

ALMANAC_AIRFLOW_URL       Airflow's address, such as http://localhost:8080
ALMANAC_AIRFLOW_TOKEN     a token; or
ALMANAC_AIRFLOW_USER, ALMANAC_AIRFLOW_PASSWORD   a login, to get a token with
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import typer

from almanac.cli.console import complain
from almanac.errors import AccessRefused, AlmanacError, DescriptionError, Unreachable

Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for the run to end, and print each task's state; exit code 1 if it fails.")
]
Unpause = Annotated[bool, typer.Option("--unpause", help="Unpause the DAG first; its schedule is then on as well.")]

POLL_SECONDS = 2.0
SUCCESS, FAILED, STARTED = "success", "failed", "started"
LOGIN = "Set ALMANAC_AIRFLOW_TOKEN, or ALMANAC_AIRFLOW_USER and ALMANAC_AIRFLOW_PASSWORD."


@dataclass(frozen=True, slots=True)
class Airflow:
    """A client of Airflow's REST API."""

    url: str
    token: str

    @classmethod
    def from_environment(cls) -> Airflow:
        """The Airflow of this process's environment.

        Raises:
            DescriptionError: no address or no login is set.
            AccessRefused: Airflow refused the login.
            Unreachable: Airflow does not answer.
        """
        url = os.environ.get("ALMANAC_AIRFLOW_URL", "").rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise DescriptionError(
                f"ALMANAC_AIRFLOW_URL: expected Airflow's address, such as http://localhost:8080, got {url or 'nothing'}. This "
                "command starts a DAG run: set the address, or start the DAG in the Airflow UI."
            )
        if token := os.environ.get("ALMANAC_AIRFLOW_TOKEN"):
            return cls(url, token)
        user, password = os.environ.get("ALMANAC_AIRFLOW_USER"), os.environ.get("ALMANAC_AIRFLOW_PASSWORD")
        if not user or not password:
            raise DescriptionError(f"No login is set for Airflow at {url}. {LOGIN}")
        answer = _ask("POST", f"{url}/auth/token", {"username": user, "password": password})
        return cls(url, str(answer["access_token"]))

    def start(self, dag: str, conf: Mapping[str, Any]) -> str:
        """Starts a run of a DAG with these params; returns the run's id.

        Raises:
            AlmanacError: Airflow does not know the DAG, or refuses the params; the message has Airflow's answer. Or nothing
                would start the run: the DAG is paused, or no scheduler is alive.
        """
        if self._ask("GET", f"/api/v2/dags/{dag}")["is_paused"]:
            raise AlmanacError(
                f"The DAG {dag} is paused, so its run would wait. Nothing was started. Unpause it in the UI, or with --unpause."
            )
        health = self._ask("GET", "/api/v2/monitor/health")["scheduler"]
        if health["status"] != "healthy":
            raise AlmanacError(
                f"{self.url}: no scheduler is alive (its last sign: {health.get('latest_scheduler_heartbeat') or 'none'}), so a "
                "run would wait. Nothing was started. Start Airflow's scheduler."
            )
        answer = self._ask("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": dict(conf)})
        return str(answer["dag_run_id"])

    def read(self, path: str) -> Any:
        """What the REST API answers to a GET of `/api/v2/PATH`. Raises: AlmanacError."""
        return self._ask("GET", f"/api/v2/{path}")

    def unpause(self, dag: str) -> None:
        """Raises: AlmanacError, if Airflow does not know the DAG."""
        self._ask("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})

    def wait(self, dag: str, run: str, told: Callable[[str], None]) -> str:
        """Waits until a run has ended; returns `success` or `failed`. Calls `told` with a line whenever a task changes state, and
        at the end with the run's note: why tasks were skipped.
        """
        seen: dict[str, str] = {}
        while True:
            # Ask for the run first: a task that ends in between is reported in the next round.
            found = self._ask("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")
            state = str(found["state"])
            for task in self._ask("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances?limit=200")["task_instances"]:
                name = task["task_id"] + (f" [{task['map_index']}]" if task["map_index"] >= 0 else "")
                if task["state"] and seen.get(name) != task["state"]:
                    seen[name] = task["state"]
                    told(f"{name}: {task['state']}")
            if state in (SUCCESS, FAILED):
                if found.get("note"):
                    told(found["note"])
                return state
            time.sleep(POLL_SECONDS)

    def page(self, dag: str, run: str) -> str:
        """The run's page in the UI."""
        return f"{self.url}/dags/{dag}/runs/{run}"

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return _ask(method, self.url + path, body, {"Authorization": f"Bearer {self.token}"})


def start(dag: str, conf: Mapping[str, Any], *, wait: bool, unpause: bool = False) -> dict[str, str]:
    """Starts a run of a DAG and, with `wait`, waits for its end. Returns its `dag`, `run`, `page` and `state`.

    Params that are None are left to the DAG. Raises: as `Airflow.from_environment` and `Airflow.start`.
    """
    airflow = Airflow.from_environment()
    if unpause:
        airflow.unpause(dag)
    run = airflow.start(dag, {key: value for key, value in conf.items() if value is not None})
    state = airflow.wait(dag, run, complain) if wait else STARTED
    return {"dag": dag, "run": run, "page": airflow.page(dag, run), "state": state}


def leave(state: str) -> None:
    """Exits with 1 if the awaited run failed."""
    if state not in (STARTED, SUCCESS):
        raise typer.Exit(1)


def _ask(method: str, url: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Any:
    try:
        answer = httpx.request(method, url, json=body, headers=dict(headers or {}), timeout=30, follow_redirects=True)
    except httpx.HTTPError as error:
        raise Unreachable(
            f"{url}: Airflow does not answer ({type(error).__name__}). Check ALMANAC_AIRFLOW_URL and that its API server runs."
        ) from error
    if answer.status_code in (401, 403):
        raise AccessRefused(f"{url}: Airflow refused the login ({answer.status_code}). {LOGIN}")
    if answer.is_error:
        raise AlmanacError(f"{url}: Airflow answered {answer.status_code}: {_detail(answer)}. Nothing was started.")
    return answer.json()


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
    return str(detail)[:300]
