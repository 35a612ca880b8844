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
    """What a rollback will do; kept before anything changes, so that a retry means the same.

    Args:
        bad, to: the version that goes and the one that comes.
        effective: the period from which `to` is in force.
        scores: the blast radius, or the part of it that was asked for: period to the version that scores it again. Empty
            without withdrawal.
        rows: of those periods.
        asked: whether the periods were named by a person; else all that the bad version wrote are meant.
        tainted: the gate's decisions that were taken against the bad version.
        position: the log's position when the plan was made.
        finishes: the number of the entry whose rollback was begun and not finished, and which this one goes on with.
        request: what was asked for, by name: the same run asked for something else is refused.
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
        again = f"{len(self.scores)} periods, {self.rows} rows are scored again ({', '.join(self.periods)})"
        doing = f"Finishes entry {self.finishes}, which went" if self.finishes else "Goes"
        said = f"{doing} from {self.bad} to {self.to}: {again if self.scores else 'nothing is scored again'}."
        return f"{said} Gate decisions taken against it: {examples(item.candidate for item in self.tainted)}."


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineState:
    """What is kept of a pipeline, as a rollback's plan needs it.

    Args:
        log: the promotion log.
        written: the visible prediction periods.
        earliest: every version, and the first period that it may be in force for: it knows what was known before that.
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

    A rollback that was begun and not finished is gone on with. Without `bad` that is refused where the champion may be meant
    as well: another version became champion since, or `to` is named and is not the champion. `next_period` is the first one
    not yet scored: without withdrawal `to` is in force from there.

    Raises:
        PromotionError: nothing is in force, nothing is older, a version is unknown, the reason is missing, `to` is too new
            for a period, a period was asked for that the version did not write, or that is not scored again, or it is not
            clear which version is meant.
        IllegalTransition: `bad` is not in force, or `to` is withdrawn.
    """
    if not reason.strip():
        raise PromotionError("A rollback needs a reason, found none. Give one: it stays in the promotion log.")
    asked = None if periods is None else sorted(set(periods))
    if asked == []:
        raise PromotionError("Periods were asked for, found none. Name some, or leave periods out for all that are affected.")
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
            f"Periods {', '.join(asked)} were asked for, but without withdrawal nothing is scored again. "
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
    """The newest rollback of which periods that it was to score again still show the version that it withdrew.

    Of several rollbacks from one version the last counts. With `bad` only those from that version.
    """
    last = {entry.replaces: entry for entry in kept.log.entries if entry.action is Action.ROLL_BACK and entry.withdraw}
    begun = sorted((entry for name, entry in last.items() if bad in (None, name)), key=lambda entry: -entry.sequence)
    return next((entry for entry in begun if _left(kept, entry)), None)


def _check_meant(log: Log, begun: Entry, to: str | None) -> None:
    """A rollback that names no version finishes the one begun, unless the champion may be meant. Raises: PromotionError."""
    then = Log(log.entries[: begun.sequence]).champion
    if log.champion != then or (to is not None and log.champion != to):
        raise PromotionError(
            f"Entry {begun.sequence} of the promotion log rolled back from {begun.replaces} to {begun.version} and was not "
            f"finished, and {log.champion} is in force now. Say which one is meant: from {begun.replaces}, which finishes "
            f"it, or from {log.champion}."
        )


def _left(kept: PipelineState, entry: Entry) -> dict[str, WrittenPeriod]:
    later = kept.log.entries[entry.sequence :]
    if any(item.action is Action.REINSTATE and item.version == entry.replaces for item in later):
        return {}  # whatever withdrew it again is another matter
    planned = (kept.plans or {}).get(entry.sequence)
    radius = _radius(kept, entry.replaces)
    if planned and planned.asked:
        return {period: item for period, item in radius.items() if period in planned.scores}
    return radius


def _rest(kept: PipelineState, bad: str | None) -> Entry | None:
    """The rollback from a version that is named, of which a person left out periods that still show it."""
    if bad not in kept.log.withdrawn or not _radius(kept, str(bad)):
        return None
    gone = (entry for entry in reversed(kept.log.entries) if entry.withdraw and entry.replaces == bad)
    return next(gone, None)


def _finishing(pipeline: str, kept: PipelineState, begun: Entry, asked: Sequence[str] | None) -> RollbackPlan:
    planned, left = (kept.plans or {}).get(begun.sequence), _left(kept, begun)
    radius = _radius(kept, begun.replaces)
    if asked or not left:  # what was left out of it can be named, and is the rest once nothing else is left
        planned, left = None, radius
    chosen = _chosen(begun.replaces, left, asked)
    # What it went to may have been withdrawn as well since.
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
    """The first period from `begins` on for which the bad version is in force. Raises: PromotionError, if there is none."""
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
    """The log as it will be."""
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
    """A version is in force for no period that it was trained after: it would know the future of it."""
    if early := [period for period in periods if period < kept.earliest[to]]:
        older = [version for version, first in kept.earliest.items() if first <= min(early) and version != to]
        raise PromotionError(
            f"Version {to} may be in force from {kept.earliest[to]} on: it knows what happened until then, and would score "
            f"{examples(early, 12)} with it. Roll back to an older version ({examples(older, 12)})."
        )


def _scores(kept: PipelineState, after: Log, to: str, periods: Iterable[str]) -> dict[str, str]:
    """Which version scores each period again: the one then in force, else the one that is rolled back to."""
    scores = {period: after.in_force(period) or to for period in periods}
    _check_age(kept, to, [period for period in scores if after.in_force(period) is None])
    return scores


def _chosen(bad: str, radius: Mapping[str, WrittenPeriod], asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is None:
        return tuple(sorted(radius))
    if strange := [period for period in asked if period not in radius]:
        raise PromotionError(
            f"Version {bad} did not write {', '.join(strange)} (it wrote: {', '.join(sorted(radius)) or 'nothing'}). "
            "Ask for some of these, or leave periods out for all."
        )
    return tuple(asked)
