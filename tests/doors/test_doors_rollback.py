"""A rollback repairs exactly what the withdrawn version wrote, or is refused before anything changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from almanac.core.receipts import Witness
from almanac.core.rollback import Plan
from almanac.doors import plan, publish
from almanac.errors import DataError, DescriptionError, PromotionError
from tests.shop import Shop
from tests.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def planned_rollback(shop: Shop, **asked: object) -> Plan:
    return plan.rollback(shop.home, shop.pipeline, **{"reason": "bad", **asked})  # type: ignore[arg-type]


def test_after_a_rollback_the_predictions_are_those_of_a_world_where_the_bad_version_was_never_promoted(world: World) -> None:
    shop = world.shop
    shop.score("2017-08")
    untouched = shop.scores()
    shop.restore(world.memory)

    shop.promote(world.new)
    shop.score("2017-08")
    bad = shop.scores()
    first = shop.home.predictions.visible()["2017-07"]
    shop.roll_back()

    assert {score[3] for score in bad} == {world.old, world.new}
    assert [score[2] for score in bad] != [score[2] for score in untouched]
    assert shop.scores() == untouched
    assert shop.home.predictions.visible()["2017-07"] == first, "a period that the bad version did not write is left alone"
    entry = shop.home.log().entries[-1]
    assert (entry.version, entry.replaces, entry.withdraw, entry.reason) == (world.old, world.new, True, "bad")


def test_a_second_rollback_finds_nothing_older_and_is_refused(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.roll_back()
    before = shop.state()

    with pytest.raises(PromotionError) as refused:
        shop.roll_back()

    text = str(refused.value)
    assert f"nothing older than {world.old} is in force or was" in text
    assert f"(the log has: {world.old}, {world.new})" in text
    assert "Promote a version first, and then roll back to it by name." in text
    assert shop.state() == before


def test_a_rollback_that_is_started_again_with_its_plan_appends_nothing(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    planned = planned_rollback(shop)
    first = publish.rollback(shop.home, planned, Witness())
    before = shop.state()

    assert publish.rollback(shop.home, planned, Witness(run="again")) == first
    assert shop.state() == before


def test_a_rollback_that_was_planned_before_another_promotion_is_refused(world: World) -> None:
    shop = world.shop
    planned = planned_rollback(shop, to=world.new)
    shop.promote(world.new)
    before = shop.state()

    with pytest.raises(Exception, match="moved from entry 1 to 2 since this rollback was planned") as refused:
        publish.rollback(shop.home, planned, Witness())

    assert type(refused.value).__name__ == "Conflict"
    assert "start a new rollback" in str(refused.value)
    assert shop.state() == before


def test_a_withdrawn_version_neither_scores_nor_is_promoted_nor_is_rolled_back_to(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.roll_back()
    before = shop.state()

    with pytest.raises(PromotionError, match=f"Version {world.new} was withdrawn; nothing is scored with it"):
        shop.score("2017-08", version=world.new)
    with pytest.raises(PromotionError, match=f"Version {world.new} was withdrawn and is not promoted again"):
        shop.promote(world.new)
    with pytest.raises(PromotionError, match=rf"Version {world.new} was withdrawn. Name another one: {world.old}"):
        shop.roll_back(to=world.new)
    assert shop.state() == before


def test_rolling_back_to_an_unknown_version_names_those_that_are_there(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(PromotionError) as refused:
        world.shop.roll_back(to="2016-01-00000000")

    assert f"Version '2016-01-00000000' is unknown (there are: {world.old}, {world.new}). Name one of them." in str(refused.value)
    assert world.shop.state() == before


def test_a_rollback_to_the_version_itself_or_without_a_reason_is_refused(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(PromotionError, match=f"Version {world.old} is the one to be rolled back from. Name an older one."):
        world.shop.roll_back(to=world.old)
    with pytest.raises(PromotionError, match="A rollback needs a reason, found none"):
        planned_rollback(world.shop, to=world.new, reason=" ")
    assert world.shop.state() == before


def test_a_rollback_without_withdrawal_moves_only_periods_to_come(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score("2017-08")
    visible = shop.home.predictions.visible()

    shop.roll_back(withdraw=False)

    log = shop.home.log()
    assert (log.in_force("2017-08"), log.in_force("2017-09")) == (world.new, world.old)
    assert shop.home.predictions.visible() == visible
    assert log.withdrawn == frozenset()


def test_a_rollback_of_periods_that_the_version_did_not_write_is_refused(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(PromotionError) as refused:
        world.shop.roll_back(to=world.new, periods=["2017-07", "2017-08"])

    assert f"Version {world.old} did not write 2017-08 (it wrote: 2017-07)." in str(refused.value)
    assert world.shop.state() == before


def test_a_rollback_to_a_version_that_was_trained_on_an_affected_period_is_refused_before_anything_changes(world: World) -> None:
    shop = world.shop
    trained_on_it = shop.train("2017-09")
    before = shop.state()
    assert "2017-07" in shop.home.versions.read(trained_on_it).training

    with pytest.raises(DataError) as refused:
        shop.roll_back(to=trained_on_it)

    text = str(refused.value)
    assert f"Version {trained_on_it} was trained on 2017-07" in text
    assert "older version" in text
    assert shop.state() == before


def test_a_rollback_to_a_version_whose_features_are_not_published_is_refused_naming_its_definition(world: World) -> None:
    shop = world.shop
    other = replace(shop.home.versions.read(world.old), version="2017-05-0123abcd", definition="0123456789abcdef")
    shop.home.versions.publish(other)
    before = shop.state()

    with pytest.raises(DescriptionError) as refused:
        shop.roll_back(to="2017-05-0123abcd")

    text = str(refused.value)
    assert "wants features of definition 0123456789abcdef, which are not published for 2017-07" in text
    assert "Score these periods with version=2017-05-0123abcd first, or roll back to another version." in text
    assert shop.state() == before
