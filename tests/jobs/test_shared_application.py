"""Steps that share a Spark application: a job that builds feature groups combines them, and a job that stages audits. The tasks
of these steps find the receipts.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import pytest

from almanac.core.canonical import encode
from almanac.core.receipts import PlacedOrder, Receipt
from almanac.errors import AlmanacError, CheckFailed, DescriptionError, Unreachable
from almanac.jobs import run
from almanac.runs import feature_orders, orders, plan
from tests.support.degrading import HALF, SEPTEMBER, planned, without_people
from tests.support.shop import visits
from tests.support.task import Task
from tests.support.world import World

pytestmark = [pytest.mark.airflow, pytest.mark.store, pytest.mark.spark, pytest.mark.usefixtures("airflow_home")]

AUGUST = "2017-08"
IMPOSSIBLE = """\
def checks():
    import great_expectations.expectations as gxe

    return {"predictions": [gxe.ExpectColumnValuesToBeBetween(column="score", min_value=2)]}


def other():"""


def scoring(world: World) -> PlacedOrder:
    """The order to score August."""
    return orders.predictions(world.shop.home, plan.score(world.shop.home, world.shop.pipeline.period(AUGUST)))


def start(world: World, monkeypatch: pytest.MonkeyPatch, placed: PlacedOrder, *more: str) -> None:
    """A job of an order, as spark-submit starts it for the first run of `Task`."""
    order = placed.order
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    arguments = [f"{order.artifact.value}.{order.step.value}", world.shop.home.receipts.place(placed), *more]
    run.main([*arguments, "--run-info", Task(world).context.run_info_json()])


def audit_of(world: World, placed: PlacedOrder) -> PlacedOrder:
    """The order that the audit's task places."""
    staged = world.shop.home.receipts.done(placed.order)
    assert staged is not None
    (audit,) = orders.audits(world.shop.home, {AUGUST: world.shop.home.receipts.uri(staged)})
    return audit


def attempt(world: World, number: int, run_id: str = "run-1") -> Any:
    """The context of a later task, such as the audit's."""
    context = Task(world).context
    context.context["ti"].try_number, context.context["ti"].task_id = number, "audit"
    context.context["dag_run"].run_id = run_id
    return context


def test_the_job_that_stages_audits_and_the_task_of_the_audit_submits_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    placed = scoring(world)

    start(world, monkeypatch, placed, "--audit")

    audit = audit_of(world, placed)
    receipt = world.shop.home.receipts.done(audit.order)
    assert receipt is not None and receipt.passed
    assert world.shop.home.receipts.placed(audit.order.digest) == audit
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("almanac: ")]
    assert lines[0] == "almanac: 1 of 1: shop predictions.stage 2017-08"
    assert lines[2] == "almanac: audit: shop predictions.audit 2017-08"
    assert lines[3] == f"almanac: passed: {world.shop.home.receipts.uri(receipt)}"
    before = world.changed()
    assert attempt(world, 1).place([audit]) == []
    assert attempt(world, 1).receipts_of([audit]) == {AUGUST: world.shop.home.receipts.uri(receipt)}
    assert world.changed() == before


def test_without_being_told_a_job_audits_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = scoring(world)
    start(world, monkeypatch, placed)
    assert world.shop.home.receipts.find(audit_of(world, placed).order) is None


def failing(world: World, monkeypatch: pytest.MonkeyPatch) -> PlacedOrder:
    """An audit that failed in the job that staged."""
    world.shop.code(**{"def checks():": IMPOSSIBLE})
    planned = plan.score(world.shop.home, world.shop.pipeline.period(AUGUST))
    placed = world.coded(orders.predictions(world.shop.home, planned))
    start(world, monkeypatch, placed, "--audit")
    return audit_of(world, placed)


def test_a_failed_audit_does_not_fail_the_stage_and_is_told_by_its_own_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = failing(world, monkeypatch)

    told = attempt(world, 1)
    assert told.place([audit]) == []
    with pytest.raises(CheckFailed, match=r"(?s)shop predictions\.audit 2017-08 did not pass its audit.*score.*min_value=2"):
        told.receipts_of([audit])
    assert told.context["task"].left_report.endswith(".html")


def test_a_failed_audit_is_tried_again_when_its_task_is_cleared_and_by_another_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = failing(world, monkeypatch)
    uri = world.shop.home.layout.order(audit.order.digest)
    assert attempt(world, 2).place([audit]) == [uri]
    assert attempt(world, 1, "run-2").place([audit]) == [uri]


def test_a_job_killed_between_stage_and_audit_leaves_the_audit_to_its_task(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = scoring(world)
    answer = run.function_for

    def killed(order: Any) -> Any:
        if order.step.value == "audit":
            raise SystemExit(137)
        return answer(order)

    with monkeypatch.context() as patched:
        patched.setattr(run, "function_for", killed)
        with pytest.raises(SystemExit):
            start(world, patched, placed, "--audit")

    audit, context = audit_of(world, placed), attempt(world, 1)
    assert context.place([placed]) == [], "the stage is done, so its task's retry submits nothing"
    (left,) = context.place([audit])
    start(world, monkeypatch, audit)
    assert left in world.changed()
    receipt = world.shop.home.receipts.done(audit.order)
    assert receipt is not None and receipt.passed


def test_a_store_that_does_not_answer_during_the_audit_leaves_it_to_its_task(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    placed, keep = scoring(world), type(world.shop.home.receipts).keep

    def unreachable(self: Any, receipt: Receipt, *rest: Any, **more: Any) -> Receipt:
        if receipt.order.step.value == "audit":
            raise Unreachable("s3://almanac: no answer.")
        return keep(self, receipt, *rest, **more)

    monkeypatch.setattr(type(world.shop.home.receipts), "keep", unreachable)
    start(world, monkeypatch, placed, "--audit")

    assert "almanac: audit: not done here (s3://almanac: no answer.). Its own task does it." in capsys.readouterr().out
    assert len(attempt(world, 1).place([audit_of(world, placed)])) == 1


def test_a_job_that_fails_after_its_orders_are_done_does_not_fail_their_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed, context = scoring(world), attempt(world, 1)
    with pytest.raises(RuntimeError, match="out of memory"), context.explaining([placed]):
        raise RuntimeError("out of memory")

    with context.explaining([placed]):
        start(world, monkeypatch, placed)
        raise RuntimeError("out of memory")
    assert context.receipts_of([placed])


def test_a_job_that_leaves_an_order_without_a_receipt_is_tried_again_although_another_order_failed(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the group that was not built would count as one that cannot be."""
    world.shop.code(**{"def habits(": "def habit(", "def traits(": "\ndef traits("})
    run_plan = world.planned("2017-05")
    placed = feature_orders.groups(world.shop.home, run_plan, world.pin(run_plan))
    context = attempt(world, 1)
    uris = [world.shop.home.receipts.place(one) for one in placed]
    keep = type(world.shop.home.receipts).keep

    def unreachable(self: Any, receipt: Receipt, *rest: Any, **more: Any) -> Receipt:
        if receipt.order.part == "traits":
            raise Unreachable("s3://almanac: no answer.")
        return keep(self, receipt, *rest, **more)

    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    with monkeypatch.context() as patched:
        patched.setattr(type(world.shop.home.receipts), "keep", unreachable)
        with pytest.raises(Unreachable), context.explaining(placed):
            run.main(["features.stage", *reversed(uris), "--run-info", context.run_info_json()])
    find = world.shop.home.receipts.find
    assert [find(one.order) is not None for one in placed] == [True, False], "the order after the lost one was run"
    assert "has no function 'habits'" in caplog.text

    assert context.place(placed) == uris
    with pytest.raises(AlmanacError, match="has no function 'habits'"), context.explaining(placed):
        with pytest.raises(SystemExit):
            run.main(["features.stage", *uris, "--run-info", context.run_info_json()])
        raise RuntimeError("spark-submit ended with 1")


# Feature groups are combined by the job that builds them.


def building(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[list[PlacedOrder], list[PlacedOrder]]:
    """The job of September's feature groups, as the task submits it. Gives what the tasks `groups` and `combine` place."""
    shop = world.shop
    run_plan = planned(shop)
    pinned = world.pin(run_plan)
    groups = feature_orders.groups(shop.home, run_plan, pinned)
    waiting = feature_orders.to_combine(shop.home, run_plan, pinned)
    monkeypatch.setenv("ALMANAC_ROOT", shop.home.layout.root)
    place = shop.home.receipts.place
    combine = [argument for one in waiting for argument in ("--combine", place(one))]
    told = Task(world).context.run_info_json().replace('"publish"', '"features.stage.groups"')
    run.main(["features.stage", *map(place, groups), *combine, "--audit", "--run-info", told])
    return groups, feature_orders.combined(shop.home, run_plan, pinned)


def test_the_job_that_builds_all_groups_combines_and_audits_what_the_tasks_would(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, combined = building(world, monkeypatch)

    done = world.shop.home.receipts.done
    assert [one.order.part for one in groups] == ["habits", "traits"]
    assert all(done(one.order) for one in groups)
    (receipt,) = (done(one.order) for one in combined)
    assert receipt is not None and receipt.facts["rows"] == receipt.outputs[0].rows
    audits = orders.audits(world.shop.home, {SEPTEMBER: world.shop.home.receipts.uri(receipt)})
    before = world.changed()
    assert attempt(world, 1).place([*groups, *combined, *audits]) == []
    assert world.changed() == before
    assert world.shop.home.receipts.placed(combined[0].order.digest) == combined[0]


def test_groups_that_cannot_be_combined_stay_built_and_the_task_combine_tells_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from almanac.jobs import features

    world.shop.code(**{"def traits(": "\ndef traits("})

    def clash(*_: Any) -> None:
        raise DescriptionError("Features have columns label.")

    with monkeypatch.context() as patched:
        patched.setattr(features, "check_names", clash)
        groups, combined = building(world, patched)

    assert all(world.shop.home.receipts.done(one.order) for one in groups)
    told = attempt(world, 1)
    assert told.place([*groups, *combined]) == []
    with pytest.raises(AlmanacError, match=r"(?s)^shop features\.stage 2017-09: .*Features have columns label\."):
        told.receipts_of(combined)
    assert attempt(world, 2).place(combined) == [world.shop.home.layout.order(combined[0].order.digest)]


def test_a_job_killed_between_the_groups_and_combining_leaves_that_to_its_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from almanac.jobs import features

    world.shop.code(**{"def traits(": "\ndef traits("})
    with monkeypatch.context() as patched:
        patched.setattr(features, "_combined", lambda _: sys.exit(137))
        with pytest.raises(SystemExit):
            building(world, patched)

    run_plan = planned(world.shop)
    pinned = world.pin(run_plan)
    groups = feature_orders.groups(world.shop.home, run_plan, pinned)
    combined = feature_orders.combined(world.shop.home, run_plan, pinned)
    context = attempt(world, 1)
    assert context.place(groups) == []
    assert context.place(combined) == [world.shop.home.layout.order(combined[0].order.digest)]


def test_without_a_source_and_where_features_are_published_the_task_combine_decides(world: World) -> None:
    from almanac.airflow import tasks

    shop = world.shop
    published = world.planned(AUGUST)
    assert feature_orders.to_combine(shop.home, published, world.pin(published)) == []
    without_people(shop)
    run_plan = planned(shop, degrade=HALF)
    context = Task(world).context
    assert tasks.orders_to_combine(context, plan=encode(run_plan), pin=world.pin(run_plan)) == []


def test_what_waits_for_other_groups_is_another_order(world: World) -> None:
    """The first order placed under a digest is kept, so it must say which groups it waits for."""
    shop = world.shop
    found = []
    for name in ("all.parquet", "more.parquet"):
        shop.put("visits", name, visits(datetime(2017, 8, 1), seed=7))
        run_plan = planned(shop)
        found += feature_orders.to_combine(shop.home, run_plan, world.pin(run_plan))
    assert found[0].order.digest != found[1].order.digest
