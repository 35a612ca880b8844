"""A rollback repairs exactly what the withdrawn version wrote, or is refused before anything changes."""

from __future__ import annotations

from typing import Any

import pytest

from almanac.core.receipts import RunInfo
from almanac.core.rollback import RollbackPlan
from almanac.errors import IllegalTransition, LogMoved, PromotionError
from almanac.runs import promotions, rollback
from tests.support.shop import Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def planned_rollback(shop: Shop, **asked: object) -> RollbackPlan:
    return rollback.planned(shop.home, shop.pipeline, **{"reason": "bad", **asked})  # type: ignore[arg-type]


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
    assert f"the log has none older than {world.old} that is not withdrawn" in text
    assert f"(it has: {world.old}, {world.new})" in text
    assert "Promote a version first, then roll back to it by name." in text
    assert shop.state() == before


def test_a_rollback_that_is_started_again_with_its_plan_appends_nothing(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    planned = planned_rollback(shop)
    first = promotions.rollback(shop.home, planned, RunInfo())
    before = shop.state()

    assert promotions.rollback(shop.home, planned, RunInfo(run="again")) == first
    assert shop.state() == before


def test_a_rollback_that_was_planned_before_another_promotion_is_refused(world: World) -> None:
    shop = world.shop
    newest = shop.train("2017-08")
    shop.promote(world.new)
    planned = planned_rollback(shop)
    shop.promote(newest)
    before = shop.state()

    with pytest.raises(LogMoved, match="moved from entry 2 to 3 since this rollback was planned") as refused:
        promotions.rollback(shop.home, planned, RunInfo())

    assert refused.value.entry == shop.home.log().entries[2]
    assert "Start a new rollback" in str(refused.value)
    assert shop.state() == before


def test_a_withdrawn_version_neither_scores_nor_is_promoted_nor_is_rolled_back_to(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.roll_back()
    before = shop.state()

    with pytest.raises(PromotionError, match=f"Version {world.new} was withdrawn and cannot score"):
        shop.score("2017-08", version=world.new)
    with pytest.raises(IllegalTransition, match=f"Cannot promote {world.new}: .* got one that is withdrawn"):
        shop.promote(world.new)
    with pytest.raises(IllegalTransition, match=f"Cannot roll back to {world.new}: .* got one that is withdrawn"):
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

    with pytest.raises(PromotionError, match=f"Version {world.old} is the one to roll back from. Name an older one."):
        world.shop.roll_back(to=world.old)
    with pytest.raises(PromotionError, match="Rollback: expected a reason, got none"):
        planned_rollback(world.shop, reason=" ")
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
    shop = world.shop
    shop.promote(world.new)
    before = shop.state()

    with pytest.raises(PromotionError) as refused:
        shop.roll_back(periods=["2017-07", "2017-08"])

    assert f"Version {world.new} did not write 2017-07, 2017-08 (it wrote: nothing)." in str(refused.value)
    assert shop.state() == before


def test_a_rollback_to_a_version_that_knows_the_future_of_an_affected_period_is_refused(world: World) -> None:
    shop = world.shop
    before = shop.state()

    with pytest.raises(PromotionError) as refused:
        shop.roll_back(to=world.new)

    text = str(refused.value)
    assert f"Version {world.new} may be in force only from 2017-08 on: it knows what happened until then" in text
    assert "would score 2017-07 with that knowledge. Roll back to an older version" in text
    assert shop.state() == before


def test_a_rollback_across_a_change_of_the_feature_code_builds_features_by_the_older_models_own_definition(world: World) -> None:
    """Both worlds: the bad version was trained by other code, and scored a period for which only that code built features."""
    shop = world.shop
    shop.score("2017-09")
    untouched = shop.scores()
    shop.restore(world.memory)

    shop.code(**{'F.sum("amount")': '(F.sum("amount") * 2)'})
    bad = shop.train("2017-08")
    shop.promote(bad)
    shop.score("2017-09")
    definitions = {version: shop.home.versions.read(version).definition for version in (world.old, bad)}
    shop.roll_back()

    assert definitions[world.old] != definitions[bad]
    assert shop.scores() == untouched
    assert "2017-09" in shop.home.features(definitions[world.old]).visible()


def test_a_version_that_another_one_took_over_from_is_rolled_back_by_name_and_the_other_one_stays(world: World) -> None:
    shop = world.shop
    newest = shop.train("2017-08")
    shop.score("2017-08")
    shop.promote(newest)
    shop.score("2017-09")
    untouched = shop.scores()
    shop.restore(world.memory)

    newest = shop.train("2017-08")
    shop.promote(world.new)
    shop.score("2017-08")
    shop.promote(newest)
    shop.score("2017-09")
    shop.roll_back(bad=world.new)

    assert shop.scores() == untouched
    assert shop.home.log().champion == newest


# --- begun, and begun again ---


def test_the_plan_of_a_run_is_kept_and_means_the_same_however_often_it_is_asked(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score("2017-08")
    planned = planned_rollback(shop, run="rollback 1")
    promotions.rollback(shop.home, planned, RunInfo())
    shop.score("2017-08")

    assert planned_rollback(shop, run="rollback 1", reason="another") == planned
    assert promotions.rollback(shop.home, planned, RunInfo()) == shop.home.log().entries[-1]
    assert rollback.left(shop.home, planned) == []
    assert shop.home.log().position == 3


@pytest.mark.parametrize(
    "other",
    [{"to": "2017-06"}, {"withdraw": False}, {"periods": ["2017-08"]}, {"bad": "2017-06"}],
    ids=lambda one: next(iter(one)),
)
def test_a_runs_name_used_again_with_other_parameters_is_refused(world: World, other: dict[str, Any]) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score("2017-08")
    planned = planned_rollback(shop, run="rollback 1")
    asked = {name: world.old if value == "2017-06" else value for name, value in other.items()}

    with pytest.raises(PromotionError) as refused:
        planned_rollback(shop, run="rollback 1", **asked)

    (name,) = other
    assert str(refused.value).startswith("Run 'rollback 1' planned a rollback before: expected the same parameters (")
    assert f"got {name}={asked[name]!r}. Nothing was changed. Start a run with another name" in str(refused.value)
    assert planned_rollback(shop, run="rollback 1") == planned
    assert planned_rollback(shop, run="rollback 2", periods=["2017-08"]).asked


def test_a_rollback_that_died_in_the_middle_is_finished_by_the_next_one_that_is_started(world: World) -> None:
    shop = world.shop
    shop.score("2017-08")
    untouched = shop.scores()
    shop.restore(world.memory)
    shop.promote(world.new)
    shop.score("2017-08")
    promotions.rollback(shop.home, planned_rollback(shop, run="died"), RunInfo())

    shop.roll_back()

    assert shop.scores() == untouched
    assert shop.home.log().position == 3, "the second one appended nothing"
    with pytest.raises(PromotionError, match=f"the log has none older than {world.old} that is not withdrawn"):
        shop.roll_back()


def test_a_period_of_the_bad_version_that_becomes_visible_after_the_plan_belongs_to_the_rollback(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score("2017-08")
    planned = planned_rollback(shop)
    shop.score("2017-09")
    promotions.rollback(shop.home, planned, RunInfo())

    assert planned.periods == ("2017-08",)
    assert rollback.left(shop.home, planned) == ["2017-08", "2017-09"]
    assert [run.version for run in rollback.runs(shop.home, shop.pipeline, planned)] == [world.old, world.old]


def test_periods_that_a_person_named_are_all_that_is_scored_again(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score("2017-08")
    shop.score("2017-09")

    shop.roll_back(periods=["2017-09"])

    assert [item.version for item in shop.home.written()] == [world.old, world.new, world.old]
    with pytest.raises(PromotionError, match="has none older"):
        shop.roll_back()
