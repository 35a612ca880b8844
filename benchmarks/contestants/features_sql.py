"""The features of a period in SQL that DuckDB and Spark understand alike, of the views `events` and `products`."""

from __future__ import annotations

from datetime import datetime

from benchmarks import events


def query(as_of: datetime) -> str:
    columns = []
    for name, function, column, window, department in events.features():
        inside = f"department = '{department}'" if department else f"ts >= TIMESTAMP '{as_of - window}'"
        columns.append(f"{'COUNT(*)' if function == 'count' else f'{function}({column})'} FILTER (WHERE {inside}) AS {name}")
    zero = [name for name, function, *_ in events.features() if function in ("count", "sum")]
    shown = [f"CAST(COALESCE({name}, 0) AS FLOAT) AS {name}" if name in zero else f"CAST({name} AS FLOAT) AS {name}"
             for name, *_ in events.features()]  # fmt: skip
    return f"""
        SELECT {events.ENTITY}, {", ".join(shown)} FROM (
            SELECT {events.ENTITY}, {", ".join(columns)} FROM (
                SELECT {events.ENTITY}, {events.TIME} AS ts, quantity, sales_value, department
                FROM events LEFT JOIN products USING (product_id)
                WHERE {events.TIME} < TIMESTAMP '{as_of}' AND {events.TIME} >= TIMESTAMP '{as_of - events.WINDOWS[-1]}'
            ) GROUP BY {events.ENTITY})"""
