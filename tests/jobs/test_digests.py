"""Content digests tell what rows say: not how they came, and nothing that became known at or after as_of."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.core.receipts import PlacedOrder, Receipt
from almanac.runs import feature_orders, orders, plan
from tests.support import shop as shops
from tests.support.shop import Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

AS_OF = datetime(2017, 6, 1)  # of 2017-05
INSTANT = timedelta(microseconds=1)


def made(world: World, placed: PlacedOrder) -> Receipt:
    receipt = world.shop.attempt(placed)
    assert receipt.passed, receipt.findings
    return receipt


def standing_part(world: World, group: str) -> Receipt:
    """The receipt of a feature group of the published 2017-05."""
    return world.shop.home.receipts.read(world.standing().links[f"part.{group}"])


def visit(customer: int, at: datetime, amount: int = 1) -> pa.Table:
    return pa.table({
        "customer": pa.array([customer], pa.int64()),
        "at": pa.array([at], pa.timestamp("us")),
        "amount": pa.array([amount], pa.int64()),
    })  # fmt: skip


def add(shop: Shop, month: datetime, *rows: pa.Table) -> None:
    """Delivers a month's file again, with more rows."""
    shop.put("visits", f"{month:%Y-%m}.parquet", pa.concat_tables([shops.visits(month), *rows]))


def deliver_in_one_file(shop: Shop, tmp_path: str) -> None:
    """The same rows in one file with small row groups, the newest first."""
    rows = pa.concat_tables(shops.visits(month) for month in shops.MONTHS).sort_by([("at", "descending")])
    path = f"{tmp_path}/all.parquet"
    pq.write_table(rows, path, row_group_size=97, compression="gzip")
    for month in shops.MONTHS:
        shop.home.objects.delete(f"{shop.landing}/visits/{month:%Y-%m}.parquet")
    with open(path, "rb") as body:  # noqa: PTH123
        shop.home.objects.put(f"{shop.landing}/visits/all.parquet", body.read())


def test_the_same_rows_in_other_files_and_row_groups_give_the_same_content(world: World, tmp_path: str) -> None:
    deliver_in_one_file(world.shop, tmp_path)
    planned = world.planned("2017-05")
    pinned = world.pin(planned)
    parts = [feature_orders.groups(world.shop.home, planned, pinned, name) for name in ("habits", "traits")]
    for placed in parts:
        world.shop.run(placed)

    habits = made(world, parts[0][0])
    combined = made(world, feature_orders.combined(world.shop.home, planned, pinned)[0])

    assert parts[0][0].order.digest != standing_part(world, "habits").order.digest
    assert parts[1][0].order.digest == standing_part(world, "traits").order.digest, "its source is as it was"
    assert habits.content == standing_part(world, "habits").content
    assert combined.order.inputs["part.habits"] == world.standing().order.inputs["part.habits"]
    assert combined.content == world.shop.home.receipts.read(world.standing_receipt()).content


def test_another_number_of_tasks_and_files_gives_the_same_content(world: World) -> None:
    last = 'F.min(age).alias("days_since_visit")\n    )'
    world.shop.code(**{last: f"{last}.repartition(5)"})

    receipt = made(world, world.group("habits"))

    assert len(receipt.outputs) > len(standing_part(world, "habits").outputs)
    assert receipt.content == standing_part(world, "habits").content


def test_files_that_are_delivered_under_other_names_are_the_same_order_whose_job_still_finds_them(world: World) -> None:
    shop = world.shop
    shop.code(**{"days_since_visit": "days_since_last_visit"})
    before = world.group("habits")
    for month in shops.MONTHS:
        shop.put("visits", f"part-{month.month:05}.parquet", shops.visits(month))
        shop.home.objects.delete(f"{shop.landing}/visits/{month:%Y-%m}.parquet")

    after = world.group("habits")
    receipt = made(world, before)

    assert after.order == before.order
    assert receipt.rows == standing_part(world, "habits").rows


def test_a_feature_function_that_reads_the_newest_of_everything_sees_nothing_at_or_after_as_of(world: World) -> None:
    shop = world.shop
    shop.code(**{
        "return visits.groupBy(": 'newest = visits.agg(F.max("at").alias("newest"), F.max("amount").alias("dearest"))\n'
        "    return visits.crossJoin(newest).groupBy(",
        'F.count("*").alias("visits")': 'F.max(F.unix_timestamp("newest")).alias("newest"), F.max("dearest").alias("dearest"), '
        'F.count("*").alias("visits")',
    })  # fmt: skip
    without = made(world, world.group("habits"))
    add(shop, datetime(2017, 5, 1), visit(7, AS_OF, 10**6), visit(7, AS_OF + timedelta(days=40), 10**6))
    placed = world.group("habits")

    with_future = made(world, placed)

    assert placed.order.digest != without.order.digest, "the file did change"
    assert with_future.content == without.content

    add(shop, datetime(2017, 5, 1), visit(7, AS_OF - INSTANT, 10**6))
    assert made(world, world.group("habits")).content != without.content


def test_an_event_that_became_known_late_but_happened_before_as_of_changes_the_content(world: World) -> None:
    add(world.shop, datetime(2017, 5, 1), visit(3, AS_OF - INSTANT))

    late = made(world, world.group("habits"))

    assert late.content != standing_part(world, "habits").content
    assert late.rows in (standing_part(world, "habits").rows, standing_part(world, "habits").rows + 1)


def test_nobody_enters_the_population_by_what_happened_at_as_of_or_before_the_lookback(world: World) -> None:
    shop = world.shop
    placed = world.coded(replace(world.standing(), order=replace(world.standing().order, replaces="another")))
    stranger = [visit(900, AS_OF), visit(901, AS_OF - shops.QUARTER - INSTANT)]
    add(shop, datetime(2017, 5, 1), *stranger)
    unseen = made(world, replace(placed, links={**placed.links, "pin": world.pin(world.planned("2017-05"))}))

    assert unseen.content == shop.home.receipts.read(world.standing_receipt()).content

    add(shop, datetime(2017, 5, 1), *stranger, visit(902, AS_OF - shops.QUARTER))
    placed = replace(placed, order=replace(placed.order, replaces="yet another"))
    seen = made(world, replace(placed, links={**placed.links, "pin": world.pin(world.planned("2017-05"))}))
    assert seen.rows == unseen.rows + 1


def trained(world: World) -> Receipt:
    shop = world.shop
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module)
    receipt = shop.attempt(orders.model(shop.home, planned, world.pin(planned)))
    assert receipt.passed, receipt.findings
    return receipt


def test_a_label_sees_what_happened_from_as_of_to_the_end_of_its_horizon_which_is_outside(world: World) -> None:
    shop, may = world.shop, datetime(2017, 5, 1)  # as_of of the training snapshot 2017-04, whose label ends on 05-31
    after = [visit(customer, may + timedelta(days=30)) for customer in range(80)]
    add(shop, may, *after)
    unseen = trained(world)

    assert unseen.order.digest != shop.home.versions.read(world.old).order, "the file did change"
    assert unseen.content == shop.home.versions.read(world.old).content

    came, comes = (set(shops.visits(month)["customer"].to_pylist()) for month in (datetime(2017, 4, 1), may))
    gone = min(came - comes)
    add(shop, may, *after, visit(gone, may + timedelta(days=30) - INSTANT))
    assert trained(world).content != unseen.content


def test_predictions_have_the_content_of_their_scores_whichever_order_made_them(world: World) -> None:
    home = world.shop.home
    standing = home.receipts.placed(world.scored.order.inputs["staged"])
    other = replace(standing, order=replace(standing.order, replaces="another"))

    again = world.shop.attempt(other)

    assert again.order.digest != standing.order.digest
    assert again.content == world.scored.content
    assert {output.sha256 for output in again.outputs}.isdisjoint(output.sha256 for output in world.scored.outputs)
