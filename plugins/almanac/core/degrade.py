"""Degraded features: a group that could not be built is left out, its features are null, and the model's own imputation takes
over, as far as the version that scores can do without the group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from almanac.core.facts import LEFT_OUT
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.receipts import Order
from almanac.errors import DataError, SourceError, examples

LACKING = "lacking"  # a parameter of a pin: the sources that it is without

NEVER = (
    "A group of importance 1 is never left out: the model refuses its nulls, or nothing tells what it is worth, as in a version "
    "that was trained before that was measured."
)


def leaves_out(order: Order) -> tuple[str, ...]:
    """The groups that an order leaves out: it tells them before anything is made, and where a receipt was never written."""
    return tuple(order.parameters.get(LEFT_OUT, ()))


def share(plan: RunPlan, groups: Iterable[str]) -> float:
    """What feature groups hold together of the importance of a run's version. One that was not measured counts whole."""
    return sum(plan.importance.get(name, 1.0) for name in groups)


def check(plan: RunPlan, absent: Mapping[str, str]) -> None:
    """A run can do without feature groups. `absent`: group to why it was not built.

    Raises:
        DataError: they hold more of the version's importance than the run allows.
    """
    held = share(plan, absent)
    if held <= plan.degrade:
        return
    reasons = "\n".join(f"{name} ({plan.importance.get(name, 1.0):.3g}): {why}" for name, why in absent.items())
    blind = f" {NEVER}" if any(plan.importance.get(name, 1.0) >= 1 for name in absent) else " Or raise Scoring.degrade."
    raise DataError(
        f"{plan.period} cannot be scored without the feature groups {examples(absent)}: of the importance of "
        f"{f'version {plan.version}' if plan.version else 'the versions'} they hold {held:.3g}, Scoring.degrade allows "
        f"{plan.degrade:.3g}. Mend what kept them from being built and start the run again.{blind}\n{reasons}"
    )


def check_sources(pipeline: Pipeline, plan: RunPlan, lacking: Mapping[str, SourceError]) -> None:
    """A run can do without sources, because it can do without the feature groups that read them.

    Raises:
        SourceError: that of a source, where the run leaves no group out, or its population reads it.
        DataError: as `check`.
    """
    for name, error in lacking.items():
        if not plan.degrade or name in pipeline.population.reads:
            raise error
    check(plan, {group.name: str(lacking[name]) for group in pipeline.features for name in group.reads if name in lacking})
