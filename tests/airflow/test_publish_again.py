"""What a publishing task does where somebody else moved meanwhile: with the real store and the real Spark, in one process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from almanac import Audit
from almanac.core.canonical import encode
from almanac.core.plan import RunPlan
from almanac.core.receipts import RunInfo
from almanac.errors import Conflict, LogMoved, Overtaken, PromotionError
from almanac.runs import feature_orders, orders, plan, promotions, publish, rescore, rollback
from tests.support.task import Task
from tests.support.world import World

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.usefixtures("airflow_home")]


def given(world: World, period: str, **asked: Any) -> dict[str, Any]:
    """A scored and audited period, as the tasks before leave it."""
    shop = world.shop
    planned = plan.score(shop.home, shop.pipeline.period(period), **asked)
    staged, audited = shop.stage_score(period, **asked)
    uri = shop.home.receipts.uri
    return {"plan": encode(planned), "staged": {period: uri(staged)}, "audited": {period: uri(audited)}}


def rolled_back(world: World) -> None:
    """The champion is withdrawn; nothing is scored again."""
    shop = world.shop
    promotions.rollback(shop.home, rollback.planned(shop.home, shop.pipeline, reason="bad"), RunInfo())


def test_a_period_whose_version_was_withdrawn_meanwhile_is_scored_by_the_one_in_force(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    shop.promote(world.new)
    left = given(world, "2017-08")
    rolled_back(world)
    task = Task(world)

    tasks.publish_predictions(task.context, task.run_orders, **left)

    assert task.submitted == ["predictions.stage", "predictions.audit"]
    assert {item.period: item.version for item in shop.home.written()} == {"2017-07": world.old, "2017-08": world.old}


def test_a_period_whose_version_was_followed_by_another_meanwhile_is_scored_by_the_one_in_force(world: World) -> None:
    from almanac.airflow import tasks

    left, task = given(world, "2017-08"), Task(world)
    world.shop.promote(world.new)
    tasks.publish_predictions(task.context, task.run_orders, **left)
    assert {item.period: item.version for item in world.shop.home.written()} == {"2017-07": world.old, "2017-08": world.new}


def test_a_period_that_became_visible_in_the_moment_of_the_withdrawal_is_repaired(world: World) -> None:
    """The commit is made, then the log is read again: a publisher that dies between the two finds both on its retry."""
    from almanac.airflow import tasks

    shop = world.shop
    shop.promote(world.new)
    left = given(world, "2017-08", version=world.new)
    read = shop.home.receipts.read
    publish.predictions(shop.home, read(left["staged"]["2017-08"]), read(left["audited"]["2017-08"]), RunInfo())
    rolled_back(world)
    task = Task(world)

    tasks.publish_predictions(task.context, task.run_orders, **left)

    assert {item.period: item.version for item in shop.home.written()}["2017-08"] == world.old


def test_a_version_that_a_person_asked_for_and_that_was_withdrawn_is_not_replaced_by_another_one(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    left = given(world, "2017-08", version=world.new)
    promotions.withdraw(shop.home, world.new, reason="bad", run_info=RunInfo())
    before, task = shop.state(), Task(world)

    with pytest.raises(Overtaken, match=f"Version {world.new} was withdrawn while 2017-08 was scored with it. Nothing"):
        tasks.publish_predictions(task.context, task.run_orders, **left)
    assert shop.state() == before


def test_of_two_runs_of_one_period_the_second_finds_what_the_first_published(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    first = given(world, "2017-08")
    shop.score("2017-08")
    before, task = shop.home.predictions.version(), Task(world)

    tasks.publish_predictions(task.context, task.run_orders, **first)

    assert shop.home.predictions.version() == before


def test_a_run_that_lost_its_period_to_another_version_does_it_again(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    shop.promote(world.new)
    left = given(world, "2017-08")
    shop.score("2017-08", version=world.old)
    task = Task(world)

    tasks.publish_predictions(task.context, task.run_orders, **left)

    assert {item.period: item.version for item in shop.home.written()}["2017-08"] == world.new


def test_a_run_that_meets_somebody_else_each_time_gives_up_in_words(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    shop.promote(world.new)
    left = given(world, "2017-08")
    others = iter([world.old, shop.train("2017-08")] * 10)
    task = Task(world)
    shop.score("2017-08", version=next(others))

    def meanwhile() -> None:
        if task.submitted[-1] == "predictions.audit":
            shop.score("2017-08", version=next(others))

    task.meanwhile = meanwhile
    with pytest.raises(Conflict, match="another run published 2017-08 since this run staged it"):
        tasks.publish_predictions(task.context, task.run_orders, **left)
    assert task.submitted.count("predictions.stage") == rescore.ROUNDS


def test_a_rollback_ends_when_nothing_is_left_also_of_what_appeared_while_it_ran(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    shop.score("2017-08")
    untouched = shop.scores()
    shop.restore(world.memory)
    shop.promote(world.new)
    planned = rollback.planned(shop.home, shop.pipeline, reason="bad")
    shop.score("2017-08")  # in flight while the rollback is planned
    promotions.rollback(shop.home, planned, RunInfo())
    task = Task(world)

    said = tasks.verify_rollback(task.context, task.run_orders, plan=encode(planned))

    assert said == "0 periods repaired"
    assert shop.scores() == untouched


def test_a_rollback_names_the_periods_that_keep_appearing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    shop.promote(world.new)
    planned = rollback.planned(shop.home, shop.pipeline, reason="bad")
    shop.score("2017-08")
    promotions.rollback(shop.home, planned, RunInfo())
    monkeypatch.setattr(rescore, "ROUNDS", 0)

    with pytest.raises(PromotionError) as refused:
        tasks.verify_rollback(Task(world).context, Task(world).run_orders, plan=encode(planned))
    assert f"Periods 2017-08 still show predictions of the withdrawn version {world.new}" in str(refused.value)


def test_a_promotion_is_gated_again_when_the_log_moved(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    gate = shop.gate("2017-07", world.new)
    newest = shop.train("2017-08")
    shop.promote(newest)
    task = Task(world)
    asked = {"plan": encode(world.planned("2017-07")), "gate": {"2017-07": shop.home.receipts.uri(gate)}}

    assert tasks.publish_champion(task.context, task.run_orders, **asked) == world.new

    entry = shop.home.log().entries[-1]
    assert task.submitted == ["champion.stage", "champion.audit"]
    assert (entry.version, entry.sequence) == (world.new, 3)
    assert shop.home.receipts.read(entry.gate).facts["decision"]["position"] == 2
    assert entry.gate != asked["gate"]["2017-07"]


def test_a_promotion_that_a_person_approved_is_not_gated_again_behind_their_back(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    gate = shop.gate("2017-07", world.new)
    shop.promote(shop.train("2017-08"))
    before, task = shop.state(), Task(world)
    asked = {
        "plan": encode(world.planned("2017-07")),
        "gate": {"2017-07": shop.home.receipts.uri(gate)},
        "approved": {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "bob"}},
    }

    with pytest.raises(LogMoved, match="moved from entry 1 to 2 since the gate compared"):
        tasks.publish_champion(task.context, task.run_orders, **asked)
    assert shop.state() == before


def test_who_approved_a_promotion_stands_in_the_log(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    gate = shop.gate("2017-07", world.new)
    task = Task(world)
    asked = {
        "plan": encode(world.planned("2017-07")),
        "gate": {"2017-07": shop.home.receipts.uri(gate)},
        "approved": {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "bob"}},
    }

    tasks.publish_champion(task.context, task.run_orders, **asked)

    entry = shop.home.log().entries[-1]
    assert (entry.approver, entry.actor) == ("bob", "ann")


def test_features_that_are_built_again_are_built_from_audited_sources(world: World) -> None:

    shop = world.shop
    visits = replace(shop.pipeline.sources["visits"], audit=Audit(quarantine=0.9))
    shop.describe(sources={**shop.pipeline.sources, "visits": visits})
    suite = '"sources": {"visits": [gxe.ExpectColumnValuesToBeBetween(column="amount", min_value=150)]}'
    shop.code(**{'return {"features"': f'return {{{suite}, "features"'})
    version = shop.retrain("2017-06")
    planned = plan.score(shop.home, shop.pipeline.period("2017-07"), version=version)
    task = Task(world)

    rescore.score(world.shop.home, world.shop.pipeline, planned, task.run_orders, RunInfo())

    assert task.submitted[0] == "sources.audit" and "predictions.audit" in task.submitted


def test_a_person_is_asked_with_the_comparison_and_only_about_what_the_gate_let_through(world: World) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from almanac.airflow import tasks

    shop = world.shop
    gate = shop.gate("2017-07", world.new)
    task = Task(world)
    subject, body = tasks.question(task.context, gate={"2017-07": shop.home.receipts.uri(gate)})

    assert subject == f"Promote {world.new}?"
    assert f"| metric | {world.new} | {world.old} in force |" in body
    assert "| roc_auc | 0." in body
    assert "The gate's verdict: promote." in body
    shop.describe(gate=type(shop.pipeline.gate)(floor=1.0))
    rejected = shop.gate("2017-07", world.new)
    with pytest.raises(AirflowSkipException, match=f"The gate rejected version {world.new}: .* below the floor 1.0000"):
        tasks.question(task.context, gate={"2017-07": shop.home.receipts.uri(rejected)})


def test_the_features_of_an_older_definition_are_built_in_one_run(world: World) -> None:
    """The rollback's own tasks: whatever groups the older description had."""
    shop = world.shop
    planned = [plan.score(shop.home, shop.pipeline.period(period)) for period in ("2017-09", "2017-10")]
    (joined,) = rollback.rebuilds(planned)
    pinned = world.pin(joined)
    shop.run(feature_orders.groups(shop.home, joined, pinned))
    staged = shop.run(feature_orders.combined(shop.home, joined, pinned))

    assert joined.build == ("2017-09", "2017-10")
    assert sorted(staged) == ["2017-09", "2017-10"]


def test_a_version_that_is_in_the_log_is_nothing_new_and_asks_nobody(world: World) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from almanac.airflow import tasks

    shop = world.shop
    gate = shop.gate("2017-07", world.new)
    asked = {"plan": encode(world.planned("2017-07")), "gate": {"2017-07": shop.home.receipts.uri(gate)}}
    tasks.publish_champion(Task(world).context, Task(world).run_orders, **asked)
    before = shop.state()

    assert tasks.publish_champion(Task(world).context, Task(world).run_orders, **asked) == world.new
    with pytest.raises(AirflowSkipException, match=f"Nothing to do: version {world.new} is already in the promotion log"):
        tasks.question(Task(world).context, gate=asked["gate"])
    assert shop.state() == before


def test_a_retrain_that_gives_a_withdrawn_version_again_ends_with_nothing_new(world: World) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from almanac.airflow import tasks

    shop = world.shop
    gate = shop.gate("2017-07", world.new)
    promotions.withdraw(shop.home, world.new, reason="bad", run_info=RunInfo())
    asked = {"plan": encode(world.planned("2017-07")), "gate": {"2017-07": shop.home.receipts.uri(gate)}}

    with pytest.raises(AirflowSkipException, match=f"Nothing to do: version {world.new} is withdrawn until"):
        tasks.publish_champion(Task(world).context, Task(world).run_orders, **asked)


def test_a_run_whose_features_another_run_published_first_uses_those(world: World) -> None:
    """Two runs build one period of one definition, and pinned the source before and after a delivery."""
    from almanac.airflow import tasks

    shop = world.shop
    planned = plan.score(shop.home, shop.pipeline.period("2017-09"))
    first = made_features(world, planned)
    shop.put("people", "all.parquet", pa.table({"customer": [0, 2], "band": [1, 1]}))
    second = made_features(world, planned)
    published = tasks.publish_features(Task(world).context, **first)
    before = shop.state()

    assert first["staged"] != second["staged"]
    assert tasks.publish_features(Task(world).context, **second) == published
    assert shop.state() == before


def test_a_run_uses_features_whose_publisher_died_before_its_receipt(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    planned = plan.score(shop.home, shop.pipeline.period("2017-09"))
    first = made_features(world, planned)
    shop.put("people", "all.parquet", pa.table({"customer": [0, 2], "band": [1, 1]}))
    second = made_features(world, planned)
    (lost,) = tasks.publish_features(Task(world).context, **first).values()
    shop.home.objects.delete(lost)

    assert tasks.publish_features(Task(world).context, **second) == {"2017-09": lost}
    assert shop.home.receipts.read(lost).passed


def made_features(world: World, planned: RunPlan) -> dict[str, Any]:
    """The period that a plan builds, staged and audited."""
    shop, pinned = world.shop, world.pin(planned)
    shop.run(feature_orders.groups(shop.home, planned, pinned))
    staged = shop.run(feature_orders.combined(shop.home, planned, pinned))
    return {"staged": staged, "audited": shop.run(orders.audits(shop.home, staged))}


def test_features_that_another_run_published_from_the_same_files_are_not_published_again(world: World) -> None:
    shop = world.shop
    planned = plan.score(shop.home, shop.pipeline.period("2017-09"))
    shop.build(planned, world.pin(planned))
    before = shop.home.features(planned.definition).version()

    shop.build(planned, world.pin(planned))  # a run that was planned before

    assert shop.home.features(planned.definition).version() == before
