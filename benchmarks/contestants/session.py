"""The Spark session, the same for all who use one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from pyspark.sql import SparkSession

from benchmarks.contestants.answering import Task


def local(cores: int, settings: Mapping[str, str] | None = None) -> SparkSession:
    """A session on so many cores of this machine, quiet and without a page. `settings`: Spark's properties besides."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = (
        SparkSession.builder.master(f"local[{cores}]")
        .appName("almanac benchmark")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "2g")
        .config("spark.sql.session.timeZone", "UTC")
        .config(map=dict(settings or {}))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    return session


def batches_of(spark: SparkSession, task: Task) -> None:
    """Sets how many rows a Python worker is handed at once; Spark's own default is 10,000."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(task.options.get("batch", 10_000)))
