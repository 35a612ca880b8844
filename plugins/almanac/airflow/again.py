"""What publishing tasks do: they publish, and where somebody else moved meanwhile they carry out the doors before again.

A version can be withdrawn while a run scores with it, a period published by another run, the promotion log move after the
gate has looked. None of that is worth a person's attention: the work is done again on what is true now.

Imported by a running task only, never when DAGs are parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from almanac.airflow import deliveries
from almanac.airflow.desk import Desk
from almanac.airflow.work import Given, pairs, run_plan, run_plans
from almanac.core.canonical import decode
from almanac.core.plan import RunPlan
from almanac.core.receipts import Placed, Receipt
from almanac.core.rollback import Plan
from almanac.doors import building, orders, pin, plan, publish, rollback, sources
from almanac.errors import Conflict, LogMoved, Overtaken, PromotionError

log = logging.getLogger(__name__)
# A step of spark_jobs/steps/ and orders in, period to receipt's URI out.
Carry = Callable[[str, list[Placed]], dict[str, str]]
ROUNDS = 4


def publish_predictions(desk: Desk, given: Given, carry: Carry) -> dict[str, str]:
    """Publishes scored periods, each in a commit of its own. Where a period's version was withdrawn meanwhile, or another run
    published the period first, it is scored again with what is in force now; a version that a person asked for is replaced
    only where its rows are visible.
    """
    uris: dict[str, str] = {}
    said: list[dict[str, Any]] = []
    plans = {one.period: one for one in run_plans(given)}
    for period, staged, audited in pairs(desk, given):
        planned = plans[period]
        try:
            receipt = publish.predictions(desk.home, staged, audited, desk.witness)
        except (Overtaken, Conflict) as moved:
            if planned.pinned and not (isinstance(moved, Overtaken) and moved.published):
                raise
            log.warning("%s It is done now.", moved)
            receipt = made(desk, _planned(desk, planned), carry)
        uris[period] = desk.home.receipts.uri(receipt)
        log.info("predictions of %s: %d rows by version %s", period, receipt.rows, receipt.facts["version"])
        said.append({"period": period, "rows": receipt.rows, "version": receipt.facts["version"]})
    desk.announce(**(said[0] if len(said) == 1 else {"periods": said}))
    return uris


def made(desk: Desk, planned: RunPlan, carry: Carry) -> Receipt:
    """A period's predictions through all of their doors, and again where somebody else moved meanwhile.

    Raises:
        Conflict, Overtaken: somebody else did so each of several times.
    """
    for _ in range(ROUNDS - 1):
        try:
            return _through(desk, planned, carry)
        except (Overtaken, Conflict) as moved:
            log.warning("%s Trying again.", moved)
            planned = _planned(desk, planned, planned.version if planned.pinned else None)
    return _through(desk, planned, carry)


def _planned(desk: Desk, before: RunPlan, version: str | None = None) -> RunPlan:
    """The plan to score a period again, on what is true now. Features that lack groups are taken where that is borne."""
    period, degrade = desk.pipeline.period(before.period), desk.pipeline.scoring.degrade
    return plan.score(desk.home, period, version=version, allow_in_sample=before.in_sample, degrade=degrade, as_is=True)


def _through(desk: Desk, planned: RunPlan, carry: Carry) -> Receipt:
    home, read = desk.home, desk.home.receipts.read
    if planned.build:
        pinned = pin.pin(home, planned, desk.witness)
        pinned = sources.built_from(pinned, carry("sources_audit", sources.asked(home, planned, pinned)))
        carry("features_stage", building.every_group(home, planned, pinned))
        staged = carry("features_stage", building.combined(home, planned, pinned))
        audited = carry("features_audit", orders.audits(home, staged))
        for period in staged:
            publish.features(home, read(staged[period]), read(audited[period]), desk.witness)
    staged = carry("predictions_stage", [orders.predictions(home, planned)])
    audited = carry("predictions_audit", orders.audits(home, staged))
    return publish.predictions(home, read(staged[planned.period]), read(audited[planned.period]), desk.witness)


def publish_champion(desk: Desk, given: Given, carry: Carry) -> str:
    """Promotes what the gate let through. Where the log moved since the gate looked, it is gated again."""
    (gate,) = (desk.home.receipts.read(uri) for uri in given["gate"].values())
    version = str(gate.facts["comparison"]["candidate_version"])
    for attempt in range(ROUNDS):
        said = f"{gate.facts['decision']['verdict']}: {'; '.join(gate.findings)}"
        known = desk.home.log()
        if not gate.passed and version not in known.versions:
            raise AirflowSkipException(f"Version {version} is not promoted, it stays in the history. {said}")
        if version in known.withdrawn:
            raise AirflowSkipException(f"Nothing new: version {version} was withdrawn, and stays so until it is reinstated.")
        try:
            entry = publish.champion(desk.home, desk.pipeline, gate, desk.witness, approver=_approver(given))
            break
        except LogMoved as moved:
            if attempt == ROUNDS - 1 or given.get("approved"):
                raise  # a person approved another comparison
            log.warning("%s It is compared again now.", moved)
            gate = _gated(desk, given, version, carry)
    if entry is None:
        log.info("nothing new: version %s is in the promotion log already", version)
    else:
        log.info("promoted %s, in force from %s on. %s", version, entry.effective, said)
        desk.announce(version=version, effective=entry.effective, decision=said)
    return version


def _gated(desk: Desk, given: Given, version: str, carry: Carry) -> Receipt:
    compared = carry("champion_stage", [orders.comparison(desk.home, desk.pipeline, run_plan(given), version)])
    (uri,) = carry("champion_audit", orders.audits(desk.home, compared)).values()
    return desk.home.receipts.read(uri)


def _approver(given: Given) -> str:
    by = (given.get("approved") or {}).get("responded_by_user") or {}
    return str(by.get("name") or by.get("id") or "")


def verify_rollback(desk: Desk, given: Given, carry: Carry) -> str:
    """Makes sure that nothing is visible any more as the withdrawn version wrote it. A period that became visible while the
    rollback ran is scored again, until nothing is left. Then it is delivered, where the pipeline has deliveries.

    Raises:
        PromotionError: such periods went on appearing.
        StoreError, DeliveryError: a delivery may still show them.
    """
    planned = decode(Plan, given["plan"])
    if not planned.withdraw or desk.params.get("dry_run"):
        return "nothing was withdrawn"
    for _ in range(ROUNDS):
        for run in rollback.runs(desk.home, desk.pipeline, planned):
            log.warning("%s still shows %s; it is scored again", run.period, planned.bad)
            made(desk, run, carry)
    if left := rollback.left(desk.home, planned):
        raise PromotionError(
            f"Periods {', '.join(left)} still show predictions of {planned.bad}, which is withdrawn: they became visible again "
            f"and again while the rollback ran. Clear the task verify once the runs that score them have ended."
        )
    deliveries.verify(desk, planned.bad)
    log.info("no visible period was written by %s any more", planned.bad)
    return f"{len(planned.scores)} periods repaired"


AGAIN: dict[str, Callable[[Desk, Given, Carry], Any]] = {
    work.__name__: work for work in (publish_predictions, publish_champion, verify_rollback)
}
