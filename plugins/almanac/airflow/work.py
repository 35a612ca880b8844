"""What tasks do, by name: a function of WORK takes what earlier tasks returned and gives what the next ones need; one of
ORDERS gives the orders of a Spark job.

Imported by a running task only, never when DAGs are parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from almanac.airflow.deliveries import deliver, deliver_in_rollback
from almanac.airflow.desk import Desk
from almanac.core.canonical import decode, encode
from almanac.core.degrade import check_sources, left_out
from almanac.core.gate import Comparison
from almanac.core.late import refusal
from almanac.core.period import Period
from almanac.core.plan import RunPlan
from almanac.core.receipts import Placed, Receipt
from almanac.core.rollback import Plan
from almanac.doors import building, late, orders, pin, plan, promotions, publish, rollback, sources
from almanac.errors import Conflict, NotAdmitted, SourceError, examples

Given = Mapping[str, Any]
log = logging.getLogger(__name__)


def plan_retrain(desk: Desk, given: Given) -> dict[str, Any]:  # noqa: ARG001
    period = _begin(desk)
    _begin_store(desk)
    asked = {name: bool(desk.params.get(name)) for name in ("dry_run", "refresh")}
    found = plan.retrain(desk.home, desk.pipeline, period, desk.module, known_at=desk.params.get("known_at"), **asked)
    log.info(found.in_words)
    return encode(found)  # type: ignore[no-any-return]


def plan_score(desk: Desk, given: Given) -> list[dict[str, Any]]:  # noqa: ARG001
    """A plan for each period of the run: one, or those from `from` to `to`."""
    periods = desk.range or (_begin(desk),)
    _begin_store(desk)
    asked = {name: bool(desk.params.get(name)) for name in ("allow_in_sample", "refresh")}
    degrade = desk.pipeline.scoring.degrade
    found = plan.score_all(desk.home, periods, version=desk.params.get("version"), degrade=degrade, **asked)
    for one in found:
        plan.check_buildable(desk.home, desk.pipeline, one)
        log.info(one.in_words)
    return [encode(one) for one in found]


def _begin(desk: Desk) -> Period:
    """The run's period, on a store that holds what Almanac needs. A period after the pipeline's last one is skipped."""
    period, last = desk.period, desk.pipeline.last_period
    if last is not None and period.key > last:
        raise AirflowSkipException(f"{period} is after {last}, the last period of {desk.pipeline.name}: there is nothing to do.")
    return period


def _begin_store(desk: Desk) -> None:
    desk.home.objects.probe(desk.settings.root)


def pin_sources(desk: Desk, given: Given) -> str:
    uri = pin.pin(desk.home, _wet(given), desk.witness)
    for finding in desk.home.receipts.read(uri).findings:
        log.info(finding)
    return uri


def _pinned(given: Given) -> str:
    return sources.built_from(given["pin"], given.get("checked") or {})


def _wet(given: Given) -> RunPlan:
    """The run's plan. A dry run ends here, skipped."""
    planned = run_plan(given)
    if planned.dry_run:
        raise AirflowSkipException(f"Dry run: {planned.in_words} Nothing was changed.")
    return planned


def lacking(desk: Desk, given: Given, source: str) -> list[str]:
    """Why a source is not complete for the run, by the description that its features are built by."""
    planned = _wet(given)
    pipeline = desk.home.receipts.description(planned.description)
    if source not in pipeline.sources:
        return []
    found = late.lacking(desk.home, pipeline, planned, source)
    for reason in found:
        log.info("Source %s is not complete: %s", source, reason)
    return found


def never_came(source: str, reasons: Sequence[str], seconds: float) -> SourceError:
    """What is said when a source did not become complete in time."""
    return refusal(source, reasons, f"It was waited for {timedelta(seconds=seconds)} (h:mm:ss), nothing was built of it.")


def go_on_without(desk: Desk, given: Given, source: str, error: SourceError) -> None:
    """A source is not as it must be. The run goes on where it can do without what reads it. Raises: the error, DataError."""
    planned = run_plan(given)
    check_sources(desk.home.receipts.description(planned.description), planned, {source: error})
    log.warning("%s The run goes on without what reads it.", error)


def publish_features(desk: Desk, given: Given) -> dict[str, str]:
    uris = {}
    for period, staged, audited in pairs(desk, given):
        try:
            receipt = publish.features(desk.home, staged, audited, desk.witness)
        except Conflict as beaten:
            # Another run built the period of the same definition meanwhile: what it published is as good, if it lacks no more.
            standing = desk.home.published(desk.home.table_of(staged.order), [period]).get(period)
            if standing is None:
                raise
            if more := set(left_out(standing)) - set(left_out(staged)):
                raise Conflict(
                    f"{beaten} It is without {examples(sorted(more))}, and these features are not. Clear the task "
                    "features.stage.combine: it puts these in their place."
                ) from beaten
            log.info("%s Its features are used.", beaten)
            receipt = standing
        uris[period] = desk.home.receipts.uri(receipt)
        log.info("published features of %s: %d rows", period, receipt.rows)
    desk.announce(periods=sorted(uris))
    return uris


def publish_model(desk: Desk, given: Given) -> str:
    _, staged, audited = pairs(desk, given)[0]
    manifest = publish.model(desk.home, staged, audited, desk.witness)
    log.info("published version %s: %s", manifest.version, staged.facts["verdict"])
    desk.announce(version=manifest.version, metrics=dict(manifest.metrics), training=list(manifest.training))
    return manifest.version


def question(desk: Desk, given: Given) -> tuple[str, str]:
    """What a person is asked before a promotion: subject, and the comparison as Markdown. A rejected candidate asks nobody."""
    (gate,) = (desk.home.receipts.read(uri) for uri in given["gate"].values())
    comparison = decode(Comparison, gate.facts["comparison"])
    if comparison.candidate_version in desk.home.log().versions:
        raise AirflowSkipException(f"Nothing new: version {comparison.candidate_version} is in the promotion log already.")
    if not gate.passed:
        raise AirflowSkipException(f"Version {comparison.candidate_version} was not let through: {'; '.join(gate.findings)}")
    standing = comparison.champion_version or "nothing"
    rows = "\n".join(
        f"| {name} | {value:.4f} | {f'{comparison.champion[name]:.4f}' if comparison.champion else ''} |"
        for name, value in sorted(comparison.candidate.items())
    )
    return (
        f"Promote {comparison.candidate_version}?",
        f"On the holdout {comparison.holdout} ({comparison.rows} rows):\n\n"
        f"| metric | {comparison.candidate_version} | {standing} in force |\n|---|---|---|\n{rows}\n\n"
        f"The gate says: {gate.facts['decision']['verdict']}.\n\n" + "\n".join(f"- {reason}" for reason in gate.findings),
    )


def plan_rollback(desk: Desk, given: Given) -> dict[str, Any]:  # noqa: ARG001
    params = desk.params
    desk.home.objects.probe(desk.settings.root)
    found = rollback.planned(
        desk.home,
        desk.pipeline,
        reason=str(params.get("reason") or ""),
        to=params.get("to") or None,
        bad=params.get("from") or None,
        withdraw=bool(params.get("withdraw", True)),
        periods=params.get("periods") or None,
        run="" if params.get("dry_run") else desk.run,
    )
    log.info(found.in_words)
    return encode(found)  # type: ignore[no-any-return]


def roll_back(desk: Desk, given: Given) -> list[dict[str, Any]]:
    """Appends the rollback, then lists what is to be scored again: nothing that became visible meanwhile is missed."""
    planned = decode(Plan, given["plan"])
    if desk.params.get("dry_run"):
        raise AirflowSkipException(f"Dry run. {planned.in_words} Nothing was changed.")
    entry = promotions.rollback(desk.home, planned, desk.witness, rollback.address(desk.home, desk.run))
    runs = rollback.runs(desk.home, desk.pipeline, planned)
    periods = [run.period for run in runs]
    desk.announce(version=entry.version, withdrawn=entry.replaces, reason=entry.reason, periods=periods)
    log.info("entry %d: %s is in force; scored again: %s", entry.sequence, entry.version, ", ".join(periods) or "nothing")
    return [encode(run) for run in runs]


def plan_rebuilds(desk: Desk, given: Given) -> list[dict[str, Any]]:  # noqa: ARG001
    """What the older version's features miss, by its own definition: a run for each definition."""
    found = rollback.rebuilds([decode(RunPlan, one) for one in given["plans"]])
    for one in found:
        log.info("features of %s are built by definition %s", ", ".join(one.build), one.definition)
    return [encode(one) for one in found]


def run_plan(given: Given) -> RunPlan:
    """What a run builds and trains; of a run that scores several periods, what it builds."""
    return plan.joined(run_plans(given))


def run_plans(given: Given) -> list[RunPlan]:
    """What a run scores: a plan for each period."""
    found = given["plan"]
    return [decode(RunPlan, one) for one in (found if isinstance(found, list) else [found])]


def pairs(desk: Desk, given: Given) -> list[tuple[str, Receipt, Receipt]]:
    read = desk.home.receipts.read
    return [(period, read(uri), read(given["audited"][period])) for period, uri in sorted(given["staged"].items())]


WORK: dict[str, Callable[[Desk, Given], Any]] = {
    work.__name__: work
    for work in (
        plan_retrain,
        plan_score,
        plan_rollback,
        plan_rebuilds,
        pin_sources,
        publish_features,
        publish_model,
        roll_back,
        deliver,
        deliver_in_rollback,
    )
}


def source_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return sources.asked(desk.home, run_plan(given), given["pin"])


def group_orders(desk: Desk, given: Given, part: str) -> list[Placed]:
    return building.groups(desk.home, run_plan(given), _pinned(given), part)


def all_group_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    """Those of every group that the plan's own description has, which may not be today's."""
    return building.every_group(desk.home, run_plan(given), _pinned(given))


def combine_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    """Also asked where a group was not built. Airflow then asks where nothing was planned or pinned, too, and gives what those
    tasks returned in a try before.
    """
    for task, state in desk.states_of("plan", "sources.pin", "sources.audit").items():
        if (task, state) == ("plan", "skipped"):
            raise AirflowSkipException("Nothing was planned, so nothing is combined.")
        if state != "success":
            raise NotAdmitted(f"The task {task} did not end well ({state}), so nothing is combined. Clear it.")
    return building.combined(desk.home, run_plan(given), _pinned(given))


def audit_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return orders.audits(desk.home, given["staged"])


def model_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return [orders.model(desk.home, run_plan(given), _pinned(given))]


def comparison_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return [orders.comparison(desk.home, desk.pipeline, run_plan(given), given["version"])]


def prediction_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return [orders.predictions(desk.home, one) for one in run_plans(given)]


ORDERS: dict[str, Callable[[Desk, Given, str], list[Placed]]] = {
    work.__name__: work
    for work in (
        source_orders,
        group_orders,
        combine_orders,
        all_group_orders,
        audit_orders,
        model_orders,
        comparison_orders,
        prediction_orders,
    )
}
