"""Feature orders: what a plan builds from pinned sources, group by group, and the orders that combine the groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from almanac.core.canonical import encode
from almanac.core.cuts import feature_cuts
from almanac.core.degrade import check, leaves_out
from almanac.core.facts import LEFT_OUT
from almanac.core.pins import Pin, check_audited, check_pinned, content_of, cut_until
from almanac.core.pipeline import Group, Pipeline, Population
from almanac.core.plan import RunPlan
from almanac.core.receipts import Artifact, Order, PlacedOrder, Receipt, Step, with_parts
from almanac.core.sources import UNTIL
from almanac.errors import NotAdmitted, bounded, examples
from almanac.settings import VERSION
from almanac.store.home import Home
from almanac.store.pins import admitted_pins


def groups(home: Home, plan: RunPlan, pin: str, *names: str) -> list[PlacedOrder]:
    """The orders of feature groups, one per group and period to build; of all in the plan's description if none are named. If the
    run may leave groups out, those whose sources were left out of the pin have none.

    Raises:
        NotAdmitted: a source that they read was left out of the pin: of all of them, if the run may leave groups out.
    """
    run = _Run.of(home, plan, pin)
    wanted = [run.pipeline.group(name) for name in names] or run.pipeline.features
    placed, refused = [], []
    for group in wanted:
        try:
            placed += [run.group(group, period) for period in plan.build]
        except NotAdmitted as error:
            refused.append(error)
    if refused and (not plan.degrade or len(refused) == len(wanted)):
        raise refused[0]
    return placed


def combined(home: Home, plan: RunPlan, pin: str) -> list[PlacedOrder]:
    """The orders that combine the groups, one per period. A group that was not built is left out if the run allows it.

    Raises:
        NotAdmitted: a group was not built.
        DataError: the missing groups hold more of the version's importance than the run allows.
    """
    run, table = _Run.of(home, plan, pin), home.features(plan.definition)
    visible, fences = table.standing(plan.build)
    placed = []
    for period in plan.build:
        standing = home.receipts.placed(visible[period].order) if period in visible else None
        parts, absent = run.parts(period)
        if absent and standing is not None and set(leaves_out(standing.order)) < absent.keys():
            placed.append(standing)  # the published features lack fewer groups, so they stay
            continue
        if absent:
            _check_absent(replace(plan, period=period), absent)
        fence = plan.fences.get(period, fences[period])
        if standing is not None and set(leaves_out(standing.order)) - absent.keys():
            fence = fences[period]  # the features published meanwhile lack more groups, so ours replace them
        combining = run.combining(period, sorted(absent), standing.order.digest if standing else "", fence)
        found = {name: (receipt.content, home.receipts.uri(receipt)) for name, receipt in parts.items()}
        one = with_parts(combining, found)
        # If another run published the same meanwhile, its receipts are used.
        placed.append(standing if standing is not None and standing.order.same_work(one.order) else one)
    return placed


def to_combine(home: Home, plan: RunPlan, pin: str) -> list[PlacedOrder]:
    """What the orders of `combined` will be once all groups are built, so that the job that builds the groups can combine them.

    They name the orders of the groups instead of receipts. A period with published features has none: `combined` decides what
    becomes of these.

    Raises:
        NotAdmitted: a source that a group or the population reads was left out of the pin.
    """
    run, table = _Run.of(home, plan, pin), home.features(plan.definition)
    visible, fences = table.standing(plan.build)
    placed = []
    for period in plan.build:
        if period not in visible:
            groups = {group.name: run.group(group, period).order.digest for group in run.pipeline.features}
            combining = run.combining(period, (), "", plan.fences.get(period, fences[period]))
            parts = {name: (digest, home.layout.order(digest)) for name, digest in groups.items()}
            placed.append(with_parts(combining, parts))
    return placed


def _check_absent(plan: RunPlan, absent: Mapping[str, str]) -> None:
    """Checks that a run's period may lack some feature groups. Raises: NotAdmitted, DataError."""
    if not plan.degrade:
        reasons = "\n".join(f"{name}: {why}" for name, why in absent.items())
        raise NotAdmitted(
            f"Feature groups {examples(absent)} of {plan.period} were not built, so nothing is combined. Fix the "
            f"errors that their tasks report, and clear the tasks.\n{reasons}"
        )
    check(plan, absent)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that builds features: its plan, its description, and the pins that it may read."""

    home: Home
    plan: RunPlan
    pipeline: Pipeline
    receipt: Receipt
    pins: Mapping[str, Pin]

    @classmethod
    def of(cls, home: Home, plan: RunPlan, pin: str) -> _Run:
        receipt = home.receipts.read(pin)
        return cls(home, plan, home.receipts.description(plan.description), receipt, admitted_pins(home, receipt))

    @property
    def links(self) -> dict[str, str]:
        return {"pin": self.home.receipts.uri(self.receipt)}

    def group(self, group: Group, period: str) -> PlacedOrder:
        inputs, parameters = self.reads(group, period)
        order = self.order(period, part=group.name, inputs=inputs, parameters=parameters)
        return PlacedOrder(order=order, links=self.links, description=self.plan.description)

    def parts(self, period: str) -> tuple[dict[str, Receipt], dict[str, str]]:
        """The groups that were built for a period, with their receipts; and those that were not, with the reason.

        Raises:
            NotAdmitted: a group was built, but its rows have been deleted since.
        """
        built, absent = {}, {}
        for group in self.pipeline.features:
            try:
                order = self.group(group, period).order
            except NotAdmitted as refused:
                absent[group.name] = str(refused)
                continue
            if receipt := self.home.receipts.done(order):
                built[group.name] = receipt
                continue
            failed = self.home.receipts.find(order)
            if failed and failed.passed:
                raise NotAdmitted(
                    f"Feature group {group.name!r} of {period} was built, but its rows have been deleted since. Clear the task "
                    "of features.stage that builds it."
                )
            absent[group.name] = bounded(failed.findings) if failed else "its job has not ended"
        return built, absent

    def combining(self, period: str, absent: Sequence[str], replaces: str, fence: int) -> PlacedOrder:
        """The order that combines the groups, without these."""
        inputs, cut = self.reads(self.pipeline.population, period)
        parameters = {**cut, **({LEFT_OUT: list(absent)} if absent else {})}
        order = self.order(period, inputs=inputs, parameters=parameters, replaces=replaces, fence=fence)
        return PlacedOrder(order=order, links=self.links, description=self.plan.description)

    def reads(self, part: Group | Population, period: str) -> tuple[dict[str, str], dict[str, str]]:
        """What a feature order reads, as `read_by` gives it. Checks that the sources were pinned, and audited if described so."""
        check_pinned(self.receipt, part)
        check_audited(self.receipt, self.pipeline, part.reads)
        return read_by(self.pipeline, part, period, self.pins, cut_until(self.receipt, period))

    def order(
        self,
        period: str,
        *,
        inputs: Mapping[str, str],
        parameters: Mapping[str, object],
        part: str = "",
        replaces: str = "",
        fence: int = 0,
    ) -> Order:
        return Order(
            pipeline=self.plan.pipeline,
            artifact=Artifact.FEATURES,
            step=Step.STAGE,
            part=part,
            period=period,
            description=self.plan.definition,
            module=self.plan.module,
            almanac=VERSION,
            inputs=inputs,
            parameters=parameters,
            replaces=replaces,
            fence=fence,
        )


def read_by(
    pipeline: Pipeline, part: Group | Population, period: str, pinned: Mapping[str, Pin], until: datetime | None
) -> tuple[dict[str, str], dict[str, str]]:
    """What a feature group or the population reads from pinned sources for a period, as inputs and parameters of its order.

    Inputs: source to the content of its files that can hold a row of the cut. Parameters: where the consistent sources are
    cut, if one of them is behind.
    """
    cuts = feature_cuts(pipeline, part, period, until)
    moved = cuts != feature_cuts(pipeline, part, period)
    inputs = {name: content_of(pinned[name].within(cut)) for name, cut in cuts.items()}
    return inputs, ({UNTIL: encode(until)} if moved else {})
