"""The small shop with branches: an entity is a customer in a branch, named by two columns or by one text that joins them."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from almanac import Aggregates, EventSource, FeatureGroup, Pipeline, Population, ReferenceSource
from almanac.core.entity import Entity
from almanac.jobs.context import SparkJob
from almanac.store.home import Home
from tests.support import shop as shops
from tests.support.shop import MONTHS, QUARTER, Shop

KEYS = ("customer", "branch")
# Of one length each, so that joined texts sort as the pairs do.
CUSTOMERS, BRANCHES = range(100, 140), ("east", "nord", "west")


def pipeline(landing: str, entity: Entity = KEYS, **changes: Any) -> Pipeline:
    """The shop's description, with a described group as well; its sources lie below `landing`."""
    columns = ((entity,) if isinstance(entity, str) else entity) + ("at", "amount")
    described: dict[str, Any] = {
        "entity": entity,
        "sources": {
            "visits": EventSource(f"{landing}/visits/", event_time="at", timezone="UTC", columns=columns),
            "people": ReferenceSource(f"{landing}/people/"),
        },
        "population": Population("customers", reads=("visits",), lookback=QUARTER),
        "features": (
            FeatureGroup("habits", reads=("visits",), lookback=QUARTER),
            FeatureGroup("traits", reads=("people",)),
            Aggregates(
                "spending",
                reads=("visits",),
                windows=(timedelta(days=30), timedelta(days=60)),
                events=("count", "recency"),
                columns={"amount": ("sum", "max", "distinct")},
            ),
        ),
    }
    return shops.pipeline(landing, **{**described, **changes})


def visits(month: datetime) -> pa.Table:
    """A month of visits: how often a customer comes differs from branch to branch, and in a branch from customer to customer."""
    dice = random.Random(month.month)
    rows = [
        (customer, branch, month + timedelta(days=dice.randrange(28), hours=dice.randrange(24)), dice.randrange(100, 5000))
        for customer in CUSTOMERS
        for number, branch in enumerate(BRANCHES)
        for _ in range(dice.randrange(1 + (customer + 2 * number) % 5))
    ]
    kinds = {"customer": pa.int64(), "branch": pa.string(), "at": pa.timestamp("us"), "amount": pa.int64()}
    columns = zip(*rows, strict=True)
    return pa.table({name: pa.array(values, kind) for (name, kind), values in zip(kinds.items(), columns, strict=True)})


def people() -> pa.Table:
    """Traits of every second customer, in each branch others."""
    rows = [(customer, branch, (customer + number) % 5) for customer in CUSTOMERS[::2] for number, branch in enumerate(BRANCHES)]
    return pa.table(dict(zip((*KEYS, "band"), map(list, zip(*rows, strict=True)), strict=True)))


def joined(rows: pa.Table) -> pa.Table:
    """The same rows with one key, such as `104/west`."""
    key = pc.binary_join_element_wise(rows["customer"].cast(pa.string()), rows["branch"], "/")
    return rows.drop_columns(["branch"]).set_column(rows.column_names.index("customer"), "customer", key)


def open_at(root: str, spark: Any, entity: Entity = KEYS) -> Shop:
    """A shop with its data delivered. `entity`: the two columns, or `customer`, the text that joins them."""
    landing = f"{root}/landing"
    described = pipeline(landing, entity)
    shop = Shop(Home.of(root, described.name), landing, described, SparkJob("test", spark), b"")
    shop.code(**({'"customer"': '"customer", "branch"'} if entity == KEYS else {}))

    def delivered(rows: pa.Table) -> pa.Table:
        return rows if entity == KEYS else joined(rows)

    for month in MONTHS:
        shop.put("visits", f"{month:%Y-%m}.parquet", delivered(visits(month)))
    shop.put("people", "all.parquet", delivered(people()))
    return shop
