"""Orders: what a run's plan and the receipts so far ask to be made next. Placed by an operator, carried out by a door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from almanac.core.canonical import digest, encode
from almanac.core.degrade import LEFT_OUT, check, left_out
from almanac.core.pipeline import Pipeline
from almanac.core.plan import ASKED, RunPlan
from almanac.core.provenance import label_cuts
from almanac.core.receipts import Door, Order, Placed, Receipt, Thing, admit
from almanac.core.sources import KNOWN_AT, Pin, content_of
from almanac.doors import pin as pins
from almanac.errors import NotAdmitted, examples
from almanac.settings import VERSION
from almanac.store.home import Home


def label_inputs(pipeline: Pipeline, snapshots: Iterable[str], known: datetime, pinned: Mapping[str, Pin]) -> dict[str, str]:
    """What the labels of a version's snapshots read of pinned sources, of what was known at a time."""
    return {
        f"label.{snapshot}.{name}": content_of(pinned[name].within(cut))
        for snapshot in snapshots
        for name, cut in label_cuts(pipeline, snapshot, known).items()
    }


def audits(home: Home, staged: Mapping[str, str]) -> list[Placed]:
    """The audits of staged things. `staged`: period to the stage receipt's URI."""
    placed = []
    for uri in staged.values():
        receipt = home.receipts.read(uri)
        admit(receipt, receipt.order.thing, Door.STAGE, pipeline=home.name)
        order = receipt.order.next(Door.AUDIT, receipt.as_audited)
        links = home.receipts.placed(receipt.order.digest).links
        placed.append(Placed(order=order, links={**links, "staged": uri}))
    return placed


def model(home: Home, plan: RunPlan, pin: str) -> Placed:
    """The training of a version: published features of its snapshots, and the sources of its labels.

    Raises:
        NotAdmitted: features of a snapshot are not published, or not whole.
    """
    pipeline, receipt = home.receipts.description(plan.description), home.receipts.read(pin)
    pins.check_audited(receipt, pipeline, pipeline.label.reads)
    found = pins.pinned(home, receipt)
    snapshots = [*plan.training, plan.holdout]
    published = _published(home, plan, snapshots)
    if degraded := [f"{period} (without {examples(left_out(one))})" for period, one in published.items() if left_out(one)]:
        raise NotAdmitted(
            f"Features of {examples(degraded)} are not whole, and nothing is trained on such. Clear the run from its plan on: it "
            "builds them whole."
        )
    inputs = {f"features.{period}": published[period].content for period in snapshots}
    known = datetime.fromisoformat(plan.known_at) if plan.known_at else pipeline.period(plan.period).as_of
    inputs |= label_inputs(pipeline, snapshots, known, found)
    links = {f"features.{period}": home.receipts.uri(published[period]) for period in snapshots}
    labelled = {name: pipeline.sources[name].shape for name in pipeline.label.reads}
    order = Order(
        pipeline=home.name,
        thing=Thing.MODEL,
        door=Door.STAGE,
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
    return Placed(
        order=order, links={**links, "pin": pin, "description": plan.description, "definition": pipeline.definition(plan.module)}
    )


def _published(home: Home, plan: RunPlan, periods: Iterable[str]) -> dict[str, Receipt]:
    listed = list(periods)
    found = home.published(home.features(plan.definition), listed)
    if absent := [period for period in listed if period not in found]:
        raise NotAdmitted(
            f"Features of {examples(absent, 12)} (definition {plan.definition}) are not published, and nothing else is used. "
            "Clear the run from its plan on: it builds them."
        )
    return {
        period: admit(receipt, Thing.FEATURES, Door.PUBLISH, pipeline=home.name, period=period)
        for period, receipt in found.items()
    }


def comparison(home: Home, pipeline: Pipeline, plan: RunPlan, version: str) -> Placed:
    """Candidate against the version in force for the candidate's first period.

    A candidate that its gate let through before is not compared with itself: the order of then is given again.
    """
    log = home.log()
    let_through = next((entry.gate for entry in log.entries if entry.version == version and entry.gate), "")
    if let_through and version not in log.withdrawn:
        return home.receipts.placed(home.receipts.read(let_through).order.inputs["order"])
    effective = pipeline.period(plan.period).plus(1).key
    champion = log.in_force(effective) or ""
    candidate = home.versions.trusted(version)
    order = Order(
        pipeline=home.name,
        thing=Thing.CHAMPION,
        door=Door.STAGE,
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
    return Placed(order=order, links={"description": plan.description})


def predictions(home: Home, plan: RunPlan) -> Placed:
    """The scoring of a period by the plan's version, from published features of the version's own definition.

    When what is visible came of the same work, that order is given again: its receipts are found, and nothing is done.

    Raises:
        NotAdmitted: the features are not published.
        DataError: they are without groups that hold more of the version's importance than the run allows.
    """
    published = _published(home, plan, [plan.period])[plan.period]
    absent = left_out(published)
    check(plan, dict.fromkeys(absent, "it was left out of the features"))
    seen, fences = home.predictions.standing([plan.period])
    visible = seen.get(plan.period)
    order = Order(
        pipeline=home.name,
        thing=Thing.PREDICTIONS,
        door=Door.STAGE,
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
    links = {"features": home.receipts.uri(published), "description": plan.description}
    return Placed(order=order, links=links)
