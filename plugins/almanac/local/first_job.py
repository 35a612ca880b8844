"""A small Spark job that uses what Almanac's jobs use. It runs once so that the JVM can record the classes they need."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F


def widened(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        keys = batch.column("key")
        yield pa.RecordBatch.from_pydict({"key": keys, "value": pa.array([float(key % 7) for key in keys.to_pylist()])})


def main() -> None:
    spark = SparkSession.builder.appName("first-job").getOrCreate()
    rows = [(number, f"name {number % 5}", None) for number in range(200)]
    frame = spark.createDataFrame(rows, "key long, name string, note string")
    values = frame.select("key").repartition(2).mapInArrow(widened, "key long, value double").cache()
    joined = frame.join(values, "key", "left").withColumn("amount", F.col("value").cast("decimal(18,4)"))
    sums = joined.groupBy("name").agg(
        F.sum("amount").alias("sum"),
        F.countDistinct("key").alias("keys"),
        F.max(F.when(F.col("value") > 3, 1).otherwise(0)).alias("high"),
        F.collect_list("key").alias("all"),
    )
    ranked = sums.withColumn("rank", F.row_number().over(Window.orderBy(F.desc("sum"))))
    ranked.filter(F.col("rank") <= 3).orderBy("name").collect()
    joined.select("key", F.coalesce("value", F.lit(0.0)).cast("float").alias("value")).toPandas()
    values.unpersist()
    spark.stop()


if __name__ == "__main__":
    main()
