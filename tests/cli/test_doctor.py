"""`almanac doctor`: each line is right, or says what to do."""

from __future__ import annotations

import json
import os
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from almanac.cli import doctor
from tests.support.command_line import Asking

pytestmark = pytest.mark.store


@pytest.fixture
def ask(root: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", root)
    monkeypatch.delenv("ALMANAC_AIRFLOW_URL", raising=False)
    return Asking(monkeypatch, capsys)


def lines(text: str) -> dict[str, tuple[bool | None, str]]:
    return {one["what"]: (one["right"], one["found"]) for one in json.loads(text)}


def test_the_versions_are_those_that_the_package_asks_for(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    asked = [Requirement(one) for one in (*project["dependencies"], *project["optional-dependencies"]["spark"])]
    lowest = {
        one.name.replace("apache-airflow", "apache-airflow-core") if one.name == "apache-airflow" else one.name: low
        for one in asked
        if (low := next((str(part.version) for part in one.specifier if part.operator == ">="), ""))
    }
    assert {name: low for name, (low, _) in doctor.VERSIONS.items()} == {name: lowest[name] for name in doctor.VERSIONS}


def test_what_is_there_is_right(ask: Asking, root: str) -> None:
    code, out, _ = ask("doctor", "--json")

    found = lines(out)
    assert code == 0, found
    assert found["Python"][0] and found["Java"][0] and found["deltalake"] == (True, metadata.version("deltalake"))
    assert found["ALMANAC_ROOT"] == (True, root)
    assert found["bucket"] == (True, "can be read and written, and refuses a second writer of one name")
    assert found["Airflow"] == (None, "ALMANAC_AIRFLOW_URL is not set, so it was not asked")


def test_a_bucket_that_does_not_answer_is_one_wrong_line_and_the_exit_code_is_1(
    ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    code, out, _ = ask("doctor")
    assert code == 1
    wrong = [line for line in out.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 1 and "Check AWS_ENDPOINT_URL and that the server is running." in wrong[0]


def test_a_library_of_another_version_or_none_says_what_to_install(ask: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.VERSIONS, "deltalake", ("99", "100"))
    monkeypatch.setitem(doctor.VERSIONS, "nowhere-to-be-found", ("1", "2"))
    found = lines(ask("doctor", "--json")[1])
    assert found["deltalake"][0] is False
    assert found["deltalake"][1].endswith("; expected 99 or newer, below 100. pip install 'deltalake>=99,<100'")
    assert found["nowhere-to-be-found"] == (False, "not installed. pip install 'nowhere-to-be-found>=1,<2'")


@pytest.mark.slow
@pytest.mark.spark
def test_a_small_job_compares_the_executors_with_the_driver(
    ask: Asking, spark_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in spark_environment.items():
        monkeypatch.setenv(name, value)
    found = lines(ask("doctor", "--master", "local[2]", "--json")[1])
    assert found["Spark"] == (True, f"{metadata.version('pyspark')} on local[2]")
    assert found["jars"][1].startswith("none besides Spark's")
    assert found[f"executor on {os.uname().nodename}"] == (True, "the driver's versions of Python and libraries")


@pytest.mark.slow
@pytest.mark.spark
def test_a_master_that_does_not_exist_is_a_wrong_line(ask: Asking) -> None:
    found = lines(ask("doctor", "--master", "nonsense", "--json")[1])
    assert found["Spark job"][0] is False
    assert found["Spark job"][1].startswith("on nonsense it failed: ")
