"""Scores a period, or gates a candidate, again from its plan on if another run changed the state meanwhile.

While a run is at work, its version can be withdrawn, another run can publish its period, or the promotion log can move after
the gate. The work is then redone on the new state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.receipts import PlacedOrder, Receipt, RunInfo
from almanac.errors import Conflict, Overtaken
from almanac.runs import feature_orders, orders, pin, plan, publish
from almanac.store.home import Home

log = logging.getLogger(__name__)
# Runs the orders of one step in a Spark job; returns period to the receipt's URI.
RunOrders = Callable[[list[PlacedOrder]], dict[str, str]]
ROUNDS = 4


def score(home: Home, pipeline: Pipeline, planned: RunPlan, run_orders: RunOrders, run_info: RunInfo) -> Receipt:
    """Builds the features that a plan misses, then scores, audits and publishes its period. Repeats this if another run changed
    the state meanwhile.

    Raises:
        Conflict, Overtaken: another run did so in every round.
    """
    for _ in range(ROUNDS - 1):
        try:
            return _scored(home, planned, run_orders, run_info)
        except (Overtaken, Conflict) as moved:
            log.warning("%s Trying again.", moved)
            planned = replanned(home, pipeline, planned, planned.version if planned.pinned else None)
    return _scored(home, planned, run_orders, run_info)


def replanned(home: Home, pipeline: Pipeline, before: RunPlan, version: str | None = None) -> RunPlan:
    """The plan to score a period again, on the current state. Features that lack groups are used if the version can do without
    these groups.
    """
    return plan.score(
        home,
        pipeline.period(before.period),
        version=version,
        allow_in_sample=before.in_sample,
        degrade=pipeline.scoring.degrade,
        as_is=True,
    )


def _scored(home: Home, planned: RunPlan, run_orders: RunOrders, run_info: RunInfo) -> Receipt:
    read = home.receipts.read
    if planned.build:
        pinned = pin.pin(home, planned, run_info)
        pinned = orders.built_from(pinned, run_orders(orders.source_audits(home, planned, pinned)))
        run_orders(feature_orders.groups(home, planned, pinned))
        staged = run_orders(feature_orders.combined(home, planned, pinned))
        audited = run_orders(orders.audits(home, staged))
        for period in staged:
            publish.features(home, read(staged[period]), read(audited[period]), run_info)
    staged = run_orders([orders.predictions(home, planned)])
    audited = run_orders(orders.audits(home, staged))
    return publish.predictions(home, read(staged[planned.period]), read(audited[planned.period]), run_info)


def gate(home: Home, pipeline: Pipeline, planned: RunPlan, version: str, run_orders: RunOrders) -> Receipt:
    """Compares a candidate with the version in force now, gates it, and returns the gate's receipt."""
    compared = run_orders([orders.comparison(home, pipeline, planned, version)])
    (uri,) = run_orders(orders.audits(home, compared)).values()
    return home.receipts.read(uri)
