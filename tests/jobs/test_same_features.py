"""The same rows in each format and layout give the same features, content digest by content digest: written and described groups,
and the groups combined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from almanac import Aggregates, EventSource, FeatureGroup, Pipeline, ReferenceSource
from almanac.core.formats import Delta
from almanac.core.receipts import RunInfo
from almanac.runs import feature_orders, pin, plan
from tests.support import shop as shops
from tests.support.layouts import LAYOUTS, OPTIONS, Layout
from tests.support.shop import MONTHS, Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

PERIODS = ("2017-05", "2017-06")
DAY = timedelta(days=1)
GROUPS = (
    FeatureGroup("habits", reads=("visits",), lookback=90 * DAY),
    FeatureGroup("traits", reads=("people",)),
    Aggregates(
        "recent",
        reads=("visits", "people"),
        windows=(30 * DAY, 90 * DAY),
        events=("count", "recency"),
        columns={"amount": ("sum", "max", "distinct")},
        on="customer",
        split="band",
        values=("0", "3"),
    ),
)
VISITS = pa.concat_tables([shops.visits(month) for month in MONTHS[:7]])


def described(shop: Shop, put: Layout, people: Layout | None = None) -> Pipeline:
    """The shop, reading its visits, and maybe its people, as they were put."""
    visits = EventSource(put.uri, event_time="at", timezone="UTC", **{"columns": ("customer", "at", "amount"), **put.fields})
    named = shop.pipeline.sources["people"]
    others = ReferenceSource(people.uri, **people.fields) if people else named
    shop.describe(sources={"visits": visits, "people": others}, features=GROUPS)
    return shop.pipeline


def digests(shop: Shop) -> dict[str, str]:
    """Group and period, and the period alone for the groups combined, to the content digest."""
    planned = replace(plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module), build=PERIODS)
    pinned = pin.pin(shop.home, planned, RunInfo())
    placed = feature_orders.groups(shop.home, planned, pinned)
    found = {}
    for order, receipt in zip(placed, shop.together(placed), strict=True):
        assert receipt.passed, receipt.findings
        found[f"{order.order.part} {order.order.period}"] = receipt.content
    for period, uri in shop.run(feature_orders.combined(shop.home, planned, pinned)).items():
        found[period] = shop.home.receipts.read(uri).content
    return found


@pytest.fixture(scope="module")
def kept() -> dict[str, Mapping[str, str]]:
    """What the plain files gave, for the layouts after them."""
    return {}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_do_not_depend_on_how_rows_are_stored(world: World, kept: dict[str, Any], layout: str) -> None:
    shop = world.shop
    if not kept:
        put = LAYOUTS["parquet"](shop.home.objects, f"{shop.landing}/as parquet/", VISITS, "at")
        described(shop, put)
        kept["parquet"] = digests(shop)
    if layout == "parquet":
        return
    put = LAYOUTS[layout](shop.home.objects, f"{shop.landing}/as {layout}/", VISITS, "at")
    described(shop, put)
    assert digests(shop) == kept["parquet"]


def test_a_delta_table_gives_the_same_features_after_a_compaction_a_delete_and_a_column_more(world: World) -> None:
    shop = world.shop
    uri = f"{shop.landing}/changing/"
    deltalake.write_deltalake(uri, VISITS, storage_options=OPTIONS)
    described(shop, Layout(uri, {"format": Delta()}))
    before = digests(shop)

    more = shops.visits(MONTHS[5]).slice(0, 10).append_column("channel", pa.array(["web"] * 10))
    deltalake.write_deltalake(uri, more, mode="append", schema_mode="merge", storage_options=OPTIONS)
    assert digests(shop) != before
    deltalake.DeltaTable(uri).delete("channel = 'web'")
    assert digests(shop) == before
    deltalake.DeltaTable(uri).optimize.compact()
    assert digests(shop) == before


def test_a_reference_in_time_is_seen_as_it_was(world: World) -> None:
    """Two worlds: a customer's band changes within June. Only features of June see it, in both kinds of groups."""
    shop = world.shop
    put = Layout(f"{shop.landing}/visits/", {})
    people = shops.people()
    always = people.append_column("since", pa.nulls(len(people), pa.timestamp("us", "UTC")))
    fields = {"valid_from": "since", "valid_to": "until"}

    def deliver(rows: pa.Table) -> Layout:
        shop.put("people in time", "all.parquet", rows)
        return Layout(f"{shop.landing}/people in time/", fields)

    until = pa.nulls(len(people), pa.timestamp("us", "UTC"))
    described(shop, put, deliver(always.append_column("until", until)))
    before = digests(shop)

    moment = pa.scalar(MONTHS[5] + 9 * DAY, pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    ended = pa.array([moment.as_py() if number == 39 else None for number in range(len(people))], pa.timestamp("us", "UTC"))
    changed = always.append_column("until", ended)
    begun = pa.table({"customer": [78], "band": [0], "since": pa.array([moment.as_py()], pa.timestamp("us", "UTC"))})
    begun = begun.append_column("until", pa.nulls(1, pa.timestamp("us", "UTC")))
    described(shop, put, deliver(pa.concat_tables([changed, begun])))
    after = digests(shop)

    assert {name for name in before if before[name] != after[name]} == {"traits 2017-06", "recent 2017-06", "2017-06"}
