"""A rollback of a pipeline with deliveries, by the task that verifies: with the real store, the real Spark, a real database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from almanac.core.canonical import encode
from almanac.core.receipts import RunInfo
from almanac.deliveries import projection
from almanac.runs import promotions, rollback
from tests.support.scores import WITNESS, Target
from tests.support.task import Task
from tests.support.world import World

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.usefixtures("airflow_home")]


def test_after_a_rollback_no_delivery_shows_what_the_withdrawn_version_wrote(
    world: World, on_disk: Target, in_postgres: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    from almanac.airflow import deliveries, tasks

    monkeypatch.setattr(deliveries, "address", lambda one: in_postgres.address if one == in_postgres.delivery else "")
    shop, targets = world.shop, (on_disk, in_postgres)
    shop.describe(deliveries=tuple(target.delivery for target in targets))
    shop.promote(world.new)
    shop.score("2017-08")
    for target in targets:
        projection.deliver(shop.home, shop.pipeline, target.delivery, target.address, WITNESS)
    bad = {period: order for period, _, order in on_disk.seen()}["2017-08"]
    planned = rollback.planned(shop.home, shop.pipeline, reason="bad")
    promotions.rollback(shop.home, planned, RunInfo())
    task = Task(world)

    tasks.verify_rollback(replace(task.context, pipeline=shop.pipeline), task.run_orders, plan=encode(planned))

    visible = {item.period: item.order for item in shop.home.written()}
    assert {item.period: item.version for item in shop.home.written()} == {"2017-07": world.old, "2017-08": world.old}
    for target in targets:
        assert {period: order for period, _, order in target.seen()} == visible
        assert bad not in {order for _, _, order in target.seen()}
        assert projection.outstanding(shop.home, target.delivery, target.address) == []
