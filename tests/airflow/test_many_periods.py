"""A score run of many periods: what its tasks do, one after the other, with the real store and the real Spark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from almanac import Scoring
from almanac.core.canonical import decode
from almanac.core.plan import RunPlan
from almanac.errors import PeriodError
from tests.support.task import Task
from tests.support.world import World

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.usefixtures("airflow_home")]


def run(task: Task) -> dict[str, str]:
    """The tasks of the score DAG in their order; gives period to the receipt of its publish."""
    from almanac.airflow import tasks

    def spark(orders: Callable[..., Any], **arguments: Any) -> dict[str, str]:
        return task.run_orders(orders(task.context, **arguments))

    plan = tasks.plan_score(task.context)
    if any(one["build"] for one in plan):
        pin = tasks.pin_sources(task.context, plan=plan)
        spark(tasks.group_orders, plan=plan, pin=pin)
        staged = spark(tasks.combine_orders, plan=plan, pin=pin)
        audited = spark(tasks.audit_orders, staged=staged)
        tasks.publish_features(task.context, staged=staged, audited=audited)
    staged = spark(tasks.prediction_orders, plan=plan)
    audited = spark(tasks.audit_orders, staged=staged)
    return tasks.publish_predictions(task.context, task.run_orders, plan=plan, staged=staged, audited=audited)


@pytest.mark.parametrize("degrade", [0.0, 0.1])
def test_each_period_gets_its_own_version_and_a_job_does_them_all(world: World, degrade: float) -> None:
    world.shop.describe(scoring=Scoring(degrade=degrade))
    world.shop.promote(world.new)  # in force from 2017-08 on
    task = Task(world, **{"from": "2017-07", "to": "2017-09"})

    published = run(task)

    assert list(published) == ["2017-07", "2017-08", "2017-09"]
    versions = {item.period: item.version for item in world.shop.home.written()}
    assert versions == {"2017-07": world.old, "2017-08": world.new, "2017-09": world.new}
    assert task.submitted.count("predictions.stage") == task.submitted.count("predictions.audit") == 1
    before = world.shop.home.predictions.version()
    assert (run(Task(world, **{"from": "2017-07", "to": "2017-09"})), world.shop.home.predictions.version()) == (
        published,
        before,
    )


def planned(world: World, **params: Any) -> list[RunPlan]:
    from almanac.airflow import tasks

    return [decode(RunPlan, one) for one in tasks.plan_score(Task(world, **params).context)]


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"from": "2017-08"}, "From 2017-08 to nothing: expected the first and the last period, both included."),
        ({"from": "2017-09", "to": "2017-08"}, "From 2017-09 to 2017-08: the last period is before the first. Swap them."),
        (
            {"from": "2017-01", "to": "2017-08"},
            "From 2017-01 to 2017-08: expected periods of shop, 2017-03 and later.",
        ),
        (
            {"from": "2017-08", "to": "2017-09", "period": "2017-08"},
            "from, to: expected no period besides, got from 2017-08 and to 2017-09 in a run that has a period. Leave out `from` "
            "and `to`, or the period; scheduled runs and backfills have a period of their own.",
        ),
    ],
)
def test_a_range_that_is_none_is_refused(world: World, params: dict[str, str], text: str) -> None:
    with pytest.raises(PeriodError) as refused:
        planned(world, **params)
    assert str(refused.value) == text


def test_one_version_can_be_asked_for_all_periods(world: World) -> None:
    found = planned(world, **{"from": "2017-08", "to": "2017-09", "version": world.new})
    assert [(one.period, one.version, one.pinned) for one in found] == [
        ("2017-08", world.new, True),
        ("2017-09", world.new, True),
    ]
