"""Orders: what a run's plan and the receipts so far ask to be made next. Placed by an operator, carried out by a door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from almanac.core.canonical import digest, encode
from almanac.core.pipeline import Group, Pipeline, Population
from almanac.core.plan import RunPlan
from almanac.core.provenance import feature_cuts, label_cuts
from almanac.core.receipts import Door, Order, Placed, Receipt, Thing, admit
from almanac.core.sources import KNOWN_AT, UNTIL, Pin, content_of
from almanac.doors import pin as pins
from almanac.errors import NotAdmitted, examples
from almanac.settings import VERSION
from almanac.store.home import Home


def groups(home: Home, plan: RunPlan, pin: str, name: str) -> list[Placed]:
    """One feature group, an order for each period that is to be built."""
    pipeline, read = home.receipts.description(plan.description), _Pinned.of(home, pin)
    placed = []
    for period in plan.build:
        inputs, parameters = read.by(pipeline, pipeline.group(name), period)
        order = _feature_order(plan, period, part=name, inputs=inputs, parameters=parameters)
        placed.append(Placed(order=order, links={"pin": pin, "description": plan.description}))
    return placed


def every_group(home: Home, plan: RunPlan, pin: str) -> dict[str, list[Placed]]:
    """The orders of all feature groups of the plan's own description, by group."""
    return {group.name: groups(home, plan, pin, group.name) for group in home.receipts.description(plan.description).features}


def built(home: Home, plan: RunPlan, pin: str) -> list[dict[str, str]]:
    """What came of `every_group`: for each group, period to its receipt's URI.

    Raises:
        NotAdmitted: a group was not built.
    """
    found = []
    for placed in every_group(home, plan, pin).values():
        parts = {}
        for one in placed:
            period = one.order.period
            receipt = admit(home.receipts.done(one.order), Thing.FEATURES, Door.STAGE, pipeline=home.name, period=period)
            parts[period] = home.receipts.uri(receipt)
        found.append(parts)
    return found


def combined(home: Home, plan: RunPlan, pin: str, parts: Iterable[Mapping[str, str]]) -> list[Placed]:
    """The groups' parts combined, an order for each period. `parts`: for each group, period to its receipt's URI."""
    pipeline, read = home.receipts.description(plan.description), _Pinned.of(home, pin)
    table = home.features(plan.definition)
    visible = table.visible()
    given = list(parts)
    placed = []
    for period in plan.build:
        links: dict[str, str] = {}
        inputs, parameters = read.by(pipeline, pipeline.population, period)
        for uris in given:
            receipt = admit(home.receipts.read(uris[period]), Thing.FEATURES, Door.STAGE, pipeline=home.name, period=period)
            links[f"part.{receipt.order.part}"] = uris[period]
            inputs[f"part.{receipt.order.part}"] = receipt.content
        order = _feature_order(
            plan,
            period,
            inputs=inputs,
            parameters=parameters,
            replaces=visible[period].order if period in visible else "",
            fence=table.fence(period),
        )
        if period in visible and (standing := home.receipts.placed(visible[period].order)).order.same_work(order):
            placed.append(standing)  # somebody else published just that meanwhile: its receipts are found
        else:
            placed.append(Placed(order=order, links={**links, "pin": pin, "description": plan.description}))
    return placed


def _feature_order(
    plan: RunPlan,
    period: str,
    *,
    inputs: Mapping[str, str],
    parameters: Mapping[str, str],
    part: str = "",
    replaces: str = "",
    fence: int = 0,
) -> Order:
    return Order(
        pipeline=plan.pipeline,
        thing=Thing.FEATURES,
        door=Door.STAGE,
        part=part,
        period=period,
        description=plan.definition,
        module=plan.module,
        almanac=VERSION,
        inputs=inputs,
        parameters=parameters,
        replaces=replaces,
        fence=fence,
    )


@dataclass(frozen=True, slots=True)
class _Pinned:
    """What a run may read: its pins, and the receipt of them."""

    receipt: Receipt
    pins: Mapping[str, Pin]

    @classmethod
    def of(cls, home: Home, uri: str) -> _Pinned:
        receipt = home.receipts.read(uri)
        return cls(receipt, pins.pinned(home, receipt))

    def by(self, pipeline: Pipeline, part: Group | Population, period: str) -> tuple[dict[str, str], dict[str, str]]:
        """What an order of features says that it reads, as its inputs and parameters: source to the content of those of its
        files that can hold a row of the part's cut, and where its consistent sources are cut, if one of them is behind.
        """
        pins.check_audited(self.receipt, pipeline, part.reads)
        return read_by(pipeline, part, period, self.pins, pins.until(self.receipt, period))


def read_by(
    pipeline: Pipeline, part: Group | Population, period: str, pinned: Mapping[str, Pin], until: datetime | None
) -> tuple[dict[str, str], dict[str, str]]:
    """What a feature group or the population reads of pinned sources for a period: the inputs and parameters of its order."""
    cuts = feature_cuts(pipeline, part, period, until)
    moved = cuts != feature_cuts(pipeline, part, period)
    inputs = {name: content_of(pinned[name].within(cut)) for name, cut in cuts.items()}
    return inputs, ({UNTIL: encode(until)} if moved else {})


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
        NotAdmitted: features of a snapshot are not published.
    """
    pipeline, receipt = home.receipts.description(plan.description), home.receipts.read(pin)
    pins.check_audited(receipt, pipeline, pipeline.label.reads)
    found = pins.pinned(home, receipt)
    snapshots = [*plan.training, plan.holdout]
    published = _published(home, plan, snapshots)
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
    return Placed(order=order, links={**links, "pin": pin, "description": plan.description, "definition": plan.definition})


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
    """
    published = _published(home, plan, [plan.period])[plan.period]
    table = home.predictions
    visible = table.visible().get(plan.period)
    order = Order(
        pipeline=home.name,
        thing=Thing.PREDICTIONS,
        door=Door.STAGE,
        period=plan.period,
        description=plan.definition,
        module=plan.module,
        almanac=VERSION,
        inputs={"features": published.content, "version": plan.manifest},
        parameters={"version": plan.version, "in_sample": plan.in_sample},
        replaces=visible.order if visible else "",
        fence=table.fence(plan.period),
    )
    if visible and (standing := home.receipts.placed(visible.order)).order.same_work(order):
        return standing
    links = {"features": home.receipts.uri(published), "description": plan.description}
    return Placed(order=order, links=links)
