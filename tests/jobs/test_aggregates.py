"""Described feature groups give what pandas computes, read each source file once, and keep what they summed."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import Aggregates, Late, Pipeline
from almanac.core.receipts import PlacedOrder, Receipt, RunInfo
from almanac.errors import AlmanacError, DescriptionError
from almanac.runs import feature_orders, pin, plan
from tests.support import shop as shops
from tests.support.shop import Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

DAY = timedelta(days=1)
WINDOWS = (7 * DAY, 30 * DAY, 90 * DAY)
RECENT = Aggregates(
    "recent",
    reads=("visits",),
    windows=WINDOWS,
    events=("count", "recency"),
    columns={"amount": ("sum", "min", "max", "distinct")},
)
BANDS = Aggregates(
    "bands",
    reads=("visits", "people"),
    windows=(30 * DAY, 90 * DAY),
    events=("count",),
    columns={"amount": ("sum", "distinct")},
    on="customer",
    split="band",
    values=("0", "3"),
)


@pytest.fixture
def aggregated(world: World) -> World:
    """The shop with two described groups and a written one."""
    plain = world.shop.pipeline
    world.shop.describe(features=(plain.group("habits"), RECENT, BANDS))
    return world


def group(world: World, name: str, *periods: str) -> list[Receipt]:
    """A group's orders for some periods, run as one job does."""
    shop = world.shop
    planned = replace(plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module), build=tuple(periods))
    placed = feature_orders.groups(shop.home, planned, pin.pin(shop.home, planned, RunInfo()), name)
    return shop.together(placed)


def rows(shop: Shop, receipt: Receipt) -> pd.DataFrame:
    assert receipt.passed, receipt.findings
    files = [pq.read_table(io.BytesIO(shop.home.objects.get(output.uri))).to_pandas() for output in receipt.outputs]
    return pd.concat(files).sort_values("customer").set_index("customer")


def events(*months: int) -> pd.DataFrame:
    held = pd.concat([shops.visits(datetime(2017, month, 1)).to_pandas() for month in months])
    return held.merge(shops.people().to_pandas(), on="customer", how="left")


def by_pandas(held: pd.DataFrame, part: Aggregates, high: datetime) -> pd.DataFrame:
    """The features of a group, written another way."""
    found = {}
    longest = held[(held["at"] < high) & (held["at"] >= high - part.lookback)]
    if part.split:
        longest = longest[longest[part.split].map(lambda one: str(int(one)) if one == one else "").isin(part.values)]
    entities = sorted(longest["customer"].unique())
    for feature in part.features:
        inside = longest[longest["at"] >= high - feature.window]
        if feature.value is not None:
            inside = inside[inside[part.split] == int(feature.value)]
        by = inside.groupby("customer")
        column = by[feature.column] if feature.column else None
        values = {
            "count": lambda by=by: by.size(),
            "recency": lambda by=by: (high - by["at"].max()) / DAY,
            "distinct": lambda column=column: column.nunique(),
        }.get(feature.function, lambda column=column, name=feature.function: getattr(column, name)())()
        found[feature.name] = values.reindex(entities, fill_value=0.0 if feature.name in part.zeros else np.nan)
    return pd.DataFrame(found, index=pd.Index(entities, name="customer")).astype(np.float32)


@pytest.mark.parametrize("part", [RECENT, BANDS], ids=lambda part: part.name)
def test_a_group_gives_what_pandas_gives_for_each_period(aggregated: World, part: Aggregates) -> None:
    held = events(*range(1, 13))
    for receipt, month in zip(group(aggregated, part.name, "2017-05", "2017-06", "2017-08"), (6, 7, 9), strict=True):
        expected = by_pandas(held, part, datetime(2017, month, 1))
        assert len(expected) > 10
        pd.testing.assert_frame_equal(rows(aggregated.shop, receipt), expected)


def test_the_features_of_all_groups_are_combined_and_who_has_no_event_has_zeros(aggregated: World) -> None:
    shop = aggregated.shop
    planned = aggregated.planned("2017-08")
    published = shop.build(planned, pin.pin(shop.home, planned, RunInfo()))["2017-08"]

    table = shop.home.features(published.order.description)
    (path,) = table.visible()["2017-08"].paths
    found = pq.read_table(io.BytesIO(shop.home.objects.get(f"{table.uri}/{path}"))).to_pandas().set_index("customer")
    assert [name for name in found.columns if name.startswith("bands")] == [feature.name for feature in BANDS.features]
    outside = found.index % 2 == 1  # nobody in the reference
    assert outside.any()
    assert (found.loc[outside, BANDS.zeros] == 0).all().all()
    pd.testing.assert_series_equal(found["recent_count_90d"], found["visits"], check_names=False)


def partials(shop: Shop) -> dict[str, str]:
    """The files of partial sums that are kept, and their etags."""
    folder = f"{shop.home.layout.home}/parts/partials-"
    return {item.uri: item.etag for item in shop.home.objects.walk(folder) if item.uri.endswith(".parquet")}


def test_the_next_period_sums_the_new_month_alone(aggregated: World) -> None:
    shop = aggregated.shop
    group(aggregated, "recent", "2017-07")
    before = partials(shop)
    (receipt,) = group(aggregated, "recent", "2017-08")

    after = partials(shop)
    assert {uri: after[uri] for uri in before} == before
    assert len({uri.rsplit("/", 1)[0] for uri in after.keys() - before.keys()}) == 1
    pd.testing.assert_frame_equal(rows(shop, receipt), by_pandas(events(*range(1, 13)), RECENT, datetime(2017, 9, 1)))


def test_a_job_of_many_periods_sums_each_file_once(aggregated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from almanac.spark import partials as summing

    asked: list[int] = []
    summed = summing.summed
    monkeypatch.setattr(summing, "summed", lambda spark, wanted: asked.append(len(wanted)) or summed(spark, wanted))
    group(aggregated, "recent", "2017-05", "2017-06", "2017-07", "2017-08")
    assert asked == [6]  # March to August, at once


def both(world: World, *periods: str) -> list[PlacedOrder]:
    """The orders of both described groups, which one job builds."""
    shop = world.shop
    planned = replace(plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module), build=tuple(periods))
    return feature_orders.groups(shop.home, planned, pin.pin(shop.home, planned, RunInfo()), "recent", "bands")


def test_groups_of_one_source_are_built_at_once_and_give_what_each_gives_by_itself(
    aggregated: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from almanac.spark import aggregates as merging
    from almanac.spark import partials as summing

    shop, calls = aggregated.shop, []
    for module, name in ((summing, "summed"), (merging, "merged")):
        function = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda spark, wanted, name=name, function=function: calls.append(name) or function(spark, wanted)
        )
    memory = shop.remember()
    together = shop.together(both(aggregated, "2017-07", "2017-08"))
    assert calls == ["summed", "merged"]
    shop.restore(memory)
    alone = [receipt for name in ("recent", "bands") for receipt in group(aggregated, name, "2017-07", "2017-08")]

    assert [(one.order, one.content, one.facts["rows"]) for one in together] == [
        (one.order, one.content, one.facts["rows"]) for one in alone
    ]
    assert calls == ["summed", "merged"] * 3


def test_of_groups_built_at_once_only_the_one_at_fault_fails(aggregated: World, capsys: pytest.CaptureFixture[str]) -> None:
    shop = aggregated.shop
    people = shops.people()
    shop.put("people", "all.parquet", pa.concat_tables([people, people.slice(0, 2)]))

    *recent, one, other = shop.together(both(aggregated, "2017-07", "2017-08"))

    assert [receipt.passed for receipt in recent] == [True, True]
    assert "The reference of 'bands': expected one row per value of customer" in one.findings[0] == other.findings[0]
    assert "4 groups could not be built at once" in capsys.readouterr().out


def test_a_corrected_month_is_summed_again_and_no_other(aggregated: World) -> None:
    shop = aggregated.shop
    group(aggregated, "recent", "2017-08")
    before = partials(shop)
    corrected = shops.visits(datetime(2017, 7, 1), seed=5)
    shop.put("visits", "2017-07.parquet", corrected)
    (receipt,) = group(aggregated, "recent", "2017-08")

    assert len({uri.rsplit("/", 1)[0] for uri in partials(shop).keys() - before.keys()}) == 1
    held = pd.concat([events(6, 8), corrected.to_pandas()])
    pd.testing.assert_frame_equal(rows(shop, receipt), by_pandas(held, RECENT, datetime(2017, 9, 1)))


@pytest.mark.parametrize("lost", ["record.json", ".parquet"])
def test_partial_sums_that_are_lost_are_made_again_and_the_content_is_the_same(aggregated: World, lost: str) -> None:
    shop = aggregated.shop
    (first,) = group(aggregated, "recent", "2017-08")
    for item in list(shop.home.objects.walk(f"{shop.home.layout.home}/parts/partials-")):
        if item.uri.endswith(lost):
            shop.home.objects.delete(item.uri)
    for item in list(shop.home.objects.walk(f"{shop.home.layout.home}/receipts/")):
        if "/stage/" in item.uri or first.order.digest in item.uri:
            shop.home.objects.delete(item.uri)
    (again,) = group(aggregated, "recent", "2017-08")

    assert again.outputs != first.outputs
    assert again.content == first.content


def test_consistent_sources_are_summed_to_where_they_are_cut(aggregated: World) -> None:
    shop = aggregated.shop
    sources = {**shop.pipeline.sources, "visits": replace(shop.pipeline.sources["visits"], late=Late("consistent"))}
    shop.describe(features=shop.pipeline.features, sources=sources)
    last = datetime(2017, 8, 10, 12)
    august = shops.visits(datetime(2017, 8, 1)).to_pandas()
    shop.put("visits", "2017-08.parquet", pa.Table.from_pandas(august[august["at"] <= last], preserve_index=False))
    (receipt,) = group(aggregated, "recent", "2017-08")

    held = events(*range(1, 9))
    held = held[held["at"] <= last]
    high = held["at"].max() + timedelta(microseconds=1)
    pd.testing.assert_frame_equal(rows(shop, receipt), by_pandas(held, RECENT, high))


def test_a_file_that_was_delivered_twice_counts_twice(aggregated: World) -> None:
    shop = aggregated.shop
    shop.put("visits", "2017-08-again.parquet", shops.visits(datetime(2017, 8, 1)))
    (receipt,) = group(aggregated, "recent", "2017-08")

    held = pd.concat([events(*range(1, 13)), events(8)])
    pd.testing.assert_frame_equal(rows(shop, receipt), by_pandas(held, RECENT, datetime(2017, 9, 1)))


def refusal(world: World, name: str) -> str:
    """What the pin says, before any job."""
    with pytest.raises(DescriptionError) as error:
        group(world, name, "2017-08")
    return str(error.value)


def failure(world: World, name: str) -> str:
    """What the job says."""
    (receipt,) = group(world, name, "2017-08")
    assert not receipt.passed
    return receipt.findings[0]


def described(shop: Shop, **changes: Any) -> Pipeline:
    shop.describe(features=(shop.pipeline.group("habits"), replace(RECENT, **changes), BANDS))
    return shop.pipeline


def test_a_column_that_is_not_there_is_named(aggregated: World) -> None:
    described(aggregated.shop, columns={"price": ("sum",)})
    assert refusal(aggregated, "recent") == (
        "Aggregates('recent'): visits have no column price (they have: amount, at, customer). Correct the description, or "
        "deliver the column."
    )


def test_a_column_that_is_no_number_is_not_summed(aggregated: World) -> None:
    described(aggregated.shop, columns={"at": ("max",)})
    assert refusal(aggregated, "recent") == (
        "Aggregates('recent'): expected numeric columns, got at (timestamp[us]). Use only 'distinct', which counts different "
        "values."
    )


def test_a_reference_with_two_rows_of_a_value_is_refused(aggregated: World) -> None:
    shop = aggregated.shop
    people = shops.people()
    shop.put("people", "all.parquet", pa.concat_tables([people, people.slice(0, 2)]))
    assert failure(aggregated, "bands") == (
        "The reference of 'bands': expected one row per value of customer, got 2 values with several, such as 0, 2. "
        "Deliver one row per value."
    )


@pytest.mark.parametrize(("source", "name", "read_by"), [("visits", "2017-08", "recent"), ("people", "all", "bands")])
def test_a_file_that_changes_meanwhile_leaves_no_partial_sums(
    source: str, name: str, read_by: str, aggregated: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a reference: it would be taken for the pinned one wherever that is pinned again."""
    from almanac.spark import partials as summing

    shop, summed = aggregated.shop, summing.summed
    others = {"visits": shops.visits(datetime(2017, 8, 1), seed=9), "people": shops.people().slice(1)}

    def meanwhile(*given: Any) -> Any:
        shop.put(source, f"{name}.parquet", others[source])
        return summed(*given)

    monkeypatch.setattr(summing, "summed", meanwhile)
    with pytest.raises(AlmanacError, match=f"Source '{source}' changed while it was read"):
        failed = group(aggregated, read_by, "2017-08")[0]
        raise AlmanacError(failed.findings[0])
    assert [item for item in shop.home.objects.walk(f"{shop.home.layout.home}/parts/partials-") if "record" in item.uri] == []
