"""What tests of running DAGs share: Spark as the demo sets it up, and an Airflow with the small pipeline's DAGs."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from almanac import Gate
from almanac.local import scheduler, seaweed
from tests.support.running_airflow import Running
from tests.support.shop import Shop
from tests.support.shop_dags import write_dags, write_jobs


@pytest.fixture(scope="module")
def running(
    store: seaweed.Store,
    spark: Any,
    spark_environment: dict[str, str],
    postgres: Path,
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """Ends with its module: an idle Airflow takes a quarter of a core from the tests after it."""
    folder, name = tmp_path_factory.mktemp("running"), f"airflow_{uuid.uuid4().hex}"
    with psycopg.connect(f"postgresql://postgres@/postgres?host={postgres}", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    database = f"postgresql+psycopg://postgres@/{name}?host={postgres}"
    shop = Shop.open(f"s3://almanac/running-{uuid.uuid4().hex}", spark)
    gate = Gate(metric="roc_auc", min_gain=-0.2, floor=0.5, approval=True)
    # With a last period the run of today, which unpausing starts, has nothing to do. In London the months of summer begin an
    # hour before those of UTC, so a run whose period went by UTC anywhere would be for the month before.
    described = {"last_period": "2017-12", "timezone": "Europe/London"}
    shop.describe(**described, gate=gate, features=(shop.pipeline.group("habits"),))
    versions = {"2017-08": shop.retrain("2017-06"), "2017-09": shop.train("2017-08")}
    shop.promote(versions["2017-09"])
    memory = shop.remember()
    given = {
        # On SQLite a backfill that is created while the scheduler writes fails with `database is locked`.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": database,
        "AIRFLOW__CORE__DAGS_FOLDER": str(write_dags(folder / "dags", shop.pipeline)),
        "ALMANAC_ROOT": shop.home.layout.root,
        "ALMANAC_SPARK_JOBS": str(write_jobs(folder / "spark_jobs")),
    }
    airflow, environment = scheduler.start(folder / "airflow", repository, store, lambda: spark_environment, given)
    try:
        airflow.wait_for_dags(["shop_retrain", "shop_score", "shop_rollback"])
        path = f"{Path(sys.executable).parent}:{environment['PATH']}"
        yield Running(shop, versions, airflow, {**environment, "PATH": path}, memory)
    finally:
        airflow.stop()
