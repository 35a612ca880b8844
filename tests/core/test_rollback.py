"""The plan of a rollback: from which version, to which, and its blast radius."""

from __future__ import annotations

from typing import Any

import pytest

from almanac.core.canonical import decode, encode
from almanac.core.promotions import Log
from almanac.core.rollback import Plan, Written, plan
from almanac.errors import PromotionError
from tests.records import promote, promoted, roll_back

THREE = (("A", "2017-04"), ("B", "2017-05"), ("C", "2017-06"))
WRITTEN = (
    Written(period="2017-05", version="B", order="order-05", rows=50),
    Written(period="2017-08", version="C", order="order-08", rows=80),
    Written(period="2017-06", version="C", order="order-06", rows=60),
    Written(period="2017-07", version="C", order="order-07", rows=70),
)


def planned(log: Log | None = None, **asked: Any) -> Plan:
    described: dict[str, Any] = {"reason": "scores drifted", "next_period": "2017-09"}
    return plan("shop", log or promoted(THREE), WRITTEN, ["A", "B", "C"], **{**described, **asked})


def test_a_rollback_goes_to_what_was_before_and_repairs_all_that_the_bad_version_wrote() -> None:
    assert planned() == Plan(
        pipeline="shop",
        bad="C",
        to="B",
        effective="2017-06",
        reason="scores drifted",
        withdraw=True,
        periods=("2017-06", "2017-07", "2017-08"),
        rows=210,
        tainted=(),
        position=3,
    )


def test_a_rollback_may_name_an_older_version() -> None:
    assert planned(to="A").to == "A"


def test_a_part_of_the_blast_radius_may_be_asked_for() -> None:
    found = planned(periods=["2017-08", "2017-06", "2017-08"])

    assert (found.periods, found.rows) == (("2017-06", "2017-08"), 140)


def test_no_period_may_be_asked_for() -> None:
    assert planned(periods=[]).periods == ()


def test_a_period_that_the_version_did_not_write_is_refused_with_those_that_it_did() -> None:
    with pytest.raises(PromotionError) as refused:
        planned(periods=["2017-05", "2017-06", "2018-01"])

    assert str(refused.value) == (
        "Version C did not write 2017-05, 2018-01 (it wrote: 2017-06, 2017-07, 2017-08). "
        "Ask for some of these, or leave periods out for all."
    )


def test_a_version_that_wrote_nothing_has_no_blast_radius() -> None:
    found = plan("shop", promoted(THREE), WRITTEN[:1], ["A", "B", "C"], reason="bad")

    assert (found.periods, found.rows) == ((), 0)
    with pytest.raises(PromotionError, match=r"Version C did not write 2017-06 \(it wrote: nothing\)"):
        plan("shop", promoted(THREE), WRITTEN[:1], ["A", "B", "C"], reason="bad", periods=["2017-06"])


def test_without_withdrawal_only_periods_to_come_move_and_nothing_is_scored_again() -> None:
    found = planned(withdraw=False)

    assert (found.effective, found.periods, found.rows, found.withdraw) == ("2017-09", (), 0, False)


def test_without_withdrawal_a_version_that_is_not_in_force_yet_moves_from_its_own_period() -> None:
    assert planned(promote(promoted(THREE), "D", "2017-11"), withdraw=False).effective == "2017-11"
    assert planned(withdraw=False, next_period="").effective == "2017-06"


def test_without_withdrawal_the_effective_period_is_one_that_the_bad_version_held() -> None:
    """B stands from 04 and again from 07, A between them: the first period to come is A's and stays A's."""
    log = roll_back(promoted((("B", "2017-04"), ("A", "2017-05"))), "B", "2017-07", withdraw=False)

    assert planned(log, to="C", withdraw=False, next_period="2017-05").effective == "2017-07"
    assert planned(log, to="C", withdraw=False, next_period="2017-04").effective == "2017-04"


def test_periods_without_withdrawal_are_refused_because_nothing_is_scored_again() -> None:
    with pytest.raises(PromotionError) as refused:
        planned(withdraw=False, periods=["2017-07", "2017-06"])

    assert str(refused.value) == (
        "Periods 2017-06, 2017-07 were asked for, but without withdrawal nothing is scored again. "
        "Leave periods out, or withdraw the version."
    )


def test_gate_decisions_taken_against_the_bad_version_are_tainted() -> None:
    log = promote(promoted(THREE), "D", "2017-06", gate="s3://almanac/gate-4")  # gated against C
    log = roll_back(log, "C", "2017-06")
    log = roll_back(promote(log, "E", "2017-07"), "C", "2017-07")  # by hand: no gate looked at anything
    log = promote(log, "F", "2017-05", gate="s3://almanac/gate-8")  # a backfill, gated against B

    assert log.champion == "C"
    assert planned(log, to="B").tainted == (4,)


def test_a_missing_reason_is_refused() -> None:
    for reason in ("", "  \n"):
        with pytest.raises(PromotionError) as refused:
            planned(reason=reason)
        assert str(refused.value) == "A rollback needs a reason, found none. Give one: it stays in the promotion log."


def test_a_rollback_with_nothing_in_force_is_refused() -> None:
    with pytest.raises(PromotionError) as refused:
        plan("shop", Log(), [], ["A"], reason="bad")

    assert str(refused.value) == "Pipeline shop has no version in force, so there is nothing to roll back."


def test_a_rollback_with_nothing_older_is_refused() -> None:
    with pytest.raises(PromotionError, match="nothing older than A is in force or was"):
        planned(promoted(THREE[:1]))


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ("X", "Version 'X' is unknown (there are: A, B, C). Name one of them."),
        ("C", "Version C is the one to be rolled back from. Name an older one."),
    ],
)
def test_a_rollback_to_what_cannot_come_is_refused(to: str, text: str) -> None:
    with pytest.raises(PromotionError) as refused:
        planned(to=to)

    assert str(refused.value) == text


def test_the_version_before_is_refused_when_its_bundle_is_gone() -> None:
    with pytest.raises(PromotionError, match=r"Version 'B' is unknown \(there are: A, C\)"):
        plan("shop", promoted(THREE), WRITTEN, ["A", "C"], reason="bad")


def test_a_plan_is_read_as_it_was_written_and_its_digest_tells_plans_apart() -> None:
    assert decode(Plan, encode(planned())) == planned()
    assert planned().digest == planned().digest != planned(to="A").digest
