"""Late and corrected data: what is named to be done again, and that doing it gives what a rebuild from nothing gives."""

from __future__ import annotations

import io
from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.core.redo import Redo, StaleFeatures, StalePredictions, StaleVersion
from almanac.runs import plan, redo
from tests.support import shop as shops
from tests.support.shop import Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

MAY = datetime(2017, 5, 1)


def correct(shop: Shop) -> None:
    """May's visits are delivered again, and are others."""
    shop.put("visits", "2017-05.parquet", shops.visits(MAY, seed=1))


def scores(shop: Shop, period: str) -> pd.DataFrame:
    table = shop.home.predictions
    parts = [
        pq.read_table(io.BytesIO(shop.home.objects.get(f"{table.uri}/{path}")), columns=["customer", "score"])
        for path in table.visible()[period].paths
    ]
    return pa.concat_tables(parts).to_pandas().sort_values("customer", ignore_index=True)


def contents(shop: Shop, version: str, *periods: str) -> dict[str, str]:
    """Content digests: of a version's training rows, and of published features."""
    manifest = shop.home.versions.read(version)
    published = shop.home.published(shop.home.features(manifest.definition), periods)
    return {"training": manifest.content, **{period: receipt.content for period, receipt in published.items()}}


def test_sources_that_hold_what_was_used_ask_for_nothing(world: World) -> None:
    before = world.shop.state()

    assert redo.found(world.shop.home).nothing
    assert world.shop.state() == before


def test_a_corrected_file_is_followed_to_just_what_read_it(world: World) -> None:
    shop = world.shop
    definition = shop.home.versions.read(world.old).definition
    correct(shop)

    # April's features and March's label end before May; `new` is in force nowhere, so what only it reads is left out.
    assert redo.found(shop.home) == Redo(
        features=(
            StaleFeatures(definition=definition, period="2017-05", sources=("visits",)),
            StaleFeatures(definition=definition, period="2017-07", sources=("visits",)),
        ),
        versions=(StaleVersion(version=world.old, period="2017-06", features=("2017-05",), labels=("2017-04",)),),
        predictions=(
            StalePredictions(
                period="2017-07", version=world.old, reasons=("its features change", f"version {world.old} changes")
            ),
        ),
    )


def test_events_that_come_late_in_a_file_of_their_own_are_found_where_they_belong(world: World) -> None:
    shop = world.shop
    shop.put("visits", "late.parquet", shops.visits(datetime(2017, 7, 1), seed=2).slice(0, 2))

    found = redo.found(shop.home)

    assert [one.period for one in found.features] == ["2017-07"]
    assert (found.versions, [one.period for one in found.predictions]) == ((), ["2017-07"])


def test_events_after_everything_that_is_visible_ask_for_nothing(world: World) -> None:
    world.shop.put("visits", "late.parquet", shops.visits(datetime(2017, 9, 1), seed=2))

    assert redo.found(world.shop.home).nothing


def test_a_reference_that_changed_is_followed_to_all_that_read_it(world: World) -> None:
    shop = world.shop
    shop.put("people", "more.parquet", pa.table({"customer": [900], "band": pa.array([1], shops.people()["band"].type)}))

    found = redo.found(shop.home)

    assert {one.sources for one in found.features} == {("people",)}
    assert {one.period for one in found.features} == {"2017-03", "2017-04", "2017-05", "2017-07"}
    assert [one.version for one in found.versions] == [world.old]


def test_a_run_builds_stale_features_again_only_when_it_is_asked_to(world: World) -> None:
    shop = world.shop
    correct(shop)
    period = shop.pipeline.period("2017-07")

    assert plan.score(shop.home, period).build == ()
    assert plan.score(shop.home, period, refresh=True).build == ("2017-07",)
    june = shop.pipeline.period("2017-06")
    assert plan.retrain(shop.home, shop.pipeline, june, shop.module, refresh=True).build == ("2017-05",)


def test_what_is_done_again_is_what_a_rebuild_from_nothing_gives(world: World, root: str) -> None:
    shop = world.shop
    correct(shop)

    again = shop.retrain("2017-06", refresh=True)
    halfway = redo.found(shop.home)
    shop.score("2017-07", refresh=True)
    scratch = Shop.open(root, shop.spark)
    correct(scratch)
    anew = scratch.retrain("2017-06")
    scratch.score("2017-07")

    assert again != world.old and shop.home.log().in_force("2017-07") == again
    assert (halfway.versions, [one.reasons for one in halfway.predictions]) == (
        (),
        [("its features change", f"version {again} has replaced {world.old}")],
    )
    periods = ("2017-03", "2017-04", "2017-05", "2017-07")
    assert contents(shop, again, *periods) == contents(scratch, anew, *periods)
    pd.testing.assert_frame_equal(scores(shop, "2017-07"), scores(scratch, "2017-07"))
    assert redo.found(shop.home).nothing


def test_a_version_that_was_retrained_and_not_let_through_is_not_named_again(world: World) -> None:
    shop = world.shop
    correct(shop)
    again = shop.train("2017-06", refresh=True)

    found = redo.found(shop.home)

    assert shop.home.log().in_force("2017-07") == world.old != again
    assert found.versions == ()
    assert [one.reasons for one in found.predictions] == [("its features change",)]
