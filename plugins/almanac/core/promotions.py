"""The promotion log and its fold: which version is in force for which period.

The log is numbered from 1 and append-only; each entry holds the digest of the one before. `in_force` is one fold for
every kind of run, so a backfill gives the same answer in any order, and a backfilled retrain, whose effective period
is old, can never overtake the live champion.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from almanac.core.canonical import digest
from almanac.errors import IllegalTransition, IntegrityError, PromotionError, examples

GENESIS = "0" * 64
LOG = "log"  # a fact of published predictions: the mark of the log when they became visible


class Action(Enum):
    """What an entry does with its version.

    PROMOTE     puts it in force from its effective period on
    ROLL_BACK   puts it in force wherever the version that it replaces was, and may withdraw that one
    WITHDRAW    ends its use; it is in force nowhere
    REINSTATE   ends its withdrawal; it is in the history again, and may be promoted
    """

    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    WITHDRAW = "withdraw"
    REINSTATE = "reinstate"


class Standing(Enum):
    """Where a version stands in the log."""

    HISTORY = "in the history"
    IN_FORCE = "in force"
    WITHDRAWN = "withdrawn"


# The standings of a version from which each action is legal.
LEGAL: Mapping[Action, frozenset[Standing]] = {
    Action.PROMOTE: frozenset({Standing.HISTORY, Standing.IN_FORCE}),
    Action.ROLL_BACK: frozenset({Standing.HISTORY, Standing.IN_FORCE}),
    Action.WITHDRAW: frozenset({Standing.HISTORY}),
    Action.REINSTATE: frozenset({Standing.WITHDRAWN}),
}
INSTEAD: Mapping[tuple[Action, Standing], str] = {
    (Action.PROMOTE, Standing.WITHDRAWN): "Reinstate it first, or promote another one",
    (Action.ROLL_BACK, Standing.WITHDRAWN): "Reinstate it first, or name another one",
    (Action.WITHDRAW, Standing.IN_FORCE): "Roll back from it: that withdraws it and scores what it wrote again",
    (Action.WITHDRAW, Standing.WITHDRAWN): "There is nothing to do",
    (Action.REINSTATE, Standing.HISTORY): "Only a withdrawn version can be reinstated",
    (Action.REINSTATE, Standing.IN_FORCE): "Only a withdrawn version can be reinstated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One numbered entry of the promotion log.

    Args:
        sequence: 1, 2, 3 ...
        before: digest of the previous entry; zeros for the first.
        version: the one that the entry puts in force, withdraws or reinstates.
        manifest: digest of its manifest.
        effective: the period from which it is in force; empty if the entry puts nothing in force.
        previous: what was in force for that period before; empty for nothing.
        replaces: the version that a rollback takes out of force.
        withdraw: whether a rollback withdraws that version, so that its predictions are scored again.
        plan: URI of a rollback's plan.
        gate: URI of the gate's receipt; empty for a promotion without a gate.
        verdict: that of the gate.
        reason, actor, run, at: why, by whom, in which run and when.
        approver: who approved a promotion, if the pipeline requires approval.
        nonce: makes two writers' entries differ, so that a lost response is not mistaken for a lost race.
    """

    sequence: int
    before: str
    action: Action
    version: str
    manifest: str
    reason: str
    at: datetime
    nonce: str
    effective: str = ""
    previous: str = ""
    replaces: str = ""
    withdraw: bool = False
    plan: str = ""
    gate: str = ""
    verdict: str = ""
    actor: str = ""
    approver: str = ""
    run: str = ""

    @property
    def digest(self) -> str:
        return _digest(self)

    @property
    def over_a_rejection(self) -> bool:
        """Promoted by hand although the gate had not let it through. It is always shown as such."""
        return self.action is Action.PROMOTE and self.verdict not in ("", "promote")


@functools.lru_cache(maxsize=20_000)
def _digest(entry: Entry) -> str:
    # A log is folded many times, and its entries never change.
    return digest(entry)


@dataclass(frozen=True)
class Log:
    """The promotion log as it was read, with each entry checked.

    Raises:
        IntegrityError: a number is missing, or an entry does not hold its predecessor's digest.
    """

    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        before = GENESIS
        for number, entry in enumerate(self.entries, start=1):
            if entry.sequence != number:
                raise IntegrityError(
                    f"The promotion log has entry {entry.sequence} where {number} belongs. An entry was removed or added by "
                    "hand; restore it from the bucket's versions before anything else is promoted."
                )
            if entry.before != before:
                raise IntegrityError(
                    f"Entry {number} of the promotion log does not hold the digest of the entry before it. One of the two "
                    "was altered; restore it from the bucket's versions before anything else is promoted."
                )
            before = entry.digest

    @property
    def position(self) -> int:
        return len(self.entries)

    @property
    def head(self) -> str:
        return self.entries[-1].digest if self.entries else GENESIS

    @property
    def mark(self) -> str:
        """What a publish records of the log that it read: position and head, which show later that no entry is missing."""
        return f"{self.position} {self.head}"

    @functools.cached_property
    def withdrawn(self) -> frozenset[str]:
        found: set[str] = set()
        for entry in self.entries:
            if entry.action is Action.WITHDRAW:
                found.add(entry.version)
            elif entry.action is Action.REINSTATE:
                found.discard(entry.version)
            elif entry.withdraw:
                found.add(entry.replaces)
        return frozenset(found)

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that was ever in force, in the order in which it first was."""
        return tuple(dict.fromkeys(entry.version for entry in self.entries if entry.effective))

    def standing(self, version: str) -> Standing:
        if version in self.withdrawn:
            return Standing.WITHDRAWN
        return Standing.IN_FORCE if version in self.assignments().values() else Standing.HISTORY

    def assignments(self) -> Mapping[str, str]:
        """Effective period to version; the newest entry for a period decides.

        A rollback puts its version wherever the replaced one was; without withdrawal, only from its effective period on.
        """
        return self._assignments

    @functools.cached_property
    def _assignments(self) -> Mapping[str, str]:
        return _fold(self.entries)

    def in_force(self, period: str) -> str | None:
        """The version that scores a period: the one with the newest effective period at or before it."""
        return _holding(self.assignments(), period)

    def overtaken(self, period: str, version: str, *, asked: bool) -> str:
        """Why a period should not show a version, in plain words; empty if it should. `asked`: a person named the version."""
        held = self.in_force(period)
        if version in self.withdrawn:
            return f"version {version} is withdrawn"
        return "" if asked or held == version else f"{f'version {held}' if held else 'nothing'} is in force for it"

    @property
    def champion(self) -> str | None:
        """The version in force from now on."""
        return next(reversed(list(self.assignments().values())), None)

    def before(self, version: str) -> str:
        """The version that would be in force where this one begins, had this one never been, among those not withdrawn.

        Later promotions count as well, such as that of a backfilled retrain.

        Raises:
            PromotionError: there is no older version that is not withdrawn.
        """
        begins = min((period for period, held in self.assignments().items() if held == version), default="")
        others = _fold(entry for entry in self.entries if entry.version != version)
        older = [held for period, held in others.items() if period <= begins and held not in self.withdrawn]
        if not older:
            raise PromotionError(
                f"There is no version to roll back to: the log has none older than {version} that is not withdrawn "
                f"(it has: {examples(self.versions)}). Promote a version first, then roll back to it by name."
            )
        return older[-1]

    def check(self, action: Action, version: str) -> None:
        """Checks that a version's standing allows an action.

        Raises:
            IllegalTransition: it does not; the message says what to do instead.
        """
        standing = self.standing(version)
        if standing not in LEGAL[action]:
            verb = action.value.replace("_", " ")
            legal = " or ".join(sorted(item.value for item in LEGAL[action]))
            raise IllegalTransition(
                f"Cannot {verb}{' to' if action is Action.ROLL_BACK else ''} {version}: expected a version that is {legal}, got "
                f"one that is {standing.value}. {INSTEAD[action, standing]}."
            )

    def check_replaced(self, bad: str) -> None:
        """Checks that a rollback is from a version that is in force.

        Raises:
            IllegalTransition: it is not.
        """
        if (standing := self.standing(bad)) is not Standing.IN_FORCE:
            held = examples(dict.fromkeys(self.assignments().values()), 12)
            raise IllegalTransition(
                f"Cannot roll back from {bad}: expected a version that is in force ({held}), got one that is {standing.value}. "
                "Name one of these, or none for the one in force now."
            )

    def check_rollback(self, to: str, bad: str, known: Iterable[str]) -> None:
        """Checks that a rollback is to another version, which exists and is not withdrawn.

        Raises:
            PromotionError: `to` is unknown, or the version to roll back from.
            IllegalTransition: it is withdrawn.
        """
        listed = list(known)
        if to not in listed:
            raise PromotionError(f"Version {to!r} is unknown (there are: {examples(listed, 12)}). Name one of them.")
        if to == bad:
            raise PromotionError(f"Version {to} is the one to roll back from. Name an older one.")
        self.check(Action.ROLL_BACK, to)

    def next(self, action: Action, version: str, *, manifest: str, reason: str, at: datetime, nonce: str, **more: Any) -> Entry:
        """The next entry of this log. `previous` is what is in force for its effective period, if it has one."""
        effective = str(more.get("effective", ""))
        before: dict[str, Any] = {"previous": (self.in_force(effective) if effective else None) or ""}
        return Entry(
            sequence=self.position + 1,
            before=self.head,
            action=action,
            version=version,
            manifest=manifest,
            reason=reason,
            at=at,
            nonce=nonce,
            **{**before, **more},
        )


def _fold(entries: Iterable[Entry]) -> dict[str, str]:
    standing: dict[str, str] = {}
    for entry in entries:
        if entry.action is Action.PROMOTE:
            standing[entry.effective] = entry.version
        elif entry.action is Action.ROLL_BACK:
            if not entry.withdraw and _holding(standing, entry.effective) == entry.replaces:
                standing[entry.effective] = entry.version
            begins = "" if entry.withdraw else entry.effective
            replaced = {period for period, held in standing.items() if held == entry.replaces and period >= begins}
            standing.update(dict.fromkeys(replaced, entry.version))
    return dict(sorted(standing.items()))


def _holding(standing: Mapping[str, str], period: str) -> str | None:
    newest = max((effective for effective in standing if effective <= period), default=None)
    return None if newest is None else standing[newest]
