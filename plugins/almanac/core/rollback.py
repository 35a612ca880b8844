"""The plan of a rollback: from which version, to which, and its blast radius."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from almanac.core.canonical import later
from almanac.core.promotions import Action, Entry, Log
from almanac.errors import PromotionError, examples


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPeriod:
    """A visible prediction period: which version wrote it, by which order, how many rows."""

    period: str
    version: str
    order: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """A gate's decision: about which candidate, against which version in force, and the URI of its receipt."""

    candidate: str
    against: str
    verdict: str
    gate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPlan:
    """What a rollback will do; stored before anything changes, so that a retry does the same.

    Args:
        bad, to: the version that is rolled back from and the one that is rolled back to.
        effective: the period from which `to` is in force.
        scores: the blast radius, or the requested part of it: period to the version that scores it again. Empty without
            withdrawal.
        rows: of those periods.
        asked: whether a person named the periods; else they are all that the bad version wrote.
        tainted: the gate's decisions that were taken against the bad version.
        position: the log's position when the plan was made.
        finishes: the number of the entry whose rollback was begun but not finished, and which this plan continues.
        request: what was requested, by name: a different request in the same run is refused.
    """

    pipeline: str
    bad: str
    to: str
    effective: str
    reason: str
    withdraw: bool
    scores: Mapping[str, str]
    rows: int
    asked: bool
    tainted: tuple[GateDecision, ...]
    position: int
    finishes: int = 0
    request: Mapping[str, Any] | None = later(None)

    @property
    def periods(self) -> tuple[str, ...]:
        return tuple(sorted(self.scores))

    @property
    def in_words(self) -> str:
        again = f"{len(self.scores)} periods, {self.rows} rows will be scored again ({', '.join(self.periods)})"
        begun = f"Finish entry {self.finishes}, the rollback" if self.finishes else "Roll back"
        summary = f"{begun} from {self.bad} to {self.to}: {again if self.scores else 'nothing will be scored again'}."
        return f"{summary} Gate decisions against {self.bad}: {examples(item.candidate for item in self.tainted)}."


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineState:
    """The stored state of a pipeline that a rollback's plan needs.

    Args:
        log: the promotion log.
        written: the visible prediction periods.
        earliest: every version, and the first period that it may be in force for: it knows what happened before that.
        decided: the gate's decisions.
        plans: of earlier rollbacks, by the number of their entry.
    """

    log: Log
    written: Sequence[WrittenPeriod]
    earliest: Mapping[str, str]
    decided: Sequence[GateDecision] = ()
    plans: Mapping[int, RollbackPlan] | None = None


def plan_rollback(
    pipeline: str,
    kept: PipelineState,
    *,
    reason: str,
    to: str | None = None,
    bad: str | None = None,
    withdraw: bool = True,
    periods: Iterable[str] | None = None,
    next_period: str = "",
) -> RollbackPlan:
    """The plan to take a version out of force: `bad`, or the one in force now.

    A rollback that was begun but not finished is continued. Without `bad` that is refused if the champion may be meant as
    well: another version has become champion since, or `to` is named and is not the champion. `next_period` is the first one
    not yet scored: without withdrawal, `to` is in force from there.

    Raises:
        PromotionError: nothing is in force, nothing is older, a version is unknown, the reason is missing, `to` is too new
            for a period, a requested period was not written by the version or is not scored again, or it is unclear which
            version is meant.
        IllegalTransition: `bad` is not in force, or `to` is withdrawn.
    """
    if not reason.strip():
        raise PromotionError("Rollback: expected a reason, got none. Give one: it stays in the promotion log.")
    asked = None if periods is None else sorted(set(periods))
    if asked == []:
        raise PromotionError(
            "Rollback: expected at least one period, got none. Name some, or leave periods out for all that are affected."
        )
    log, begun = kept.log, unfinished(kept, bad) or _rest(kept, bad)
    if begun is not None and withdraw and to in (None, begun.version):
        if bad is None:
            _check_meant(log, begun, to)
        return _finishing(pipeline, kept, begun, asked)
    goes = bad or log.champion
    if goes is None:
        raise PromotionError(f"Pipeline {pipeline} has no version in force, so there is nothing to roll back.")
    log.check_replaced(goes)
    comes = to or log.before(goes)
    log.check_rollback(comes, goes, kept.earliest)
    if asked and not withdraw:
        raise PromotionError(
            f"Periods {', '.join(asked)} were requested, but without withdrawal nothing is scored again. "
            "Leave periods out, or withdraw the version."
        )
    effective = _effective(log, goes, "" if withdraw else next_period)
    held = [period for period, version in log.assignments().items() if version == goes and period > effective]
    _check_age(kept, comes, [effective, *held])
    radius = _radius(kept, goes) if withdraw else {}
    chosen = _chosen(goes, radius, asked)
    after = _after(log, goes, comes, effective, withdraw)
    return RollbackPlan(
        pipeline=pipeline,
        bad=goes,
        to=comes,
        effective=effective,
        reason=reason,
        withdraw=withdraw,
        scores=_scores(kept, after, comes, chosen),
        rows=sum(radius[period].rows for period in chosen),
        asked=asked is not None,
        tainted=tuple(item for item in kept.decided if item.against == goes),
        position=log.position,
    )


def unfinished(kept: PipelineState, bad: str | None = None) -> Entry | None:
    """The newest rollback that left periods which it should have scored again: they still show the version that it withdrew.

    Of several rollbacks from one version the last one counts. With `bad`, only those from that version.
    """
    last = {entry.replaces: entry for entry in kept.log.entries if entry.action is Action.ROLL_BACK and entry.withdraw}
    begun = sorted((entry for name, entry in last.items() if bad in (None, name)), key=lambda entry: -entry.sequence)
    return next((entry for entry in begun if _left(kept, entry)), None)


def _check_meant(log: Log, begun: Entry, to: str | None) -> None:
    """Checks that a rollback that names no version can only mean the one begun, not the champion. Raises: PromotionError."""
    then = Log(log.entries[: begun.sequence]).champion
    if log.champion != then or (to is not None and log.champion != to):
        raise PromotionError(
            f"Entry {begun.sequence} of the promotion log rolled back from {begun.replaces} to {begun.version} and was not "
            f"finished, and {log.champion} is in force now. Name the version to roll back from: {begun.replaces}, which "
            f"finishes that rollback, or {log.champion}."
        )


def _left(kept: PipelineState, entry: Entry) -> dict[str, WrittenPeriod]:
    later = kept.log.entries[entry.sequence :]
    if any(item.action is Action.REINSTATE and item.version == entry.replaces for item in later):
        return {}  # a withdrawal after that is not this entry's
    planned = (kept.plans or {}).get(entry.sequence)
    radius = _radius(kept, entry.replaces)
    if planned and planned.asked:
        return {period: item for period, item in radius.items() if period in planned.scores}
    return radius


def _rest(kept: PipelineState, bad: str | None) -> Entry | None:
    """The rollback from a named version, if a person left out periods that still show that version."""
    if bad not in kept.log.withdrawn or not _radius(kept, str(bad)):
        return None
    gone = (entry for entry in reversed(kept.log.entries) if entry.withdraw and entry.replaces == bad)
    return next(gone, None)


def _finishing(pipeline: str, kept: PipelineState, begun: Entry, asked: Sequence[str] | None) -> RollbackPlan:
    planned, left = (kept.plans or {}).get(begun.sequence), _left(kept, begun)
    radius = _radius(kept, begun.replaces)
    if asked or not left:  # periods that it left out can be named; once nothing else is left, they are the rest
        planned, left = None, radius
    chosen = _chosen(begun.replaces, left, asked)
    # The version that it rolled back to may have been withdrawn since.
    comes = begun.version if begun.version not in kept.log.withdrawn else kept.log.champion or begun.version
    return RollbackPlan(
        pipeline=pipeline,
        bad=begun.replaces,
        to=comes,
        effective=begun.effective,
        reason=begun.reason,
        withdraw=True,
        scores=_scores(kept, kept.log, comes, chosen),
        rows=sum(left[period].rows for period in chosen),
        asked=asked is not None or (planned is not None and planned.asked),
        tainted=tuple(item for item in kept.decided if item.against == begun.replaces),
        position=kept.log.position,
        finishes=begun.sequence,
    )


def _radius(kept: PipelineState, version: str) -> dict[str, WrittenPeriod]:
    return {item.period: item for item in kept.written if item.version == version}


def _effective(log: Log, bad: str, begins: str) -> str:
    """The first period from `begins` on for which the bad version is in force. Raises: PromotionError: there is none."""
    if log.in_force(begins) == bad:
        return begins
    held = [period for period, version in log.assignments().items() if version == bad and period > begins]
    if not held:
        raise PromotionError(
            f"Version {bad} is in force for no period from {begins} on, so without withdrawal nothing would change. "
            "Withdraw it, or name the version that is in force now."
        )
    return min(held)


def _after(log: Log, bad: str, to: str, effective: str, withdraw: bool) -> Log:
    """The log as it will be after the rollback."""
    entry = log.next(
        Action.ROLL_BACK,
        to,
        effective=effective,
        previous=bad,
        replaces=bad,
        withdraw=withdraw,
        manifest="",
        reason="",
        nonce="",
        at=datetime.min.replace(tzinfo=UTC),
    )
    return Log((*log.entries, entry))


def _check_age(kept: PipelineState, to: str, periods: Iterable[str]) -> None:
    """Checks that a version is not in force for a period that it was trained after: it would know that period's future."""
    if early := [period for period in periods if period < kept.earliest[to]]:
        older = [version for version, first in kept.earliest.items() if first <= min(early) and version != to]
        raise PromotionError(
            f"Version {to} may be in force only from {kept.earliest[to]} on: it knows what happened until then, and would score "
            f"{examples(early, 12)} with that knowledge. Roll back to an older version ({examples(older, 12)})."
        )


def _scores(kept: PipelineState, after: Log, to: str, periods: Iterable[str]) -> dict[str, str]:
    """Which version scores each period again: the one in force after the rollback, else the one rolled back to."""
    scores = {period: after.in_force(period) or to for period in periods}
    _check_age(kept, to, [period for period in scores if after.in_force(period) is None])
    return scores


def _chosen(bad: str, radius: Mapping[str, WrittenPeriod], asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is None:
        return tuple(sorted(radius))
    if strange := [period for period in asked if period not in radius]:
        raise PromotionError(
            f"Version {bad} did not write {', '.join(strange)} (it wrote: {', '.join(sorted(radius)) or 'nothing'}). "
            "Name some of these, or leave periods out for all."
        )
    return tuple(asked)
