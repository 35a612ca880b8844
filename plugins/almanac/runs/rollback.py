"""What a rollback will do, resolved once and stored before anything changes; and what is left to do."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from almanac.core import facts, rollback
from almanac.core.canonical import digest, sealed
from almanac.core.facts import Gated
from almanac.core.layout import trained_for
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.promotions import Log
from almanac.core.rollback import GateDecision, PipelineState, RollbackPlan
from almanac.errors import IntegrityError, NotFound, PromotionError
from almanac.runs import plan
from almanac.store import compatibility, overview
from almanac.store.home import Home
from almanac.store.objects import record

warnings = logging.getLogger(__name__)


def planned(
    home: Home,
    pipeline: Pipeline,
    *,
    reason: str,
    to: str | None = None,
    bad: str | None = None,
    withdraw: bool = True,
    periods: Iterable[str] | None = None,
    run: str = "",
) -> RollbackPlan:
    """The plan of a rollback. With the name of a run the plan is stored, and the same run gets the same plan again, whatever
    happened since, so that a cleared run continues its rollback. Another reason does not make it another rollback.

    Raises:
        PromotionError, IllegalTransition: see `core.rollback.plan_rollback`. PromotionError: the run has planned another
            rollback.
        DescriptionError: the version to go back to does not fit the visible predictions.
    """
    uri = address(home, run)
    requested = {"to": to, "bad": bad, "withdraw": withdraw, "periods": sorted(set(periods or ())) or None}
    periods = None if periods is None else list(periods)
    if run and (before := home.objects.find(uri)) is not None:
        return _same(record(RollbackPlan, before, uri), run, requested)
    found = kept(home, pipeline)
    following = pipeline.period(max(item.period for item in found.written)).plus(1).key if found.written else ""
    ours = rollback.plan_rollback(
        home.name, found, reason=reason, to=to, bad=bad, withdraw=withdraw, periods=periods, next_period=following
    )
    ours = replace(ours, request=requested)
    for version in dict.fromkeys(ours.scores.values()):
        manifest = home.versions.read(version)
        compatibility.check(home, manifest.definition, manifest.keys, manifest.target, without=[ours.bad])
    if run and not home.objects.put_if_absent(uri, sealed(ours)):
        return _same(record(RollbackPlan, home.objects.get(uri), uri), run, requested)
    return ours


def _same(kept: RollbackPlan, run: str, requested: Mapping[str, object]) -> RollbackPlan:
    """The stored plan of a run, if it was requested with the same parameters. Raises: PromotionError."""
    if kept.request and dict(kept.request) != requested:
        other = {name: kept.request.get(name) for name, value in requested.items() if kept.request.get(name) != value}
        was = ", ".join(f"{name}={value!r}" for name, value in other.items())
        now = ", ".join(f"{name}={requested[name]!r}" for name in other)
        raise PromotionError(
            f"Run {run!r} planned a rollback before: expected the same parameters ({was}), got {now}. Nothing was changed. "
            "Start a run with another name, or clear the earlier one."
        )
    return kept


def address(home: Home, run: str) -> str:
    """The URI of the plan of a run's rollback; empty if there is no run."""
    return home.layout.rollback(digest(run)) if run else ""


def kept(home: Home, pipeline: Pipeline) -> PipelineState:
    """The state of a pipeline that a rollback is planned from."""
    log = home.log()
    return PipelineState(
        log=log,
        written=home.written(),
        earliest={name: pipeline.period(trained_for(name)).plus(1).key for name in home.versions.names()},
        decided=decided(home),
        plans=_plans(home, log),
    )


def _plans(home: Home, log: Log) -> dict[int, RollbackPlan]:
    """The readable plans of the log's rollbacks that withdrew a version, by the number of their entry."""
    found = {}
    for entry in log.entries:
        if entry.withdraw and entry.plan:
            try:
                found[entry.sequence] = record(RollbackPlan, home.objects.get(entry.plan), entry.plan)
            except (IntegrityError, NotFound) as error:  # the entry alone suffices to finish it, for all periods
                warnings.warning("Left out: %s", error)
    return found


def decided(home: Home) -> list[GateDecision]:
    """The last gate decision of each candidate that was compared with a version in force."""
    found = []
    for name, gate in sorted(overview.decisions(home).items()):
        gated = facts.read(Gated, gate)
        if against := gated.comparison.champion_version:
            verdict = gated.decision.verdict.value
            found.append(GateDecision(candidate=name, against=against, verdict=verdict, gate=home.receipts.uri(gate)))
    return found


def left(home: Home, planned: RollbackPlan) -> list[str]:
    """The periods that a rollback must score again and that still show the withdrawn version. This includes periods that became
    visible after it was planned, unless a person named its periods.
    """
    if not planned.withdraw or planned.bad not in home.log().withdrawn:
        return []
    wrote = [item.period for item in home.written() if item.version == planned.bad]
    return [period for period in wrote if not planned.asked or period in planned.scores]


def runs(home: Home, pipeline: Pipeline, planned: RollbackPlan) -> list[RunPlan]:
    """The plans to score the periods that are left of a rollback, each with the version in force now.

    Raises:
        PromotionError: no version is in force for a period, and the version rolled back to is too new for it.
    """
    log = home.log()
    found = []
    for period in left(home, planned):
        version = None if log.in_force(period) else planned.to
        if version and period <= trained_for(version):
            raise PromotionError(
                f"No version is in force for {period}, which {planned.bad} wrote. Score it with an older version: "
                f"start the score DAG for it with version=..."
            )
        degrade = pipeline.scoring.degrade
        found.append(plan.score(home, pipeline.period(period), version=version, degrade=degrade, as_is=True))
    return found


def rebuilds(plans: Iterable[RunPlan]) -> list[RunPlan]:
    """Joins plans into one per feature definition, which builds all that they miss in one Spark application."""
    building: dict[str, list[RunPlan]] = {}
    for one in plans:
        if one.build:
            building.setdefault(one.definition, []).append(one)
    return [plan.joined(same) for same in building.values()]
