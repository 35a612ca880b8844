"""`almanac up`, `status`, `put` and `down`: real programs for a small project, started twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from almanac.local import machine
from tests.support.shop import MODULE, MONTHS, parquet, pipeline, visits
from tests.support.shop_dags import write_dags

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.store]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "spark_jobs").mkdir()
    (tmp_path / "spark_jobs" / "shop.py").write_text(MODULE.read_text())
    write_dags(tmp_path / "dags", pipeline("s3://almanac/landing"))
    (tmp_path / "data").mkdir()
    for month in MONTHS[:2]:
        (tmp_path / "data" / f"{month:%Y-%m}.parquet").write_bytes(parquet(visits(month)))
    yield tmp_path
    machine.stop(tmp_path)


def ask(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person types it in the project's folder, with nothing set."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("ALMANAC_", "AWS_", "AIRFLOW"))}
    command = [str(Path(sys.executable).parent / "almanac"), *arguments]
    return subprocess.run(command, cwd=project, env=given, capture_output=True, text=True, check=False, timeout=400)


def test_a_project_goes_up_is_used_goes_down_and_goes_up_again(project: Path) -> None:
    assert ask(project, "status").returncode == 1

    first = ask(project, "up")
    assert first.returncode == 0, first.stderr
    address = re.search(r"Airflow +(http://127\.0\.0\.1:\d+)", first.stdout)
    assert address is not None
    env = project / ".almanac" / "env"
    assert env.stat().st_mode & 0o077 == 0
    assert (project / ".almanac" / ".gitignore").read_text() == "*\n"

    health = httpx.get(f"{address[1]}/api/v2/monitor/health", timeout=10).json()
    assert {health[part]["status"] for part in ("metadatabase", "scheduler", "dag_processor", "triggerer")} == {"healthy"}
    status = ask(project, "status", "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout) == {
        "up": True,
        "address": address[1],
        "programs": dict.fromkeys(("weed", "api-server", "scheduler", "dag-processor", "triggerer"), True),
    }
    again = ask(project, "up")
    assert (again.returncode, address[1] in again.stdout) == (0, True)
    assert "Everything is running already." in again.stderr

    # Files, with the address that the DAG file gives the source, from any folder of the project.
    assert "2 files copied to s3://almanac/landing/visits/." in ask(project, "put", "data", "visits").stdout
    assert "0 files copied to s3://almanac/landing/visits/, 2 were there already." in ask(project, "put", "data", "visits").stdout
    (project / "data" / "2017-01.parquet").write_bytes(parquet(visits(MONTHS[0], seed=1)))
    refused = ask(project, "put", "data", "visits")
    assert refused.returncode == 1
    assert "2017-01.parquet is there with other content. Nothing was copied." in refused.stderr
    assert "1 files copied" in ask(project, "put", "data", "visits", "--replace").stdout
    assert "Source 'people' is in no" not in ask(project, "put", "data", "people").stderr
    assert "No such option" not in ask(project, "pipelines").stderr

    # A DAG that is paused waits for ever: said at once.
    paused = ask(project, "retrain", "shop", "2017-06", "--wait")
    assert paused.returncode == 1
    assert "The DAG shop_retrain is paused, so its run would wait. Nothing was started." in paused.stderr

    down = ask(project, "down")
    assert (down.returncode, down.stdout.startswith("Stopped: ")) == (0, True)
    assert not env.exists()
    assert ask(project, "down").stdout == "Nothing was running.\n"
    assert ask(project, "status").returncode == 1

    second = ask(project, "up")
    assert second.returncode == 0, second.stderr
    assert address[1] in second.stdout, "the same port"
    seconds = re.search(r"Everything is up after (\d+) s", second.stderr)
    assert seconds is not None and int(seconds[1]) < 60
    assert "2017-02.parquet" not in second.stderr
    assert "0 files copied" in ask(project, "put", "data/2017-02.parquet", "visits").stdout, "the data are still there"


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    done = ask(tmp_path, "up")
    assert done.returncode == 1
    assert "expected a folder with dags/ and spark_jobs/, found no dags, spark_jobs." in done.stderr
    assert not (tmp_path / ".almanac").exists()


def test_a_second_start_at_the_same_time_is_refused(project: Path) -> None:
    with machine._alone(project / ".almanac"):
        done = ask(project, "up")
    assert done.returncode == 1
    assert "Another process is starting or stopping what is in" in done.stderr
