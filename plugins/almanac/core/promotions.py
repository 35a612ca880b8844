"""The promotion log and its fold: which version is in force for which period.

The log is numbered from 1 and append-only; each entry holds the digest of the one before. `in_force` is one fold for
every kind of run, so a backfill gives the same answer in any order, and a backfilled retrain, whose effective period
is old, can never overtake the live champion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from almanac.core.canonical import digest
from almanac.errors import IntegrityError, PromotionError, examples

GENESIS = "0" * 64


class Action(Enum):
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One numbered entry of the promotion log.

    Args:
        sequence: 1, 2, 3 ...
        before: digest of the entry before; zeros for the first.
        version: what is put in force.
        manifest: digest of its manifest.
        effective: the period from which it is in force.
        previous: what was in force for that period before; empty for nothing.
        replaces: the version that a rollback takes out of force.
        withdraw: whether the replaced version is withdrawn, so that its predictions are scored again.
        gate: URI of the gate's receipt; empty for a promotion that no gate saw.
        verdict: what that gate said.
        reason, actor, run, at: who did it, in which run, when and why.
        nonce: makes two writers' entries differ, so that a lost answer can be told from a lost race.
    """

    sequence: int
    before: str
    action: Action
    version: str
    manifest: str
    effective: str
    reason: str
    at: datetime
    nonce: str
    previous: str = ""
    replaces: str = ""
    withdraw: bool = False
    gate: str = ""
    verdict: str = ""
    actor: str = ""
    run: str = ""

    @property
    def digest(self) -> str:
        return digest(self)

    @property
    def over_a_rejection(self) -> bool:
        """Promoted by hand although the gate had not let it through. Shown as such for ever."""
        return self.action is Action.PROMOTE and self.verdict not in ("", "promote")


@dataclass(frozen=True, slots=True)
class Log:
    """The promotion log as it was read, checked entry by entry.

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
    def withdrawn(self) -> frozenset[str]:
        return frozenset(entry.replaces for entry in self.entries if entry.withdraw)

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that was ever in force, in the order in which it first was."""
        return tuple(dict.fromkeys(entry.version for entry in self.entries))

    def assignments(self) -> Mapping[str, str]:
        """Effective period to version, the newest entry of a period deciding.

        A rollback puts its version wherever the replaced one stood; without withdrawal only from its effective period on.
        """
        standing: dict[str, str] = {}
        for entry in self.entries:
            if entry.action is Action.PROMOTE:
                standing[entry.effective] = entry.version
                continue
            if not entry.withdraw and _holding(standing, entry.effective) == entry.replaces:
                standing[entry.effective] = entry.version
            begins = "" if entry.withdraw else entry.effective
            replaced = {period for period, held in standing.items() if held == entry.replaces and period >= begins}
            standing.update(dict.fromkeys(replaced, entry.version))
        return dict(sorted(standing.items()))

    def in_force(self, period: str) -> str | None:
        """The version that scores a period: the one with the newest effective period at or before it."""
        return _holding(self.assignments(), period)

    @property
    def champion(self) -> str | None:
        """The version in force from now on."""
        return next(reversed(list(self.assignments().values())), None)

    def gate_of(self, version: str) -> Entry | None:
        return next((entry for entry in reversed(self.entries) if entry.version == version), None)

    def before(self, version: str) -> str:
        """What was in force before a version first was, by promotion or by a rollback to it, and may be again.

        Raises:
            PromotionError: there is nothing older that was not withdrawn.
        """
        for entry in self.entries:
            if entry.version == version:
                older = [name for name in self._held_before(entry) if name not in self.withdrawn]
                if older:
                    return older[-1]
                break
        raise PromotionError(
            f"There is no version to roll back to: nothing older than {version} is in force or was "
            f"(the log has: {examples(self.versions)}). Promote a version first, and then roll back to it by name."
        )

    def _held_before(self, entry: Entry) -> list[str]:
        earlier = Log(self.entries[: entry.sequence - 1]).assignments()
        return [version for effective, version in earlier.items() if effective <= entry.effective]

    def check_promotion(self, version: str) -> None:
        """A version that was withdrawn is not promoted again.

        Raises:
            PromotionError: it was.
        """
        if version in self.withdrawn:
            raise PromotionError(f"Version {version} was withdrawn and is not promoted again. Retrain, or promote another one.")

    def check_rollback(self, to: str, bad: str, known: Iterable[str]) -> None:
        """A rollback goes from a version that was in force to another one that exists and was not withdrawn.

        Raises:
            PromotionError: it does not.
        """
        listed = list(known)
        if to not in listed:
            raise PromotionError(f"Version {to!r} is unknown (there are: {examples(listed, 12)}). Name one of them.")
        if to == bad:
            raise PromotionError(f"Version {to} is the one to be rolled back from. Name an older one.")
        if to in self.withdrawn:
            raise PromotionError(f"Version {to} was withdrawn. Name another one: {examples(set(listed) - self.withdrawn, 12)}.")


def _holding(standing: Mapping[str, str], period: str) -> str | None:
    newest = max((effective for effective in standing if effective <= period), default=None)
    return None if newest is None else standing[newest]
