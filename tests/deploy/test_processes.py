"""The command lines of docker-compose.yml, really started: on loopback, with free ports and a temporary folder.

What the containers' network keeps apart, two loopback addresses keep apart here, so this runs on Linux alone.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from almanac.local import java
from almanac.local.seaweed import GRPC, PORTS
from tests.deploy.test_commands import BIN, script
from tests.support.compose import PROJECT, Deployment

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 exists on Linux alone")]
Start = Callable[[list[str], dict[str, str]], subprocess.Popen[bytes]]

# Runs in the executors: each says how it calls the driver, and whether it was given the keys of the store.
JOB = """
import os
from pyspark.sql import SparkSession

def look(batches):
    import pyarrow
    for batch in batches:
        keys = "AWS_SECRET_ACCESS_KEY" in os.environ
        yield pyarrow.RecordBatch.from_pydict({"keys": [keys] * batch.num_rows})

spark = SparkSession.builder.getOrCreate()
rows = spark.range(4).mapInArrow(look, "keys boolean").collect()
print("FOUND", spark.conf.get("spark.driver.host"), spark.conf.get("spark.driver.port"), [row.keys for row in rows])
"""


def free_ports(count: int) -> list[int]:
    """Free ports, with the gRPC port that SeaweedFS puts 10,000 above each. Systems give none of these to clients."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice([port for port in PORTS if not {port, port - GRPC, port + GRPC} & set(found)])
        with socket.socket() as low, socket.socket() as high:
            try:
                low.bind(("127.0.0.1", port))
                high.bind(("127.0.0.1", port + GRPC))
            except OSError:
                continue
        found.append(port)
    return found


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.3)
    return holds()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a command in a process group of its own; every group is ended after the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"log-{len(running)}").open("wb")
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # asked politely, the S3 server can take 20 s
        process.wait()


def swapped(command: list[str], swaps: dict[str, str]) -> list[str]:
    """The command with some of its words changed; a word that is not there is a mistake of the test."""
    assert set(swaps) <= set(command)
    return [swaps.get(word, word) for word in command]


@pytest.mark.store
def test_the_s3_server_serves_s3_and_keeps_the_rest_to_itself(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Deployment.of_project().services["seaweedfs"]
    s3, master, volume, filer = free_ports(4)
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    changes = {
        "-dir=/data": f"-dir={tmp_path}",
        "-s3.ip.bind=0.0.0.0": "-s3.ip.bind=127.0.0.2",
        "-s3.port=8333": f"-s3.port={s3}",
    }
    command = swapped(service["command"], changes)
    extra = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    start([str(BIN / "weed"), *command, *extra], {**keys, "GOMEMLIMIT": service["environment"]["GOMEMLIMIT"]})

    probed = service["healthcheck"]["test"][-1].replace("127.0.0.1:8333", f"127.0.0.2:{s3}")
    assert within(30, lambda: answers(probed))
    assert within(30, lambda: answers(f"http://127.0.0.1:{filer}/"))
    assert not answers(f"http://127.0.0.2:{filer}/")

    for name, value in {**keys, "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    prepare, endpoint = script("prepare"), f"http://127.0.0.2:{s3}"
    assert prepare.ensure_bucket("almanac", endpoint) == "created"
    assert prepare.ensure_bucket("almanac", endpoint) == "found"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(SystemExit, match="answered 403"):
        prepare.ensure_bucket("almanac", endpoint)


@pytest.mark.spark
def test_the_cluster_forms_and_its_executors_call_the_driver_back(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Deployment.of_project().services
    port, page, worker_page, driver, blocks = free_ports(5)
    environment = {
        "JAVA_HOME": str(java.java_home(tmp_path / "java")),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_CONF_DIR": str(PROJECT / "deploy" / "spark"),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    changes = {"spark-master": "127.0.0.1", "7077": str(port), "8080": str(page)}
    start(swapped(services["spark-master"]["command"], changes), environment)
    healthy = script("healthy")
    monkeypatch.setattr(healthy, "MASTER", f"http://127.0.0.1:{page}/json/")
    monkeypatch.setattr(healthy, "WORKER", f"http://127.0.0.1:{worker_page}/json/")
    assert within(60, lambda: healthy.main("spark-master") == 0)
    assert healthy.main("spark-worker") == 1

    url = f"spark://127.0.0.1:{port}"
    changes = {"spark://spark-master:7077": url, "8081": str(worker_page), "/tmp/spark-work": str(tmp_path / "work")}
    command = swapped(services["spark-worker"]["command"], changes)
    start([*command[:-1], "--host", "127.0.0.1", command[-1]], {**environment, "AWS_SECRET_ACCESS_KEY": "secret"})
    assert within(60, lambda: healthy.main("spark-worker") == 0)

    job = tmp_path / "job.py"
    job.write_text(JOB)
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.port": str(driver),
        "spark.driver.blockManager.port": str(blocks),
        "spark.ui.enabled": "false",
    }
    flags = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    submitted = subprocess.run(
        ["spark-submit", "--master", url, *flags, str(job)],
        env={**os.environ, **environment, "SPARK_DRIVER_HOST": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # The name comes from ${env:SPARK_DRIVER_HOST} in spark-defaults.conf, the keys from the worker's environment.
    assert f"FOUND 127.0.0.1 {driver} [True, True, True, True]" in submitted.stdout, submitted.stderr[-3000:]
