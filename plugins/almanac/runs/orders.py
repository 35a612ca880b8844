"""Orders: what to make next, from a run's plan and the receipts so far. Feature orders have their own module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from almanac.core.canonical import digest, encode
from almanac.core.cuts import feature_cuts, label_cuts
from almanac.core.degrade import check
from almanac.core.facts import LEFT_OUT, left_out
from almanac.core.pins import AUDITS, SPANS, Pin, check_audited, content_of, cut_until
from almanac.core.pipeline import Pipeline
from almanac.core.plan import ASKED, RunPlan
from almanac.core.receipts import Artifact, Order, PlacedOrder, Receipt, Step, admit
from almanac.core.sources import KNOWN_AT, Cut
from almanac.errors import NotAdmitted, examples
from almanac.runs import publish
from almanac.settings import VERSION
from almanac.store.home import Home
from almanac.store.pins import admitted_pins


def label_inputs(pipeline: Pipeline, snapshots: Iterable[str], known: datetime, pinned: Mapping[str, Pin]) -> dict[str, str]:
    """What the labels of a version's snapshots read from pinned sources, limited to what was known at a given time."""
    return {
        f"label.{snapshot}.{name}": content_of(pinned[name].within(cut))
        for snapshot in snapshots
        for name, cut in label_cuts(pipeline, snapshot, known).items()
    }


def audits(home: Home, staged: Mapping[str, str]) -> list[PlacedOrder]:
    """The audits of staged artifacts. `staged`: period to the URI of the stage receipt."""
    return [home.receipts.audit_of(uri) for uri in staged.values()]


def model(home: Home, plan: RunPlan, pin: str) -> PlacedOrder:
    """The order to train a version: from the published features of its snapshots and the sources of its labels.

    Raises:
        NotAdmitted: features of a snapshot are not published, or lack feature groups.
    """
    pipeline, receipt = home.receipts.description(plan.description), home.receipts.read(pin)
    check_audited(receipt, pipeline, pipeline.label.reads)
    found = admitted_pins(home, receipt)
    snapshots = [*plan.training, plan.holdout]
    published = _published(home, plan, snapshots)
    if degraded := [f"{period} (without {examples(left_out(one))})" for period, one in published.items() if left_out(one)]:
        raise NotAdmitted(
            f"Features of {examples(degraded)} lack feature groups; models are trained on complete features only. Clear the run "
            "from its plan on to build them with all groups."
        )
    inputs = {f"features.{period}": published[period].content for period in snapshots}
    known = datetime.fromisoformat(plan.known_at) if plan.known_at else pipeline.period(plan.period).as_of
    inputs |= label_inputs(pipeline, snapshots, known, found)
    links = {f"features.{period}": home.receipts.uri(published[period]) for period in snapshots}
    labelled = {name: pipeline.sources[name].shape for name in pipeline.label.reads}
    order = Order(
        pipeline=home.name,
        artifact=Artifact.MODEL,
        step=Step.STAGE,
        period=plan.period,
        description=digest(
            {
                "features": plan.definition,
                "label": encode(pipeline.label),
                "sources": encode(labelled),
                **({"sampling": encode(pipeline.window.sampling)} if pipeline.window.sampling else {}),
            }
        ),
        module=plan.module,
        almanac=VERSION,
        inputs=inputs,
        parameters={
            "training": list(plan.training),
            "holdout": plan.holdout,
            **({KNOWN_AT: plan.known_at} if plan.known_at else {}),
        },
    )
    definition = pipeline.definition(plan.module)
    return PlacedOrder(order=order, links={**links, "pin": pin}, description=plan.description, definition=definition)


def _published(home: Home, plan: RunPlan, periods: Iterable[str]) -> dict[str, Receipt]:
    listed, table = list(periods), home.features(plan.definition)
    found = home.published(table, listed)
    if len(found) < len(listed):  # a publisher died before its receipt, or has not written it yet
        publish.settle(home, table, listed)
        found = home.published(table, listed)
    if absent := [period for period in listed if period not in found]:
        raise NotAdmitted(
            f"Features of {examples(absent, 12)} (definition {plan.definition}) are not published. Clear the run from its plan "
            "on to build them."
        )
    return {
        period: admit(receipt, Artifact.FEATURES, Step.PUBLISH, pipeline=home.name, period=period)
        for period, receipt in found.items()
    }


def comparison(home: Home, pipeline: Pipeline, plan: RunPlan, version: str) -> PlacedOrder:
    """The order to compare a candidate with the version in force for the candidate's first period.

    A candidate that passed its gate before is not compared with itself: its earlier order is returned.
    """
    log = home.log()
    let_through = next((entry.gate for entry in log.entries if entry.version == version and entry.gate), "")
    if let_through and version not in log.withdrawn:
        return home.receipts.placed(home.receipts.read(let_through).order.inputs["order"])
    effective = pipeline.period(plan.period).plus(1).key
    champion = log.in_force(effective) or ""
    candidate = home.versions.trusted(version)
    if champion and (standing := home.versions.read(champion)).definition != candidate.definition:
        publish.settle(home, home.features(standing.definition), [candidate.holdout])  # it is compared on its own features
    order = Order(
        pipeline=home.name,
        artifact=Artifact.CHAMPION,
        step=Step.STAGE,
        period=plan.period,
        description=digest(encode(pipeline.gate)),
        module=plan.module,
        almanac=VERSION,
        inputs={
            "candidate": candidate.digest,
            "champion": home.versions.trusted(champion).digest if champion else "",
        },
        parameters={
            "candidate": version,
            "champion": champion,
            "effective": effective,
            "position": log.position,
            "gate": encode(pipeline.gate),
        },
    )
    return PlacedOrder(order=order, description=plan.description)


def predictions(home: Home, plan: RunPlan) -> PlacedOrder:
    """The order to score a period with the plan's version, from published features of the version's own definition.

    If the visible predictions came from the same work, their order is returned: its receipts are found, and nothing is done.

    Raises:
        NotAdmitted: the features are not published.
        DataError: the missing groups hold more of the version's importance than the run allows.
    """
    published = _published(home, plan, [plan.period])[plan.period]
    absent = left_out(published)
    check(plan, dict.fromkeys(absent, "it was left out of the features"))
    seen, fences = home.predictions.standing([plan.period])
    visible = seen.get(plan.period)
    order = Order(
        pipeline=home.name,
        artifact=Artifact.PREDICTIONS,
        step=Step.STAGE,
        period=plan.period,
        description=plan.definition,
        module=plan.module,
        almanac=VERSION,
        inputs={"features": published.content, "version": plan.manifest},
        parameters={
            "version": plan.version,
            "in_sample": plan.in_sample,
            **({ASKED: True} if plan.pinned else {}),
            **({LEFT_OUT: list(absent)} if absent else {}),
        },
        replaces=visible.order if visible else "",
        fence=fences[plan.period] if plan.fence is None else plan.fence,
    )
    if visible and (standing := home.receipts.placed(visible.order)).order.same_work(order):
        return standing
    return PlacedOrder(order=order, links={"features": home.receipts.uri(published)}, description=plan.description)


def source_audits(home: Home, plan: RunPlan, pinned: str) -> list[PlacedOrder]:
    """The audit of those parts of the audited sources that a run may read; empty if it reads none of them."""
    pipeline, receipt = home.receipts.description(plan.description), home.receipts.read(pinned)
    audited = set(pipeline.audited) & receipt.order.inputs.keys()
    spans = {name: span for name, span in _spans(pipeline, plan, receipt).items() if name in audited}
    if not spans:
        return []
    audits = {name: encode(pipeline.sources[name].audit) for name in spans}
    order = receipt.order.next(
        Step.AUDIT, receipt.order.inputs, **{**receipt.order.parameters, SPANS: encode(spans), AUDITS: audits}
    )
    return [PlacedOrder(order=order, links={"pin": pinned}, description=plan.description)]


def built_from(pinned: str, audited: Mapping[str, str]) -> str:
    """The receipt that a run builds from: of the source audit if there was one, else of the pin. `audited`: period to URI."""
    return next(iter(audited.values()), pinned)


def _spans(pipeline: Pipeline, plan: RunPlan, receipt: Receipt) -> dict[str, Cut]:
    parts = (pipeline.population, *pipeline.features)
    cuts = [
        cut
        for period in plan.build
        for part in parts
        for cut in feature_cuts(pipeline, part, period, cut_until(receipt, period)).items()
    ]
    if plan.retrains:
        known = pipeline.period(plan.period).as_of
        cuts += [cut for period in (*plan.training, plan.holdout) for cut in label_cuts(pipeline, period, known).items()]
    names = {name for name, _ in cuts}
    return {name: _around(cut for other, cut in cuts if other == name) for name in sorted(names)}


def _around(cuts: Iterable[Cut]) -> Cut:
    lows, highs = zip(*((cut.low, cut.high) for cut in cuts), strict=True)
    low = None if None in lows else min(lows)
    return Cut(low=low, high=None if None in highs else max(highs))
