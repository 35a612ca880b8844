"""docker-compose.yml fits the project: each check holds, and finds what was broken on purpose. No Docker needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import compose
from tests.support.compose import PROJECT, Deployment

BIN = Path(sys.executable).parent
Check = Callable[[Deployment], list[str]]


@pytest.fixture(scope="module")
def project() -> Deployment:
    return Deployment.of_project()


# --- against the Compose specification ---


def schema_says(*files: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_compose_files_follow_the_specification() -> None:
    found = schema_says(PROJECT / "docker-compose.yml", *(PROJECT / "deploy").glob("compose.*.yml"))
    assert found.returncode == 0, found.stdout


def test_the_specification_refuses_a_misspelt_key(project: Deployment, tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(project.compose.replace("healthcheck:", "healthchek:", 1))
    assert schema_says(broken).returncode == 1


def test_overrides_speak_of_services_that_exist(project: Deployment) -> None:
    assert project.overrides
    for name, text in project.overrides.items():
        assert set(compose.load(text)["services"]) <= set(project.services), name


def test_what_an_override_leaves_out_is_not_required(project: Deployment) -> None:
    """Compose refuses a dependency on a service whose profile is off, unless it says `required: false`."""
    for text in project.overrides.values():
        services = compose.load(text)["services"]
        left_out = {name for name, service in services.items() if "profiles" in service}
        for name, service in project.services.items():
            needed = {other for other, how in service.get("depends_on", {}).items() if how.get("required", True)}
            assert name in left_out or not needed & left_out


def test_a_cluster_elsewhere_can_reach_every_driver(project: Deployment) -> None:
    """Each driver takes the first free port from spark-defaults.conf on; all that it may come to are published."""
    lines = (PROJECT / "deploy" / "spark" / "spark-defaults.conf").read_text().splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if line.startswith("spark."))
    published = compose.load(project.overrides["compose.spark.yml"])["services"]["airflow-scheduler"]["ports"]
    for key, line in zip(("spark.driver.port", "spark.driver.blockManager.port"), published, strict=True):
        first, last = int(settings[key]), int(settings[key]) + int(settings["spark.port.maxRetries"])
        assert line.split(":")[1:] == [f"{first}-{last}"] * 2


# --- against the project ---

CHECKS: list[Check] = [
    compose.variables,
    compose.secrets,
    compose.ports,
    compose.addresses,
    compose.health_checks,
    compose.paths,
    compose.names,
    compose.packages,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_found_in_the_project(check: Check, project: Deployment) -> None:
    assert check(project) == []


# field, what to replace, with what, the check that must see it, what it says
BROKEN: list[tuple[str, str, str, Check, str]] = [
    ("example", "S3_PORT=\n", "", compose.variables, "S3_PORT is used, but not"),
    ("example", "S3_PORT=", "S3_PRT=", compose.variables, "S3_PRT is in .env.example, but not used"),
    ("example", "POSTGRES_PASSWORD=", "POSTGRES_PASSWORD=airflow", compose.variables, "POSTGRES_PASSWORD a value"),
    ("compose", "${S3_PORT:-8333}", "$S3_PORT", compose.variables, "a $ that is no ${NAME}"),
    ("compose", ":?set POSTGRES_PASSWORD in .env", ":-airflow", compose.secrets, "POSTGRES_PASSWORD is a secret"),
    ("compose", ":?set AIRFLOW_JWT_SECRET in .env", "", compose.secrets, "AIRFLOW_JWT_SECRET is a secret"),
    (
        "compose",
        "SECRET_KEY: ${AIRFLOW_API_SECRET_KEY:?set AIRFLOW_API_SECRET_KEY in .env}",
        "SECRET_KEY: a",
        compose.secrets,
        "written down",
    ),
    (
        "compose",
        "airflow:${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD in .env}@",
        "airflow:airflow@",
        compose.secrets,
        "'airflow' in it",
    ),
    ("compose", "${PUBLISH_ADDRESS:-127.0.0.1}:${S3", "${PUBLISH_ADDRESS:-0.0.0.0}:${S3", compose.ports, "on 0.0.0.0"),
    ("compose", ":8333\"]", ":8888\"]", compose.ports, "seaweedfs publishes 8888, but listens on [8333]"),
    (
        "compose",
        "    image: postgres:17\n",
        '    image: postgres:17\n    ports: ["127.0.0.1:5432:5432"]\n',
        compose.ports,
        "postgres publishes",
    ),
    ("compose", "-s3.ip.bind=0.0.0.0", "-s3.ip.bind=127.0.0.1", compose.ports, "listens on []"),
    ("compose", "@postgres:5432/", "@postgres:5433/", compose.addresses, "postgres does not listen on 5433"),
    ("compose", "http://seaweedfs:8333", "http://seaweed:8333", compose.addresses, "there is no service seaweed"),
    (
        "compose",
        "    networks: [work]\n    ports",
        "    networks: [metadata]\n    ports",
        compose.addresses,
        "no network",
    ),
    ("healthy", "http://spark-master:8080", "http://spark-master:8081", compose.addresses, "does not listen on 8081"),
    (
        "compose",
        '"/opt/almanac/deploy/healthy.py", "triggerer"',
        '"/opt/almanac/deploy/healthy.py", "trigger"',
        compose.health_checks,
        "for triggerer",
    ),
    ("compose", '"wget", "-q"', '"http", "-q"', compose.health_checks, "seaweedfs: its image has no http"),
    (
        "compose",
        "condition: service_completed_successfully",
        "condition: service_started",
        compose.health_checks,
        "airflow-init",
    ),
    (
        "compose",
        "DAGS_FOLDER: /opt/almanac/dags",
        "DAGS_FOLDER: /opt/almanac/dag",
        compose.paths,
        "/opt/almanac/dag is not in the image",
    ),
    (
        "compose",
        "airflow-auth:/opt/airflow/auth",
        "airflow-auth:/opt/airflow/secrets",
        compose.paths,
        "does not give to its user",
    ),
    ("compose", "  s3-data:\n", "", compose.paths, "volume s3-data"),
    ("dockerfile", "COPY dags dags", "COPY dag dags", compose.paths, "copies dag, which does not exist"),
    ("ignored", "!spark_jobs", "", compose.paths, "copies spark_jobs, which .dockerignore leaves out"),
    ("ignored", "*\n", "", compose.paths, "lets .env in"),
    ("compose", "ALMANAC_ROOT:", "ALMANAC_ROOTS:", compose.names, "nothing reads ALMANAC_ROOTS"),
    ("compose", "SPARK_DRIVER_HOST: ", "SPARK_DRIVER: ", compose.names, "asks for SPARK_DRIVER_HOST"),
    ("compose", "postgresql+psycopg2", "postgresql+psycopg", compose.packages, "psycopg is not installed"),
    ("dockerfile", "-bookworm", "", compose.packages, "no -bookworm"),
    ("dockerfile", "USER almanac", "USER root", compose.packages, "not root"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "old", "new", "check", "says"), BROKEN, ids=lambda value: getattr(value, "__name__", str(value))[:40]
)
def test_what_is_broken_is_found(field: str, old: str, new: str, check: Check, says: str, project: Deployment) -> None:
    text = getattr(project, field)
    assert old in text
    change: dict[str, Any] = {field: text.replace(old, new)}
    assert any(says in problem for problem in check(replace(project, **change)))
