"""The promotion log: its chain, and the fold that says which version is in force for which period."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac.core.canonical import decode, encode
from almanac.core.promotions import GENESIS, Action, Entry, Log
from almanac.core.rollback import PipelineState, plan_rollback
from almanac.errors import IntegrityError, PromotionError
from tests.support.records import altered, promote, promoted, roll_back

MONTHS = [f"2017-{number:02d}" for number in range(1, 13)]
THREE = (("A", "2017-04"), ("B", "2017-05"), ("C", "2017-06"))


def in_force(log: Log) -> str:
    """A letter a month of 2017; a dot where nothing is in force."""
    return "".join(log.in_force(month) or "." for month in MONTHS)


# --- the fold ---


def test_nothing_is_in_force_in_an_empty_log() -> None:
    log = Log()

    assert (log.position, log.head, log.champion, log.in_force("2017-06")) == (0, GENESIS, None, None)
    assert (log.versions, log.withdrawn) == ((), frozenset())


def test_a_version_is_in_force_from_its_effective_period_until_the_next_ones() -> None:
    log = promoted(THREE)

    assert in_force(log) == "...ABCCCCCCC"
    assert log.champion == "C"
    assert log.versions == ("A", "B", "C")


def test_a_backfilled_retrain_never_overtakes_the_live_champion() -> None:
    log = promote(promoted((("A", "2017-04"), ("C", "2017-09"))), "B", "2017-06")

    assert in_force(log) == "...AABBBCCCC"
    assert log.champion == "C"


def test_of_two_promotions_for_one_period_the_later_holds() -> None:
    log = promote(promoted(THREE), "D", "2017-05")

    assert in_force(log) == "...ADCCCCCCC"


@given(order=st.permutations([("A", "2017-04"), ("B", "2017-05"), ("C", "2017-08"), ("D", "2017-11")]))
def test_promotions_for_different_periods_give_the_same_in_any_order(order: list[tuple[str, str]]) -> None:
    assert in_force(promoted(order)) == "...ABBBCCCDD"


def test_a_rollback_that_withdraws_puts_its_version_wherever_the_other_stood() -> None:
    log = roll_back(promoted(THREE), "B", "2017-06")

    assert in_force(log) == "...ABBBBBBBB"
    assert log.withdrawn == {"C"}
    assert log.champion == "B"


def test_a_withdrawn_version_is_in_force_for_nothing_whatever_effective_period_its_entry_names() -> None:
    assert in_force(roll_back(promoted(THREE), "A", "2017-09")) == "...ABAAAAAAA"


def test_a_rollback_may_go_to_an_older_version_than_the_previous_one() -> None:
    log = roll_back(promoted(THREE), "A", "2017-06")

    assert in_force(log) == "...ABAAAAAAA"
    assert log.withdrawn == {"C"}


def test_a_rollback_without_withdrawal_moves_only_periods_from_its_effective_one_on() -> None:
    log = roll_back(promoted(THREE), "B", "2017-09", withdraw=False)

    assert in_force(log) == "...ABCCCBBBB"
    assert log.withdrawn == frozenset()
    assert log.champion == "B"


def test_a_rollback_without_withdrawal_takes_the_version_out_of_everything_to_come() -> None:
    """After C was withdrawn B stands twice, from 05 and from 06. Both are to come when nothing was scored."""
    twice = roll_back(promoted(THREE), "B", "2017-06")

    assert in_force(roll_back(twice, "A", "2017-05", withdraw=False)) == "...AAAAAAAAA"
    assert in_force(roll_back(twice, "A", "2017-06", withdraw=False)) == "...ABAAAAAAA"
    assert in_force(roll_back(twice, "A", "2017-08", withdraw=False)) == "...ABBBAAAAA"


def test_a_rollback_without_withdrawal_leaves_other_versions_where_they_stand() -> None:
    returned = roll_back(promoted((("B", "2017-04"), ("A", "2017-05"))), "B", "2017-07", withdraw=False)

    assert in_force(returned) == "...BAABBBBBB"
    assert in_force(roll_back(returned, "Z", "2017-05", withdraw=False)) == "...BAAZZZZZZ"


def test_a_promotion_after_a_rollback_takes_over_from_its_own_period() -> None:
    log = promote(roll_back(promoted(THREE), "B", "2017-06"), "D", "2017-08")

    assert in_force(log) == "...ABBBDDDDD"
    assert log.champion == "D"


def test_two_rollbacks_in_a_row_lead_further_back() -> None:
    log = roll_back(roll_back(promoted(THREE), "B", "2017-06"), "A", "2017-05")

    assert in_force(log) == "...AAAAAAAAA"
    assert log.withdrawn == {"B", "C"}


class Ledger:
    """The fold as it would be said: for each month the version that holds it, and since when it may."""

    def __init__(self) -> None:
        self.months = dict.fromkeys(MONTHS, ("", ""))
        self.withdrawn: set[str] = set()

    def promote(self, version: str, effective: str) -> None:
        for month, (since, _) in self.months.items():
            if since <= effective <= month:
                self.months[month] = (effective, version)

    def roll_back(self, bad: str, to: str, effective: str, withdraw: bool) -> None:
        for month, (since, held) in self.months.items():
            if held == bad and (withdraw or effective <= month):
                self.months[month] = (since if withdraw else max(since, effective), to)
        self.withdrawn |= {bad} if withdraw else set()

    @property
    def champion(self) -> str:
        return self.months[MONTHS[-1]][1]


@given(data=st.data())
def test_the_fold_is_what_a_plain_ledger_of_months_says(data: st.DataObject) -> None:
    log, ledger, names = Log(), Ledger(), iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    known = [next(names)]  # trained, never promoted
    for _ in range(data.draw(st.integers(1, 9), label="steps")):
        targets = [name for name in known if name not in ledger.withdrawn and name != ledger.champion]
        if log.champion and targets and data.draw(st.booleans(), label="roll back"):
            bad, to = log.champion, data.draw(st.sampled_from(targets), label="to")
            withdraw = data.draw(st.booleans(), label="withdraw")
            following = data.draw(st.sampled_from(["", *MONTHS]), label="first period not yet scored")
            planned = plan_rollback(
                "shop",
                PipelineState(log=log, written=(), earliest=dict.fromkeys(known, "")),
                reason="bad",
                to=to,
                withdraw=withdraw,
                next_period=following,
            )
            log = roll_back(log, to, planned.effective, withdraw=withdraw)
            ledger.roll_back(bad, to, planned.effective, withdraw)
            assert log.champion == to, "whatever is rolled back from is not in force from now on"
        else:
            version = data.draw(st.sampled_from([next(names), *sorted(set(known) - ledger.withdrawn)]), label="version")
            effective = data.draw(st.sampled_from(MONTHS), label="effective")
            known.append(version)
            log = promote(log, version, effective)
            ledger.promote(version, effective)

        assert in_force(log) == "".join(held or "." for _, held in ledger.months.values())
        assert log.champion == ledger.champion
        assert log.withdrawn == ledger.withdrawn
        assert not set(in_force(log)) & log.withdrawn, "a withdrawn version is in force for nothing"


# --- what was before ---


def test_before_a_version_is_what_it_took_over_from() -> None:
    log = promoted(THREE)

    assert log.before("C") == "B"
    assert log.before("B") == "A"


def test_before_a_backfilled_version_is_what_held_its_period_and_not_the_champion() -> None:
    log = promote(promoted((("A", "2017-04"), ("C", "2017-09"))), "B", "2017-06")

    assert log.before("B") == "A"


def test_before_a_version_that_was_retrained_for_the_same_period_is_the_one_it_took_over_from() -> None:
    assert promote(promoted(THREE), "D", "2017-06").before("D") == "C"


def test_before_a_version_is_also_what_was_promoted_later_for_an_older_period() -> None:
    """As in a world where C never was: the backfilled B would be in force for 2017-09."""
    log = promote(promoted((("A", "2017-04"), ("C", "2017-09"))), "B", "2017-06")

    assert log.before("C") == "B"


def test_before_a_version_is_nothing_that_was_withdrawn() -> None:
    log = promote(roll_back(promoted(THREE), "B", "2017-06"), "D", "2017-07")
    further = roll_back(log, "B", "2017-07")

    assert log.before("D") == "B"
    assert further.before("B") == "A"


def test_before_a_version_that_a_rollback_put_in_force_is_what_is_older_and_not_withdrawn() -> None:
    log = roll_back(promoted((("A", "2017-04"), ("B", "2017-05"))), "Z", "2017-05")

    assert log.champion == "Z"
    assert log.before("Z") == "A"


def test_where_nothing_is_older_a_rollback_is_refused_with_what_the_log_has() -> None:
    with pytest.raises(PromotionError) as refused:
        promoted((("A", "2017-04"), ("B", "2017-05"))).before("A")

    assert str(refused.value) == (
        "There is no version to roll back to: the log has none older than A that is not withdrawn (it has: A, B). "
        "Promote a version first, then roll back to it by name."
    )


def test_where_everything_older_was_withdrawn_a_rollback_is_refused() -> None:
    log = roll_back(promoted((("A", "2017-04"), ("B", "2017-05"))), "A", "2017-05")

    with pytest.raises(PromotionError, match="the log has none older than A that is not withdrawn"):
        log.before("A")


# --- the chain ---


def test_entries_hold_the_digest_of_the_one_before() -> None:
    log = promoted(THREE)

    assert [entry.sequence for entry in log.entries] == [1, 2, 3]
    assert [entry.before for entry in log.entries] == [GENESIS, log.entries[0].digest, log.entries[1].digest]
    assert log.head == log.entries[2].digest


@pytest.mark.parametrize(("removed", "found", "belongs"), [(1, 2, 1), (2, 3, 2)])
def test_a_removed_entry_is_found(removed: int, found: int, belongs: int) -> None:
    entries = tuple(entry for entry in promoted(THREE).entries if entry.sequence != removed)
    with pytest.raises(IntegrityError) as refused:
        Log(entries)

    assert str(refused.value) == (
        f"The promotion log has entry {found} where {belongs} belongs. An entry was removed or added by hand; "
        "restore it from the bucket's versions before anything else is promoted."
    )


def test_an_entry_that_is_there_twice_is_found() -> None:
    entries = promoted(THREE).entries
    with pytest.raises(IntegrityError, match="has entry 1 where 2 belongs"):
        Log((entries[0], entries[0], *entries[1:]))


@pytest.mark.parametrize(
    "changes", [{"version": "X"}, {"effective": "2016-01"}, {"reason": "another"}, {"manifest": "another"}, {"withdraw": True}]
)
@pytest.mark.parametrize("sequence", [1, 2])
def test_an_altered_entry_is_found_by_the_one_after_it(sequence: int, changes: dict[str, object]) -> None:
    with pytest.raises(IntegrityError) as refused:
        Log(altered(promoted(THREE), sequence, **changes))

    assert str(refused.value) == (
        f"Entry {sequence + 1} of the promotion log does not hold the digest of the entry before it. One of the two was "
        "altered; restore it from the bucket's versions before anything else is promoted."
    )


def test_a_first_entry_that_claims_a_predecessor_is_found() -> None:
    with pytest.raises(IntegrityError, match="Entry 1 of the promotion log does not hold the digest"):
        Log(altered(promoted(THREE), 1, before="f" * 64))


def test_an_entry_is_read_as_it_was_written() -> None:
    for entry in roll_back(promoted(THREE), "B", "2017-06").entries:
        assert decode(Entry, encode(entry)) == entry
        assert decode(Entry, encode(entry)).digest == entry.digest


def test_a_promotion_over_a_rejection_shows_as_such() -> None:
    entry = promoted(THREE).entries[0]

    assert not entry.over_a_rejection
    assert not replace(entry, verdict="promote").over_a_rejection
    assert replace(entry, verdict="reject").over_a_rejection
    assert replace(entry, verdict="not_comparable").over_a_rejection
    assert not replace(entry, verdict="reject", action=Action.ROLL_BACK).over_a_rejection
