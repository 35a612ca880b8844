"""Entries of the promotion log: promote, roll back, withdraw, reinstate. Each is checked against the log that its writer has
seen, and appended directly after it or not at all.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from almanac.core import facts
from almanac.core.facts import Gated
from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Action, Entry, Log
from almanac.core.receipts import Receipt, RunInfo
from almanac.core.rollback import RollbackPlan
from almanac.errors import LogMoved, PromotionError, examples
from almanac.store.home import Home
from almanac.store.versions import Manifest


def promote(
    home: Home,
    pipeline: Pipeline,
    log: Log,
    version: str,
    *,
    reason: str,
    gate: Receipt | None,
    run_info: RunInfo,
    approver: str = "",
) -> Entry:
    """Appends a promotion to the log that its writer has seen. The version is in force from the period after its own.

    Raises:
        PromotionError: there is no reason, or the version is unknown or already in force.
        IllegalTransition: it was withdrawn.
        Unsigned: it has no valid signature, and one is required.
        LogMoved: another run appended first.
    """
    _check_reason("promotion by hand", reason)
    manifest = home.vouched(version, log=log)
    log.check(Action.PROMOTE, version)
    effective = pipeline.period(manifest.period).plus(1).key
    if log.in_force(effective) == version:
        raise PromotionError(f"Version {version} is already in force from {effective} on; there is nothing to promote.")
    verdict = facts.read(Gated, gate).decision.verdict.value if gate else ""
    fields = {"gate": home.receipts.uri(gate) if gate else "", "verdict": verdict, "approver": approver}
    return _append(home, log, Action.PROMOTE, manifest, reason, run_info, effective=effective, **fields)


def rollback(home: Home, plan: RollbackPlan, run_info: RunInfo, kept: str = "") -> Entry:
    """Appends a planned rollback to the log. If the plan's entry is there already, nothing is appended.

    `kept`: the URI of the plan.

    Raises:
        LogMoved: another entry was appended since the plan was made; nothing was changed.
    """
    log = home.log()
    if plan.finishes:
        return log.entries[plan.finishes - 1]
    later = log.entries[plan.position :]
    done = next((e for e in later if e.action is Action.ROLL_BACK and e.replaces == plan.bad), None)
    if done is not None and (done.version, done.withdraw) == (plan.to, plan.withdraw):
        return done
    if later:
        raise LogMoved(
            f"The promotion log moved from entry {plan.position} to {log.position} since this rollback was planned. "
            "Nothing was changed. Start a new rollback, which plans from what is in force now.",
            later[0],
        )
    log.check(Action.ROLL_BACK, plan.to)
    manifest = home.vouched(plan.to, log=log)
    fields = {"previous": plan.bad, "replaces": plan.bad, "withdraw": plan.withdraw, "plan": kept}
    return _append(home, log, Action.ROLL_BACK, manifest, plan.reason, run_info, effective=plan.effective, **fields)


def withdraw(home: Home, version: str, *, reason: str, run_info: RunInfo) -> Entry:
    """Withdraws a version that is in force nowhere: it can no longer be promoted, rolled back to, or scored with.

    Raises:
        PromotionError: there is no reason, the version is unknown, or predictions that it wrote are visible.
        IllegalTransition: it is in force, or was already withdrawn.
        LogMoved: another run appended first.
    """
    _check_reason("withdrawal", reason)
    log = home.log()
    manifest = home.vouched(version, log=log)
    log.check(Action.WITHDRAW, version)
    _check_unseen(home, version)
    entry = _append(home, log, Action.WITHDRAW, manifest, reason, run_info)
    _check_unseen(home, version)  # again: a run that scored with it may have published meanwhile
    return entry


def _check_unseen(home: Home, version: str) -> None:
    if wrote := [item.period for item in home.written() if item.version == version]:
        state = "is withdrawn now, but" if version in home.log().withdrawn else "was not withdrawn:"
        raise PromotionError(
            f"Version {version} {state} it wrote the visible predictions of {examples(wrote, 12)}, which would stay visible. "
            "Start the score DAG for these periods to score them with the version in force."
        )


def reinstate(home: Home, version: str, *, reason: str, run_info: RunInfo) -> Entry:
    """Reverts a withdrawal: the version is in the history again. It is in force again once it is promoted.

    Raises:
        PromotionError: there is no reason, or the version is unknown.
        IllegalTransition: it is not withdrawn.
        LogMoved: another run appended first.
    """
    _check_reason("reinstatement", reason)
    log = home.log()
    manifest = home.vouched(version, log=log)
    log.check(Action.REINSTATE, version)
    return _append(home, log, Action.REINSTATE, manifest, reason, run_info)


def _check_reason(what: str, reason: str) -> None:
    if not reason.strip():
        raise PromotionError(f"A {what} needs a reason, got none. Give one; it is recorded in the promotion log.")


def _append(home: Home, log: Log, action: Action, manifest: Manifest, reason: str, run_info: RunInfo, **more: object) -> Entry:
    entry = log.next(
        action,
        manifest.version,
        manifest=manifest.digest,
        reason=reason,
        at=datetime.now(UTC),
        nonce=uuid.uuid4().hex,
        actor=run_info.actor,
        run=run_info.run,
        **more,
    )
    home.promotions.append(entry)
    return entry
