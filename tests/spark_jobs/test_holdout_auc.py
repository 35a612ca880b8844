"""The first example is worth scheduling: on a sound feed its versions rank households well, month after month."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from almanac.core.canonical import decode
from almanac.core.pipeline import Pipeline
from almanac.jobs.context import SparkJob
from almanac.local import seaweed
from almanac.store.home import Home
from almanac.user_module import module_zip
from demo import landing
from tests.support.shop import Shop

pytestmark = [pytest.mark.store, pytest.mark.spark, pytest.mark.airflow, pytest.mark.figure]

NAME = "purchase_propensity"
DESCRIBE = f"""
from airflow.dag_processing.dagbag import DagBag
print(DagBag({{folder!r}}, safe_mode=True).dags["{NAME}_retrain"].tasks[0].description)
"""


def described(repository: Path, home: Path) -> Pipeline:
    """The description that the DAG file gives."""
    jobs = {"ALMANAC_SPARK_JOBS": str(repository / "spark_jobs")}
    env = {**os.environ, **jobs, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    script = DESCRIBE.format(folder=str(repository / "dags"))
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True, timeout=120)
    return decode(Pipeline, json.loads(done.stdout.strip().splitlines()[-1]))


def test_the_mean_holdout_auc_of_the_retrains_for_july_to_october_is_at_least_080(
    store: seaweed.Store, root: str, spark: object, repository: Path, tmp_path: Path
) -> None:
    landing.deliver(store)
    pipeline = described(repository, tmp_path)
    module = module_zip(repository / "spark_jobs", NAME)
    shop = Shop(Home.of(root, NAME), f"s3://{landing.BUCKET}/{landing.PREFIX}", pipeline, SparkJob("auc", spark), module)
    versions = [shop.train(period) for period in ("2017-07", "2017-08", "2017-09", "2017-10")]
    found = {version: shop.home.versions.read(version).metrics["roc_auc"] for version in versions}
    assert mean(found.values()) >= 0.80
