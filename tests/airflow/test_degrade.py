"""Where a group may be left out: how the tasks of a scoring run go on, and when they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from almanac import Scoring
from almanac.core.canonical import encode
from almanac.errors import Conflict
from almanac.runs import feature_orders, orders, plan
from tests.support.shop import pipeline
from tests.support.task import Task
from tests.support.world import World

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.usefixtures("airflow_home")]


def test_a_scoring_run_combines_what_was_built_only_where_groups_may_be_left_out() -> None:
    from almanac.airflow import build_dags

    plain = pipeline("s3://bucket/landing")
    rules = {
        (name, degrade): build_dags(replace(plain, scoring=Scoring(degrade=degrade)))[name]
        .get_task("features.stage.combine")
        .trigger_rule.value
        for name in ("shop_retrain", "shop_score")
        for degrade in (0.0, 0.1)
    }
    assert rules == {
        ("shop_retrain", 0.0): "all_success",
        ("shop_retrain", 0.1): "all_success",
        ("shop_score", 0.0): "all_success",
        ("shop_score", 0.1): "all_done",
    }
    combine = build_dags(plain)["shop_score"].get_task("features.stage.combine")
    assert combine.upstream_task_ids == {"plan", "sources.pin", "features.stage.groups"}


@pytest.mark.parametrize(
    ("ended", "error", "said"),
    [
        ({"plan": "skipped", "sources.pin": "skipped"}, "AirflowSkipException", "Task plan was skipped, so nothing is combined."),
        (
            {"plan": "success", "sources.pin": "upstream_failed"},
            "NotAdmitted",
            r"Task sources.pin: expected state 'success', got 'upstream_failed', so nothing is combined. Clear it.",
        ),
        (
            {"plan": "success", "sources.pin": "success", "sources.audit": "failed"},
            "NotAdmitted",
            r"Task sources.audit: expected state 'success', got 'failed', so nothing is combined. Clear it.",
        ),
    ],
    ids=["the plan was skipped", "what is waited for never came", "the audit failed"],
)
def test_what_combines_although_a_task_before_it_failed_says_which(
    world: World, ended: dict[str, str], error: str, said: str
) -> None:
    """Whatever these tasks returned in an earlier try, which Airflow still hands over."""
    from almanac.airflow import tasks

    planned, task = world.planned("2017-08"), Task(world)
    task.context.context["task"].trigger_rule = "all_done"
    task.context.context["ti"].get_task_states = lambda **asked: {asked["run_ids"][0]: ended}
    with pytest.raises(Exception, match=said) as raised:
        tasks.combine_orders(task.context, plan=encode(planned), pin=world.pin(planned), checked={})
    assert type(raised.value).__name__ == error


def test_features_without_a_group_do_not_take_the_place_of_whole_ones_that_came_second(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    planned = plan.score(shop.home, shop.pipeline.period("2017-09"))
    pinned = world.pin(planned)
    shop.run(feature_orders.groups(shop.home, planned, pinned))
    staged = shop.run(feature_orders.combined(shop.home, planned, pinned))
    whole = {"staged": staged, "audited": shop.run(orders.audits(shop.home, staged))}
    people = f"{shop.landing}/people/all.parquet"
    body = shop.home.objects.get(people)
    shop.home.objects.delete(people)
    shop.score("2017-09", degrade=0.5)
    shop.home.objects.put(people, body)
    before = shop.state()

    with pytest.raises(Conflict) as beaten:
        tasks.publish_features(Task(world).context, **whole)

    assert "The published features lack traits, which these features have. Clear the task features.stage" in str(beaten.value)
    assert shop.state() == before
