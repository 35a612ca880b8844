"""The publish step: one atomic write makes an artifact visible. Runs in an Airflow worker; one function per artifact.

The commit is written first, then the receipt. A retry that finds its order committed only writes the missing receipt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from almanac.core import facts
from almanac.core.canonical import encode
from almanac.core.facts import AuditedModel, Gated, PublishedModel, StagedModel, version_of
from almanac.core.garbage import FRESH
from almanac.core.pipeline import Pipeline
from almanac.core.plan import ASKED
from almanac.core.promotions import LOG, Entry, Log
from almanac.core.receipts import Artifact, Order, PlacedOrder, Receipt, RunInfo, Step, admit, publish_order
from almanac.errors import Conflict, LogMoved, NotAdmitted, Overtaken
from almanac.runs import promotions
from almanac.store.home import Home
from almanac.store.objects import verified
from almanac.store.tables import Commit, Table
from almanac.store.versions import Manifest


def features(home: Home, staged: Receipt, audited: Receipt, run_info: RunInfo) -> Receipt:
    """Makes a staged and audited period of features visible.

    Raises:
        NotAdmitted: the audit is for other staged bytes, or did not pass.
        Conflict: another run published the period meanwhile.
    """
    return _period(home, Artifact.FEATURES, staged, audited, run_info)


def predictions(home: Home, staged: Receipt, audited: Receipt, run_info: RunInfo) -> Receipt:
    """Makes a staged and audited period of predictions visible, if its version is in force or was requested by name; then checks
    again.

    Raises:
        NotAdmitted, Conflict: as for features.
        Overtaken: while the period was scored, the version was withdrawn, or another one came into force for it.
    """
    log = _standing(home, staged)
    receipt = _period(home, Artifact.PREDICTIONS, staged, audited, run_info, log)
    _standing(home, staged)
    return receipt


def _standing(home: Home, staged: Receipt) -> Log:
    """The log, after checking that a staged period's version may still be published. Raises: Overtaken."""
    version, period, log = version_of(staged), staged.order.period, home.log()
    held = log.in_force(period)
    if version in log.withdrawn:
        why = f"Version {version} was withdrawn while {period} was scored with it"
    elif held != version and not staged.order.parameters.get(ASKED):
        now = f"version {held}" if held else "no version"
        why = f"While {period} was scored with version {version}, the log changed: {now} is in force for it"
    else:
        return log
    visible = home.predictions.visible().get(period)
    published = visible is not None and visible.order == staged.order.digest
    state = "Its predictions became visible before that was noticed" if published else "Nothing was published"
    raise Overtaken(
        f"{why}. {state}. Start the score DAG for {period} again: it uses the version that is in force now.",
        published=published,
    )


def admitted(home: Home, artifact: Artifact, staged: Receipt, audited: Receipt) -> None:
    """Checks the two receipts that a publish needs: a stage, and the passed audit of that stage. A stage that is older than a day
    is admitted only if it is already visible (its publisher died before writing the receipt): gc may have deleted its files.
    """
    period = staged.order.period
    admit(staged, artifact, Step.STAGE, pipeline=home.name)
    admit(audited, artifact, Step.AUDIT, pipeline=home.name, period=period)
    if audited.order.inputs != staged.as_audited:
        raise NotAdmitted(f"The audit of {audited.order} is for other bytes than the staged ones. Audit the staged files.")
    if staged.stale(datetime.now(UTC)) and not home.receipts.is_published(staged) and not _is_committed(home, staged.order):
        raise NotAdmitted(
            f"{staged.order} was staged at {staged.run_info.ended:%Y-%m-%d %H:%M} UTC, expected at most {FRESH.days * 24} hours "
            f"ago: its files may be deleted by now. Clear the run from {artifact.value}.stage on to stage it again."
        )


def _is_committed(home: Home, staged: Order) -> bool:
    return staged.artifact is not Artifact.MODEL and home.table_of(staged).commit_of(publish_order(staged).digest) is not None


def _period(
    home: Home, artifact: Artifact, staged: Receipt, audited: Receipt, run_info: RunInfo, log: Log | None = None
) -> Receipt:
    """Commits a staged period, once. If its receipt exists but its commit is lost, it is committed again."""
    admitted(home, artifact, staged, audited)
    order, table, period = publish_order(staged.order), home.table_of(staged.order), staged.order.period
    if (done := home.receipts.done(order)) is not None:
        if not _is_lost(table, staged.order):
            return done
        _check_kept(home, staged)
    home.receipts.place(PlacedOrder(order=order, links={"staged": home.receipts.uri(staged)}))
    metadata = {"order": order.digest, "audit": home.receipts.uri(audited), "staged": home.receipts.uri(staged)}
    metadata |= {LOG: log.mark} if log else {}
    try:
        table.publish(period, staged.outputs, fence=staged.order.fence, metadata=metadata)
    except Conflict:
        commit = table.commit_of(order.digest)
        if commit is None:
            raise
        return _receipt_of(home, commit, run_info)
    return _receipt(home, staged, metadata, run_info, instead=done)


def _is_lost(table: Table, staged: Order) -> bool:
    """Whether a table has lost the commit of a published order: it has neither this commit nor a later one."""
    visible, fences = table.standing([staged.period])
    seen = visible.get(staged.period)
    return (seen is None or seen.order != staged.digest) and fences[staged.period] <= staged.fence


def _check_kept(home: Home, staged: Receipt) -> None:
    """Checks that the files of a stage are unchanged. Raises: NotAdmitted, IntegrityError."""
    for output in staged.outputs:
        if (body := home.objects.find(output.uri)) is None:
            raise NotAdmitted(
                f"The commit that published {staged.order} is missing from its table, and so is {output.uri}. Clear the run from "
                f"{staged.order.artifact.value}.stage on to stage it again."
            )
        verified(body, output.sha256, output.uri)


def _receipt(
    home: Home, staged: Receipt, metadata: Mapping[str, str], run_info: RunInfo, instead: Receipt | None = None
) -> Receipt:
    """Stores the receipt of a commit, `instead` of the receipt of a lost commit, if there is one."""
    return home.receipts.keep(
        Receipt(
            order=publish_order(staged.order),
            passed=True,
            run_info=run_info,
            content=staged.content,
            outputs=staged.outputs,
            links={"staged": metadata["staged"], "audit": metadata["audit"]},
            facts={**staged.facts, **({LOG: metadata[LOG]} if LOG in metadata else {})},
        ),
        instead=instead,
    )


def settle(home: Home, table: Table, periods: Iterable[str]) -> None:
    """Writes the receipts of visible periods whose publisher died between the commit and the receipt."""
    visible = table.visible()
    for period in periods:
        if period not in visible:
            continue
        order = publish_order(home.receipts.placed(visible[period].order).order)
        if home.receipts.done(order) is not None:
            continue
        commit = table.commit_of(order.digest)
        if commit is not None:
            _receipt_of(home, commit, RunInfo(ended=commit.at))


def _receipt_of(home: Home, commit: Commit, run_info: RunInfo) -> Receipt:
    """The receipt of a commit, for the files that it made visible, even if the order was staged again meanwhile."""
    return _receipt(home, home.receipts.read(commit.metadata["staged"]), commit.metadata, run_info)


def model(home: Home, staged: Receipt, audited: Receipt, run_info: RunInfo) -> Manifest:
    """Makes a version visible: its manifest is written last. The same order always gives the same version.

    Raises:
        NotAdmitted: the audit is for other staged files, or did not pass.
    """
    admitted(home, Artifact.MODEL, staged, audited)
    order, found = staged.order, facts.read(StagedModel, staged)
    description = home.receipts.placed(order.digest).description
    manifest = home.versions.publish(
        Manifest(
            pipeline=home.name,
            version=found.version,
            period=order.period,
            order=order.digest,
            receipt=home.receipts.uri(staged),
            audit=home.receipts.uri(audited),
            description=description,
            module=order.module,
            definition=found.definition,
            entity=home.receipts.description(description).entity,
            features=found.features,
            training=found.training,
            holdout=found.holdout,
            estimator=found.estimator,
            metrics=found.metrics,
            files={output.name: output for output in (*staged.outputs, *audited.outputs)},
            content=staged.content,
            environment=found.environment,
            classes=found.classes,
            target=found.target,
            engine=facts.read(AuditedModel, audited).engine,
            suspects=found.suspects,
        )
    )
    home.receipts.keep(
        Receipt(
            order=publish_order(order),
            passed=True,
            run_info=run_info,
            content=staged.content,
            outputs=staged.outputs,
            links={"staged": home.receipts.uri(staged), "audit": home.receipts.uri(audited)},
            facts=encode(PublishedModel(version=manifest.version, manifest=manifest.digest)),
        )
    )
    return manifest


def champion(home: Home, pipeline: Pipeline, gate: Receipt, run_info: RunInfo, approver: str = "") -> Entry | None:
    """Promotes a version that passed the gate. None if the version is already in the log.

    Raises:
        NotAdmitted: the version did not pass the gate.
        LogMoved: the log moved since the gate ran; gate the version again.
        IllegalTransition: the version was withdrawn.
    """
    gated = facts.read(Gated, gate)
    version = gated.comparison.candidate_version
    log = home.log()
    if version in log.versions and version not in log.withdrawn:
        return None
    admit(gate, Artifact.CHAMPION, Step.AUDIT, pipeline=home.name)
    position = gated.decision.position
    if log.position != position:
        raise LogMoved(
            f"The promotion log moved from entry {position} to {log.position} since the gate compared {version}. "
            "Nothing was promoted. Clear the task champion.stage to compare it with the version in force now.",
            log.entries[position],
        )
    return promotions.promote(
        home, pipeline, log, version, reason="; ".join(gate.findings), gate=gate, run_info=run_info, approver=approver
    )
