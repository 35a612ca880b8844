"""Odd events, and what holds of each: on a boundary, on a day of 23 hours, on a leap day, twice, negative, dated in the future,
of an entity or a category that was never seen before. Features are built by functions and by description alike.
"""

from __future__ import annotations

import io
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import Aggregates
from almanac.core.receipts import RunInfo
from almanac.runs import pin, plan
from tests.support.shop import Shop, visits

pytestmark = [pytest.mark.store, pytest.mark.spark]

DAY, TICK = timedelta(days=1), timedelta(microseconds=1)
RECENT = Aggregates(
    "recent", reads=("visits",), windows=(90 * DAY,), events=("count", "recency"), columns={"amount": ("sum", "min")}
)
BANDS = Aggregates(
    "bands", reads=("visits", "people"), windows=(90 * DAY,), events=("count",), on="customer", split="band", values=("0", "7")
)
# Times are those of clocks in New York: 19:00 or 20:00 there is midnight in UTC.
MARCH_ENDS, QUARTER_BEGINS = datetime(2017, 3, 31, 20), datetime(2016, 12, 31, 19)
BOUNDARY, OLDEST, CLOCKS, TWICE, RETURNED, FUTURE, LATER, LEAP, OTHER_BAND = range(901, 910)
EVENTS = [
    (BOUNDARY, MARCH_ENDS, 7),
    (BOUNDARY, MARCH_ENDS - TICK, 5),
    (OLDEST, QUARTER_BEGINS, 3),
    (OLDEST, QUARTER_BEGINS - TICK, 4),
    (CLOCKS, datetime(2017, 3, 12, 1, 59, 59), 1),
    (CLOCKS, datetime(2017, 3, 12, 3), 1),
    (TWICE, datetime(2017, 3, 5), 10),
    (TWICE, datetime(2017, 3, 5), 10),
    (RETURNED, datetime(2017, 3, 6), 500),
    (RETURNED, datetime(2017, 3, 7), -200),
    (FUTURE, datetime(2030, 1, 1), 1),
    (LATER, datetime(2017, 4, 3), 1),
    (LEAP, datetime(2016, 2, 29, 12), 1),
    (OTHER_BAND, datetime(2017, 3, 8), 1),
]
Built = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def built(store: Any, spark: Any) -> Built:
    """Period to its published features, by customer."""
    shop = Shop.open(f"s3://almanac/{uuid.uuid4().hex}", spark)
    source = replace(shop.pipeline.sources["visits"], timezone="America/New_York")
    shop.describe(
        first_period="2016-02",
        sources={**shop.pipeline.sources, "visits": source},
        features=(shop.pipeline.group("habits"), RECENT, BANDS),
    )
    columns = zip(*EVENTS, strict=True)
    schema = visits(datetime(2017, 1, 1)).schema
    rows = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    shop.put("visits", "odd.parquet", pa.table(dict(zip(schema.names, rows, strict=True))))
    shop.put("people", "all.parquet", pa.table({"customer": [TWICE, OTHER_BAND], "band": [7, 9]}))
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module)
    planned = replace(planned, build=("2016-02", "2017-03", "2017-04"))
    published = shop.build(planned, pin.pin(shop.home, planned, RunInfo()))
    return {period: _rows(shop, receipt.outputs) for period, receipt in published.items()}


def _rows(shop: Shop, outputs: Any) -> pd.DataFrame:
    parts = [pq.read_table(io.BytesIO(shop.home.objects.get(output.uri))).to_pandas() for output in outputs]
    return pd.concat(parts).set_index("customer")


@pytest.mark.parametrize(
    ("customer", "count", "amount"),
    [
        pytest.param(BOUNDARY, 1, 5, id="an event at as_of is after the period, the one before it in it"),
        pytest.param(OLDEST, 1, 3, id="an event where the window begins is in it, the one before it not"),
        pytest.param(TWICE, 2, 20, id="an event that is there twice happened twice"),
        pytest.param(RETURNED, 2, 300, id="a negative amount is added like any other"),
    ],
)
def test_a_function_and_a_description_see_the_same_events(built: Built, customer: int, count: int, amount: int) -> None:
    row = built["2017-03"].loc[customer]

    assert (row["visits"], row["amount"]) == (count, amount)
    assert (row["recent_count_90d"], row["recent_amount_sum_90d"]) == (count, amount)


def test_a_negative_amount_may_be_the_least(built: Built) -> None:
    assert built["2017-03"].loc[RETURNED, "recent_amount_min_90d"] == -200


def test_a_day_of_23_hours_has_no_gap_between_its_clocks_and_time_is_counted_in_utc(built: Built) -> None:
    row = built["2017-03"].loc[CLOCKS]

    assert row["visits"] == row["recent_count_90d"] == 2
    # From 07:00 UTC on the 12th to midnight UTC after the 31st.
    assert row["recent_recency_90d"] == pytest.approx(19 + 17 / 24)


def test_an_event_of_the_leap_day_is_february_s(built: Built) -> None:
    assert built["2016-02"].index.tolist() == [LEAP]
    assert built["2016-02"].loc[LEAP, "recent_recency_90d"] == pytest.approx(7 / 24)


def test_a_customer_whose_only_event_is_dated_in_the_future_is_in_no_period(built: Built) -> None:
    assert all(FUTURE not in rows.index for rows in built.values())


def test_a_customer_is_there_from_the_first_event_on(built: Built) -> None:
    assert LATER not in built["2017-03"].index
    assert built["2017-04"].loc[LATER, "visits"] == 1


def test_a_value_that_the_split_does_not_list_counts_for_none_of_its_columns(built: Built) -> None:
    rows = built["2017-03"][["bands_0_count_90d", "bands_7_count_90d"]]

    assert rows.loc[OTHER_BAND].tolist() == [0, 0]
    assert rows.loc[TWICE].tolist() == [0, 2]
    assert rows.loc[BOUNDARY].tolist() == [0, 0]  # of whom the reference knows nothing
