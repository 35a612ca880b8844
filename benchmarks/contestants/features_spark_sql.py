"""Spark SQL: DuckDB's query, with Spark's own reader and writer. With `--scan` what it costs to read the rows at all."""

from __future__ import annotations

import argparse

from benchmarks import events
from benchmarks.contestants.answering import Task, answer
from benchmarks.contestants.features_sql import query
from benchmarks.contestants.session import local


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", action="store_true")
    scan = parser.parse_args().scan
    spark = local(2)
    spark.conf.set("spark.sql.shuffle.partitions", "4")

    def scanned(task: Task) -> None:
        """The largest value of every column of the newest file."""
        spark.read.parquet(task.files[-1]).selectExpr(*(f"max({name})" for name in events.COLUMNS)).collect()

    def carry(task: Task) -> None:
        spark.read.parquet(*task.files).createOrReplaceTempView("events")
        spark.read.parquet(task.options["products"]).createOrReplaceTempView("products")
        for as_of in events.AS_OFS[task.model]:
            spark.sql(query(as_of)).write.mode("overwrite").parquet(f"{task.out}/{as_of:%Y-%m}")

    answer(scanned if scan else carry)


if __name__ == "__main__":
    main()
