"""Entries of the promotion log: promote, roll back, withdraw, reinstate. Each is checked against the log that its writer has
seen, and appended behind it or not at all.
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
        PromotionError: there is no reason, or the version is unknown, or in force already.
        IllegalTransition: it was withdrawn.
        Unsigned: it has no valid signature, and one is asked for.
        LogMoved: somebody else appended first.
    """
    _check_reason("promotion by hand", reason)
    manifest = home.vouched(version, log=log)
    log.check(Action.PROMOTE, version)
    effective = pipeline.period(manifest.period).plus(1).key
    if log.in_force(effective) == version:
        raise PromotionError(f"Version {version} is in force from {effective} on already; there is nothing to promote.")
    verdict = facts.read(Gated, gate).decision.verdict.value if gate else ""
    said = {"gate": home.receipts.uri(gate) if gate else "", "verdict": verdict, "approver": approver}
    return _append(home, log, Action.PROMOTE, manifest, reason, run_info, effective=effective, **said)


def rollback(home: Home, plan: RollbackPlan, run_info: RunInfo, kept: str = "") -> Entry:
    """Appends a planned rollback to the log. A second start of the same plan finds its entry and appends nothing.

    `kept`: the URI of the plan.

    Raises:
        LogMoved: something else was appended since the plan was made; nothing was changed.
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
            "Nothing was changed; start a new rollback, which plans with what is in force now.",
            later[0],
        )
    log.check(Action.ROLL_BACK, plan.to)
    manifest = home.vouched(plan.to, log=log)
    said = {"previous": plan.bad, "replaces": plan.bad, "withdraw": plan.withdraw, "plan": kept}
    return _append(home, log, Action.ROLL_BACK, manifest, plan.reason, run_info, effective=plan.effective, **said)


def withdraw(home: Home, version: str, *, reason: str, run_info: RunInfo) -> Entry:
    """Withdraws a version that is in force nowhere: nothing is promoted, rolled back to, or scored with it any more.

    Raises:
        PromotionError: there is no reason, the version is unknown, or predictions that it wrote are visible.
        IllegalTransition: it is in force, or was withdrawn before.
        LogMoved: somebody else appended first.
    """
    _check_reason("withdrawal", reason)
    log = home.log()
    manifest = home.vouched(version, log=log)
    log.check(Action.WITHDRAW, version)
    _check_unseen(home, version)
    entry = _append(home, log, Action.WITHDRAW, manifest, reason, run_info)
    _check_unseen(home, version)  # once more: a run that scored with it may have published meanwhile
    return entry


def _check_unseen(home: Home, version: str) -> None:
    if wrote := [item.period for item in home.written() if item.version == version]:
        state = "is withdrawn now, and" if version in home.log().withdrawn else "was not withdrawn:"
        raise PromotionError(
            f"Version {version} {state} it wrote the visible predictions of {examples(wrote, 12)}, which would be left standing. "
            "Score them again with the version in force: start the score DAG for them."
        )


def reinstate(home: Home, version: str, *, reason: str, run_info: RunInfo) -> Entry:
    """Takes a withdrawal back: the version is in the history again. It is in force again once it is promoted.

    Raises:
        PromotionError: there is no reason, or the version is unknown.
        IllegalTransition: it is not withdrawn.
        LogMoved: somebody else appended first.
    """
    _check_reason("reinstatement", reason)
    log = home.log()
    manifest = home.vouched(version, log=log)
    log.check(Action.REINSTATE, version)
    return _append(home, log, Action.REINSTATE, manifest, reason, run_info)


def _check_reason(what: str, reason: str) -> None:
    if not reason.strip():
        raise PromotionError(f"A {what} needs a reason, found none. Give one: it stays in the promotion log.")


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
