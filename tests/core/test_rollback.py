"""The plan of a rollback: from which version, to which, and its blast radius."""

from __future__ import annotations

from typing import Any

import pytest

from almanac.core.canonical import decode, encode
from almanac.core.promotions import Action, Log
from almanac.core.rollback import GateDecision, PipelineState, RollbackPlan, WrittenPeriod, plan_rollback
from almanac.errors import IllegalTransition, PromotionError
from tests.support.records import NOON, promote, promoted, roll_back

THREE = (("A", "2017-04"), ("B", "2017-05"), ("C", "2017-06"))
WRITTEN = (
    WrittenPeriod(period="2017-05", version="B", order="order-05", rows=50),
    WrittenPeriod(period="2017-08", version="C", order="order-08", rows=80),
    WrittenPeriod(period="2017-06", version="C", order="order-06", rows=60),
    WrittenPeriod(period="2017-07", version="C", order="order-07", rows=70),
)


EARLIEST = {"A": "2017-04", "B": "2017-05", "C": "2017-06"}


def kept(log: Log | None = None, **changes: Any) -> PipelineState:
    described: dict[str, Any] = {"log": promoted(THREE) if log is None else log, "written": WRITTEN, "earliest": EARLIEST}
    return PipelineState(**{**described, **changes})


def planned(log: Log | None = None, here: PipelineState | None = None, **asked: Any) -> RollbackPlan:
    described: dict[str, Any] = {"reason": "scores drifted", "next_period": "2017-09"}
    return plan_rollback("shop", here or kept(log), **{**described, **asked})


def test_a_rollback_goes_to_what_was_before_and_repairs_all_that_the_bad_version_wrote() -> None:
    assert planned() == RollbackPlan(
        pipeline="shop",
        bad="C",
        to="B",
        effective="2017-06",
        reason="scores drifted",
        withdraw=True,
        scores={"2017-06": "B", "2017-07": "B", "2017-08": "B"},
        rows=210,
        asked=False,
        tainted=(),
        position=3,
    )


def test_a_rollback_may_name_an_older_version() -> None:
    assert planned(to="A").to == "A"


def test_a_part_of_the_blast_radius_may_be_asked_for() -> None:
    found = planned(periods=["2017-08", "2017-06", "2017-08"])

    assert (found.periods, found.rows) == (("2017-06", "2017-08"), 140)


def test_an_empty_list_of_periods_is_refused_because_it_would_repair_nothing() -> None:
    with pytest.raises(PromotionError) as refused:
        planned(periods=[])

    assert str(refused.value) == (
        "Rollback: expected at least one period, got none. Name some, or leave periods out for all that are affected."
    )


def test_a_period_that_the_version_did_not_write_is_refused_with_those_that_it_did() -> None:
    with pytest.raises(PromotionError) as refused:
        planned(periods=["2017-05", "2017-06", "2018-01"])

    assert str(refused.value) == (
        "Version C did not write 2017-05, 2018-01 (it wrote: 2017-06, 2017-07, 2017-08). "
        "Name some of these, or leave periods out for all."
    )


def test_a_version_that_wrote_nothing_has_no_blast_radius() -> None:
    found = planned(here=kept(written=WRITTEN[:1]))

    assert (found.periods, found.rows) == ((), 0)
    with pytest.raises(PromotionError, match=r"Version C did not write 2017-06 \(it wrote: nothing\)"):
        planned(here=kept(written=WRITTEN[:1]), periods=["2017-06"])


def test_without_withdrawal_only_periods_to_come_move_and_nothing_is_scored_again() -> None:
    found = planned(withdraw=False)

    assert (found.effective, found.periods, found.rows, found.withdraw) == ("2017-09", (), 0, False)


def test_without_withdrawal_a_version_that_is_not_in_force_yet_moves_from_its_own_period() -> None:
    later = kept(promote(promoted(THREE), "D", "2017-11"), earliest={**EARLIEST, "D": "2017-11"})

    assert planned(here=later, withdraw=False).effective == "2017-11"
    assert planned(withdraw=False, next_period="").effective == "2017-06"


def test_without_withdrawal_the_effective_period_is_one_that_the_bad_version_held() -> None:
    """B stands from 04 and again from 07, A between them: the first period to come is A's and stays A's."""
    log = roll_back(promoted((("B", "2017-04"), ("A", "2017-05"))), "B", "2017-07", withdraw=False)

    here = kept(log, earliest={**EARLIEST, "C": "2017-03"})

    assert planned(here=here, to="C", withdraw=False, next_period="2017-05").effective == "2017-07"
    assert planned(here=here, to="C", withdraw=False, next_period="2017-04").effective == "2017-04"


def test_periods_without_withdrawal_are_refused_because_nothing_is_scored_again() -> None:
    with pytest.raises(PromotionError) as refused:
        planned(withdraw=False, periods=["2017-07", "2017-06"])

    assert str(refused.value) == (
        "Periods 2017-06, 2017-07 were requested, but without withdrawal nothing is scored again. "
        "Leave periods out, or withdraw the version."
    )


def test_gate_decisions_taken_against_the_bad_version_are_tainted() -> None:
    against = GateDecision(candidate="D", against="C", verdict="reject", gate="s3://almanac/gate-4")
    other = GateDecision(candidate="E", against="B", verdict="promote", gate="s3://almanac/gate-5")

    found = planned(here=kept(decided=(against, other)))

    assert found.tainted == (against,)
    assert "Gate decisions against C: D." in found.in_words


def test_a_version_that_another_one_took_over_from_can_be_rolled_back_by_name() -> None:
    """C stands now; B, before it, turns out bad: what B wrote is scored again, and C stays."""
    found = planned(bad="B")

    assert (found.bad, found.to, found.scores, found.rows) == ("B", "A", {"2017-05": "A"}, 50)


def test_a_version_that_is_in_force_nowhere_is_not_rolled_back_from() -> None:
    with pytest.raises(IllegalTransition) as refused:
        planned(here=kept(promoted(THREE[:2])), bad="C")

    assert str(refused.value) == (
        "Cannot roll back from C: expected a version that is in force (A, B), got one that is in the history. "
        "Name one of these, or none for the one in force now."
    )


def test_without_withdrawal_a_version_that_is_in_force_for_nothing_to_come_is_refused() -> None:
    with pytest.raises(PromotionError) as refused:
        planned(bad="B", withdraw=False)

    assert str(refused.value) == (
        "Version B is in force for no period from 2017-09 on, so without withdrawal nothing would change. "
        "Withdraw it, or name the version that is in force now."
    )


def test_a_version_that_knows_the_future_of_an_affected_period_is_refused() -> None:
    with pytest.raises(PromotionError) as refused:
        planned(bad="B", to="C")

    assert str(refused.value) == (
        "Version C may be in force only from 2017-06 on: it knows what happened until then, and would score 2017-05 with that "
        "knowledge. Roll back to an older version (A, B)."
    )


def test_a_period_that_was_scored_before_anything_was_in_force_is_scored_by_the_version_that_comes() -> None:
    early = (WrittenPeriod(period="2017-03", version="C", order="order-03", rows=30),)

    assert planned(here=kept(written=early, earliest={**EARLIEST, "A": "2017-02"}), to="A").scores == {"2017-03": "A"}
    with pytest.raises(PromotionError, match=r"Version B may be in force only from 2017-05 on: .* would score 2017-03 with"):
        planned(here=kept(written=early), to="B")


# --- a rollback that was begun and not finished ---


def begun(**changes: Any) -> PipelineState:
    """C was withdrawn for B; 2017-07 and 2017-08 still show it."""
    left = tuple(item for item in WRITTEN if item.period != "2017-06")
    return kept(roll_back(promoted(THREE), "B", "2017-06", reason="drift"), written=left, **changes)


def test_a_rollback_that_was_begun_is_finished_first() -> None:
    found = planned(here=begun(), reason="once more")

    assert (found.finishes, found.bad, found.to, found.reason) == (4, "C", "B", "drift")
    assert found.scores == {"2017-07": "B", "2017-08": "B"}
    assert found.in_words.startswith("Finish entry 4, the rollback from C to B: 2 periods, 150 rows will be scored again")


def test_a_rollback_that_was_begun_does_not_stand_in_the_way_of_another_one_that_is_named() -> None:
    found = planned(here=begun(), to="A")

    assert (found.finishes, found.bad, found.to) == (0, "B", "A")


def test_where_another_version_took_over_meanwhile_a_person_says_which_rollback_is_meant() -> None:
    log = promote(begun().log, "D", "2017-07")
    here = kept(log, written=begun().written, earliest={**EARLIEST, "D": "2017-07"})

    with pytest.raises(PromotionError) as refused:
        planned(here=here)
    assert str(refused.value) == (
        "Entry 4 of the promotion log rolled back from C to B and was not finished, and D is in force now. "
        "Name the version to roll back from: C, which finishes that rollback, or D."
    )
    assert (planned(here=here, bad="C").finishes, planned(here=here, bad="D").finishes) == (4, 0)


def begun_of_an_older_one(**changes: Any) -> PipelineState:
    """B was withdrawn for A while C was in force already; 2017-05 still shows B."""
    return kept(roll_back(promoted(THREE), "A", "2017-05", replaces="B", previous="B"), **changes)


def test_a_rollback_is_finished_by_the_next_one_also_where_another_version_was_champion_when_it_began() -> None:
    found = planned(here=begun_of_an_older_one())

    assert (found.finishes, found.bad, found.to, found.scores) == (4, "B", "A", {"2017-05": "A"})


def test_a_promotion_that_does_not_reach_the_champion_leaves_no_doubt_which_rollback_is_meant() -> None:
    log = promote(begun_of_an_older_one().log, "D", "2017-05")
    here = kept(log, earliest={**EARLIEST, "D": "2017-05"})

    assert (log.champion, planned(here=here).finishes) == ("C", 4)
    assert planned(here=here).scores == {"2017-05": "D"}


def test_a_rollback_to_the_older_one_by_name_may_mean_the_champion_so_a_person_says_which() -> None:
    here = begun_of_an_older_one()

    with pytest.raises(
        PromotionError, match=r"C is in force now\. Name the version to roll back from: B, which finishes .*, or C"
    ):
        planned(here=here, to="A")
    assert (planned(here=here, to="A", bad="B").finishes, planned(here=here, to="A", bad="C").finishes) == (4, 0)


def test_a_rollback_that_is_finished_is_nobody_s_doubt() -> None:
    log = promote(begun_of_an_older_one().log, "D", "2017-07")
    here = kept(log, written=WRITTEN[1:], earliest={**EARLIEST, "D": "2017-07"})

    assert (planned(here=here).finishes, planned(here=here).bad, planned(here=here).to) == (0, "D", "C")


def test_what_was_reinstated_and_withdrawn_again_by_hand_does_not_bring_its_old_rollback_back() -> None:
    log = begun().log
    for action in (Action.REINSTATE, Action.WITHDRAW):
        log = Log((*log.entries, log.next(action, "C", manifest="", reason="again", at=NOON, nonce=action.value)))

    found = planned(here=kept(log, written=begun().written))

    assert "C" in log.withdrawn
    assert (found.finishes, found.bad, found.to) == (0, "B", "A")


def test_a_rollback_without_withdrawal_finishes_nothing() -> None:
    found = planned(here=begun(), withdraw=False)

    assert (found.finishes, found.bad, found.withdraw) == (0, "B", False)


def test_of_several_rollbacks_from_one_version_the_last_says_what_is_to_be_finished() -> None:
    part = planned(periods=["2017-06"])
    log = begun().log
    log = Log((*log.entries, log.next(Action.REINSTATE, "C", manifest="", reason="right", at=NOON, nonce="5")))
    log = roll_back(promote(log, "C", "2017-06"), "B", "2017-06")
    found = planned(here=kept(log, written=begun().written, plans={7: part}))

    assert (found.finishes, found.bad, found.to) == (0, "B", "A")


def test_a_rollback_to_a_version_that_was_withdrawn_since_is_finished_with_what_is_in_force() -> None:
    log = roll_back(begun().log, "A", "2017-06")
    found = planned(here=kept(log, written=begun().written), bad="C")

    assert log.withdrawn == {"B", "C"}
    assert (found.finishes, found.to, found.scores) == (4, "A", {"2017-07": "A", "2017-08": "A"})


def test_periods_that_a_person_left_out_are_not_finished_by_the_next_rollback() -> None:
    part = planned(periods=["2017-06"])
    found = planned(here=begun(plans={4: part}))

    assert part.asked
    assert (found.finishes, found.bad, found.to) == (0, "B", "A")


def test_a_reinstated_version_leaves_nothing_to_be_finished() -> None:
    here = begun()
    log = Log((*here.log.entries, here.log.next(Action.REINSTATE, "C", manifest="", reason="right", at=NOON, nonce="5")))

    assert planned(here=kept(log, written=here.written)).finishes == 0


def test_a_missing_reason_is_refused() -> None:
    for reason in ("", "  \n"):
        with pytest.raises(PromotionError) as refused:
            planned(reason=reason)
        assert str(refused.value) == "Rollback: expected a reason, got none. Give one: it stays in the promotion log."


def test_a_rollback_with_nothing_in_force_is_refused() -> None:
    with pytest.raises(PromotionError) as refused:
        planned(here=kept(Log(), written=()))

    assert str(refused.value) == "Pipeline shop has no version in force, so there is nothing to roll back."


def test_a_rollback_with_nothing_older_is_refused() -> None:
    with pytest.raises(PromotionError, match="the log has none older than A that is not withdrawn"):
        planned(promoted(THREE[:1]))


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ("X", "Version 'X' is unknown (there are: A, B, C). Name one of them."),
        ("C", "Version C is the one to roll back from. Name an older one."),
    ],
)
def test_a_rollback_to_what_cannot_come_is_refused(to: str, text: str) -> None:
    with pytest.raises(PromotionError) as refused:
        planned(to=to)

    assert str(refused.value) == text


def test_the_version_before_is_refused_when_its_bundle_is_gone() -> None:
    with pytest.raises(PromotionError, match=r"Version 'B' is unknown \(there are: A, C\)"):
        planned(here=kept(earliest={"A": "2017-04", "C": "2017-06"}))


def test_a_plan_is_read_as_it_was_written() -> None:
    assert decode(RollbackPlan, encode(planned())) == planned()
