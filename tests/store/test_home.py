"""A pipeline's home: what is visible of it leads to the receipts that say where it is from."""

from __future__ import annotations

import io
import uuid
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.core.canonical import sha256
from almanac.core.layout import staged_file
from almanac.core.promotions import Log
from almanac.core.receipts import Artifact, Order, Output, PlacedOrder, publish_order
from almanac.core.rollback import WrittenPeriod
from almanac.errors import NotFound
from almanac.store.home import Home, pipelines
from almanac.store.objects import Objects
from tests.support.records import order, receipt

pytestmark = pytest.mark.store

COLUMNS = pa.schema([("customer", pa.int64()), ("model_version", pa.string())])


@pytest.fixture
def home(objects: Objects, root: str) -> Home:
    return Home.of(root, "shop", objects)


def make_visible(home: Home, asked: Order, version: str = "2017-05-aaaaaaaa", *, keep: bool = True) -> Order:
    """Publishes a file of an order; its receipt is kept too, unless the publisher dies before."""
    table = home.table_of(asked)
    table.create(COLUMNS)
    home.receipts.place(PlacedOrder(order=asked))
    body = io.BytesIO()
    pq.write_table(pa.table({"customer": [1, 2], "model_version": [version] * 2}, schema=COLUMNS), body)
    name = staged_file(asked.period, asked.digest, uuid.uuid4().hex)
    home.objects.put(f"{table.uri}/{name}", body.getvalue())
    described: dict[str, Any] = {"bytes": len(body.getvalue()), "sha256": sha256(body.getvalue()), "rows": 2}
    output = Output(name=name, uri=f"{table.uri}/{name}", stats={"model_version": [version, version]}, **described)
    published = publish_order(asked)
    table.publish(asked.period, [output], fence=table.fence(asked.period), metadata={"order": published.digest})
    if keep:
        home.receipts.keep(receipt(published))
    return published


def test_a_home_without_anything_shows_nothing(home: Home) -> None:
    assert (home.name, home.log(), home.written(), home.versions.names()) == ("shop", Log(), [], [])
    assert home.published(home.predictions, ["2017-06"]) == {}


def test_features_lie_in_the_table_of_their_definition_and_predictions_in_their_own(home: Home) -> None:
    assert home.table_of(order(description="f1")).uri == home.features("f1").uri == f"{home.layout.home}/features/f1"
    assert home.table_of(order(artifact=Artifact.PREDICTIONS)).uri == home.predictions.uri == f"{home.layout.home}/predictions"


def test_what_was_written_is_told_by_period_version_and_order(home: Home) -> None:
    june, july = (order(artifact=Artifact.PREDICTIONS, period=period) for period in ("2017-06", "2017-07"))
    make_visible(home, july, "2017-06-bbbbbbbb")
    make_visible(home, june, "2017-05-aaaaaaaa")

    assert home.written() == [
        WrittenPeriod(period="2017-06", version="2017-05-aaaaaaaa", order=june.digest, rows=2),
        WrittenPeriod(period="2017-07", version="2017-06-bbbbbbbb", order=july.digest, rows=2),
    ]


def test_a_visible_period_leads_to_its_publish_receipt(home: Home) -> None:
    published = make_visible(home, order())

    assert home.published(home.features("d1"), ["2017-06", "2017-07"]) == {"2017-06": receipt(published)}


def test_a_visible_period_whose_publisher_died_before_its_receipt_is_not_called_published(home: Home) -> None:
    make_visible(home, order(), keep=False)

    assert list(home.features("d1").visible()) == ["2017-06"]
    assert home.published(home.features("d1"), ["2017-06"]) == {}


def test_a_visible_file_of_an_order_that_nobody_placed_is_told(home: Home) -> None:
    asked = order()
    make_visible(home, asked)
    home.objects.delete(home.layout.order(asked.digest))

    with pytest.raises(NotFound, match=f"{asked.digest}.json: the object does not exist"):
        home.published(home.features("d1"), ["2017-06"])


def test_pipelines_are_those_that_something_is_kept_of(home: Home, root: str) -> None:
    assert pipelines(home.objects, root) == []
    for name in ("shop/orders/1.json", "churn/promotions/1.json", ".probe/1"):
        home.objects.put(f"{root}/{name}", b"")

    assert pipelines(home.objects, root) == pipelines(home.objects, f"{root}/") == ["churn", "shop"]
