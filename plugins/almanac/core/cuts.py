"""What an order may read of each source: the cuts of its features or labels, and the pinned files within them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from almanac.core.pins import Pin, PinnedFile
from almanac.core.pipeline import Group, Pipeline, Population
from almanac.core.receipts import Artifact, Order, Step
from almanac.core.sources import KNOWN_AT, UNTIL, Cut, cut_for_features, cut_for_label

Seen = Mapping[str, tuple[PinnedFile, ...]]


def feature_cuts(pipeline: Pipeline, part: Group | Population, period: str, until: datetime | None = None) -> dict[str, Cut]:
    """What a feature group or the population may see of each source that it reads. `until`: as `cut_for_features` has it."""
    as_of = pipeline.period(period).as_of
    return {name: cut_for_features(pipeline.sources[name], as_of, part.lookback, until) for name in part.reads}


def label_cuts(pipeline: Pipeline, snapshot: str, known: datetime) -> dict[str, Cut]:
    """What the label of a snapshot may see of each source that it reads."""
    label, as_of = pipeline.label, pipeline.period(snapshot).as_of
    return {name: cut_for_label(pipeline.sources[name], as_of, label.horizon, known) for name in label.reads}


def known_by(order: Order, pipeline: Pipeline) -> datetime:
    """The time until which corrections of labels count, for the order of a version."""
    recorded = order.parameters.get(KNOWN_AT)
    return datetime.fromisoformat(recorded) if recorded else pipeline.period(order.period).as_of


def reach(order: Order, pipeline: Pipeline) -> list[tuple[str, Cut]]:
    """The sources that an order reads, each with its cut; empty for an order that reads no source itself."""
    if order.step is not Step.STAGE or order.artifact not in (Artifact.FEATURES, Artifact.MODEL):
        return []
    if order.artifact is Artifact.FEATURES:
        part = pipeline.group(order.part) if order.part else pipeline.population
        until = order.parameters.get(UNTIL)
        return list(feature_cuts(pipeline, part, order.period, datetime.fromisoformat(until) if until else None).items())
    snapshots = [*order.parameters["training"], order.parameters["holdout"]]
    return [cut for period in snapshots for cut in label_cuts(pipeline, period, known_by(order, pipeline)).items()]


def seen(order: Order, pipeline: Pipeline, pins: Mapping[str, Pin]) -> Seen:
    """The pinned files that an order could see, by source: a pin holds many, an order sees only those within its cuts."""
    found: dict[str, dict[str, PinnedFile]] = {}
    for name, cut in reach(order, pipeline):
        found.setdefault(name, {}).update((file.uri, file) for file in pins[name].within(cut))
    return {name: tuple(files[uri] for uri in sorted(files)) for name, files in found.items()}
