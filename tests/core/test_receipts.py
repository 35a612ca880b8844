"""Orders and receipts: what identifies an order, and what a receipt admits to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from almanac.core.canonical import decode, dumps
from almanac.core.garbage import FRESH
from almanac.core.receipts import Artifact, Order, PlacedOrder, Receipt, RunInfo, Step, admit, publish_order
from almanac.errors import NotAdmitted
from tests.support.records import NOON, order, output, receipt

OTHERS: dict[str, Any] = {
    "pipeline": "mall",
    "artifact": Artifact.PREDICTIONS,
    "step": Step.AUDIT,
    "part": "habits",
    "period": "2017-07",
    "description": "d2",
    "module": "m2",
    "almanac": "0.2.0",
    "inputs": {"visits": "c2"},
    "parameters": {"version": "2017-05-aaaaaaaa"},
    "replaces": "an older order",
    "fence": 1,
    "schema": 2,
}


def test_the_digest_of_an_order_is_the_same_for_ever() -> None:
    """Receipts are found by it: were it to change, everything would be made again. A new field is a new SCHEMA."""
    body = (
        b'{"almanac":"0.1.0","description":"d1","door":"stage","fence":0,"inputs":{"visits":"c1"},"module":"m1",'
        b'"parameters":{},"part":"","period":"2017-06","pipeline":"shop","replaces":"","schema":1,"thing":"features"}'
    )

    assert dumps(order()) == body
    assert order().digest == hashlib.sha256(body).hexdigest()
    assert order().digest == "ea02faee50c919f5eb06f3fc449f6e6e7915b2368ade4b9cab48bf2b5ee4aaea"


def test_the_digest_does_not_depend_on_the_order_of_names() -> None:
    there, back = {"visits": "c1", "people": "c2"}, {"people": "c2", "visits": "c1"}

    assert order(inputs=there, parameters=there).digest == order(inputs=back, parameters=back).digest


def test_every_field_of_an_order_is_identity() -> None:
    digests = {name: dataclasses.replace(order(), **{name: value}).digest for name, value in OTHERS.items()}

    assert set(digests) == {field.name for field in dataclasses.fields(Order)}
    assert len({order().digest, *digests.values()}) == 1 + len(digests)


def test_an_order_is_the_same_work_whatever_it_replaces() -> None:
    assert order().same_work(order(replaces="an older order", fence=3))
    assert order(replaces="an older order", fence=3).same_work(order())


@pytest.mark.parametrize("name", sorted(set(OTHERS) - {"replaces", "fence"}))
def test_an_order_that_differs_in_anything_else_is_other_work(name: str) -> None:
    assert not order().same_work(dataclasses.replace(order(), **{name: OTHERS[name]}))


def test_the_order_for_the_next_door_is_of_the_same_thing_with_new_inputs() -> None:
    staged = order(part="habits", parameters={"old": 1}, replaces="an older order", fence=3)

    assert staged.next(Step.AUDIT, {"staged": "c2"}, strict=True) == order(
        step=Step.AUDIT, inputs={"staged": "c2"}, parameters={"strict": True}, replaces="an older order", fence=3
    )


def test_an_order_is_named_by_pipeline_thing_door_part_and_period() -> None:
    assert str(order()) == "shop features.stage 2017-06"
    assert str(order(part="habits")) == "shop features.stage.habits 2017-06"


def test_orders_and_receipts_are_read_as_they_were_written() -> None:
    full = receipt(
        order(**OTHERS),
        attempt=2,
        passed=False,
        outputs=(output("a.parquet", rows=3, stats={"score": [0.1, 0.9]}),),
        links={"pin": "s3://almanac/receipt"},
        findings=("too few rows",),
        facts={"metrics": {"roc_auc": 0.7}, "error": "DataError"},
        run_info=RunInfo(dag="shop_retrain", attempt=1, began=datetime(2017, 9, 1, 12, 0, 0, 5, tzinfo=UTC)),
    )
    placed = PlacedOrder(order=order(), links={"pin": "s3://almanac/receipt"})

    assert decode(Receipt, json.loads(dumps(full))) == full
    assert decode(Receipt, json.loads(dumps(full))).order.digest == full.order.digest
    assert decode(PlacedOrder, json.loads(dumps(placed))) == placed


# --- what a receipt admits to ---


def test_a_passed_receipt_opens_the_door_it_was_asked_for() -> None:
    shown = receipt()

    assert admit(shown, Artifact.FEATURES, Step.STAGE, pipeline="shop") is shown
    assert admit(shown, Artifact.FEATURES, Step.STAGE, pipeline="shop", period="2017-06") is shown


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"artifact": Artifact.PREDICTIONS}, "shop predictions.stage 2017-06"),
        ({"step": Step.AUDIT}, "shop features.audit 2017-06"),
        ({"period": "2017-07"}, "shop features.stage 2017-07"),
        ({"pipeline": "mall"}, "mall features.stage 2017-06"),
    ],
)
def test_a_receipt_for_something_else_is_refused_and_both_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(NotAdmitted) as refused:
        admit(receipt(order(**changes)), Artifact.FEATURES, Step.STAGE, pipeline="shop", period="2017-06")

    assert str(refused.value) == f"Expected a receipt for shop features.stage 2017-06, got one for {named}."


def test_a_receipt_of_any_period_is_admitted_where_none_is_asked_for() -> None:
    assert admit(receipt(order(period="2019-01")), Artifact.FEATURES, Step.STAGE, pipeline="shop")


def test_a_receipt_that_did_not_pass_is_refused_with_its_findings_bounded() -> None:
    findings = tuple(f"finding {number}" for number in range(14))
    with pytest.raises(NotAdmitted) as refused:
        admit(receipt(passed=False, findings=findings), Artifact.FEATURES, Step.STAGE, pipeline="shop")

    lines = str(refused.value).splitlines()
    assert lines[0] == "The receipt for shop features.stage 2017-06 did not pass, so nothing is built on it:"
    assert lines[1:11] == [f"- finding {number}" for number in range(10)]
    assert lines[11:] == ["- and 4 more: the full report is kept with the receipt"]


def test_no_receipt_is_refused_with_the_task_that_makes_one() -> None:
    with pytest.raises(NotAdmitted) as refused:
        admit(None, Artifact.MODEL, Step.PUBLISH, pipeline="shop", period="2017-06")

    assert str(refused.value) == "No receipt for shop model.publish 2017-06. Run the task model.publish first."


# --- which receipts are final ---


@pytest.mark.parametrize(
    ("artifact", "step", "passed", "error", "answered"),
    [
        (Artifact.FEATURES, Step.STAGE, True, "", True),
        (Artifact.FEATURES, Step.STAGE, False, "", False),
        (Artifact.FEATURES, Step.AUDIT, False, "", False),
        (Artifact.CHAMPION, Step.STAGE, False, "", False),
        (Artifact.CHAMPION, Step.AUDIT, False, "", True),
        (Artifact.CHAMPION, Step.AUDIT, False, "DataError", False),
    ],
)
def test_an_order_is_answered_when_it_passed_or_the_gate_said_no(
    artifact: Artifact, step: Step, passed: bool, error: str, answered: bool
) -> None:
    assert receipt(order(artifact=artifact, step=step), passed=passed, error=error).answered is answered


def test_the_rows_of_a_receipt_are_those_of_its_outputs() -> None:
    shown = receipt(outputs=(output("a", rows=3), output("report.json"), output("b", rows=4)))

    assert shown.rows == 7
    assert shown.output("b").rows == 4


# --- stages that are too old ---


def test_a_stage_is_stale_after_a_day() -> None:
    staged = receipt(outputs=(output("a"),), run_info=RunInfo(ended=NOON))

    assert timedelta(days=1) == FRESH
    assert not staged.stale(NOON + FRESH)
    assert staged.stale(NOON + FRESH + timedelta(seconds=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": ()},
        {"run_info": RunInfo()},
        {"asked": order(step=Step.AUDIT)},
        {"asked": order(step=Step.PUBLISH)},
        {"asked": order(artifact=Artifact.SOURCES, step=Step.PIN)},
    ],
)
def test_what_is_no_stage_or_made_no_files_is_never_stale(changes: dict[str, Any]) -> None:
    shown = receipt(**{"outputs": (output("a"),), "run_info": RunInfo(ended=NOON), **changes})

    assert not shown.stale(NOON + 1000 * FRESH)


def test_an_audit_asks_for_the_content_of_one_attempt_of_one_order() -> None:
    assert receipt().as_audited == {"staged": "c2", "order": order().digest}
    assert receipt(attempt=2).as_audited == {"staged": "c2", "order": order().digest, "attempt": "2"}


def test_the_order_that_publishes_follows_from_the_one_that_staged() -> None:
    staged = order(parameters={"version": "v"}, fence=2)

    assert publish_order(staged) == order(step=Step.PUBLISH, inputs={"staged": staged.digest}, fence=2)
