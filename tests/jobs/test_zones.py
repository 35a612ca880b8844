"""Days of London: an event belongs to the local day, for features by functions and by description, and for labels."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import Aggregates, Label
from almanac.core.cuts import label_cuts
from almanac.core.receipts import RunInfo
from almanac.runs import pin, plan
from almanac.spark import sources
from almanac.store.pins import admitted_pins
from tests.support.shop import Shop, visits

pytestmark = [pytest.mark.store, pytest.mark.spark]

DAY = timedelta(days=1)
RECENT = Aggregates("recent", reads=("visits",), windows=(DAY, 2 * DAY), events=("count",))
SUMMER_NIGHT, SUMMER_EVENING, LONG_NIGHT, LONG_EVENING = range(901, 905)
# By clocks in London, which are an hour ahead of UTC until they are set back at 02:00 on 2017-10-29.
EVENTS = [
    (SUMMER_NIGHT, datetime(2017, 7, 2, 0, 30), 1),
    (SUMMER_EVENING, datetime(2017, 7, 1, 23, 30), 1),
    (LONG_NIGHT, datetime(2017, 10, 29, 0, 30), 1),
    (LONG_EVENING, datetime(2017, 10, 29, 23, 30), 1),
]
BUILT = ("2017-07-01", "2017-07-02", "2017-10-28", "2017-10-29")


@dataclass(frozen=True)
class London:
    """Period to its published features by customer, and to the customers that the label's function sees."""

    features: dict[str, pd.DataFrame]
    labelled: dict[str, set[int]]


@pytest.fixture(scope="module")
def london(store: Any, spark: Any) -> London:
    shop = Shop.open(f"s3://almanac/{uuid.uuid4().hex}", spark)
    described = shop.pipeline
    shop.describe(
        every="day",
        timezone="Europe/London",
        first_period="2017-06-01",
        sources={**described.sources, "visits": replace(described.sources["visits"], timezone="Europe/London")},
        population=replace(described.population, lookback=2 * DAY),
        features=(replace(described.group("habits"), lookback=2 * DAY), RECENT),
        label=Label("returns", reads=("visits",), horizon=DAY, absent=0),
    )
    schema = visits(datetime(2017, 1, 1)).schema
    columns = zip(zip(*EVENTS, strict=True), schema, strict=True)
    rows = [pa.array(column, field.type) for column, field in columns]
    shop.put("visits", "nights.parquet", pa.table(dict(zip(schema.names, rows, strict=True))))
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-11-05"), shop.module)
    planned = replace(planned, build=BUILT)
    pinned = pin.pin(shop.home, planned, RunInfo())
    published = shop.build(planned, pinned)
    pins = admitted_pins(shop.home, shop.home.receipts.read(pinned))
    known = shop.pipeline.period("2017-11-05").as_of
    labelled = {}
    for period in BUILT:
        cuts = label_cuts(shop.pipeline, period, known)
        seen = sources.read_all(spark, shop.pipeline.sources, pins, cuts)["visits"]
        labelled[period] = {row["customer"] for row in seen.collect()} & {customer for customer, _, _ in EVENTS}
    return London({period: _rows(shop, receipt.outputs) for period, receipt in published.items()}, labelled)


def _rows(shop: Shop, outputs: Any) -> pd.DataFrame:
    parts = [pq.read_table(io.BytesIO(shop.home.objects.get(output.uri))).to_pandas() for output in outputs]
    return pd.concat(parts).set_index("customer")


@pytest.mark.parametrize(
    ("customer", "day", "before"),
    [
        pytest.param(SUMMER_NIGHT, "2017-07-02", "2017-07-01", id="the day before in UTC"),
        pytest.param(LONG_NIGHT, "2017-10-29", "2017-10-28", id="a day of 25 hours"),
    ],
)
def test_an_event_at_half_past_midnight_is_of_the_local_day(london: London, customer: int, day: str, before: str) -> None:
    row = london.features[day].loc[customer]

    assert customer not in london.features[before].index
    assert (row["visits"], row["recent_count_2d"]) == (1, 1)
    assert customer in london.labelled[before], "it happens after the day before has ended"
    assert customer not in london.labelled[day]


def test_an_event_before_local_midnight_is_of_the_day_that_ends(london: London) -> None:
    assert london.features["2017-07-01"].loc[SUMMER_EVENING, "recent_count_1d"] == 1
    assert london.features["2017-07-02"].loc[SUMMER_EVENING, "recent_count_1d"] == 0
    assert SUMMER_EVENING not in london.labelled["2017-07-01"]


def test_a_window_of_a_day_is_of_24_hours_also_where_the_day_has_25(london: London) -> None:
    found = london.features["2017-10-29"]

    assert found.loc[LONG_NIGHT, ["recent_count_1d", "recent_count_2d"]].tolist() == [0, 1]
    assert found.loc[LONG_EVENING, "recent_count_1d"] == 1
