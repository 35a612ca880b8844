"""Degraded features: a group that could not be built is left out, as far as the version that scores can do without it. Its
features are null, and the model's own imputation takes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from almanac.core.facts import LEFT_OUT
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.receipts import Order
from almanac.errors import DataError, SourceError, examples

LACKING = "lacking"  # a parameter of a pin: the sources that it does not hold

NEVER = (
    "A group of importance 1 is never left out: the model refuses its nulls, or its importance is unknown, as for a version "
    "that was trained before importance was measured."
)


def leaves_out(order: Order) -> tuple[str, ...]:
    """The groups that an order leaves out: known before anything is made, and where no receipt was ever written."""
    return tuple(order.parameters.get(LEFT_OUT, ()))


def share(plan: RunPlan, groups: Iterable[str]) -> float:
    """The share of the importance of a run's version that feature groups hold together. An unmeasured one counts as 1."""
    return sum(plan.importance.get(name, 1.0) for name in groups)


def check(plan: RunPlan, absent: Mapping[str, str]) -> None:
    """Checks that a run can do without feature groups. `absent`: group to why it was not built.

    Raises:
        DataError: they hold more of the version's importance than the run allows.
    """
    held = share(plan, absent)
    if held <= plan.degrade:
        return
    reasons = "\n".join(f"{name} ({plan.importance.get(name, 1.0):.3g}): {why}" for name, why in absent.items())
    blind = f" {NEVER}" if any(plan.importance.get(name, 1.0) >= 1 for name in absent) else " Or raise Scoring.degrade."
    raise DataError(
        f"{plan.period} cannot be scored without the feature groups {examples(absent)}: they hold {held:.3g} of the importance "
        f"of {f'version {plan.version}' if plan.version else 'the versions'}, Scoring.degrade allows {plan.degrade:.3g}. Fix "
        f"what kept them from being built and start the run again.{blind}\n{reasons}"
    )


def check_sources(pipeline: Pipeline, plan: RunPlan, lacking: Mapping[str, SourceError]) -> None:
    """Checks that a run can do without sources: it can do without the feature groups that read them.

    Raises:
        SourceError: the source's own error, if the run leaves no group out, or its population reads the source.
        DataError: as in `check`.
    """
    for name, error in lacking.items():
        if not plan.degrade or name in pipeline.population.reads:
            raise error
    check(plan, {group.name: str(lacking[name]) for group in pipeline.features for name in group.reads if name in lacking})
