"""By hand: a retrain and then a score in one PySpark application, as `spark-submit retrain_script.py TASK`.

It does what Almanac's two DAG runs do for `purchase_propensity`, with the same functions of `spark_jobs/purchase_propensity.py`:
features of the same snapshots, both estimators, metrics, ONNX export, comparison with the version in force, scores, all kept as
Parquet and JSON in the store. It has no orders, receipts, digests or checks, and nothing reads a file again to be sure of it.

A script like this reads `s3a://` where the jars for it are installed; here it downloads the days that it needs first, in threads.
What fits into the driver is fitted and scored there.

TASK is JSON: `period` to retrain, `score` the period to score, `training` and `holdout` snapshots, `champion` the version to
compare with or null, `build` the periods whose features are only built, `folder` of what is kept, `landing`. The last line of the
output says what came of it.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

ENTITY, TIME, LABEL = "household_id", "transaction_timestamp", "label"
LOOKBACK, HORIZON = timedelta(days=90), timedelta(days=30)
CATEGORY = "COFFEE"
FLOOR, MIN_GAIN = 0.70, -0.01
READERS = 16


class Store:
    """The bucket."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        self.client, self.task = boto3.client("s3"), task

    def get(self, key: str) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket=self.task["bucket"], Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return body

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.task["bucket"], Key=key, Body=body)

    def rows(self, key: str) -> pa.Table | None:
        body = self.get(key)
        return None if body is None else pq.read_table(pa.BufferReader(body))

    def keep(self, key: str, rows: pa.Table) -> None:
        body = io.BytesIO()
        pq.write_table(rows, body)
        self.put(key, body.getvalue())

    def download(self, folder: Path, days: Iterable[str]) -> None:
        """The landed files of these days, and of the two tables, below a folder."""
        wanted = [f"transactions/day={day}/part-0.parquet" for day in sorted(days)]

        def one(name: str) -> None:
            body = self.get(f"{self.task['landing']}/{name}")
            if body is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(body)

        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(one, [*wanted, "demographics/part-0.parquet", "products/part-0.parquet"]))


class Phases:
    """Seconds since the last mark, by phase."""

    def __init__(self) -> None:
        self.at, self.seconds = time.perf_counter(), dict[str, float]()

    def mark(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.at
        self.at = now


class Shop:
    """The landed tables as Spark frames, and the functions of the user's module."""

    def __init__(self, spark: SparkSession, folder: Path, user: Any) -> None:
        self.user = user
        self.days = spark.read.parquet(str(folder / "transactions"))
        self.demographics = spark.read.parquet(str(folder / "demographics"))
        self.products = spark.read.parquet(str(folder / "products"))

    def transactions(self, low: datetime, high: datetime) -> DataFrame:
        """The purchases within [low, high)."""
        day, rows = F.col("day"), self.days.withColumn(TIME, F.col(TIME).cast("timestamp"))
        near = rows.where((day >= F.lit(low.date())) & (day <= F.lit(high.date())))
        return near.where((F.col(TIME) >= F.lit(low)) & (F.col(TIME) < F.lit(high))).drop("day")

    def features(self, as_of: datetime) -> pa.Table:
        seen = self.transactions(as_of - LOOKBACK, as_of)
        groups = (
            self.user.event_counts(seen, self.products, as_of),
            self.user.demographic_bands(self.demographics),
            self.user.catalogue_affinity(seen, self.products, as_of, CATEGORY),
        )
        found = self.user.households(seen)
        for group in groups:
            floats = (F.col(name).cast("float").alias(name) for name in group.columns if name != ENTITY)
            found = found.join(group.select(ENTITY, *floats), ENTITY, "left")
        return found.toArrow().sort_by(ENTITY)

    def labels(self, as_of: datetime) -> pa.Table:
        return self.user.buys_category(self.transactions(as_of, as_of + HORIZON), self.products, CATEGORY).toArrow()


def as_of(period: str) -> datetime:
    """A month's end."""
    year, month = map(int, period.split("-"))
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def days(low: datetime, high: datetime) -> set[str]:
    return {f"{low + timedelta(days=number):%Y-%m-%d}" for number in range((high - low).days)}


def main() -> None:
    phases, task = Phases(), json.loads(sys.argv[1])
    sys.path.insert(0, task["spark_jobs"])
    import joblib
    import numpy as np
    import onnxruntime
    import pandas as pd
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn import metrics
    from sklearn.base import clone

    user = importlib.import_module("purchase_propensity")
    phases.mark("imports")
    spark = SparkSession.builder.appName("by hand").getOrCreate()
    phases.mark("session")
    store, snapshots = Store(task), [*task["training"], *filter(None, [task["holdout"]])]
    kept = {
        period: store.rows(f"{task['folder']}/features/{period}.parquet")
        for period in dict.fromkeys([*snapshots, *task["build"], *filter(None, [task["score"]])])
    }
    needed = {day for period in snapshots for day in days(as_of(period), as_of(period) + HORIZON)}
    for period, rows in kept.items():
        needed |= days(as_of(period) - LOOKBACK, as_of(period)) if rows is None else set()
    with tempfile.TemporaryDirectory() as scratch:
        store.download(Path(scratch), needed)
        shop = Shop(spark, Path(scratch), user)
        phases.mark("read")
        features = dict[str, pa.Table]()
        for period, rows in kept.items():
            features[period] = shop.features(as_of(period)) if rows is None else rows
            if rows is None:
                store.keep(f"{task['folder']}/features/{period}.parquet", features[period])
        phases.mark("features")
        if not snapshots:
            print(json.dumps({"seconds": phases.seconds}), flush=True)
            return
        labelled = {}
        for period in snapshots:
            buyers = shop.labels(as_of(period))[ENTITY].to_numpy()
            labelled[period] = features[period].to_pandas()
            labelled[period][LABEL] = labelled[period][ENTITY].isin(buyers).astype("int8")
        phases.mark("labels")
    names = [name for name in features[task["holdout"]].column_names if name != ENTITY]
    older, newest = (pd.concat([labelled[one] for one in some]) for some in (task["training"][:-1], task["training"][-1:]))
    choice = {}
    for name, estimator in user.estimators().items():
        trial = clone(estimator).fit(older[names], older[LABEL])
        choice[name] = metrics.roc_auc_score(newest[LABEL], trial.predict_proba(newest[names])[:, 1])
    best = max(choice, key=lambda name: choice[name])
    rows = pd.concat([older, newest])
    model = user.estimators()[best].fit(rows[names], rows[LABEL])
    phases.mark("fit")
    holdout = labelled[task["holdout"]]

    def measured(fitted: Any) -> dict[str, float]:
        label, score = holdout[LABEL], fitted.predict_proba(holdout[names])[:, 1]
        return {
            "roc_auc": float(metrics.roc_auc_score(label, score)),
            "average_precision": float(metrics.average_precision_score(label, score)),
            "log_loss": float(metrics.log_loss(label, score)),
            "brier_score": float(metrics.brier_score_loss(label, score)),
        }

    found, champion = measured(model), {}
    if task["champion"]:
        champion = measured(joblib.load(io.BytesIO(store.get(f"{task['folder']}/models/{task['champion']}.joblib") or b"")))
    promoted = found["roc_auc"] >= FLOOR and found["roc_auc"] - champion.get("roc_auc", 0.0) >= MIN_GAIN
    phases.mark("metrics")
    inputs = [(name, FloatTensorType([None, 1])) for name in names]
    exported = convert_sklearn(model, initial_types=inputs, options={"zipmap": False}).SerializeToString()
    onnx = onnxruntime.InferenceSession(exported)

    def scored(given: pd.DataFrame) -> Any:
        feed = {item.name: given[[item.name]].to_numpy(np.float32) for item in onnx.get_inputs()}
        return onnx.run(None, feed)[1][:, 1]

    apart = float(np.abs(scored(holdout) - model.predict_proba(holdout[names])[:, 1]).max())
    phases.mark("export")
    pickled = io.BytesIO()
    joblib.dump(model, pickled, compress=3)
    store.put(f"{task['folder']}/models/{task['period']}.joblib", pickled.getvalue())
    store.put(f"{task['folder']}/models/{task['period']}.onnx", exported)
    report = {"estimator": best, "choice": choice, "metrics": found, "champion": champion, "promoted": promoted, "apart": apart}
    store.put(f"{task['folder']}/models/{task['period']}.json", json.dumps(report).encode())
    phases.mark("write")
    wanted = features[task["score"]]
    scores = scored(wanted.to_pandas()) if apart < 1e-5 else model.predict_proba(wanted.to_pandas()[names])[:, 1]
    store.keep(
        f"{task['folder']}/predictions/{task['score']}.parquet",
        pa.table({ENTITY: wanted[ENTITY], "score": pa.array(scores, pa.float64())}),
    )
    phases.mark("score")
    print(json.dumps({"seconds": phases.seconds, "rows": len(wanted), **report}), flush=True)


if __name__ == "__main__":
    main()
