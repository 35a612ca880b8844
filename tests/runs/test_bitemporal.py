"""What became known when: a retrain of a period gives the same training rows whatever was corrected after it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from almanac import FeatureGroup
from almanac.core.receipts import Receipt
from almanac.errors import DescriptionError
from almanac.runs import plan, redo
from tests.support import shop as shops
from tests.support.shop import MONTHS, Shop

pytestmark = [pytest.mark.store, pytest.mark.spark]

NAIVE = pa.timestamp("us")
MAY, JUNE = datetime(2017, 5, 1), datetime(2017, 6, 1)


def loaded(rows: pa.Table, at: datetime | None = None) -> pa.Table:
    """Visits with the time when each became known: a day after it happened, or all at one time."""
    known = [at or moment.as_py() + timedelta(days=1) for moment in rows["at"]]
    return rows.append_column("loaded", pa.array(known, NAIVE))


@pytest.fixture(scope="module")
def first(store: Any, spark: Any) -> tuple[Shop, str]:
    """A shop whose only source says what was known when, and the version of June."""
    shop = Shop.open(f"s3://almanac/{uuid.uuid4().hex}", spark)
    source = replace(shop.pipeline.sources["visits"], knowledge_time="loaded", columns=("customer", "at", "amount", "loaded"))
    shop.describe(sources={"visits": source}, features=(FeatureGroup("habits", reads=("visits",), lookback=shops.QUARTER),))
    for month in MONTHS:
        shop.put("visits", f"{month:%Y-%m}.parquet", loaded(shops.visits(month)))
    return shop, shop.retrain("2017-06")


def features(shop: Shop, version: str) -> dict[str, Receipt]:
    manifest = shop.home.versions.read(version)
    return shop.home.published(shop.home.features(manifest.definition), (*manifest.training, manifest.holdout))


def test_corrections_in_a_file_of_their_own_change_no_order_and_nothing_is_to_be_done_again(first: tuple[Shop, str]) -> None:
    shop, version = first
    shop.put("visits", "corrections.parquet", loaded(shops.visits(MAY, seed=1), datetime(2017, 9, 3)))

    assert redo.found(shop.home).nothing
    assert shop.retrain("2017-06", refresh=True) == version


def test_corrections_beside_old_rows_in_a_file_give_the_same_rows_again(first: tuple[Shop, str]) -> None:
    """The file is another one, so orders are others; what it held when the period ended is the same."""
    shop, version = first
    before = {period: receipt.content for period, receipt in features(shop, version).items()}
    both = pa.concat_tables([loaded(shops.visits(MAY)), loaded(shops.visits(MAY, seed=2), datetime(2017, 9, 3))])
    shop.put("visits", "2017-05.parquet", both)

    again = shop.retrain("2017-06", refresh=True)

    assert again != version
    assert shop.home.versions.read(again).content == shop.home.versions.read(version).content
    assert {period: receipt.content for period, receipt in features(shop, again).items()} == before


def test_corrections_count_until_the_time_that_is_asked_for(first: tuple[Shop, str]) -> None:
    shop, version = first
    schema = shops.visits(MAY).schema
    half = {"customer": range(40), "at": [JUNE - timedelta(days=2)] * 40, "amount": [1] * 40}
    rows = pa.table({name: pa.array(half[name], schema.field(name).type) for name in schema.names})
    shop.put("visits", "half.parquet", loaded(rows, datetime(2017, 10, 3)))
    content = shop.home.versions.read(version).content

    sooner = shop.train("2017-06", known_at="2017-09-01")
    later = shop.train("2017-06", known_at="2017-11-01T00:00:00+00:00")

    assert shop.home.versions.read(sooner).content == content
    assert shop.home.versions.read(later).content != content
    assert shop.train("2017-06", known_at="2017-11-01") == later


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("soon", "known_at: expected a time such as 2017-09-01T00:00:00, got 'soon'."),
        (
            "2017-06-30",
            "known_at: expected a time at or after the end of 2017-06 (2017-07-01 00:00 UTC), got 2017-06-30. Not all of its "
            "labels were known then. Give that time or a later one, or retrain an earlier period.",
        ),
    ],
)
def test_a_time_that_cannot_be_is_refused(first: tuple[Shop, str], asked: str, told: str) -> None:
    shop, _ = first
    with pytest.raises(DescriptionError) as refused:
        plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module, known_at=asked)
    assert str(refused.value) == told


def test_a_source_that_cannot_say_what_was_known_when_is_refused(shop: Shop) -> None:
    with pytest.raises(DescriptionError) as refused:
        plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module, known_at="2017-09-01")
    assert str(refused.value) == (
        "known_at: visits, people of shop cannot be read as known at an earlier time. Declare a knowledge_time for every source, "
        "or versioned=True if its bucket keeps object versions, or snapshots= for a reference, or read a Delta or Iceberg "
        "table; or leave known_at out."
    )
