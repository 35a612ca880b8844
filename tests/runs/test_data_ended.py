"""A run whose period begins long after the data ended has nothing to do, and says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from almanac.core.canonical import encode
from almanac.errors import DataEnded
from almanac.runs import completeness, pin, plan
from tests.support.task import Task
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark, pytest.mark.usefixtures("airflow_home")]

SAID = (
    "so it is empty: there is nothing to learn or predict. Deliver newer events, or run an earlier month. If no more will come: "
    'last_period="2017-12".'
)


def test_the_pin_refuses_a_period_long_after_the_newest_event(world: World) -> None:
    shop = world.shop
    before = shop.state()
    for planned in (
        plan.score(shop.home, shop.pipeline.period("2026-01")),
        plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2026-01"), shop.module),
    ):
        with pytest.raises(DataEnded) as refused:
            shop.pin(planned)
        assert str(refused.value).startswith("Source 'visits' ends at 2017-12-2")
        assert str(refused.value).endswith(SAID)
    assert shop.state() == before


def test_a_period_that_old_events_can_say_something_about_is_scored(world: World) -> None:
    shop = world.shop
    assert shop.pin(plan.score(shop.home, shop.pipeline.period("2018-01")))


def test_a_population_that_looks_back_far_enough_or_may_be_empty_is_built(world: World) -> None:
    shop = world.shop
    score = plan.score(shop.home, shop.pipeline.period("2026-01"))
    for changes in ({"lookback": timedelta(days=3650)}, {"lookback": None}, {"may_be_empty": True}):
        described = replace(shop.pipeline, population=replace(shop.pipeline.population, **changes))
        pins = {name: completeness.observed(shop.home, described, score, name) for name in described.sources}
        pin._check_ongoing(described, score, pins)


def test_the_task_is_skipped_with_the_reason_for_the_note(world: World) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from almanac.airflow import tasks
    from almanac.airflow.context import ending_clearly

    shop, kept = world.shop, {}
    task = Task(world)
    task.context.context["ti"].xcom_push = lambda key, value: kept.update({key: value})
    planned = [encode(plan.score(shop.home, shop.pipeline.period("2026-01")))]
    with pytest.raises(AirflowSkipException), ending_clearly(task.context.context):
        tasks.pin_sources(task.context, plan=planned)
    assert kept["almanac_skipped"].startswith("Source 'visits' ends at 2017-12-2")


def test_a_source_without_statistics_may_hold_newer_events(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, observed = world.shop, completeness.observed
    monkeypatch.setattr(
        completeness,
        "observed",
        lambda *given: replace(found := observed(*given), files=tuple(replace(file, high=None) for file in found.files)),
    )
    assert pin.pin(shop.home, plan.score(shop.home, shop.pipeline.period("2026-01")), Task(world).context.run_info)
