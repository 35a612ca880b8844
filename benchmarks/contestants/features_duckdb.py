"""DuckDB: a query a period, with all cores."""

from __future__ import annotations

from functools import partial

import duckdb

from benchmarks import events
from benchmarks.contestants.answering import Task, answer
from benchmarks.contestants.features_sql import query


def carry(task: Task, database: duckdb.DuckDBPyConnection) -> None:
    listed = ", ".join(f"'{file}'" for file in task.files)
    database.execute(f"CREATE OR REPLACE VIEW events AS SELECT * FROM read_parquet([{listed}])")
    database.execute(f"CREATE OR REPLACE VIEW products AS SELECT * FROM read_parquet('{task.options['products']}')")
    for as_of in events.AS_OFS[task.model]:
        database.execute(f"COPY ({query(as_of)}) TO '{task.out}/{as_of:%Y-%m}.parquet' (FORMAT parquet)")


if __name__ == "__main__":
    answer(partial(carry, database=duckdb.connect()))
