"""Plans and dry runs leave the bucket as it was, also where a publisher died before it wrote its receipt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

from almanac.core.receipts import publish_order
from almanac.runs import orders, plan
from almanac.settings import Settings
from tests.support.command_line import Asking
from tests.support.shop import MODULE
from tests.support.task import Task
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark, pytest.mark.usefixtures("airflow_home")]


def died_before_its_receipt(world: World, period: str) -> str:
    """The URI of the receipt that the publisher of a period of features did not write."""
    home = world.shop.home
    receipt = home.receipts.find(publish_order(world.standing(period).order))
    assert receipt is not None
    home.objects.delete(home.receipts.uri(receipt))
    return home.receipts.uri(receipt)


def test_plans_and_dry_runs_leave_the_bucket_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from almanac.airflow import tasks

    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    world.shop.promote(world.new)
    lost = died_before_its_receipt(world, "2017-08")
    before, command = world.changed(), Asking(monkeypatch, capsys)
    # Described and coded anew, and neither kept.
    changed = replace(world.shop.pipeline, description="another")
    module = world.shop.module + b"another"

    assert plan.retrain(world.shop.home, changed, changed.period("2017-07"), module).retrains
    scored = plan.score(world.shop.home, changed.period("2017-08"), refresh=True)
    assert scored.build == (), "an order tells that its period is visible, and whole"
    for arguments in (
        ["score", "shop", "--from", "2017-07", "--to", "2017-08", "--dry-run"],
        ["plan", "shop"],
        ["rollback", "shop", "--dry-run"],
    ):
        assert command(*arguments)[0] == 0, arguments
    for dag, params in (("plan_retrain", {"period": "2017-07"}), ("plan_rollback", {"reason": "bad"})):
        task = Task(world, dry_run=True, **params)
        settings = Settings(root=world.shop.home.layout.root, spark_jobs=Path(MODULE).parent)
        getattr(tasks, dag)(replace(task.context, settings=settings))

    assert world.changed() == before
    assert lost in before


def test_a_visible_period_with_neither_receipt_nor_commit_is_built_again(world: World) -> None:
    """Nothing vouches for it any more: Delta kept its files in a checkpoint, and its log was cleaned."""
    shop = world.shop
    died_before_its_receipt(world, "2017-08")
    table = shop.home.features(plan.score(shop.home, shop.pipeline.period("2017-08")).definition)
    DeltaTable(table.uri).create_checkpoint()
    for item in shop.home.objects.walk(f"{table.uri}/_delta_log/"):
        if item.uri.endswith(".json"):
            shop.home.objects.delete(item.uri)
    assert "2017-08" in table.visible()

    assert plan.score(shop.home, shop.pipeline.period("2017-08")).build == ("2017-08",)


def test_a_receipt_that_a_publisher_did_not_write_is_written_by_the_step_that_needs_it(world: World) -> None:
    shop = world.shop
    lost = died_before_its_receipt(world, "2017-08")
    planned = plan.score(shop.home, shop.pipeline.period("2017-08"))
    assert shop.home.objects.find(lost) is None

    orders.predictions(shop.home, planned)

    assert shop.home.objects.find(lost) is not None
