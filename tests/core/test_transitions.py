"""What an action of the promotion log may be taken on, and what is said where it may not."""

from __future__ import annotations

import pytest

from almanac.core.promotions import INSTEAD, LEGAL, Action, Log, Standing
from almanac.errors import IllegalTransition, PromotionError
from tests.support.records import NOON, promote, promoted, roll_back

THREE = (("A", "2017-04"), ("B", "2017-05"), ("C", "2017-06"))


def step(log: Log, action: Action, version: str) -> Log:
    """The log with a withdrawal or a reinstatement behind it."""
    entry = log.next(action, version, manifest="", reason="because", at=NOON, nonce=f"nonce {log.position + 1}")
    return Log((*log.entries, entry))


@pytest.mark.parametrize(
    ("action", "version", "text"),
    [
        (
            Action.PROMOTE,
            "C",
            "Cannot promote C: expected a version that is in force or in the history, got one that is withdrawn. "
            "Reinstate it first, or promote another one.",
        ),
        (
            Action.ROLL_BACK,
            "C",
            "Cannot roll back to C: expected a version that is in force or in the history, got one that is withdrawn. "
            "Reinstate it first, or name another one.",
        ),
        (
            Action.WITHDRAW,
            "C",
            "Cannot withdraw C: expected a version that is in the history, got one that is withdrawn. There is nothing to do.",
        ),
        (
            Action.WITHDRAW,
            "B",
            "Cannot withdraw B: expected a version that is in the history, got one that is in force. "
            "Roll back from it: that withdraws it and scores what it wrote again.",
        ),
        (
            Action.REINSTATE,
            "B",
            "Cannot reinstate B: expected a version that is withdrawn, got one that is in force. "
            "Only a withdrawn version can be reinstated.",
        ),
        (
            Action.REINSTATE,
            "D",
            "Cannot reinstate D: expected a version that is withdrawn, got one that is in the history. "
            "Only a withdrawn version can be reinstated.",
        ),
    ],
)
def test_an_illegal_transition_is_refused_with_what_to_do_instead(action: Action, version: str, text: str) -> None:
    log = roll_back(promoted(THREE), "B", "2017-06")  # A and B are in force, C is withdrawn, D is in the history
    with pytest.raises(IllegalTransition) as refused:
        log.check(action, version)

    assert str(refused.value) == text


def test_every_action_says_of_every_standing_whether_it_is_legal_or_what_to_do_instead() -> None:
    for action, allowed in LEGAL.items():
        assert {standing for standing in Standing if (action, standing) in INSTEAD} == set(Standing) - allowed
    assert set(LEGAL) == set(Action)


def test_a_version_of_the_history_can_be_withdrawn_and_reinstated() -> None:
    log = promoted(THREE)
    withdrawn = step(log, Action.WITHDRAW, "D")
    back = step(withdrawn, Action.REINSTATE, "D")

    assert (withdrawn.withdrawn, back.withdrawn) == ({"D"}, frozenset())
    assert log.assignments() == withdrawn.assignments() == back.assignments()
    back.check(Action.PROMOTE, "D")


def test_a_reinstated_version_is_in_force_nowhere_until_it_is_promoted() -> None:
    log = step(roll_back(promoted(THREE), "B", "2017-06"), Action.REINSTATE, "C")

    assert log.standing("C") is Standing.HISTORY
    assert log.assignments() == roll_back(promoted(THREE), "B", "2017-06").assignments()
    assert promote(log, "C", "2017-06").champion == "C"


def test_a_rollback_to_a_withdrawn_version_is_refused() -> None:
    log = roll_back(promoted(THREE), "B", "2017-06")
    with pytest.raises(IllegalTransition, match=r"Cannot roll back to C: .* got one that is withdrawn"):
        log.check_rollback("C", "B", ["A", "C"])


def test_a_rollback_to_an_unknown_version_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(PromotionError) as refused:
        promoted(THREE).check_rollback("X", "C", ["A", "B", "C"])

    assert str(refused.value) == "Version 'X' is unknown (there are: A, B, C). Name one of them."


def test_the_list_of_versions_is_bounded() -> None:
    with pytest.raises(PromotionError, match=r"there are: v0, v1, .*, v11 \(and 3 more\)\)"):
        promoted(THREE).check_rollback("X", "C", [f"v{number}" for number in range(15)])


def test_a_rollback_to_the_bad_version_itself_is_refused() -> None:
    with pytest.raises(PromotionError) as refused:
        promoted(THREE).check_rollback("C", "C", ["A", "B", "C"])

    assert str(refused.value) == "Version C is the one to roll back from. Name an older one."
