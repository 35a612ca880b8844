"""The functions of the DAGs' tasks. `dags` refers to them when DAGs are parsed; they run later, in a worker.

So this module is light at import: a task imports what it needs of the rooms below when it runs. A function gets the task's
context, and as keyword arguments the outputs of earlier tasks: plans as JSON, and maps of a period to its receipt's URI.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from almanac.core.canonical import decode, encode
from almanac.core.degrade import check_sources, leaves_out
from almanac.core.late import refusal
from almanac.core.plan import RunPlan
from almanac.core.rollback import RollbackPlan
from almanac.errors import Conflict, DataEnded, LogMoved, NotAdmitted, Overtaken, PromotionError, SourceError, examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from almanac.airflow.context import TaskContext
    from almanac.core.period import Period
    from almanac.core.receipts import PlacedOrder, Receipt
    from almanac.runs.rescore import RunOrders

Json = dict[str, Any]  # a plan, encoded
Receipts = Mapping[str, str]  # period to receipt's URI
log = logging.getLogger(__name__)


# Plans. A dry run writes nothing. Otherwise these tasks probe the store, and keep what later tasks look up.


def plan_retrain(context: TaskContext) -> Json:
    """The plan of a retrain."""
    from almanac.runs import plan

    params = context.params
    dry_run, refresh = bool(params.get("dry_run")), bool(params.get("refresh"))
    period, module = _period(context), context.module
    if not dry_run:
        context.home.objects.probe(context.settings.root)
    found = plan.retrain(
        context.home, context.pipeline, period, module, known_at=params.get("known_at"), refresh=refresh, dry_run=dry_run
    )
    log.info(found.in_words)
    if not dry_run:
        context.home.receipts.describe(context.pipeline, module)
    return encode(found)  # type: ignore[no-any-return]


def plan_score(context: TaskContext) -> list[Json]:
    """The plans of a scoring run, one for each period: its own, or those from `from` to `to`."""
    from almanac.runs import plan

    params, periods = context.params, context.range or (_period(context),)
    context.home.objects.probe(context.settings.root)
    found = plan.score_all(
        context.home,
        periods,
        version=params.get("version"),
        allow_in_sample=bool(params.get("allow_in_sample")),
        refresh=bool(params.get("refresh")),
        degrade=context.pipeline.scoring.degrade,
    )
    for one in found:
        plan.check_buildable(context.home, context.pipeline, one)
        log.info(one.in_words)
    return [encode(one) for one in found]


def plan_rollback(context: TaskContext) -> Json:
    """The plan of a rollback."""
    from almanac.runs import rollback

    params = context.params
    if not params.get("dry_run"):
        context.home.objects.probe(context.settings.root)
    found = rollback.planned(
        context.home,
        context.pipeline,
        reason=str(params.get("reason") or ""),
        to=params.get("to") or None,
        bad=params.get("from") or None,
        withdraw=bool(params.get("withdraw", True)),
        periods=params.get("periods") or None,
        run="" if params.get("dry_run") else context.run,
    )
    log.info(found.in_words)
    return encode(found)  # type: ignore[no-any-return]


def plan_rebuilds(context: TaskContext, *, plans: Sequence[Json]) -> list[Json]:  # noqa: ARG001
    """Plans that build an older version's missing features by its own definition, one plan for each definition."""
    from almanac.runs import rollback

    found = rollback.rebuilds([decode(RunPlan, one) for one in plans])
    for one in found:
        log.info("features of %s will be built by definition %s", ", ".join(one.build), one.definition)
    return [encode(one) for one in found]


def _period(context: TaskContext) -> Period:
    """The run's period. Skips the run if the period is after the pipeline's last."""
    period, last = context.period, context.pipeline.last_period
    if last is not None and period.key > last:
        raise AirflowSkipException(f"Period {period} is after {last}, the last period of {context.pipeline.name}: nothing to do.")
    return period


def _plans(plan: Json | Sequence[Json]) -> list[RunPlan]:
    """The plans of a run, one for each period that it scores."""
    return [decode(RunPlan, one) for one in (plan if isinstance(plan, list) else [plan])]


def _plan(plan: Json | Sequence[Json]) -> RunPlan:
    """The plan of a run; for a run that scores several periods, one plan that joins what they build."""
    from almanac.runs.plan import joined

    return joined(_plans(plan))


def _continuing(plan: Json | Sequence[Json]) -> RunPlan:
    """The run's plan. A dry run ends here as skipped."""
    found = _plan(plan)
    if found.dry_run:
        raise AirflowSkipException(f"Dry run: {found.in_words} Nothing was changed.")
    return found


# Sources.


def missing_data(context: TaskContext, *, plan: Json | Sequence[Json], source: str) -> list[str]:
    """Why a source is not complete for the run, by the description of its features; empty if it is complete."""
    from almanac.runs import completeness

    found = _continuing(plan)
    pipeline = context.home.receipts.description(found.description)
    if source not in pipeline.sources:
        return []
    reasons = completeness.lacking(context.home, pipeline, found, source)
    for reason in reasons:
        log.info("Source %s is not complete: %s", source, reason)
    return reasons


def timed_out(source: str, reasons: Sequence[str], seconds: float) -> SourceError:
    """The error for a source that was not complete in time."""
    return refusal(source, reasons, f"Waited {timedelta(seconds=seconds)} (h:mm:ss); nothing was built from it.")


def go_on_without(context: TaskContext, *, plan: Json | Sequence[Json], source: str, error: SourceError) -> None:
    """Lets the run continue if it can do without the groups that read a source. Raises: `error`, if it cannot; DataError."""
    found = _plan(plan)
    check_sources(context.home.receipts.description(found.description), found, {source: error})
    log.warning("%s The run continues without the feature groups that read it.", error)


def pin_sources(context: TaskContext, *, plan: Json | Sequence[Json]) -> str:
    """Pins the sources that the run reads; returns the receipt's URI. Skips the run if the data ended long before its period."""
    from almanac.runs import pin
    from almanac.store.pins import read_pins

    try:
        uri = pin.pin(context.home, _continuing(plan), context.run_info)
    except DataEnded as ended:
        raise AirflowSkipException(str(ended)) from None
    receipt = context.home.receipts.read(uri)
    for name, found in read_pins(context.home, receipt).items():
        rows, newest = sum(file.rows for file in found.files), found.freshness
        log.info("Source %s: %d files, %d rows, newest event %s.", name, len(found.files), rows, newest or "unknown")
    for finding in receipt.findings:
        log.info(finding)
    return uri


# Orders of Spark jobs.


def source_orders(context: TaskContext, *, plan: Json | Sequence[Json], pin: str) -> list[PlacedOrder]:
    from almanac.runs import orders

    return orders.source_audits(context.home, _plan(plan), pin)


def group_orders(
    context: TaskContext, *, plan: Json | Sequence[Json], pin: str, groups: Sequence[str] = (), checked: Receipts | None = None
) -> list[PlacedOrder]:
    """The orders of feature groups, by default of all in the plan's own description, which may be older than today's."""
    from almanac.runs import feature_orders, orders

    return feature_orders.groups(context.home, _plan(plan), orders.built_from(pin, checked or {}), *groups)


def orders_to_combine(
    context: TaskContext, *, plan: Json | Sequence[Json], pin: str, checked: Receipts | None = None
) -> list[PlacedOrder]:
    """What the job that builds the groups combines at its end; nothing if a source was left out of the pin."""
    from almanac.runs import feature_orders, orders

    try:
        return feature_orders.to_combine(context.home, _plan(plan), orders.built_from(pin, checked or {}))
    except NotAdmitted:
        return []


def combine_orders(
    context: TaskContext, *, plan: Json | Sequence[Json], pin: str, checked: Receipts | None = None
) -> list[PlacedOrder]:
    """The orders that combine the groups, also if a group was not built. Airflow then runs this even if planning or pinning
    failed, with the outputs of an earlier try.
    """
    from almanac.runs import feature_orders, orders

    for task, state in context.states_of("plan", "sources.pin", "sources.audit").items():
        if state == "skipped":
            raise AirflowSkipException(f"Task {task} was skipped, so nothing is combined.")
        if state != "success":
            raise NotAdmitted(f"Task {task}: expected state 'success', got {state!r}, so nothing is combined. Clear it.")
    return feature_orders.combined(context.home, _plan(plan), orders.built_from(pin, checked or {}))


def audit_orders(context: TaskContext, *, staged: Receipts) -> list[PlacedOrder]:
    from almanac.runs import orders

    return orders.audits(context.home, staged)


def model_orders(
    context: TaskContext, *, plan: Json | Sequence[Json], pin: str, checked: Receipts | None = None
) -> list[PlacedOrder]:
    from almanac.runs import orders

    return [orders.model(context.home, _plan(plan), orders.built_from(pin, checked or {}))]


def comparison_orders(context: TaskContext, *, plan: Json | Sequence[Json], version: str) -> list[PlacedOrder]:
    from almanac.runs import orders

    return [orders.comparison(context.home, context.pipeline, _plan(plan), version)]


def prediction_orders(context: TaskContext, *, plan: Json | Sequence[Json]) -> list[PlacedOrder]:
    from almanac.runs import orders

    return [orders.predictions(context.home, one) for one in _plans(plan)]


# Publishes.


def publish_features(context: TaskContext, *, staged: Receipts, audited: Receipts) -> Receipts:
    """Publishes periods of features, each in a commit of its own."""
    from almanac.runs import publish

    uris = {}
    for period, stage, audit in _pairs(context, staged, audited):
        try:
            receipt = publish.features(context.home, stage, audit, context.run_info)
        except Conflict as conflict:
            receipt = _published_meanwhile(context, period, stage, conflict)
        uris[period] = context.home.receipts.uri(receipt)
        log.info("published features of %s: %d rows", period, receipt.rows)
    context.announce(periods=sorted(uris))
    return uris


def _published_meanwhile(context: TaskContext, period: str, staged: Receipt, conflict: Conflict) -> Receipt:
    """The features that another run published by the same definition, unless they lack more groups. Raises: Conflict."""
    from almanac.runs import publish

    table = context.home.table_of(staged.order)
    publish.settle(context.home, table, [period])
    standing = context.home.published(table, [period]).get(period)
    if standing is None:
        raise conflict
    visible = context.home.receipts.read(standing.links["staged"]).order
    if more := set(leaves_out(visible)) - set(leaves_out(staged.order)):
        raise Conflict(
            f"{conflict} The published features lack {examples(sorted(more))}, which these features have. Clear the task "
            "features.stage.combine; it replaces them."
        ) from conflict
    log.info("%s This run uses the published features.", conflict)
    return standing


def publish_model(context: TaskContext, *, staged: Receipts, audited: Receipts) -> str:
    """Publishes a version; returns its id. If the version is suspect, the run's note says so."""
    from almanac.airflow.notes import SUSPECT
    from almanac.core import suspicion
    from almanac.runs import publish

    ((_, stage, audit),) = _pairs(context, staged, audited)
    manifest = publish.model(context.home, stage, audit, context.run_info)
    log.info("published version %s: %s", manifest.version, "; ".join(stage.findings))
    suspect = {}
    if manifest.suspects:
        suspect = {"suspects": [one.feature for one in manifest.suspects]}
        found = f"version {manifest.version} is {suspicion.summary(manifest.suspects)}. {suspicion.ADVICE}."
        log.warning("%s", found)
        context.context["ti"].xcom_push(SUSPECT, found)
    context.announce(version=manifest.version, metrics=dict(manifest.metrics), training=list(manifest.training), **suspect)
    return manifest.version


def publish_predictions(
    context: TaskContext, run_orders: RunOrders, *, plan: Json | Sequence[Json], staged: Receipts, audited: Receipts
) -> Receipts:
    """Publishes scored periods, each in a commit of its own. If a period's version is no longer in force, or another run
    published the period first, scores it again on the new state. If a person named the version, only if its rows are visible.
    """
    from almanac.core.facts import version_of
    from almanac.runs import publish, rescore

    uris: dict[str, str] = {}
    published: list[dict[str, Any]] = []
    plans = {one.period: one for one in _plans(plan)}
    for period, stage, audit in _pairs(context, staged, audited):
        planned = plans[period]
        try:
            receipt = publish.predictions(context.home, stage, audit, context.run_info)
        except (Overtaken, Conflict) as moved:
            if planned.pinned and not (isinstance(moved, Overtaken) and moved.published):
                raise
            log.warning("%s Scoring it again.", moved)
            again = rescore.replanned(context.home, context.pipeline, planned)
            receipt = rescore.score(context.home, context.pipeline, again, run_orders, context.run_info)
        uris[period] = context.home.receipts.uri(receipt)
        log.info("predictions of %s: %d rows by version %s", period, receipt.rows, version_of(receipt))
        published.append({"period": period, "rows": receipt.rows, "version": version_of(receipt)})
    context.announce(**(published[0] if len(published) == 1 else {"periods": published}))
    return uris


def question(context: TaskContext, *, gate: Receipts) -> tuple[str, str]:
    """The question before a promotion: subject, and the comparison as Markdown. Skipped for a rejected candidate."""
    from almanac.core import facts
    from almanac.core.facts import Gated

    (receipt,) = map(context.home.receipts.read, gate.values())
    gated = facts.read(Gated, receipt)
    comparison = gated.comparison
    if comparison.candidate_version in context.home.log().versions:
        raise AirflowSkipException(f"Nothing to do: version {comparison.candidate_version} is already in the promotion log.")
    if not receipt.passed:
        raise AirflowSkipException(f"The gate rejected version {comparison.candidate_version}: {'; '.join(receipt.findings)}")
    standing = comparison.champion_version or "nothing"
    rows = "\n".join(
        f"| {name} | {value:.4f} | {f'{comparison.champion[name]:.4f}' if comparison.champion else ''} |"
        for name, value in sorted(comparison.candidate.items())
    )
    return (
        f"Promote {comparison.candidate_version}?",
        f"On the holdout {comparison.holdout} ({comparison.rows} rows):\n\n"
        f"| metric | {comparison.candidate_version} | {standing} in force |\n|---|---|---|\n{rows}\n\n"
        f"The gate's verdict: {gated.decision.verdict.value}.\n\n" + "\n".join(f"- {reason}" for reason in receipt.findings),
    )


def publish_champion(
    context: TaskContext, run_orders: RunOrders, *, plan: Json, gate: Receipts, approved: Mapping[str, Any] | None = None
) -> str:
    """Promotes a candidate that passed the gate. If the log has changed since, the candidate is gated again."""
    from almanac.core import facts
    from almanac.core.facts import Gated
    from almanac.runs import publish, rescore

    (receipt,) = map(context.home.receipts.read, gate.values())
    version = facts.read(Gated, receipt).comparison.candidate_version
    for attempt in range(rescore.ROUNDS):
        decision = f"{facts.read(Gated, receipt).decision.verdict.value}: {'; '.join(receipt.findings)}"
        known = context.home.log()
        if not receipt.passed and version not in known.versions:
            raise AirflowSkipException(f"Version {version} is not promoted; it stays in the history. {decision}")
        if version in known.withdrawn:
            raise AirflowSkipException(f"Nothing to do: version {version} is withdrawn until it is reinstated.")
        try:
            entry = publish.champion(context.home, context.pipeline, receipt, context.run_info, approver=_approver(approved))
            break
        except LogMoved as moved:
            if attempt == rescore.ROUNDS - 1 or approved:
                raise  # a person approved another comparison
            log.warning("%s Comparing again now.", moved)
            receipt = rescore.gate(context.home, context.pipeline, _plan(plan), version, run_orders)
    if entry is None:
        log.info("nothing to do: version %s is already in the promotion log", version)
    else:
        log.info("promoted %s, in force from %s. %s", version, entry.effective, decision)
        context.announce(version=version, effective=entry.effective, decision=decision)
    return version


def _approver(approved: Mapping[str, Any] | None) -> str:
    by = (approved or {}).get("responded_by_user") or {}
    return str(by.get("name") or by.get("id") or "")


def _pairs(context: TaskContext, staged: Receipts, audited: Receipts) -> list[tuple[str, Receipt, Receipt]]:
    """Each period with the receipts of its stage and its audit."""
    read = context.home.receipts.read
    return [(period, read(uri), read(audited[period])) for period, uri in sorted(staged.items())]


# Rollback.


def roll_back(context: TaskContext, *, plan: Json) -> list[Json]:
    """Appends the rollback to the log, then lists what to score again, so that nothing published meanwhile is missed."""
    from almanac.runs import promotions, rollback

    planned = decode(RollbackPlan, plan)
    if context.params.get("dry_run"):
        raise AirflowSkipException(f"Dry run. {planned.in_words} Nothing was changed.")
    entry = promotions.rollback(context.home, planned, context.run_info, rollback.address(context.home, context.run))
    runs = rollback.runs(context.home, context.pipeline, planned)
    periods = [run.period for run in runs]
    context.announce(version=entry.version, withdrawn=entry.replaces, reason=entry.reason, periods=periods)
    log.info(
        "entry %d: %s is in force; periods to score again: %s", entry.sequence, entry.version, ", ".join(periods) or "nothing"
    )
    return [encode(run) for run in runs]


def verify_rollback(context: TaskContext, run_orders: RunOrders, *, plan: Json) -> str:
    """Makes sure that no visible period was written by the withdrawn version. Periods that became visible while the rollback
    ran are scored again until none is left; then the deliveries are brought up to date.

    Raises:
        PromotionError: such periods kept appearing.
        StoreError, DeliveryError: a delivery may still show them.
    """
    from almanac.airflow import deliveries
    from almanac.runs import rescore, rollback

    planned = decode(RollbackPlan, plan)
    if not planned.withdraw or context.params.get("dry_run"):
        return "nothing was withdrawn"
    for _ in range(rescore.ROUNDS):
        for run in rollback.runs(context.home, context.pipeline, planned):
            log.warning("%s still shows %s; scoring it again", run.period, planned.bad)
            rescore.score(context.home, context.pipeline, run, run_orders, context.run_info)
    if left := rollback.left(context.home, planned):
        raise PromotionError(
            f"Periods {', '.join(left)} still show predictions of the withdrawn version {planned.bad}: they kept "
            "becoming visible while the rollback ran. Clear the task verify once the runs that score them have ended."
        )
    deliveries.verify(context, planned.bad)
    log.info("no visible period was written by %s", planned.bad)
    return f"{len(planned.scores)} periods repaired"


# Deliveries.


def deliver(context: TaskContext) -> dict[str, list[str]]:
    """Brings all deliveries up to date; maps each delivery to the periods that changed."""
    from almanac.airflow import deliveries

    return deliveries.deliver_all(context)


def deliver_in_rollback(context: TaskContext) -> dict[str, list[str]]:
    """As `deliver`, but a failure skips the task: the task verify delivers again and must still run."""
    from almanac.airflow import deliveries

    return deliveries.deliver_in_rollback(context)


TaskFunction = Callable[..., Any]
