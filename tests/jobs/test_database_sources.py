"""A pipeline that reads PostgreSQL: the same features as from files, the copy is what later runs are held against, and a run that
needs no copy makes none.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from almanac import EventSource, ReferenceSource
from almanac.core.canonical import decode
from almanac.core.pins import Pin
from almanac.core.receipts import RunInfo
from almanac.errors import DescriptionError
from almanac.runs import pin, plan, redo
from almanac.store.pins import admitted_pins
from tests.jobs.test_same_features import GROUPS, VISITS, described, digests
from tests.support.layouts import Layout
from tests.support.shop import Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


@pytest.fixture
def shop(world: World, postgres: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The shop, whose visits are in a table `SHOP.visits`, of a schema of its own, and its people in a query's result."""
    address, schema = f"postgresql://postgres@/postgres?host={postgres}", f"shop_{uuid.uuid4().hex}"
    monkeypatch.setenv("ALMANAC_CONNECTION_WAREHOUSE", address)
    with psycopg.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{schema}"'.encode())
        cursor.execute(f'CREATE TABLE "{schema}".visits ("Customer ID" text, at timestamp, amount bigint)'.encode())
        with cursor.copy(f'COPY "{schema}".visits FROM STDIN'.encode()) as copy:
            for row in VISITS.to_pylist():
                copy.write_row((str(row["customer"]), row["at"], row["amount"]))
        shop = world.shop
        shop.describe(
            sources={
                "visits": EventSource(
                    f"postgres://warehouse/{schema}.visits",
                    event_time="at",
                    timezone="UTC",
                    columns=("customer", "at", "amount"),
                    rename={"Customer ID": "customer"},
                    cast={"customer": "long"},
                ),
                "people": ReferenceSource(
                    "postgres://warehouse/",
                    query="SELECT n::bigint * 2 AS customer, (n % 5)::bigint AS band FROM generate_series(0, 39) AS n",
                ),
            },
            features=GROUPS,
        )
        yield shop
        cursor.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())


def pinned(shop: Shop) -> dict[str, Pin]:
    planned = replace(plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module), build=("2017-06",))
    return dict(admitted_pins(shop.home, shop.home.receipts.read(pin.pin(shop.home, planned, RunInfo()))))


def test_features_of_a_database_are_those_of_files(shop: Shop) -> None:
    from_database = digests(shop)
    described(shop, Layout(f"{shop.landing}/visits/", {}))
    assert digests(shop) == from_database


def test_only_the_month_that_changed_is_copied_again(shop: Shop, postgres: Path) -> None:
    before = pinned(shop)["visits"]
    table = shop.pipeline.sources["visits"].uri.rsplit("/", 1)[-1]
    with psycopg.connect(f"postgresql://postgres@/postgres?host={postgres}", autocommit=True) as connection:
        connection.execute(f"INSERT INTO {table} VALUES ('1', '2017-06-09 12:00', 5)".encode())
    after = pinned(shop)["visits"]
    changed = {old.made.name for old, new in zip(before.files, after.files, strict=True) if old != new and old.made}
    assert changed == {"2017-06.parquet"} and before.content != after.content
    assert all(one.uri.startswith(f"{shop.home.layout.home}/copies/") for one in after.files)


def test_the_receipt_tells_when_the_rows_were_seen_and_a_plan_copies_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.train("2017-07")
    copies = {item.uri for item in shop.home.objects.walk(f"{shop.home.layout.home}/copies/")}
    receipts = shop.home.objects.walk(shop.home.layout.receipts("sources", "pin"))
    told = [json.loads(shop.home.objects.get(item.uri))["findings"] for item in receipts]
    assert any("Source 'visits' was copied as its database held it at 20" in finding for one in told for finding in one)

    monkeypatch.delenv("ALMANAC_CONNECTION_WAREHOUSE")
    assert redo.found(shop.home).nothing, "what was copied is what later runs are held against"
    assert {item.uri for item in shop.home.objects.walk(f"{shop.home.layout.home}/copies/")} == copies
    with pytest.raises(DescriptionError, match="ALMANAC_CONNECTION_WAREHOUSE: expected the address of the database"):
        pinned(shop)


def test_a_pin_of_a_database_can_be_read_again(shop: Shop) -> None:
    found = pinned(shop)["visits"]
    from almanac.core.canonical import encode

    assert decode(Pin, encode(found)) == found and found.seen_at is not None and found.version == ""
