"""The demo's shop with many times its households, as its files land in the store: `make bench-retrain`.

Each copy of a household has an id of its own, and buys and lives as the household does. Products are the same for all.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from demo import landing, seaweed
from demo.seaweed import Store

HOUSEHOLD, TIME = "household_id", "transaction_timestamp"
STEP = 10_000  # between the ids of a household's copies; the ids of the data set are below it


def deliver(store: Store, times: int) -> None:
    """Writes the files of the demo's landing zone, with its households `times` times; those that exist stay."""
    client = seaweed.client(store)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=landing.BUCKET, Prefix=f"{landing.PREFIX}/")
    there = {item["Key"] for page in pages for item in page.get("Contents", ())}
    files = {landing.day_key(day): rows for day, rows in landing.days().items()}
    files |= {f"{landing.PREFIX}/{name}/part-0.parquet": landing._plain(name) for name in landing.TABLES}

    def put(key: str) -> None:
        body = BytesIO()
        pq.write_table(copied(files[key], times), body, compression="zstd")
        client.put_object(Bucket=landing.BUCKET, Key=key, Body=body.getvalue())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, sorted(files.keys() - there)))


def copied(rows: pa.Table, times: int) -> pa.Table:
    """The rows of all copies, in the order of time if they have one; the same rows if they have no household."""
    if HOUSEHOLD not in rows.column_names or times == 1:
        return rows
    place = rows.schema.get_field_index(HOUSEHOLD)
    copies = [rows.set_column(place, HOUSEHOLD, pc.add(rows[HOUSEHOLD], number * STEP)) for number in range(times)]
    found = pa.concat_tables(copies)
    return found.sort_by([(TIME, "ascending"), (HOUSEHOLD, "ascending")]) if TIME in rows.column_names else found
