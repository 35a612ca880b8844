"""Feature groups that cannot be built: a period is scored with nulls in their place, as far as its version can do without."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from almanac import EventSource, FeatureGroup, Late
from almanac.core.degrade import check
from almanac.errors import DataError, NotAdmitted, SourceError
from almanac.runs import feature_orders, orders
from tests.support.degrading import HALF, SEPTEMBER, features, of_period, planned, twice, without_people
from tests.support.refusals import refusal, told
from tests.support.shop import visits
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

MISSING = "Source 'people' is missing"


def test_a_version_tells_what_each_group_is_worth_to_it(world: World) -> None:
    versions = world.shop.home.versions
    shares = versions.importance(versions.read(world.old))

    assert set(shares) == {"habits", "traits"}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["habits"] > 2 * shares["traits"], "how often somebody comes says whether they come again"


def test_a_version_that_does_not_tell_it_can_do_without_nothing(world: World) -> None:
    with pytest.raises(DataError, match=r"they hold 1 of .* allows 0\.5\. .* A group of importance 1 is never left out"):
        check(replace(planned(world.shop), importance={}), {"traits": "it failed"})


def test_a_group_whose_source_is_not_there_is_left_out_and_the_model_imputes(world: World) -> None:
    shop = world.shop
    without_people(shop)

    published = shop.score(SEPTEMBER, degrade=HALF)

    built = of_period(shop, world.old, SEPTEMBER)
    rows = features(shop, built)
    assert rows.band.isna().all()
    assert rows.band.dtype == np.float32
    assert (rows.visits > 0).all(), "the other group is as ever"
    assert built.facts["left_out"] == ["traits"]
    assert "part.traits" not in built.order.inputs
    staged = shop.home.receipts.read(built.links["staged"])
    assert staged.findings == ("Feature groups traits were left out: band are null.",)
    assert staged.order.parameters["left_out"] == ["traits"]

    from almanac.model import loading

    manifest = shop.home.vouched(world.old)
    model = loading.open_model(manifest.bundle).model
    expected = model.predict_proba(rows[list(manifest.features)])[:, 1]
    found = {row[1]: row[2] for row in shop.scores() if row[0] == SEPTEMBER}
    assert [found[customer] for customer in rows.index] == pytest.approx(expected, abs=1e-5)
    scored = shop.home.receipts.read(published.links["staged"])
    assert scored.findings == ("Scored without the feature groups traits: their features were null.",)
    assert scored.order.parameters["left_out"] == ["traits"]


def test_the_pin_says_what_is_left_out_and_why(world: World) -> None:
    shop = world.shop
    without_people(shop)

    receipt = shop.home.receipts.read(world.pin(planned(shop)))

    assert receipt.facts["people"] == {"files": 0, "freshness": None, "late": "degrade"}
    assert receipt.facts["visits"]["late"] == "latest"
    assert receipt.order.parameters["lacking"] == ["people"]
    (finding,) = (text for text in receipt.findings if "left out" in text)
    assert finding.startswith("Feature groups that read source 'people' are left out: ")
    with pytest.raises(NotAdmitted, match="'traits' reads source 'people', which was left out when the sources were pinned"):
        feature_orders.groups(shop.home, planned(shop), shop.home.receipts.uri(receipt), "traits")


def test_a_source_that_is_not_complete_is_left_out_and_one_that_the_population_reads_is_not(world: World) -> None:
    shop = world.shop
    whole = Late("fail", within=timedelta(days=5))
    clicks = EventSource(f"{shop.landing}/clicks/", event_time="at", timezone="UTC", late=whole)
    shop.put("clicks", "old.parquet", visits(datetime(2017, 3, 1)))
    shop.describe(
        sources={**shop.pipeline.sources, "clicks": clicks},
        features=(*shop.pipeline.features, FeatureGroup("pages", reads=("clicks",))),
    )
    description, _ = shop.home.receipts.describe(shop.pipeline, shop.module)
    asked = replace(planned(shop), description=description, importance={"habits": 0.8, "traits": 0.1, "pages": 0.1})

    receipt = shop.home.receipts.read(world.pin(asked))

    assert receipt.order.parameters["lacking"] == ["clicks"]
    (finding,) = (text for text in receipt.findings if "left out" in text)
    assert "Source 'clicks' is not complete: for the features of 2017-09 its newest event before 2017-10-01 is from" in finding
    shop.describe(sources={**shop.pipeline.sources, "visits": replace(shop.pipeline.sources["visits"], late=whole)})
    for month in ("2017-08", "2017-09"):
        shop.home.objects.delete(f"{shop.landing}/visits/{month}.parquet")
    description, _ = shop.home.receipts.describe(shop.pipeline, shop.module)
    with pytest.raises(SourceError, match="Source 'visits' is not complete"):
        world.pin(replace(asked, description=description))


def test_a_group_whose_job_fails_is_left_out_with_the_reason(world: World) -> None:
    shop = world.shop
    twice(shop)
    asked = planned(shop)
    pinned = world.pin(asked)
    with pytest.raises(DataError, match="one row per entity"):
        shop.run(feature_orders.groups(shop.home, asked, pinned, "traits"))
    shop.run(feature_orders.groups(shop.home, asked, pinned, "habits"))

    (combined,) = feature_orders.combined(shop.home, asked, pinned)

    assert combined.order.parameters["left_out"] == ["traits"]
    with pytest.raises(DataError) as refused:
        feature_orders.combined(shop.home, replace(asked, importance={"habits": 0.4, "traits": 0.6}), pinned)
    text = str(refused.value)
    assert text.startswith(
        f"2017-09 cannot be scored without the feature groups traits: they hold 0.6 of the importance of version {world.old}, "
        "Scoring.degrade allows 0.5. Fix what kept them from being built and start the run again. Or raise Scoring.degrade.\n"
        "traits (0.6): - Feature group 'traits': expected one row per entity, got 40 entities with several"
    )
    with pytest.raises(NotAdmitted) as strict:
        feature_orders.combined(shop.home, replace(asked, degrade=0.0), pinned)
    assert str(strict.value).startswith("Feature groups traits of 2017-09 were not built, so nothing is combined. Fix the ")


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"degrade": 0.0}, SourceError, MISSING),
        ({"degrade": 1e-9}, DataError, "2017-09 cannot be scored without the feature groups traits"),
    ],
    ids=["none may be left out", "it weighs too much"],
)
def test_a_run_that_cannot_do_without_a_source_ends_at_its_pin(
    world: World, asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    shop = world.shop
    without_people(shop)
    before = shop.state()
    found = planned(shop, **asked)
    found = replace(found, importance={"habits": 0.9, "traits": 0.1} if found.importance else {})

    with pytest.raises(error, match=said):
        world.pin(found)

    assert shop.state() == before


def test_a_population_is_never_left_out(world: World) -> None:
    shop = world.shop
    for item in shop.home.objects.walk(f"{shop.landing}/visits/"):
        shop.home.objects.delete(item.uri)

    with pytest.raises(SourceError, match="Source 'visits' is missing"):
        world.pin(planned(shop))


def test_where_nothing_was_ever_built_nobody_knows_which_columns_are_left_out(world: World) -> None:
    """As for a version of features that were built as known at a time: those of its own definition are yet to come."""
    shop = world.shop
    without_people(shop)
    asked = replace(planned(shop), definition="0123456789abcdef")
    pinned = world.pin(asked)
    shop.run(feature_orders.groups(shop.home, asked, pinned, "habits"))
    (placed,) = feature_orders.combined(shop.home, asked, pinned)

    text = told(refusal(world, placed), "DataError")

    assert text == (
        "Feature groups traits cannot be left out: no features of this definition were built yet, so their columns are "
        "unknown. Build a period with all groups first."
    )


def test_checks_of_features_that_are_null_are_not_asked(world: World) -> None:
    shop = world.shop
    without_people(shop)
    asked = planned(shop)
    pinned = world.pin(asked)
    shop.run(feature_orders.groups(shop.home, asked, pinned, "habits"))
    staged = shop.run(feature_orders.combined(shop.home, asked, pinned))
    shop.code(**{"[gxe.": '[gxe.ExpectColumnValuesToNotBeNull(column="band"), gxe.'})

    receipt = shop.attempt(world.coded(orders.audits(shop.home, staged)[0]))

    assert receipt.passed, receipt.findings
    assert receipt.findings == ("warning: the groups traits were left out, so band were not checked",)
    assert receipt.facts["checks"] == 4
    assert [output.name for output in receipt.outputs] == ["checks.html", "checks.json"], "no checks are drafted from it"
