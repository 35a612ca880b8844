"""The plan of a rollback: from which version, to which, and its blast radius."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from almanac.core.canonical import digest
from almanac.core.promotions import Log
from almanac.errors import PromotionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A visible prediction period: which version wrote it, by which order, how many rows."""

    period: str
    version: str
    order: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rollback will do; kept before anything changes, so that a retry means the same.

    Args:
        bad, to: the version that goes and the one that comes.
        effective: the period from which `to` is in force.
        periods: the blast radius, or the part of it that was asked for; empty without withdrawal.
        rows: of those periods.
        tainted: sequence numbers of promotions whose gate compared against the bad version.
        position: the log's position when the plan was made.
    """

    pipeline: str
    bad: str
    to: str
    effective: str
    reason: str
    withdraw: bool
    periods: tuple[str, ...]
    rows: int
    tainted: tuple[int, ...]
    position: int

    @property
    def digest(self) -> str:
        return digest(self)


def plan(
    pipeline: str,
    log: Log,
    written: Iterable[Written],
    known: Iterable[str],
    *,
    reason: str,
    to: str | None = None,
    withdraw: bool = True,
    periods: Iterable[str] | None = None,
    next_period: str = "",
) -> Plan:
    """The plan to take the version now in force out of it.

    `next_period` is the first one not yet scored: without withdrawal `to` is in force from there.

    Raises:
        PromotionError: nothing is in force, nothing is older, `to` is unknown or withdrawn, the reason is missing, or a
            period was asked for that the version did not write, or that is not scored again without withdrawal.
    """
    if not reason.strip():
        raise PromotionError("A rollback needs a reason, found none. Give one: it stays in the promotion log.")
    bad = log.champion
    if bad is None:
        raise PromotionError(f"Pipeline {pipeline} has no version in force, so there is nothing to roll back.")
    listed = list(known)
    target = to or log.before(bad)
    log.check_rollback(target, bad, listed)
    asked = None if periods is None else sorted(set(periods))
    if asked and not withdraw:
        raise PromotionError(
            f"Periods {', '.join(asked)} were asked for, but without withdrawal nothing is scored again. "
            "Leave periods out, or withdraw the version."
        )
    radius = {item.period: item for item in written if item.version == bad} if withdraw else {}
    chosen = _chosen(bad, radius, asked)
    return Plan(
        pipeline=pipeline,
        bad=bad,
        to=target,
        effective=_effective(log, bad, "" if withdraw else next_period),
        reason=reason,
        withdraw=withdraw,
        periods=chosen,
        rows=sum(radius[period].rows for period in chosen),
        tainted=tuple(entry.sequence for entry in log.entries if entry.gate and entry.previous == bad),
        position=log.position,
    )


def _effective(log: Log, bad: str, begins: str) -> str:
    """The first period from `begins` on for which the version in force is the bad one. Being the champion, it has one."""
    if log.in_force(begins) == bad:
        return begins
    return min(period for period, version in log.assignments().items() if version == bad and period > begins)


def _chosen(bad: str, radius: Mapping[str, Written], asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is None:
        return tuple(sorted(radius))
    if strange := [period for period in asked if period not in radius]:
        raise PromotionError(
            f"Version {bad} did not write {', '.join(strange)} (it wrote: {', '.join(sorted(radius)) or 'nothing'}). "
            "Ask for some of these, or leave periods out for all."
        )
    return tuple(asked)
