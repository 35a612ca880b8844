"""What tests of degraded features share: how people go missing, and what is then planned and built."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from almanac.core.receipts import Receipt
from almanac.runs import plan
from tests.support.shop import Shop, people

HALF = 0.5
SEPTEMBER = "2017-09"


def without_people(shop: Shop) -> None:
    shop.home.objects.delete(f"{shop.landing}/people/all.parquet")


def twice(shop: Shop) -> None:
    """People that stand twice: the group that reads them fails."""
    shop.put("people", "all.parquet", pa.concat_tables([people(), people()]))


def features(shop: Shop, published: Receipt) -> Any:
    bodies = (shop.home.objects.get(output.uri) for output in published.outputs)
    return pa.concat_tables([pq.read_table(io.BytesIO(body)) for body in bodies]).to_pandas().set_index("customer").sort_index()


def of_period(shop: Shop, version: str, period: str) -> Receipt:
    definition = shop.home.versions.read(version).definition
    return shop.home.published(shop.home.features(definition), [period])[period]


def planned(shop: Shop, period: str = SEPTEMBER, **asked: Any) -> Any:
    return plan.score(shop.home, shop.pipeline.period(period), **{"degrade": HALF, **asked})
