"""What tests share: one S3 server and one Spark session for the whole run, a root of its own for each test.

Examples that hypothesis makes up are the same in every run, so that a failure is the change's; `make fuzz` looks for new ones.
"""

from __future__ import annotations

import os

# Before numpy is loaded: two processes whose models each train on all cores spend more on waiting for one another than on work.
os.environ["OMP_NUM_THREADS"] = "1"

import gc
import json
import logging
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from almanac.local import java, seaweed, spark_conf
from almanac.settings import GARBAGE
from almanac.store.objects import Objects
from tests.support.shared import made_once
from tests.support.shop import MODULE, Shop
from tests.support.world import World

pytest_plugins = ["tests.support.targets"]
gc.set_threshold(GARBAGE)  # as in a Spark job's driver: most objects here are of imported modules

settings.register_profile("repeated", derandomize=True, database=None, deadline=None)
settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeated")

LONGEST_FIRST = ("slow", "airflow", "spark", "store")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first: the short ones are left to even out what two processes have to do."""
    ranks: dict[Path, int] = {}
    for item in items:
        rank = next((place for place, name in enumerate(LONGEST_FIRST) if item.get_closest_marker(name)), len(LONGEST_FIRST))
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.Store]:
    """A real S3 server; the process's environment points to it."""
    found = seaweed.start(tmp_path_factory.mktemp("store"))
    os.environ.update(found.environment())
    yield found
    found.stop()


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder for Airflow in this process, and that of the user modules. Airflow's first import would send all logging to what
    stands for stderr in one test.
    """
    os.environ.setdefault("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    os.environ["ALMANAC_SPARK_JOBS"] = str(MODULE.parent)
    handlers, level = list(logging.root.handlers), logging.root.level
    import airflow  # noqa: F401

    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def root(store: seaweed.Store) -> str:
    """A place in the bucket that no other test uses."""
    return f"s3://almanac/{uuid.uuid4().hex}"


@pytest.fixture
def objects(store: seaweed.Store) -> Objects:
    return Objects()


@pytest.fixture(scope="session")
def spark_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """How Spark jobs start, with the class archive, which is a minute's work."""

    def make() -> bytes:
        folder = tmp_path_factory.mktemp("spark")
        return json.dumps(dict(spark_conf.environment(folder, java.java_home(folder / "java")))).encode()

    return dict(json.loads(made_once(tmp_path_factory, "spark-environment", make)))


@pytest.fixture(scope="session")
def spark(store: seaweed.Store, spark_environment: dict[str, str]) -> Iterator[object]:
    """A local Spark session of two cores. Its Python workers keep the environment that it begins with, so the store is there; its
    JVM starts and compiles as those of short jobs do.
    """
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["JAVA_HOME"] = spark_environment["JAVA_HOME"]
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patched:
        for name, value in spark_environment.items():
            patched.setenv(name, value)
        session = _session(SparkSession)
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def _session(kind: Any) -> Any:
    return (
        kind.builder.master("local[2]")
        .appName("almanac tests")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.python.unix.domain.socket.enabled", "true")
        .config("spark.python.sql.dataFrameDebugging.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )


@pytest.fixture
def shop(store: seaweed.Store, root: str, spark: object) -> Shop:
    """The small pipeline with its data delivered."""
    return Shop.open(root, spark)


@pytest.fixture(scope="session")
def made(store: seaweed.Store, spark: object, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One world for all tests of doors and of what reads them."""
    packed = made_once(tmp_path_factory, "world", lambda: World.make(f"s3://almanac/{uuid.uuid4().hex}", spark).packed())
    return World.unpacked(packed, spark)


@pytest.fixture
def world(made: World) -> Iterator[World]:
    """A shop that has been at work, restored after the test."""
    yield made.restored()
    made.restored()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """A real PostgreSQL server; gives the folder of its socket."""
    from tests.support import postgres

    with postgres.running() as folder:
        yield folder


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent
