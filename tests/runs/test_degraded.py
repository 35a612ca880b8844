"""Features that lack a group, afterwards: who may use them, what replaces them, and what names them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from almanac import Scoring
from almanac.core.canonical import decode, encode, sealed
from almanac.errors import DataError, NotAdmitted, SourceError
from almanac.lineage import trail
from almanac.lineage.explain import explain
from almanac.runs import feature_orders, orders, plan, redo, rollback
from almanac.store.versions import Versions
from tests.support.degrading import HALF, SEPTEMBER, of_period, planned, twice, without_people
from tests.support.shop import people, visits
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

MISSING = "Source 'people' is missing"


@pytest.fixture
def newer(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The new version scored September without traits. Both versions can do without, whatever 80 customers say of it."""
    monkeypatch.setattr(Versions, "importance", lambda *_: {"habits": 0.8, "traits": 0.2})
    world.shop.promote(world.new)
    without_people(world.shop)
    world.shop.score(SEPTEMBER, degrade=HALF)
    return world


def test_a_retrain_leaves_nothing_out(world: World) -> None:
    shop = world.shop
    shop.describe(scoring=Scoring(degrade=HALF))
    without_people(shop)

    with pytest.raises(SourceError, match=MISSING):
        world.pin(world.planned(SEPTEMBER))


def test_the_next_score_builds_them_whole_as_if_nothing_had_been(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    without = of_period(shop, world.old, SEPTEMBER)
    assert planned(shop).build == (SEPTEMBER,), "it is tried again"
    shop.put("people", "all.parquet", people())

    scored = shop.score(SEPTEMBER, degrade=HALF)

    whole = of_period(shop, world.old, SEPTEMBER)
    assert "left_out" not in whole.facts
    assert planned(shop).build == ()
    other = world.restored().shop
    assert other.score(SEPTEMBER).content == scored.content
    assert of_period(other, world.old, SEPTEMBER).content == whole.content != without.content


def test_orders_of_several_groups_leave_out_those_without_a_source_where_the_run_may(world: World) -> None:
    shop = world.shop
    without_people(shop)
    asked = planned(shop, degrade=HALF)
    pinned = world.pin(asked)

    (habits,) = feature_orders.groups(shop.home, asked, pinned, "habits", "traits")

    assert habits.order.part == "habits"
    for names, run in ((("traits",), asked), (("habits", "traits"), replace(asked, degrade=0.0))):
        with pytest.raises(NotAdmitted, match="'traits' reads source 'people', which was left out when the sources were pinned"):
            feature_orders.groups(shop.home, run, pinned, *names)


def test_while_they_cannot_be_built_a_second_run_changes_nothing(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    before = shop.state()

    shop.score(SEPTEMBER, degrade=HALF)

    assert shop.state() == before


def test_nothing_is_trained_on_features_without_a_group(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    shop.put("people", "all.parquet", people())

    found = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period(SEPTEMBER), shop.module)
    assert (found.holdout, SEPTEMBER in found.build) == ("2017-08", False)
    found = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-10"), shop.module)
    assert (found.holdout, SEPTEMBER in found.build) == (SEPTEMBER, True)
    with pytest.raises(NotAdmitted) as refused:
        orders.model(shop.home, replace(found, build=()), world.pin(found))

    assert str(refused.value) == (
        "Features of 2017-09 (without traits) lack feature groups; models are trained on complete features only. Clear the run "
        "from its plan on to build them with all groups."
    )


def test_what_is_published_whole_is_used_and_not_replaced(world: World) -> None:
    """Also where its publisher died before the receipt: the order of what is visible tells that it is whole."""
    shop = world.shop
    shop.score("2017-08")
    twice(shop)
    before = shop.state()
    assert planned(shop, "2017-08", refresh=True).build == ("2017-08",)

    shop.score("2017-08", degrade=HALF, refresh=True)

    assert shop.state() == before
    asked = planned(shop, "2017-08", refresh=True)
    pinned = world.pin(asked)
    shop.home.objects.delete(shop.home.receipts.uri(of_period(shop, world.old, "2017-08")))
    shop.run(feature_orders.groups(shop.home, asked, pinned, "habits"))
    (placed,) = feature_orders.combined(shop.home, asked, pinned)
    assert placed == world.standing("2017-08")


def test_what_lacks_less_is_not_replaced_by_what_lacks_more(world: World) -> None:
    """And what lacks as much is, where the sources changed."""
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    asked = replace(planned(shop), degrade=0.99, importance={"habits": 0.5, "traits": 0.4})
    pinned = world.pin(asked)
    standing = shop.home.receipts.placed(shop.home.features(asked.definition).visible()[SEPTEMBER].order)
    assert feature_orders.combined(shop.home, asked, pinned) == [standing]
    shop.put("visits", f"{SEPTEMBER}.parquet", visits(datetime(2017, 9, 1), seed=4))
    pinned = world.pin(asked)

    assert feature_orders.combined(shop.home, asked, pinned) == [standing], "habits were not built of the new file"

    shop.run(feature_orders.groups(shop.home, asked, pinned, "habits"))
    (placed,) = feature_orders.combined(shop.home, asked, pinned)
    assert (placed.order.replaces, placed.order.parameters["left_out"]) == (standing.order.digest, ["traits"])


def test_a_part_that_is_not_kept_any_more_is_no_group_that_could_not_be_built(world: World) -> None:
    shop = world.shop
    asked = planned(shop)
    pinned = world.pin(asked)
    built = shop.run(feature_orders.groups(shop.home, asked, pinned))
    traits = feature_orders.groups(shop.home, asked, pinned, "traits")[0]
    receipt = shop.home.receipts.find(traits.order)
    assert built and receipt is not None
    old = replace(receipt, attempt=1, run_info=replace(receipt.run_info, ended=datetime.now(UTC) - timedelta(days=8)))
    shop.home.objects.put(shop.home.receipts.uri(old), sealed(old))

    with pytest.raises(NotAdmitted) as refused:
        feature_orders.combined(shop.home, asked, pinned)

    assert str(refused.value) == (
        "Feature group 'traits' of 2017-09 was built, but its rows have been deleted since. Clear the task of "
        "features.stage that builds it."
    )


def test_a_rollback_takes_features_as_they_are_where_its_version_can_do_without_the_groups(newer: World) -> None:
    world, shop = newer, newer.shop
    scored_by = {row[3] for row in shop.scores() if row[0] == SEPTEMBER}
    assert scored_by == {world.new}

    shop.describe(scoring=Scoring(degrade=HALF))
    shop.roll_back()

    assert {row[3] for row in shop.scores() if row[0] == SEPTEMBER} == {world.old}
    assert of_period(shop, world.old, SEPTEMBER).facts["left_out"] == ["traits"]


def test_a_rollback_to_a_version_that_cannot_do_without_them_builds_them(newer: World) -> None:
    shop = newer.shop

    kept = rollback.planned(shop.home, shop.pipeline, reason="bad")
    found = planned(shop, version=kept.to, as_is=True, degrade=0.1)

    assert (found.build, found.degrade) == ((SEPTEMBER,), 0.0)
    assert planned(shop, version=kept.to, as_is=True, degrade=0.2).build == ()
    with pytest.raises(DataError, match="it was left out of the features"):
        orders.predictions(shop.home, replace(found, build=()))


def test_what_was_left_out_is_named_as_stale_and_explained(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)

    definition = shop.home.versions.read(world.old).definition
    assert redo.stale(shop.home, definition, [SEPTEMBER]) == [SEPTEMBER], "also while nobody can look at the source"
    shop.put("people", "all.parquet", people())
    found = redo.found(shop.home)
    ((features,), (predictions,)) = found.features, found.predictions
    tree = explain(trail.evidence(shop.home, trail.shown(shop.home, SEPTEMBER)))

    assert (features.period, features.sources, features.left_out) == (SEPTEMBER, (), ("traits",))
    assert (predictions.period, predictions.reasons) == (SEPTEMBER, ("its features change",))
    assert tree.facts["left_out"] == ["traits"]
    (below,) = [node for node in tree.children if node.kind == "features"]
    assert below.facts["left_out"] == ["traits"]
    assert [node.name for node in below.children if node.kind == "part"] == ["habits", "population"]


def test_predictions_of_features_that_a_retrain_built_whole_are_named_too(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    shop.put("people", "all.parquet", people())
    found = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-10"), shop.module)
    shop.build(found, shop.pin(found))

    left = redo.found(shop.home)

    assert left.features == ()
    assert [(one.period, one.reasons) for one in left.predictions] == [(SEPTEMBER, ("its features were rebuilt since",))]
    shop.score(SEPTEMBER)
    assert redo.found(shop.home).nothing


def test_several_periods_leave_out_what_all_of_their_versions_can_do_without(world: World) -> None:
    shop = world.shop
    one, other = (planned(shop, period) for period in (SEPTEMBER, "2017-10"))
    other = replace(other, importance={"habits": 0.2, "traits": 0.8})

    joined = plan.joined([replace(one, importance={"habits": 0.9, "traits": 0.1}), other])

    assert joined.importance == {"habits": 0.9, "traits": 0.8}
    assert joined.degrade == HALF
    nothing = plan.joined([replace(one, build=()), replace(other, build=())])
    assert (nothing.build, nothing.importance) == ((), {"habits": 0.2, "traits": 0.8})
    assert decode(type(joined), encode(joined)) == joined
