"""Rows are set aside whatever their source's columns are, and in whichever row group they lie."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import great_expectations.expectations as gxe
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from almanac import Audit, EventSource, chunks
from almanac.core.pins import Pin, PinnedFile
from almanac.core.sources import Cut
from almanac.spark import quarantine, rows, sources

pytestmark = pytest.mark.spark

ROWS = 1000
WRONG = (0, 7, 299, 300, 301, 999)
SOURCE = EventSource("s3://bucket/events/", event_time="at", timezone="UTC", audit=Audit(quarantine=0.01))
SUITE = [
    gxe.ExpectColumnValuesToNotBeNull(column="who"),
    gxe.ExpectColumnValuesToBeBetween(column="amount", min_value=0),
    gxe.ExpectTableRowCountToBeBetween(min_value=2 * ROWS - len(WRONG), max_value=2 * ROWS),
]


def nowhere() -> SparkSession:
    raise AssertionError("Spark was asked")


@pytest.fixture(scope="module")
def pin(tmp_path_factory: pytest.TempPathFactory) -> Pin:
    """A file in row groups of 300 rows, with columns of many types, beside one in which nothing is wrong."""
    folder, files = tmp_path_factory.mktemp("events"), []
    for name, wrong in (("a", WRONG), ("b", ())):
        numbers = range(ROWS)
        table = pa.table({
            "who": [None if number in wrong[::2] else f"customer {number}" for number in numbers],
            "at": [datetime(2017, 5, 1) + timedelta(minutes=number) for number in numbers],
            "amount": [-1 if number in wrong[1::2] else number for number in numbers],
            "day": [date(2017, 5, 1)] * ROWS,
            "price": [Decimal("1.25")] * ROWS,
            "raw": [b"\x00\xff"] * ROWS,
            "many": [[1, 2]] * ROWS,
        })  # fmt: skip
        path = folder / f"{name}.parquet"
        pq.write_table(table, path, row_group_size=300)
        size, groups = path.stat().st_size, (300, 300, 300, 100)
        files.append(PinnedFile(uri=str(path), size=size, etag=name, groups=groups))
    columns = {field.name: str(field.type) for field in pq.read_schema(path)}
    return Pin(source="events", uri=f"{folder}/", files=tuple(files), columns=columns)


@pytest.mark.parametrize("held", [rows.HELD_BYTES, 0])
def test_the_rows_that_fail_are_found_left_out_and_kept(
    spark: SparkSession, pin: Pin, tmp_path: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "HELD_BYTES", held)
    session = (lambda: spark) if not held else nowhere
    found = quarantine.inspect(session, SOURCE, pin, SUITE, "events")

    assert found.checked.passed and (found.rows, found.aside) == (2 * ROWS, len(WRONG))
    assert [file.aside for file in found.pin.files] == [WRONG, ()]
    left = sources.read(spark, SOURCE, found.pin, Cut()).toPandas()
    assert len(left) == 2 * ROWS - len(WRONG) and left["who"].notna().all() and (left["amount"] >= 0).all()

    (kept,) = quarantine.keep(session, SOURCE, found, str(tmp_path))
    read = pq.read_table(kept.uri)
    assert read["@row"].to_pylist() == list(WRONG)
    assert read["price"].to_pylist() == [Decimal("1.25")] * len(WRONG)
    whole = pq.read_table(pin.files[0].uri).take(list(WRONG))
    assert read.select(["who", "amount", "day", "many"]).to_pylist() == whole.select(["who", "amount", "day", "many"]).to_pylist()
    assert [text.split("(")[0] for text in read["@reason"].to_pylist()] == 3 * [
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_between",
    ]


def test_a_part_of_a_row_group_leaves_out_the_rows_that_are_its_own(spark: SparkSession, pin: Pin) -> None:
    (whole, *_) = chunks.of_pinned([replace(pin.files[0], aside=WRONG)])
    first, others = whole.split(150)
    parts = [
        [row for batch in chunks.read_chunks([part], ["amount"], 64) for row in batch.column(0).to_pylist()]
        for part in (first, others)
    ]
    assert parts == [[n for n in range(150) if n not in WRONG], [n for n in range(150, 300) if n not in WRONG]]
