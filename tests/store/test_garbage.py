"""Garbage on a real S3 server: what nothing kept names goes, and not one file that somebody may still need."""

from __future__ import annotations

import io
import threading
import time
import uuid
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.core.canonical import sha256
from almanac.core.garbage import RETENTION, GarbageKind, Item
from almanac.core.layout import staged_file
from almanac.core.receipts import Order, Output, PlacedOrder, publish_order
from almanac.errors import IntegrityError
from almanac.store import garbage
from almanac.store.home import Home
from almanac.store.objects import Objects
from tests.support.records import order

pytestmark = pytest.mark.store

SECOND = timedelta(seconds=1)
COLUMNS = pa.schema([("customer", pa.int64())])


@pytest.fixture
def home(objects: Objects, root: str) -> Home:
    return Home.of(root, "shop", objects)


def stage(home: Home, asked: Order) -> Output:
    """A file of an order, in its table's folder and not visible."""
    table = home.table_of(asked)
    table.create(COLUMNS)
    home.receipts.place(PlacedOrder(order=asked))
    body = io.BytesIO()
    pq.write_table(pa.table({"customer": [1, 2]}, schema=COLUMNS), body)
    name = staged_file(asked.period, asked.digest, uuid.uuid4().hex)
    home.objects.put(f"{table.uri}/{name}", body.getvalue())
    size = len(body.getvalue())
    return Output(name=name, uri=f"{table.uri}/{name}", bytes=size, sha256=sha256(body.getvalue()), rows=2)


def publish(home: Home, asked: Order) -> str:
    """A file of an order that is visible."""
    table, output = home.table_of(asked), stage(home, asked)
    metadata = {"order": publish_order(asked).digest}
    table.publish(asked.period, [output], fence=table.fence(asked.period), metadata=metadata)
    return output.uri


def old(home: Home) -> datetime:
    """A time at which everything that is there now is older than a week."""
    return home.objects.now(home.layout.home) + RETENTION + 2 * SECOND


def uris(items: tuple[Item, ...]) -> list[str]:
    return [item.uri for item in items]


def test_a_pipeline_of_which_nothing_is_kept_has_no_garbage(home: Home) -> None:
    assert garbage.collect(home) == ()


def test_nothing_is_garbage_by_the_stores_own_clock_for_a_week(home: Home) -> None:
    stage(home, order())

    assert garbage.collect(home) == ()
    assert len(garbage.collect(home, now=old(home))) == 1


def test_a_replaced_and_an_orphaned_file_go_and_the_visible_one_stays(home: Home) -> None:
    first, second = publish(home, order()), publish(home, order(fence=1))
    orphan = stage(home, order(period="2017-07"))
    now = old(home)
    found = garbage.collect(home, now=now)

    assert sorted(uris(found)) == sorted([first, orphan.uri])
    assert {(item.kind, item.bytes) for item in found} == {(GarbageKind.FEATURES, orphan.bytes)}
    assert garbage.delete(home, found, now=now) == found
    assert garbage.collect(home, now=now) == ()
    assert home.objects.has(second)
    assert not home.objects.has(first)


def test_what_a_young_commit_replaced_is_left_to_those_who_still_read_it(home: Home) -> None:
    first = publish(home, order())
    time.sleep(3)
    second = publish(home, order(fence=1))
    (replaced,) = (item.modified for item in home.objects.walk(second))

    assert garbage.collect(home, now=replaced + RETENTION - SECOND) == ()
    assert uris(garbage.collect(home, now=replaced + RETENTION + 3 * SECOND)) == [first]


def test_a_file_that_became_visible_after_it_was_collected_is_not_deleted(home: Home) -> None:
    staged = stage(home, order())
    now = old(home)
    found = garbage.collect(home, now=now)
    assert uris(found) == [staged.uri]
    table = home.table_of(order())
    table.publish("2017-06", [staged], fence=0, metadata={"order": publish_order(order()).digest})

    assert garbage.delete(home, found, now=now) == ()
    assert home.objects.has(staged.uri)


def test_a_file_that_is_too_young_is_not_deleted_whoever_says_so(home: Home) -> None:
    staged = stage(home, order())
    (listed,) = home.objects.walk(staged.uri)
    item = Item(kind=GarbageKind.FEATURES, uri=staged.uri, bytes=listed.size, modified=listed.modified)

    assert garbage.delete(home, [item]) == ()
    for ask in (lambda: garbage.collect(home, older=timedelta(days=6)), lambda: garbage.delete(home, [item], older=6 * SECOND)):
        with pytest.raises(ValueError, match=r"expected an age of 7 days or more"):
            ask()
    assert home.objects.has(staged.uri)


def test_deleting_goes_on_after_a_file_that_is_gone(home: Home) -> None:
    staged = [stage(home, order(period=f"2017-{month:02d}")).uri for month in range(1, 6)]
    now, told = old(home), list[int]()
    found = garbage.collect(home, now=now)
    home.objects.delete(staged[2])

    assert uris(garbage.delete(home, found, now=now, told=told.append)) == staged
    assert not any(home.objects.has(uri) for uri in staged)
    assert sum(told) == len(staged)


def test_more_files_than_one_batch_are_deleted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "BATCH", 2)
    visible = publish(home, order(period="2018-01"))
    staged = [stage(home, order(period=f"2017-{month:02d}")).uri for month in range(1, 6)]
    now = old(home)

    assert uris(garbage.delete(home, garbage.collect(home, now=now), now=now)) == staged
    assert home.objects.has(visible)


def test_a_version_that_cannot_be_read_stops_it_before_anything_is_deleted(home: Home) -> None:
    staged = stage(home, order())
    now = old(home)
    found = garbage.collect(home, now=now)
    home.objects.put(home.layout.manifest("2017-06-ea02faee"), b"{}")

    for ask in (lambda: garbage.collect(home, now=now), lambda: garbage.delete(home, found, now=now)):
        with pytest.raises(IntegrityError, match="expected a valid Manifest, got other bytes"):
            ask()
    assert home.objects.has(staged.uri)


def test_parts_and_model_folders_without_a_manifest_go_and_pins_stay(home: Home) -> None:
    layout = home.layout
    part = f"{layout.part(order().digest, 'unique')}/habits-1.parquet"
    model = f"{layout.model('2017-06-ea02faee', 'unique')}/model.joblib"
    pin = layout.part(order().digest, "visits-0123456789abcdef.json")
    for uri in (part, model, pin):
        home.objects.put(uri, b"bytes")
    now = old(home)
    found = garbage.collect(home, now=now)

    assert [(item.kind, item.uri) for item in found] == [(GarbageKind.MODELS, model), (GarbageKind.PARTS, part)]
    garbage.delete(home, found, now=now)
    assert [home.objects.has(uri) for uri in (part, model, pin)] == [False, False, True]


@pytest.mark.slow
def test_beside_a_loop_of_publishes_nothing_visible_or_young_is_lost(home: Home) -> None:
    """Old are the files from before the loop: garbage goes; what the loop stages, makes visible and replaces stays."""
    periods = [f"2017-{month:02d}" for month in range(1, 4)]
    before = [publish(home, order(period=period)) for period in periods]
    garbage_before = [stage(home, order(period=period, fence=100)).uri for period in periods]
    time.sleep(2)
    began = home.objects.now(home.layout.home)
    now, done, staged = began + RETENTION, threading.Event(), list[str]()

    def loop() -> None:
        try:
            for fence in range(1, 9):
                staged.extend(publish(home, order(period=period, fence=fence)) for period in periods)
        finally:
            done.set()

    publisher = threading.Thread(target=loop)
    publisher.start()
    deleted, rounds = list[str](), 0
    while not done.is_set() or not rounds:
        deleted += uris(garbage.delete(home, garbage.collect(home, now=now), now=now))
        rounds += 1
    publisher.join()

    assert sorted(deleted) == sorted(garbage_before)
    assert len(staged) == 24, "the loop came to its end"
    assert all(home.objects.has(uri) for uri in [*before, *staged])
