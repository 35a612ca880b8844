"""Late data: what a run does where the newest events may be missing, and that the receipts say so."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import EventSource, FeatureGroup, Late
from almanac.core.receipts import Receipt, RunInfo
from almanac.errors import SourceError
from almanac.runs import completeness, pin, plan
from tests.support import shop as shops
from tests.support.shop import Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

DAY = timedelta(days=1)
AUGUST = datetime(2017, 8, 1)
PAGES = """def pages(clicks: DataFrame) -> DataFrame:
    return clicks.groupBy("customer").agg(F.count("*").alias("pages"), F.max(F.dayofyear("at")).alias("last_page"))


def traits("""


def described(shop: Shop, given: Late, **more: EventSource) -> None:
    sources = {**shop.pipeline.sources, "visits": replace(shop.pipeline.sources["visits"], late=given), **more}
    shop.describe(sources=sources)


def test_a_source_that_must_be_whole_and_is_not_fails_the_run_at_its_pin(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    described(shop, Late("fail", within=5 * DAY, rows=100))
    shop.put("visits", "2017-08.parquet", shops.visits(AUGUST).slice(0, 3))

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-08"))

    text = str(refused.value)
    assert text.startswith(
        "Source 'visits' is not complete: for the features of 2017-08 its newest event before 2017-09-01 is from "
    )
    assert "for the features of 2017-08 it has 3 events from 2017-08-01 to 2017-09-01, expected at least 100." in text
    assert text.endswith("Nothing was built from it. Deliver what is missing, or change the source's Late.")
    assert shop.state() == before

    shop.put("visits", "2017-08.parquet", shops.visits(AUGUST))
    receipt = shop.home.receipts.read(world.pin(world.planned("2017-08")))
    assert receipt.facts["visits"]["late"] == "fail"
    assert receipt.facts["people"]["late"] == "latest"
    assert datetime.fromisoformat(receipt.facts["visits"]["freshness"]) > datetime(2017, 12, 20, tzinfo=UTC)


def test_the_newest_label_must_be_whole_as_well(world: World) -> None:
    """A retrain of July is judged on June, whose label reads July's visits; features of July itself are not built for it."""
    shop = world.shop
    described(shop, Late("fail", within=5 * DAY))
    shop.put("visits", "2017-07.parquet", shops.visits(datetime(2017, 7, 1)).slice(0, 1))
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module)
    assert (planned.build, planned.holdout) == ((), "2017-06")

    with pytest.raises(SourceError) as refused:
        world.pin(planned)

    assert "Source 'visits' is not complete: for the label of 2017-06 its newest event before 2017-07-31 is from " in str(
        refused.value
    )


def test_waiting_goes_on_while_files_are_missing_and_ends_when_they_come(world: World) -> None:
    shop, home = world.shop, world.shop.home
    described(shop, Late("wait", within=5 * DAY, marker="ready/{period}"))
    for name in ("2017-08", "2017-09", "2017-10", "2017-11", "2017-12"):
        home.objects.delete(f"{shop.landing}/visits/{name}.parquet")
    planned = world.planned("2017-08")

    def reasons() -> list[str]:
        return completeness.lacking(home, shop.pipeline, planned, "visits")

    assert [reason.split(" from 2017-07-")[0] for reason in reasons()] == [
        "for the features of 2017-08 its newest event before 2017-09-01 is",
        "for the features of 2017-08 file ready/2017-08 is missing",
        "for the label of 2017-06 file ready/2017-07 is missing",
    ]
    shop.put("visits", "2017-08.parquet", shops.visits(AUGUST))
    home.objects.put(f"{shop.landing}/visits/ready/2017-07", b"")
    assert reasons() == ["for the features of 2017-08 file ready/2017-08 is missing"]
    home.objects.put(f"{shop.landing}/visits/ready/2017-08", b"")
    assert reasons() == []
    assert world.pin(planned)


def test_a_source_that_is_not_there_at_all_is_waited_for_and_one_that_is_wrong_is_not(world: World) -> None:
    shop, home = world.shop, world.shop.home
    sources = {
        **shop.pipeline.sources,
        "clicks": EventSource(f"{shop.landing}/clicks/", event_time="at", timezone="UTC", late=Late("wait", rows=1)),
    }
    shop.describe(sources=sources, features=(*shop.pipeline.features, FeatureGroup("pages", reads=("clicks",))))
    planned = world.planned("2017-08")

    (reason,) = completeness.lacking(home, shop.pipeline, planned, "clicks")
    assert "Source 'clicks' is missing: there is no Parquet file below" in reason

    shop.put("clicks", "all.parquet", pa.table({"customer": [1]}))
    with pytest.raises(SourceError, match="has no column at"):
        completeness.lacking(home, shop.pipeline, planned, "clicks")


def test_nothing_is_waited_for_where_nothing_is_built(world: World) -> None:
    shop = world.shop
    described(shop, Late("wait", rows=10**6))
    planned = plan.score(shop.home, shop.pipeline.period("2017-08"))
    assert planned.build == ()
    assert completeness.lacking(shop.home, shop.pipeline, planned, "visits") == []


def clicks(*moments: datetime) -> pa.Table:
    return pa.table({"customer": [79] * len(moments), "at": pa.array(moments, pa.timestamp("us"))})


@pytest.fixture
def both(world: World) -> World:
    """The shop with a second source of events; the two are consistent."""
    shop = world.shop
    second = EventSource(f"{shop.landing}/clicks/", event_time="at", timezone="UTC", late=Late("consistent"))
    shop.describe(
        sources={
            **shop.pipeline.sources,
            "visits": replace(shop.pipeline.sources["visits"], late=Late("consistent")),
            "clicks": second,
        },
        features=(*shop.pipeline.features, FeatureGroup("pages", reads=("clicks",), lookback=90 * DAY)),
    )
    shop.code(**{"def traits(": PAGES})
    return world


def build(world: World, period: str) -> tuple[Receipt, Receipt]:
    """A period's features: the receipts of the pin and of the publish."""
    planned = world.planned(period)
    pinned = pin.pin(world.shop.home, planned, RunInfo())
    return world.shop.home.receipts.read(pinned), world.shop.build(planned, pinned)[period]


def rows(world: World, receipt: Receipt) -> dict[int, dict[str, float]]:
    definition, period = receipt.order.description, receipt.order.period
    table = world.shop.home.features(definition)
    found = [
        row
        for path in table.visible()[period].paths
        for row in pq.read_table(io.BytesIO(world.shop.home.objects.get(f"{table.uri}/{path}"))).to_pylist()
    ]
    return {row["customer"]: row for row in found}


def test_consistent_sources_are_seen_up_to_the_newest_time_that_all_of_them_have(both: World) -> None:
    shop = both.shop
    behind = datetime(2017, 8, 11, 12)
    shop.put("clicks", "all.parquet", clicks(datetime(2017, 8, 1), behind, datetime(2018, 1, 1)))

    pinned, published = build(both, "2017-08")

    assert pinned.findings == ("Consistent sources of 2017-08 are cut at 2017-08-11T12:00:00.000001+00:00.",)
    seen = rows(both, published)
    assert seen[79]["pages"] == 2
    held = shops.visits(AUGUST).to_pylist()
    last = {row["customer"]: row["at"] for row in sorted(held, key=lambda row: row["at"])}
    someone = next(name for name, at in last.items() if at > behind and name in seen)
    older = [
        row
        for month in (5, 6, 7, 8)
        for row in shops.visits(datetime(2017, month, 1)).to_pylist()
        if row["customer"] == someone and behind - 90 * DAY < row["at"] <= behind
    ]
    assert seen[someone]["visits"] == len(older)
    staged = shop.home.receipts.read(published.links["staged"])
    assert staged.order.parameters == {"until": "2017-08-11T12:00:00.000001+00:00"}


def test_sources_that_are_close_enough_to_the_end_are_not_cut(both: World) -> None:
    shop = both.shop
    shop.put("clicks", "all.parquet", clicks(datetime(2017, 7, 28), datetime(2017, 8, 11)))
    within = Late("consistent", within=5 * DAY)
    sources = {name: replace(one, late=within) if name != "people" else one for name, one in shop.pipeline.sources.items()}
    shop.describe(sources=sources, features=shop.pipeline.features)

    pinned, published = build(both, "2017-07")

    assert pinned.findings == ()
    assert shop.home.receipts.read(published.links["staged"]).order.parameters == {}


def test_a_consistent_source_without_events_is_refused(both: World) -> None:
    both.shop.put("clicks", "all.parquet", clicks(datetime(2017, 9, 1)))
    with pytest.raises(SourceError, match="Source 'clicks' holds no event that the features of 2017-08 could see"):
        both.pin(both.planned("2017-08"))


def test_a_shifted_source_is_seen_as_if_it_always_came_so_late(world: World) -> None:
    shop = world.shop
    described(shop, Late("shift", by=10 * DAY, within=15 * DAY))

    pinned, published = build(world, "2017-08")

    assert pinned.facts["visits"]["late"] == "shift"
    end = datetime(2017, 8, 22)
    seen = {
        row["customer"]
        for month in (5, 6, 7, 8)
        for row in shops.visits(datetime(2017, month, 1)).to_pylist()
        if end - 90 * DAY <= row["at"] < end
    }
    counted = {customer: row["visits"] for customer, row in rows(world, published).items()}
    assert counted.keys() == seen
    someone = max(counted, key=lambda one: counted[one])
    assert counted[someone] == sum(
        row["customer"] == someone and end - 90 * DAY <= row["at"] < end
        for month in (5, 6, 7, 8)
        for row in shops.visits(datetime(2017, month, 1)).to_pylist()
    )


def test_a_shifted_source_that_is_later_than_its_measure_fails_the_pin(world: World) -> None:
    shop = world.shop
    described(shop, Late("shift", by=10 * DAY, within=DAY))
    for name in ("2017-08", "2017-09", "2017-10", "2017-11", "2017-12"):
        shop.home.objects.delete(f"{shop.landing}/visits/{name}.parquet")

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-08"))

    assert "for the features of 2017-08 its newest event before 2017-08-22 is from 2017-07-2" in str(refused.value)


def test_columns_that_changed_since_the_last_pin_are_told_by_the_next(world: World) -> None:
    """Every file agrees with every other, so nothing is wrong; but somebody changed the source."""
    shop = world.shop
    for month in shops.MONTHS:
        rows = shops.visits(month)
        rows = rows.set_column(2, "amount", rows["amount"].cast(pa.float64())).append_column("till", rows["customer"])
        shop.put("visits", f"{month:%Y-%m}.parquet", rows)

    receipt = shop.home.receipts.read(world.pin(world.planned("2017-08")))

    assert receipt.findings == (
        "Source 'visits' has changed since it was last pinned: column till (int64) is new; "
        "column amount was int64 and is double.",
    )
