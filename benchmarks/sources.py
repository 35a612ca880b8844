"""Benchmarks what a source's format costs: the same rows, and the same features of them, from each. `make bench-sources`.

For each format, in turns: the first pin (which converts text, or copies a table), a second pin, and the features of three months
by a described and a written group, from nothing. The features' content digests must be those of plain Parquet. `parquet again` is
plain Parquet a second time: how much its ratio differs from 1 is what the machine adds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from almanac import Aggregates, EventSource, FeatureGroup, Gate, Label, MovingWindow, Pipeline, Population
from almanac.core.receipts import RunInfo
from almanac.local import java, seaweed, spark_conf
from benchmarks import figures, kept
from benchmarks.contestants.session import local
from benchmarks.race import REPOSITORY
from benchmarks.scoring import about, today

RESULTS = REPOSITORY / "benchmarks" / "results" / "sources.json"
PERIODS = ("2017-04", "2017-05", "2017-06")
DAY = timedelta(days=1)
MODULE = """
from pyspark.sql import functions as F

def customers(visits):
    return visits.select("customer").distinct()

def habits(visits):
    amount = F.col("amount")
    return visits.groupBy("customer").agg(F.count("*").alias("visits"), F.sum(amount).alias("spent"), F.max(amount).alias("most"))

def returns(visits):
    return visits.select("customer").distinct().withColumn("label", F.lit(1))
"""
GROUPS = (
    FeatureGroup("habits", reads=("visits",), lookback=90 * DAY),
    Aggregates(
        "recent",
        reads=("visits",),
        windows=(30 * DAY, 90 * DAY),
        events=("count", "recency"),
        columns={"amount": ("sum", "max"), "quantity": ("sum",)},
    ),
)
EXAMPLES = """examples:
  python -m benchmarks.sources                       half an hour on two cores
  python -m benchmarks.sources --rows 200000 --rounds 1 --results /tmp/try.json
"""


def rows(count: int) -> pa.Table:
    """Half a year of events, ordered by time."""
    dice = np.random.default_rng(7)
    start = np.datetime64(datetime(2017, 1, 1), "us")
    moments = start + np.sort(dice.integers(0, 181 * 86_400, count)).astype("timedelta64[s]")
    return pa.table(
        {
            "customer": pa.array(dice.integers(0, max(1, count // 20), count), pa.int64()),
            "at": pa.array(moments, pa.timestamp("us")),
            "amount": pa.array(dice.integers(1, 10_000, count) / 64.0),
            "quantity": pa.array(dice.integers(1, 9, count), pa.int64()),
        }
    )


def described(uri: str, fields: Mapping[str, Any]) -> Pipeline:
    source = {"timezone": "UTC", "columns": ("customer", "at", "amount", "quantity"), **fields}
    return Pipeline(
        name="shop",
        entity="customer",
        first_period="2017-03",
        sources={"visits": EventSource(uri, event_time="at", **source)},
        population=Population("customers", reads=("visits",), lookback=90 * DAY),
        features=GROUPS,
        label=Label("returns", reads=("visits",), horizon=30 * DAY, absent=0),
        window=MovingWindow(1),
        gate=Gate(metric="roc_auc"),
    )


def measured(root: str, pipeline: Pipeline, spark: Any) -> tuple[dict[str, float], dict[str, str]]:
    """The seconds of the first pin, of a second one, and of the features; and the features' digests."""
    from almanac.jobs import run
    from almanac.jobs.context import SparkJob
    from almanac.runs import feature_orders, pin, plan
    from almanac.store.home import Home
    from tests.support.shop import zipped

    home, module = Home.of(root, pipeline.name), zipped(MODULE)
    home.receipts.describe(pipeline, module)
    planned = replace(plan.retrain(home, pipeline, pipeline.period("2017-06"), module), build=PERIODS)
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        found = work()
        seconds[name] = time.monotonic() - began
        return found

    pinned = timed("first pin", lambda: pin.pin(home, planned, RunInfo()))
    timed("second pin", lambda: pin.pin(home, planned, RunInfo()))
    placed = feature_orders.groups(home, planned, pinned)
    for one in placed:
        home.receipts.place(one)
    job = SparkJob("bench", spark, placed)
    receipts = timed("features", lambda: [run.run_order(home, one, job, RunInfo(run="bench")) for one in placed])
    if failed := [finding for one in receipts if not one.passed for finding in one.findings]:
        raise SystemExit(f"The features could not be built: {failed[0]}")
    return seconds, {str(one.order): one.content for one in receipts}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sources", epilog=EXAMPLES, description=__doc__.split("\n", 1)[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help="for data; a temporary one when not given")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="almanac-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        store = seaweed.start(folder / "store")
        stack.callback(store.stop)
        os.environ.update(store.environment() | spark_conf.environment(folder / "spark", java.java_home(folder / "java")))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")])
        spark = local(2, spark_conf.PROPERTIES)
        stack.callback(spark.stop)
        seconds = race(given.rows, given.rounds, spark, stack)
    found = {"date": today(), "machine": about(), "rows": given.rows, "rounds": given.rounds, "formats": summary(seconds)}
    kept.results(given.results, found)
    for name, one in found["formats"].items():
        print(f"{name:15} features {one['features']['value']:.2f} ({one['features']['low']:.2f} to {one['features']['high']:.2f})"
              f"  second pin {one['second pin s']:.2f} s  first pin {one['first pin s']:.2f} s")  # fmt: skip
    return 0


def race(count: int, rounds: int, spark: Any, stack: ExitStack) -> dict[str, dict[str, list[float]]]:
    """Format to step to the seconds of each round."""
    from almanac.store.objects import Objects
    from tests.support import layouts

    objects, data = Objects(), rows(count)
    places = {}
    for name, put in layouts.LAYOUTS.items():
        # A folder for each month: one for each customer would be another question.
        months = pa.table({"month": pc.strftime(data["at"], format="%Y-%m"), **{one: data[one] for one in data.column_names}})
        places[name] = put(objects, f"s3://almanac/data/{name}/", months if name == "folders" else data, "at")
        print(f"wrote {name}", flush=True)
    places["postgres"] = layouts.in_postgres(stack, data)
    places = {"parquet": places.pop("parquet"), **places}
    places["parquet again"] = places["parquet"]
    found: dict[str, dict[str, list[float]]] = {}
    digests: dict[str, str] = {}
    for number in range(-1, rounds):  # the first one warms up
        turn = list(places.items())
        turn = turn[number % len(turn) :] + turn[: number % len(turn)]  # the first of a round pays for what the others find warm
        for name, place in turn:
            root = f"s3://almanac/{name.replace(' ', '-')}-{number}"
            took, contents = measured(root, described(place.uri, place.fields), spark)
            if contents != (digests := digests or contents):
                raise SystemExit(f"{name}: the features differ from those of plain Parquet.")
            if number >= 0:
                for step, value in took.items():
                    found.setdefault(name, {}).setdefault(step, []).append(value)
            print(
                f"{number + 1}/{rounds}  {name:15}" + "".join(f"  {step} {value:6.2f} s" for step, value in took.items()),
                flush=True,
            )
    return found


def summary(seconds: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any]:
    """Each format's features against plain Parquet's, round by round, and the medians of its pins."""
    base = seconds["parquet"]["features"]
    return {
        name: {
            "features": vars_of(figures.ratio(steps["features"], base)),
            "features s": figures.Figure.of(steps["features"]).value,
            "second pin s": figures.Figure.of(steps["second pin"]).value,
            "first pin s": figures.Figure.of(steps["first pin"]).value,
        }
        for name, steps in seconds.items()
        if name != "parquet"
    }


def vars_of(figure: figures.Figure) -> dict[str, float]:
    return {"value": figure.value, "low": figure.low, "high": figure.high}


if __name__ == "__main__":
    sys.exit(main())
