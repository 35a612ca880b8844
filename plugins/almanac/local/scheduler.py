"""Airflow on this machine: its home, its processes, and a client of the REST API."""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from almanac.local.processes import Session, spawn, stop_leftovers
from almanac.local.seaweed import Store
from almanac.settings import PACKAGE

USER = "admin"
DATABASE = "airflow.db"
PROCESSES = ("api-server", "scheduler", "dag-processor", "triggerer")
UP_SECONDS = 180.0


class NotUp(RuntimeError):
    """Airflow did not start. The message has the end of its logs."""


@dataclass
class Airflow:
    """A running Airflow: the address of its UI, the login, and calls of its REST API."""

    address: str
    password: str
    sessions: list[Session]
    _token: str = field(default="", repr=False)

    def stop(self) -> None:
        for session in reversed(self.sessions):
            session.stop(patience=8.0)

    def ask(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """One call of the REST API; renews an expired login."""
        for attempt in range(3):
            if not self._token or attempt:
                self._token = self._login()
            with suppress(httpx.TransportError):
                answer = httpx.request(
                    verb,
                    f"{self.address}/api/v2/{path}",
                    json=body,
                    headers={"Authorization": f"Bearer {self._token}"},
                    timeout=30,
                )
                if answer.status_code != 401:
                    return answer
            time.sleep(0.5)
        raise NotUp(f"Airflow does not answer {verb} {path}. Check the logs in its home.")

    def _login(self) -> str:
        body = {"username": USER, "password": self.password}
        answer = httpx.post(f"{self.address}/auth/token", json=body, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def wait_for_dags(self, names: list[str], seconds: float = UP_SECONDS) -> None:
        """Waits until Airflow knows the DAGs, and unpauses them."""
        deadline = time.monotonic() + seconds
        for name in names:
            while self.ask("GET", f"dags/{name}").status_code != 200:
                if time.monotonic() > deadline:
                    errors = self.ask("GET", "importErrors").text
                    raise NotUp(f"Airflow does not know the DAG {name}. Import errors: {errors[:2000]}")
                time.sleep(0.5)
            self.ask("PATCH", f"dags/{name}", {"is_paused": False}).raise_for_status()

    def trigger(self, dag: str, run: str, conf: Mapping[str, Any]) -> None:
        """Starts a run with a given id. An existing run is left as it is; if it failed, it is cleared."""
        answer = self.ask("POST", f"dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None, "conf": dict(conf)})
        if answer.status_code == 409:
            if self.state(dag, run) == "failed":
                self.ask("POST", f"dags/{dag}/dagRuns/{run}/clear", {"dry_run": False, "only_failed": True}).raise_for_status()
            return
        if answer.status_code >= 400:
            raise RuntimeError(f"Could not start the DAG {dag}: {answer.text}")

    def state(self, dag: str, run: str) -> str:
        return str(self.ask("GET", f"dags/{dag}/dagRuns/{run}").json().get("state", "unknown"))

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The task instances of a run, as the REST API returns them."""
        answer = self.ask("GET", f"dags/{dag}/dagRuns/{run}/taskInstances?limit=100").json()
        return list(answer.get("task_instances", []))

    def why(self, dag: str, run: str, task: str, attempt: int) -> str:
        """The last lines of a failed task's log."""
        answer = self.ask("GET", f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}?full_content=true")
        return "\n".join(answer.text.splitlines()[-15:])[-3000:]


def environment(
    folder: Path, project: Path, store: Store, spark: Mapping[str, str], port: int, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of Airflow's processes and their Spark jobs. `given` overrides it."""
    cores = os.cpu_count() or 2
    binaries = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_", "ALMANAC_", "SPARK_"))}
    return {
        **kept,
        **spark,
        **store.environment(),
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(_plugins(project)),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(2 * cores),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,viewer:viewer",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": _secret(folder / "api.key"),
        "AIRFLOW__API_AUTH__JWT_SECRET": _secret(folder / "jwt.key"),
        # How long to wait for a locked database: SQLite's default of 5 s is too short on a busy machine.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / DATABASE}?timeout=60",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "16",
        # Detect soon after a start what a killed demo left running, and retry it.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": f"local[{cores}]"}),
        "ALMANAC_ROOT": "s3://almanac/almanac",
        "ALMANAC_LANDING": "s3://almanac/landing",
        "ALMANAC_SPARK_JOBS": str(project / "spark_jobs"),
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **(given or {}),
    }


def start(
    folder: Path,
    project: Path,
    store: Store,
    spark: Callable[[], Mapping[str, str]],
    given: Mapping[str, str] | None = None,
    *,
    port: int = 0,
) -> tuple[Airflow, dict[str, str]]:
    """Starts Airflow with its home in `folder`, new or existing, and the DAGs of a project; returns it when it is healthy.

    `spark` returns the variables of Spark; it is called after the database is created, so that both can be prepared at once.
    Variables in `given` override all others. `port`: of the UI; that of the last start, or another free one, when 0.

    Raises:
        NotUp: it did not start; the message has the end of its logs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    stop_leftovers(folder)
    port = port or _port(folder / "port")
    env = environment(folder, project, store, {}, port, given)
    password = _secret(folder / "password")
    logins = {USER: password, "viewer": _secret(folder / "viewer")}
    (folder / "simple_auth_manager_passwords.json.generated").write_text(json.dumps(logins))
    _prepare(folder, env)
    env = environment(folder, project, store, spark(), port, given)
    sessions: list[Session] = []
    airflow = Airflow(f"http://127.0.0.1:{port}", password, sessions)
    try:
        for name in PROCESSES:
            sessions.append(spawn(name, [str(Path(sys.executable).parent / "airflow"), name], environment=env, folder=folder))
        _wait(airflow)
    except BaseException:  # Ctrl-C while waiting must leave nothing running
        airflow.stop()
        raise
    return airflow, env


def _prepare(folder: Path, env: Mapping[str, str]) -> None:
    """Creates or upgrades the database and the pool; this Airflow's second start finds it done."""
    done_by, version = folder / "prepared", importlib.metadata.version("apache-airflow-core")
    if done_by.exists() and done_by.read_text() == version and (folder / DATABASE).exists():
        return
    binary = str(Path(sys.executable).parent / "airflow")
    pool = str(os.cpu_count() or 2)
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        database.execute("PRAGMA journal_mode=WAL")  # stored in the file; readers and writers do not block each other
    with (folder / "prepare.log").open("ab") as log:
        for command in (["db", "migrate"], ["pools", "set", "spark", pool, "How many Spark jobs run at once"]):
            done = subprocess.run([binary, *command], env=dict(env), stdout=log, stderr=subprocess.STDOUT, check=False)
            if done.returncode:
                end = "\n".join((folder / "prepare.log").read_text().splitlines()[-15:])
                raise NotUp(f"`airflow {' '.join(command)}` failed:\n{end}")
    done_by.write_text(version)


def _wait(airflow: Airflow) -> None:
    deadline = time.monotonic() + UP_SECONDS
    # One client: each loads the certificate authorities anew, a tenth of a second that Airflow's processes could use.
    with httpx.Client(base_url=airflow.address, timeout=5) as client:
        while time.monotonic() < deadline:
            if dead := [session for session in airflow.sessions if not session.alive]:
                raise NotUp(f"Airflow's {dead[0].name} exited:\n{dead[0].last_lines()}")
            with suppress(httpx.TransportError, ValueError):
                health = client.get("/api/v2/monitor/health").json()
                parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
                if all(health[part]["status"] == "healthy" for part in parts):
                    return
            time.sleep(0.3)
    raise NotUp(f"Airflow was not healthy after {UP_SECONDS:.0f} s:\n{airflow.sessions[0].last_lines()}")


def _plugins(project: Path) -> Path:
    """Airflow's plugins folder: the one beside this package, if it is used from a checkout, else the project's own."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "almanac_plugin.py").is_file() else project / "plugins"


def _port(remembered: Path) -> int:
    """The port of the last start if it is free, so that bookmarks stay valid; else another one, which is then remembered."""
    with suppress(FileNotFoundError, ValueError), socket.socket() as probe:
        port = int(remembered.read_text())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = int(probe.getsockname()[1])
    remembered.write_text(str(found))
    return found


def _secret(file: Path) -> str:
    """A secret of this home, created once; only its owner can read it."""
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            opened.write(secrets.token_urlsafe(24))
    return file.read_text()
