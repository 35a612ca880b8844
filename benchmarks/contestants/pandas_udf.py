"""The way that is written most often: a `pandas_udf` over a struct of the columns, the model a broadcast variable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import joblib
import pandas as pd
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from benchmarks import rows
from benchmarks.contestants.answering import Task, answer
from benchmarks.contestants.session import batches_of, local


def main() -> None:
    spark = local(2)
    columns: dict[str, Column] = {}

    def carry(task: Task) -> None:
        batches_of(spark, task)
        if task.model not in columns:
            columns[task.model] = score(spark, Path(task.model))
        spark.read.parquet(*task.files).select(rows.ENTITY, columns[task.model].alias("score")).write.mode("overwrite").parquet(
            task.out
        )

    answer(carry)


def score(spark: SparkSession, model: Path) -> Column:
    """The column of scores."""
    sent = spark.sparkContext.broadcast(joblib.load(model / "model.joblib"))

    def predict(batches: Iterator[pd.DataFrame]) -> Iterator[pd.Series]:
        for batch in batches:
            yield pd.Series(sent.value.predict_proba(batch)[:, 1])

    # The hints are strings in this module, and Spark reads real ones.
    predict.__annotations__ = {"batches": Iterator[pd.DataFrame], "return": Iterator[pd.Series]}
    scored: Column = F.pandas_udf(predict, "double")(F.struct(*rows.FEATURES))  # type: ignore[attr-defined]  # it is there
    return scored


if __name__ == "__main__":
    main()
