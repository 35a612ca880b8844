"""What tasks do, by name: a function of WORK takes what earlier tasks returned and gives what the next ones need; one of
ORDERS gives the orders of a Spark job.

Imported by a running task only, never when DAGs are parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from almanac.airflow.desk import Desk
from almanac.core.canonical import decode, encode
from almanac.core.period import Period
from almanac.core.plan import RunPlan
from almanac.core.receipts import Placed, Receipt
from almanac.core.rollback import Plan
from almanac.doors import orders, pin, plan, publish
from almanac.errors import PromotionError

Given = Mapping[str, Any]
log = logging.getLogger(__name__)


def plan_retrain(desk: Desk, given: Given) -> dict[str, Any]:  # noqa: ARG001
    period = _begin(desk)
    found = plan.retrain(desk.home, desk.pipeline, period, desk.module, dry_run=bool(desk.params.get("dry_run")))
    log.info(found.in_words)
    return encode(found)  # type: ignore[no-any-return]


def plan_score(desk: Desk, given: Given) -> dict[str, Any]:  # noqa: ARG001
    period = _begin(desk)
    asked = {"version": desk.params.get("version"), "allow_in_sample": bool(desk.params.get("allow_in_sample"))}
    found = plan.score(desk.home, desk.pipeline, period, **asked)  # type: ignore[arg-type]
    log.info(found.in_words)
    return encode(found)  # type: ignore[no-any-return]


def _begin(desk: Desk) -> Period:
    """The run's period, on a store that holds what Almanac needs. A period after the pipeline's last one is skipped."""
    period, last = desk.period, desk.pipeline.last_period
    if last is not None and period.key > last:
        raise AirflowSkipException(f"{period} is after {last}, the last period of {desk.pipeline.name}: there is nothing to do.")
    desk.home.objects.probe(desk.settings.root)
    return period


def pin_sources(desk: Desk, given: Given) -> str:
    planned = _run_plan(given)
    if planned.dry_run:
        raise AirflowSkipException(f"Dry run: {planned.in_words} Nothing was changed.")
    return pin.pin(desk.home, planned, desk.witness)


def publish_features(desk: Desk, given: Given) -> dict[str, str]:
    uris = {}
    for period, staged, audited in _pairs(desk, given):
        receipt = publish.features(desk.home, staged, audited, desk.witness)
        uris[period] = desk.home.receipts.uri(receipt)
        log.info("published features of %s: %d rows", period, receipt.rows)
    desk.announce(periods=sorted(uris))
    return uris


def publish_model(desk: Desk, given: Given) -> str:
    _, staged, audited = _pairs(desk, given)[0]
    manifest = publish.model(desk.home, staged, audited, desk.witness)
    log.info("published version %s: %s", manifest.version, staged.facts["verdict"])
    desk.announce(version=manifest.version, metrics=dict(manifest.metrics), training=list(manifest.training))
    return manifest.version


def publish_champion(desk: Desk, given: Given) -> str:
    (gate,) = (desk.home.receipts.read(uri) for uri in given["gate"].values())
    decision = gate.facts["decision"]
    version = gate.facts["comparison"]["candidate_version"]
    said = f"{decision['verdict']}: {'; '.join(decision['reasons'])}"
    if not gate.passed and version not in desk.home.log().versions:
        raise AirflowSkipException(f"Version {version} is not promoted, it stays in the history. {said}")
    entry = publish.champion(desk.home, desk.pipeline, gate, desk.witness)
    if entry is None:
        log.info("nothing new: version %s is in the promotion log already", version)
    else:
        log.info("promoted %s, in force from %s on. %s", version, entry.effective, said)
        desk.announce(version=version, effective=entry.effective, decision=said)
    return str(version)


def publish_predictions(desk: Desk, given: Given) -> dict[str, str]:
    uris = {}
    for period, staged, audited in _pairs(desk, given):
        receipt = publish.predictions(desk.home, staged, audited, desk.witness)
        uris[period] = desk.home.receipts.uri(receipt)
        log.info("predictions of %s: %d rows by version %s", period, receipt.rows, receipt.facts["version"])
        desk.announce(period=period, rows=receipt.rows, version=receipt.facts["version"])
    return uris


def plan_rollback(desk: Desk, given: Given) -> dict[str, Any]:  # noqa: ARG001
    params = desk.params
    desk.home.objects.probe(desk.settings.root)
    found = plan.rollback(
        desk.home,
        desk.pipeline,
        reason=str(params.get("reason") or ""),
        to=params.get("to"),
        withdraw=bool(params.get("withdraw", True)),
        periods=params.get("periods"),
        keep=True,
    )
    log.info(
        "from %s to %s: %d periods, %d rows: %s", found.bad, found.to, len(found.periods), found.rows, ", ".join(found.periods)
    )
    return encode(found)  # type: ignore[no-any-return]


def roll_back(desk: Desk, given: Given) -> list[dict[str, Any]]:
    """Appends the rollback, then lists what is to be scored again: nothing that became visible meanwhile is missed."""
    planned = decode(Plan, given["plan"])
    if desk.params.get("dry_run"):
        raise AirflowSkipException(f"Dry run: from {planned.bad} to {planned.to}, {planned.periods}. Nothing was changed.")
    entry = publish.rollback(desk.home, planned, desk.witness)
    desk.announce(version=entry.version, withdrawn=entry.replaces, reason=entry.reason, periods=list(planned.periods))
    periods = planned.periods
    if planned.withdraw and not desk.params.get("periods"):
        periods = tuple(item.period for item in desk.home.written() if item.version == planned.bad)
    return [encode(plan.score(desk.home, desk.pipeline, desk.pipeline.period(period))) for period in periods]


def verify_rollback(desk: Desk, given: Given) -> str:
    """Nothing that was to be repaired is still visible as the withdrawn version wrote it."""
    planned = decode(Plan, given["plan"])
    if not planned.withdraw or desk.params.get("dry_run"):
        return "nothing was withdrawn"
    asked = desk.params.get("periods")
    left = [item.period for item in desk.home.written() if item.version == planned.bad and (not asked or item.period in asked)]
    if left:
        raise PromotionError(
            f"Periods {', '.join(left)} still show predictions of {planned.bad}, which is withdrawn: they became visible while "
            "the rollback ran. Start the score DAG for them: it uses the version in force."
        )
    log.info("no visible period was written by %s any more", planned.bad)
    return f"{len(planned.periods)} periods repaired"


def _run_plan(given: Given) -> RunPlan:
    return decode(RunPlan, given["plan"])


def _pairs(desk: Desk, given: Given) -> list[tuple[str, Receipt, Receipt]]:
    read = desk.home.receipts.read
    return [(period, read(uri), read(given["audited"][period])) for period, uri in sorted(given["staged"].items())]


WORK: dict[str, Callable[[Desk, Given], Any]] = {
    work.__name__: work
    for work in (
        plan_retrain,
        plan_score,
        plan_rollback,
        pin_sources,
        publish_features,
        publish_model,
        publish_champion,
        publish_predictions,
        roll_back,
        verify_rollback,
    )
}


def group_orders(desk: Desk, given: Given, part: str) -> list[Placed]:
    return orders.groups(desk.home, _run_plan(given), given["pin"], part)


def combine_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return orders.combined(desk.home, _run_plan(given), given["pin"], given["parts"])


def audit_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return orders.audits(desk.home, given["staged"])


def model_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return [orders.model(desk.home, _run_plan(given), given["pin"])]


def comparison_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return [orders.comparison(desk.home, desk.pipeline, _run_plan(given), given["version"])]


def prediction_orders(desk: Desk, given: Given, part: str) -> list[Placed]:  # noqa: ARG001
    return [orders.predictions(desk.home, _run_plan(given))]


ORDERS: dict[str, Callable[[Desk, Given, str], list[Placed]]] = {
    work.__name__: work
    for work in (group_orders, combine_orders, audit_orders, model_orders, comparison_orders, prediction_orders)
}
