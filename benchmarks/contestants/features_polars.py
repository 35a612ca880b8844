"""Polars: a lazy query a period, with all cores, its streaming engine."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from benchmarks import events
from benchmarks.contestants.answering import Task, answer


def lazily(task: Task, as_of: datetime) -> pl.LazyFrame:
    time = pl.col(events.TIME)
    rows = (
        pl.scan_parquet(list(task.files))
        .filter((time < as_of) & (time >= as_of - events.WINDOWS[-1]))
        .join(pl.scan_parquet(task.options["products"]), on=events.PRODUCT, how="left")
    )
    columns = []
    for name, function, column, window, department in events.features():
        inside = pl.col(events.DEPARTMENT) == department if department else time >= as_of - window
        if function == "count":
            found = inside.fill_null(False).sum()
        else:
            values = pl.col(column).filter(inside)
            found = values.sum() if function == "sum" else values.max()
        columns.append(found.cast(pl.Float32).alias(name))
    return rows.group_by(events.ENTITY).agg(columns)


def carry(task: Task) -> None:
    for as_of in events.AS_OFS[task.model]:
        lazily(task, as_of).collect(engine="streaming").write_parquet(f"{task.out}/{as_of:%Y-%m}.parquet")


if __name__ == "__main__":
    answer(carry)
