"""A period scored, or a candidate gated, once more from its plan on: where another run moved something meanwhile.

A version can be withdrawn while a run scores with it, a period published by another run, the promotion log move after the gate
has looked. The work is then done again on the new state.
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
# Runs orders of one step in a Spark job; gives period to receipt's URI.
RunOrders = Callable[[list[PlacedOrder]], dict[str, str]]
ROUNDS = 4


def score(home: Home, pipeline: Pipeline, planned: RunPlan, run_orders: RunOrders, run_info: RunInfo) -> Receipt:
    """Builds what a plan misses, and scores, checks and publishes its period; again where another run moved meanwhile.

    Raises:
        Conflict, Overtaken: another run did so each of several times.
    """
    for _ in range(ROUNDS - 1):
        try:
            return _scored(home, planned, run_orders, run_info)
        except (Overtaken, Conflict) as moved:
            log.warning("%s Trying again.", moved)
            planned = replanned(home, pipeline, planned, planned.version if planned.pinned else None)
    return _scored(home, planned, run_orders, run_info)


def replanned(home: Home, pipeline: Pipeline, before: RunPlan, version: str | None = None) -> RunPlan:
    """The plan to score a period again, on the state of now. Features that lack groups are used where the version can do
    without them.
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
        run_orders(feature_orders.every_group(home, planned, pinned))
        staged = run_orders(feature_orders.combined(home, planned, pinned))
        audited = run_orders(orders.audits(home, staged))
        for period in staged:
            publish.features(home, read(staged[period]), read(audited[period]), run_info)
    staged = run_orders([orders.predictions(home, planned)])
    audited = run_orders(orders.audits(home, staged))
    return publish.predictions(home, read(staged[planned.period]), read(audited[planned.period]), run_info)


def gate(home: Home, pipeline: Pipeline, planned: RunPlan, version: str, run_orders: RunOrders) -> Receipt:
    """A candidate compared with the version in force now, and gated: the gate's receipt."""
    compared = run_orders([orders.comparison(home, pipeline, planned, version)])
    (uri,) = run_orders(orders.audits(home, compared)).values()
    return home.receipts.read(uri)
