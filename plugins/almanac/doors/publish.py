"""The third door: one atomic step makes a thing visible, whole. Works in an Airflow worker; one function a thing.

The order of writes is commit, then receipt. A retry that finds its order committed only writes the missing receipt.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from almanac.core.bundle import Engine
from almanac.core.canonical import decode
from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Entry
from almanac.core.receipts import FRESH, Door, Order, Placed, Receipt, Thing, Witness, admit, publish_order
from almanac.core.target import Target
from almanac.doors import promotions
from almanac.errors import Conflict, LogMoved, NotAdmitted, Overtaken
from almanac.store.home import Home
from almanac.store.tables import Commit, Table
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
    _check_standing(home, staged)
    receipt = _period(home, Thing.PREDICTIONS, staged, audited, witness)
    _check_standing(home, staged)
    return receipt


def _check_standing(home: Home, staged: Receipt) -> None:
    version, period = str(staged.facts["version"]), staged.order.period
    if version not in home.log().withdrawn:
        return
    visible = home.predictions.visible().get(period)
    published = visible is not None and visible.order == staged.order.digest
    state = "and its predictions became visible before that was seen" if published else "and nothing was published"
    raise Overtaken(
        f"Version {version} was withdrawn while {period} was scored with it, {state}. "
        f"Start the score DAG for {period} again: it uses the version that is in force now.",
        published=published,
    )


def admitted(home: Home, thing: Thing, staged: Receipt, audited: Receipt) -> None:
    """The two receipts that a publish asks for: a stage, and the passed audit of that very stage. A stage that is older than
    a day is admitted only where it is visible already, and its publisher died before the receipt: gc may have taken its files.
    """
    period = staged.order.period
    admit(staged, thing, Door.STAGE, pipeline=home.name)
    admit(audited, thing, Door.AUDIT, pipeline=home.name, period=period)
    if audited.order.inputs != staged.as_audited:
        raise NotAdmitted(f"The audit of {audited.order} is of other bytes than those staged. Audit the staged ones.")
    if staged.stale(datetime.now(UTC)) and not home.receipts.is_published(staged) and not _is_committed(home, staged.order):
        raise NotAdmitted(
            f"{staged.order} was staged at {staged.witness.ended:%Y-%m-%d %H:%M} UTC, allowed is at most "
            f"{FRESH.days * 24} hours ago: its files may be deleted by now. Clear the run from {thing.value}.stage on: it is "
            "then staged again."
        )


def _is_committed(home: Home, staged: Order) -> bool:
    return staged.thing is not Thing.MODEL and home.table_of(staged).commit_of(publish_order(staged).digest) is not None


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
        commit = table.commit_of(order.digest)
        if commit is None:
            raise
        return _receipt_of(home, commit, witness)
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
            _receipt_of(home, commit, Witness(ended=commit.at))


def _receipt_of(home: Home, commit: Commit, witness: Witness) -> Receipt:
    """The receipt of a commit: of the files that it made visible, also where the order was staged again meanwhile."""
    staged_uri, audit_uri = commit.metadata["staged"], commit.metadata["audit"]
    return _receipt(home, home.receipts.read(staged_uri), staged_uri, audit_uri, witness)


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
            files={output.name: output for output in (*staged.outputs, *audited.outputs)},
            content=staged.content,
            environment=facts["environment"],
            classes=tuple(facts.get("classes", ())),
            target=decode(Target, facts.get("target", {})),
            engine=decode(Engine, audited.facts.get("engine", {})),
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


def champion(home: Home, pipeline: Pipeline, gate: Receipt, witness: Witness, approver: str = "") -> Entry | None:
    """Promotes what the gate let through. None when the version is in the log already: nothing new.

    Raises:
        NotAdmitted: the gate did not let it through.
        LogMoved: the log moved since the gate looked; gate it again.
        IllegalTransition: the version was withdrawn.
    """
    version = str(gate.facts["comparison"]["candidate_version"])
    log = home.log()
    if version in log.versions and version not in log.withdrawn:
        return None
    admit(gate, Thing.CHAMPION, Door.AUDIT, pipeline=home.name)
    position = int(gate.facts["decision"]["position"])
    if log.position != position:
        raise LogMoved(
            f"The promotion log moved from entry {position} to {log.position} since the gate compared {version}. "
            "Nothing was promoted; clear the task champion.stage, so that it is compared with what is in force now.",
            log.entries[position],
        )
    return promotions.promote(
        home, pipeline, log, version, reason="; ".join(gate.findings), gate=gate, witness=witness, approver=approver
    )
