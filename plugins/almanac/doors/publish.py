"""The third door: one atomic step makes a thing visible, whole. Works in an Airflow worker; one function a thing.

The order of writes is commit, then receipt. A retry that finds its order committed only writes the missing receipt.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Action, Entry, Log
from almanac.core.receipts import Door, Placed, Receipt, Thing, Witness, admit
from almanac.core.rollback import Plan
from almanac.errors import Conflict, NotAdmitted, Overtaken, PromotionError
from almanac.store.home import Home, publish_order
from almanac.store.tables import Table
from almanac.store.versions import Manifest


def features(home: Home, staged: Receipt, audited: Receipt, witness: Witness) -> Receipt:
    """Makes a staged and audited period of features visible.

    Raises:
        NotAdmitted: the audit is not of these staged bytes, or did not pass.
        Conflict: somebody else published the period meanwhile.
    """
    return _period(home, Thing.FEATURES, staged, audited, witness)


def predictions(home: Home, staged: Receipt, audited: Receipt, witness: Witness) -> Receipt:
    """Makes a staged and audited period of predictions visible, then looks whether its version was withdrawn meanwhile.

    Raises:
        NotAdmitted, Conflict: as for features.
        Overtaken: the version was withdrawn while the period was scored.
    """
    version = str(staged.facts["version"])
    _check_standing(home, version, staged.order.period, published=False)
    receipt = _period(home, Thing.PREDICTIONS, staged, audited, witness)
    _check_standing(home, version, staged.order.period, published=True)
    return receipt


def _check_standing(home: Home, version: str, period: str, *, published: bool) -> None:
    if version in home.log().withdrawn:
        state = "and its predictions became visible before that was seen" if published else "and nothing was published"
        raise Overtaken(
            f"Version {version} was withdrawn while {period} was scored with it, {state}. "
            f"Start the score DAG for {period} again: it uses the version that is in force now."
        )


def admitted(home: Home, thing: Thing, staged: Receipt, audited: Receipt) -> None:
    """The two receipts that a publish asks for: a stage, and the passed audit of that very stage."""
    period = staged.order.period
    admit(staged, thing, Door.STAGE, pipeline=home.name)
    admit(audited, thing, Door.AUDIT, pipeline=home.name, period=period)
    if audited.order.inputs != {"staged": staged.content, "order": staged.order.digest}:
        raise NotAdmitted(f"The audit of {audited.order} is of other bytes than those staged. Audit the staged ones.")


def _period(home: Home, thing: Thing, staged: Receipt, audited: Receipt, witness: Witness) -> Receipt:
    admitted(home, thing, staged, audited)
    order = publish_order(staged.order)
    if (done := home.receipts.done(order)) is not None:
        return done
    table, period = home.table_of(staged.order), staged.order.period
    home.receipts.place(Placed(order=order, links={"staged": home.receipts.uri(staged)}))
    metadata = {"order": order.digest, "audit": home.receipts.uri(audited), "staged": home.receipts.uri(staged)}
    try:
        table.publish(period, staged.outputs, fence=staged.order.fence, metadata=metadata)
    except Conflict:
        if table.commit_of(order.digest) is None:
            raise
    return _receipt(home, staged, home.receipts.uri(staged), home.receipts.uri(audited), witness)


def _receipt(home: Home, staged: Receipt, staged_uri: str, audit_uri: str, witness: Witness) -> Receipt:
    return home.receipts.keep(
        Receipt(
            order=publish_order(staged.order),
            passed=True,
            witness=witness,
            content=staged.content,
            outputs=staged.outputs,
            links={"staged": staged_uri, "audit": audit_uri},
            facts=staged.facts,
        )
    )


def settle(home: Home, table: Table, periods: Iterable[str]) -> None:
    """Writes the receipts of visible periods whose publisher died between its commit and its receipt."""
    visible = table.visible()
    for period in periods:
        if period not in visible:
            continue
        order = publish_order(home.receipts.placed(visible[period].order).order)
        if home.receipts.done(order) is not None:
            continue
        commit = table.commit_of(order.digest)
        if commit is not None:
            staged_uri, audit_uri = commit.metadata["staged"], commit.metadata["audit"]
            staged = home.receipts.read(staged_uri)
            _receipt(home, staged, staged_uri, audit_uri, Witness(ended=commit.at))


def model(home: Home, staged: Receipt, audited: Receipt, witness: Witness) -> Manifest:
    """Makes a version visible: its manifest is put last. The same order twice is the same version.

    Raises:
        NotAdmitted: the audit is not of these staged files, or did not pass.
    """
    admitted(home, Thing.MODEL, staged, audited)
    order, facts = staged.order, staged.facts
    links = home.receipts.placed(order.digest).links
    manifest = home.versions.publish(
        Manifest(
            pipeline=home.name,
            version=facts["version"],
            period=order.period,
            order=order.digest,
            receipt=home.receipts.uri(staged),
            audit=home.receipts.uri(audited),
            description=links["description"],
            module=order.module,
            definition=facts["definition"],
            entity=home.receipts.description(links["description"]).entity,
            features=tuple(facts["features"]),
            training=tuple(facts["training"]),
            holdout=facts["holdout"],
            estimator=facts["estimator"],
            metrics=facts["metrics"],
            files={output.name: output for output in staged.outputs},
            content=staged.content,
            environment=facts["environment"],
        )
    )
    home.receipts.keep(
        Receipt(
            order=publish_order(order),
            passed=True,
            witness=witness,
            content=staged.content,
            outputs=staged.outputs,
            links={"staged": home.receipts.uri(staged), "audit": home.receipts.uri(audited)},
            facts={"version": manifest.version, "manifest": manifest.digest},
        )
    )
    return manifest


def champion(home: Home, pipeline: Pipeline, gate: Receipt, witness: Witness) -> Entry | None:
    """Promotes what the gate let through. None when the version is in the log already: nothing new.

    Raises:
        NotAdmitted: the gate did not let it through.
        Conflict: the log moved since the gate looked; gate it again.
        PromotionError: the version was withdrawn.
    """
    version = str(gate.facts["comparison"]["candidate_version"])
    log = home.log()
    if version in log.versions and version not in log.withdrawn:
        return None
    admit(gate, Thing.CHAMPION, Door.AUDIT, pipeline=home.name)
    position = int(gate.facts["decision"]["position"])
    if log.position != position:
        raise Conflict(
            f"The promotion log moved from entry {position} to {log.position} since the gate compared {version}. "
            "Nothing was promoted; clear the task champion.stage, so that it is compared with what is in force now."
        )
    return promote(home, pipeline, log, version, reason="; ".join(gate.findings), gate=gate, witness=witness)


def promote(
    home: Home, pipeline: Pipeline, log: Log, version: str, *, reason: str, gate: Receipt | None, witness: Witness
) -> Entry:
    """Appends a promotion to the log that its writer has seen. The version is in force from the period after its own.

    Raises:
        PromotionError: there is no reason, or the version is unknown or withdrawn.
        Conflict: somebody else appended first.
    """
    if not reason.strip():
        raise PromotionError("A promotion by hand needs a reason, found none. Give one: it stays in the promotion log.")
    log.check_promotion(version)
    manifest = home.versions.read(version)
    effective = pipeline.period(manifest.period).plus(1).key
    if log.in_force(effective) == version:
        raise PromotionError(f"Version {version} is in force from {effective} on already; there is nothing to promote.")
    entry = Entry(
        sequence=log.position + 1,
        before=log.head,
        action=Action.PROMOTE,
        version=version,
        manifest=manifest.digest,
        effective=effective,
        previous=log.in_force(effective) or "",
        gate=home.receipts.uri(gate) if gate else "",
        verdict=str(gate.facts["decision"]["verdict"]) if gate else "",
        reason=reason,
        actor=witness.actor,
        run=witness.run,
        at=datetime.now(UTC),
        nonce=uuid.uuid4().hex,
    )
    home.promotions.append(entry)
    return entry


def rollback(home: Home, plan: Plan, witness: Witness) -> Entry:
    """Appends a planned rollback to the log. A second start of the same plan finds its entry and appends nothing.

    Raises:
        Conflict: something else was appended since the plan was made; nothing was changed.
    """
    log = home.log()
    done = next((e for e in log.entries[plan.position :] if e.action is Action.ROLL_BACK and e.replaces == plan.bad), None)
    if done is not None and (done.version, done.withdraw) == (plan.to, plan.withdraw):
        return done
    if log.position != plan.position:
        raise Conflict(
            f"The promotion log moved from entry {plan.position} to {log.position} since this rollback was planned. "
            "Nothing was changed; start a new rollback, which plans with what is in force now."
        )
    entry = Entry(
        sequence=log.position + 1,
        before=log.head,
        action=Action.ROLL_BACK,
        version=plan.to,
        manifest=home.versions.read(plan.to).digest,
        effective=plan.effective,
        previous=plan.bad,
        replaces=plan.bad,
        withdraw=plan.withdraw,
        reason=plan.reason,
        actor=witness.actor,
        run=witness.run,
        at=datetime.now(UTC),
        nonce=uuid.uuid4().hex,
    )
    home.promotions.append(entry)
    return entry
