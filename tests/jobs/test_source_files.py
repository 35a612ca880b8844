"""A group gives the same rows however its source's files are written, or its pin or its job says which column stops it."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from almanac import Aggregates, EventSource, FeatureGroup, ReferenceSource
from almanac.core.receipts import Receipt
from almanac.errors import SourceError
from almanac.runs import feature_orders, plan
from tests.support import shop as shops
from tests.support.shop import MONTHS, QUARTER, Shop

pytestmark = [pytest.mark.store, pytest.mark.spark]

RECENT = Aggregates(
    "recent",
    reads=("visits",),
    windows=(QUARTER,),
    events=("count", "recency"),
    columns={"amount": ("sum", "min", "max", "distinct")},
)
BANDS = Aggregates(
    "bands", reads=("visits", "people"), windows=(QUARTER,), events=("count",), on="customer", split="band", values=("0", "3")
)
Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def world(store: object, spark: object) -> Shop:
    """A shop with a written and two described groups, its visits described without columns=."""
    return Shop.open(f"s3://almanac/{uuid.uuid4().hex}", spark)


@pytest.fixture
def files(world: Shop) -> Shop:
    """The shop as it was delivered first."""
    for item in list(world.home.objects.walk(f"{world.landing}/")):
        world.home.objects.delete(item.uri)
    world.deliver()
    describe(world)
    return world


def describe(shop: Shop, **changes: Any) -> None:
    source = EventSource(f"{shop.landing}/visits/", event_time="at", timezone="UTC")
    shop.describe(
        sources={"visits": replace(source, **changes), "people": ReferenceSource(f"{shop.landing}/people/")},
        features=(FeatureGroup("habits", reads=("visits",), lookback=QUARTER), RECENT, BANDS),
    )


def every(shop: Shop, change: Change, *months: int) -> None:
    """Delivers each of some months anew, changed; of all where none is named."""
    for month in MONTHS:
        if not months or month.month in months:
            shop.put("visits", f"{month:%Y-%m}.parquet", change(shops.visits(month)))


def attempt(shop: Shop, name: str) -> Receipt:
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-11"), shop.module)
    placed = feature_orders.groups(shop.home, replace(planned, build=("2017-05",)), shop.pin(planned), name)[0]
    return shop.attempt(placed)


def content(shop: Shop, name: str) -> str:
    receipt = attempt(shop, name)
    assert receipt.passed, receipt.findings
    return receipt.content


def rows(shop: Shop, name: str) -> dict[int, dict[str, Any]]:
    receipt = attempt(shop, name)
    assert receipt.passed, receipt.findings
    found = pa.concat_tables([pq.read_table(io.BytesIO(shop.home.objects.get(output.uri))) for output in receipt.outputs])
    return {row["customer"]: row for row in found.to_pylist()}


def as_type(column: str, kind: pa.DataType) -> Change:
    return lambda table: table.set_column(table.column_names.index(column), column, table[column].cast(kind))


ALIKE: dict[str, Change] = {
    "nanoseconds": as_type("at", pa.timestamp("ns")),
    "milliseconds and a category": lambda table: as_type("at", pa.timestamp("ms"))(table).set_column(
        2, "amount", table["amount"].dictionary_encode()
    ),
    "unsigned": as_type("amount", pa.uint16()),
    "more bits unsigned": as_type("amount", pa.uint64()),
    "decimals": as_type("amount", pa.decimal128(21, 2)),
    "other columns in another order": lambda table: table.select(["amount", "at", "customer"]),
}


@pytest.fixture(scope="module")
def plain(world: Shop) -> dict[str, str]:
    """What each group gives of the files as they are delivered first."""
    describe(world)
    return {name: content(world, name) for name in ("habits", "recent", "bands")}


@pytest.mark.parametrize("months", [(), (4,)], ids=["every file", "one file of several"])
@pytest.mark.parametrize("layout", ALIKE)
def test_however_files_are_written_described_groups_give_the_same(
    plain: dict[str, str], files: Shop, layout: str, months: tuple[int, ...]
) -> None:
    every(files, ALIKE[layout], *months)

    assert {name: content(files, name) for name in ("recent", "bands")} == {name: plain[name] for name in ("recent", "bands")}


@pytest.mark.parametrize("layout", ["nanoseconds", "more bits unsigned"])
def test_however_files_are_written_a_function_gives_the_same(plain: dict[str, str], files: Shop, layout: str) -> None:
    every(files, ALIKE[layout], 4)

    assert content(files, "habits") == plain["habits"]


@pytest.mark.parametrize(
    "name",
    [
        "_temporary/0/_temporary/attempt_202706_0001_m_000000_0/part-00000.parquet",
        ".2017-05.parquet",
        ".spark-staging-7/part-00000.parquet",
        "_tmp.part-00000.parquet",
    ],
)
def test_files_of_an_unfinished_write_are_no_data(plain: dict[str, str], files: Shop, name: str) -> None:
    files.put("visits", name, shops.visits(datetime(2017, 5, 1)))

    assert content(files, "recent") == plain["recent"]


@pytest.mark.parametrize("name", ["2017-05.PARQUET", "2017-05.parq", "part-00005"])
def test_a_month_under_another_name_is_read_and_told_by_the_pin(plain: dict[str, str], files: Shop, name: str) -> None:
    files.home.objects.delete(f"{files.landing}/visits/2017-05.parquet")
    files.put("visits", name, shops.visits(datetime(2017, 5, 1)))

    assert content(files, "recent") == plain["recent"]


def test_the_pin_finds_files_that_are_passed_over_also_where_the_same_data_were_pinned_before(files: Shop) -> None:
    files.pin(plan.retrain(files.home, files.pipeline, files.pipeline.period("2017-07"), files.module))
    files.put("visits", "2017-05.parquet.bak", shops.visits(datetime(2017, 5, 1)))
    planned = plan.retrain(files.home, files.pipeline, files.pipeline.period("2017-07"), files.module)
    (found,) = [one for one in files.home.receipts.read(files.pin(planned)).findings if "not read" in one]

    assert found.startswith("Source 'visits': Parquet files of another ending are not read (1): ")
    assert "2017-05.parquet.bak. Rename them" in found


ODD: dict[str, Callable[[int], pa.Array]] = {
    "uint8": lambda rows: pa.array([1] * rows, pa.uint8()),
    "float16": lambda rows: pa.array(np.ones(rows, "float16")),
    "uuid": lambda rows: pa.array([uuid.uuid4().bytes] * rows, pa.uuid()),
    "bytes of one length": lambda rows: pa.array([b"0123456789abcdef"] * rows, pa.binary(16)),
    "a struct with a time in ns": lambda rows: pa.array([{"at": 1}] * rows, pa.struct([("at", pa.timestamp("ns"))])),
    "json": lambda rows: pa.array(["{}"] * rows, pa.json_()),
    "nulls": lambda rows: pa.nulls(rows),
    "nested": lambda rows: pa.array([[{"a": [1.5]}]] * rows, pa.large_list(pa.struct([("a", pa.list_(pa.float32(), 1))]))),
}


def test_columns_of_every_kind_that_nobody_uses_stop_no_function(files: Shop) -> None:
    def wider(table: pa.Table) -> pa.Table:
        for number, name in enumerate(ODD):
            table = table.append_column(f"extra.{number} `{name}`", ODD[name](table.num_rows))
        return table

    every(files, wider)

    assert attempt(files, "habits").passed


@pytest.mark.parametrize("kind", [pa.time64("us"), pa.decimal256(50, 2)], ids=str)
def test_a_column_that_spark_cannot_read_stops_only_a_function_that_is_given_it(
    plain: dict[str, str], files: Shop, kind: pa.DataType
) -> None:
    every(files, lambda table: table.append_column("extra", pa.array([1] * table.num_rows, kind)))

    receipt = attempt(files, "habits")
    assert not receipt.passed
    assert receipt.findings[0].startswith(f"Source 'visits': column 'extra' is {kind}, which cannot be read: ")
    assert receipt.findings[0].endswith("leave the column out with columns=(...).")
    assert content(files, "recent") == plain["recent"]

    describe(files, columns=("customer", "at", "amount"))
    assert content(files, "habits") == plain["habits"]


@pytest.mark.parametrize("value", [None, "shop"])
def test_what_older_files_lack_is_filled_where_the_source_says_so(files: Shop, value: str | None) -> None:
    every(files, lambda table: table.append_column("channel", pa.array(["web"] * table.num_rows)), 4, 5)
    with pytest.raises(SourceError, match=r"has no column 'channel', .* columns=\(\.\.\.\), .* fill=\{'channel': None\}"):
        attempt(files, "habits")

    describe(files, fill={"channel": value})
    files.pipeline = replace(
        files.pipeline,
        features=(replace(RECENT, split="channel", values=("web", "shop"), columns={}), *files.pipeline.features[:1]),
    )
    files.keep()
    found = rows(files, "recent")
    march = shops.visits(datetime(2017, 3, 1)).to_pandas()
    march = march[march["at"] >= datetime(2017, 6, 1) - QUARTER].groupby("customer").size()
    assert {key: row["recent_shop_count_90d"] for key, row in found.items() if row["recent_shop_count_90d"]} == (
        {} if value is None else march.to_dict()
    )
    assert attempt(files, "habits").passed


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_nan_of_a_source_is_a_null_for_functions_and_described_groups_alike(files: Shop, kind: str) -> None:
    def holed(missing: Any) -> Change:
        def change(table: pa.Table) -> pa.Table:
            odd = pc.equal(pc.bit_wise_and(table["amount"], 1), 1)
            return table.set_column(2, "amount", pc.if_else(odd, pa.scalar(missing, kind), table["amount"].cast(kind)))

        return change

    found = {}
    for name, missing in (("nan", float("nan")), ("null", None)):
        every(files, holed(missing))
        found[name] = {group: content(files, group) for group in ("habits", "recent")}

    assert found["nan"] == found["null"]


def test_an_infinite_value_is_told_by_the_pin(files: Shop) -> None:
    every(files, lambda table: table.set_column(2, "amount", pa.array([float("inf")] * table.num_rows)), 4, 5)
    planned = plan.retrain(files.home, files.pipeline, files.pipeline.period("2017-07"), files.module)
    with pytest.raises(SourceError, match=r"has amount as double, .* has it as int64"):
        files.pin(planned)

    every(files, lambda table: table.set_column(2, "amount", pa.array([float("inf")] * table.num_rows)))
    findings = files.home.receipts.read(files.pin(planned)).findings
    assert [one for one in findings if one.startswith("Source 'visits': column 'amount' holds infinite values in s3://")]


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("int96", [False, True])
def test_times_that_stand_for_never_and_always_are_of_no_period(files: Shop, timezone: str, int96: bool) -> None:
    describe(files, timezone=timezone)
    before = content(files, "recent")
    april = shops.visits(datetime(2017, 4, 1))
    outside = [datetime(9999, 12, 31, 23, 59), datetime(1, 1, 1), None, datetime(2262, 5, 1), datetime(1677, 1, 1)]
    rows = {"customer": pa.array([1] * len(outside)), "at": pa.array(outside, pa.timestamp("us")), "amount": [7] * len(outside)}
    body = io.BytesIO()
    pq.write_table(pa.concat_tables([april, pa.table(rows)]), body, use_deprecated_int96_timestamps=int96)
    files.home.objects.put(f"{files.landing}/visits/2017-04.parquet", body.getvalue())

    assert content(files, "recent") == before
    assert attempt(files, "habits").passed


def test_a_time_without_a_place_in_microseconds_stops_the_job_and_names_the_column(files: Shop) -> None:
    far = pa.array([2**62], pa.int64()).cast(pa.timestamp("ms"))
    every(files, lambda table: table.append_column("born", pa.repeat(far[0], table.num_rows)))

    receipt = attempt(files, "habits")
    assert not receipt.passed
    assert receipt.findings[0].startswith("Source 'visits': column 'born' has a value that does not fit timestamp[us, tz=UTC]: ")


def test_a_month_of_events_in_a_skipped_hour_is_cut_as_its_rows_are(files: Shop) -> None:
    """A window that ends between the jump and what the clock would have shown: statistics must not leave the file out."""
    skipped = pa.table({
        "customer": pa.array([1], pa.int64()),
        "at": pa.array([datetime(2017, 3, 12, 2, 30)], pa.timestamp("us")),
        "amount": pa.array([100], pa.int64()),
    })  # fmt: skip
    files.put("visits", "2017-03.parquet", skipped)
    jump = datetime(2017, 3, 12, 7)
    # as_of of 2017-05 is June 1st; the view ends lag earlier, half an hour after the jump.
    describe(files, timezone="America/New_York", lag=datetime(2017, 6, 1) - jump - timedelta(minutes=15))

    found = rows(files, "recent")
    assert found[1]["recent_recency_90d"] == pytest.approx(15 / 24 / 60)
