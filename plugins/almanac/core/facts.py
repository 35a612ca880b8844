"""Facts: the figures that a receipt holds besides its files, typed for each artifact and step.

Receipts have held their JSON since 0.1.0, so a fact is never renamed. Facts that came later are left out where they are not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from almanac.core.bundle import Engine
from almanac.core.canonical import decode, later
from almanac.core.gate import Comparison, Decision
from almanac.core.receipts import Receipt
from almanac.core.shift import Spread
from almanac.core.suspicion import Suspect
from almanac.core.target import Target
from almanac.errors import IntegrityError

Facts = TypeVar("Facts")
LEFT_OUT = "left_out"  # of features and predictions, also a parameter of their orders: the groups whose features are null
NULLS = "nulls"  # of features and predictions: the columns of those groups


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedSource:
    """`sources.pin`, for each source: its files, the newest event time that it holds, and its late-data policy."""

    files: int
    freshness: datetime | None
    late: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedSource:
    """How many checks ran on a source, and how many of its rows were checked and set aside."""

    checks: int
    rows: int
    aside: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedSources:
    """`sources.audit`."""

    checks: int
    sources: Mapping[str, AuditedSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedGroup:
    """`features.stage` of one feature group.

    Args:
        schema: column to its Arrow type, including the entity.
        partials: for `Aggregates`, the URIs of the partial sums that the group was merged from.
    """

    rows: int
    schema: Mapping[str, str]
    partials: tuple[str, ...] = later(())


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFeatures:
    """`features.stage` of a whole period, and `features.publish`. `features`: the columns besides the entity."""

    rows: int
    features: tuple[str, ...]
    left_out: tuple[str, ...] = later(())
    nulls: tuple[str, ...] = later(())


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRows:
    """`features.audit` and `predictions.audit`. `spread`: for predictions that passed, the distribution of each score column."""

    checks: int
    rows: int
    spread: Mapping[str, Spread] | None = later(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedModel:
    """`model.stage`.

    Args:
        definition: of the features that the version reads.
        features: their names, in the model's order.
        groups: feature group to its features.
        training, holdout: the periods of its snapshots.
        estimator: its name in the user's module.
        choice: estimator to the figure that it was chosen by.
        metrics: on the holdout.
        verdict: the report's summary of the version, in a sentence.
        classes: the class names of the fitted pipeline and its steps.
        environment: distribution to version.
        suspects: its features that look like leaks.
    """

    version: str
    definition: str
    features: tuple[str, ...]
    training: tuple[str, ...]
    holdout: str
    estimator: str
    metrics: Mapping[str, float]
    verdict: str
    environment: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    choice: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    target: Target = Target()
    suspects: tuple[Suspect, ...] = later(())


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedModel:
    """`model.audit`.

    Args:
        golden_rows, worst_difference: how many golden rows were scored again, and the largest difference of a score.
        engine: what scores with the version.
        skew_rows: how many training rows were scored again in the way a period is scored.
    """

    metrics: Mapping[str, float]
    golden_rows: int | None = later(None)
    worst_difference: float | None = later(None)
    engine: Engine = later(Engine())
    skew_rows: int | None = later(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """`model.publish`: the version, and the digest of its manifest."""

    version: str
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedModel:
    """`model.note`."""

    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """`champion.stage`."""

    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """`champion.audit`."""

    decision: Decision
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedPredictions:
    """`predictions.stage` and `predictions.publish`.

    Args:
        in_sample: the version was trained on the period, and scoring it in-sample was requested.
        engine: the name of the engine that scored.
        log: for a publish, the mark of the promotion log when the period became visible (`Log.mark`).
    """

    rows: int
    version: str
    in_sample: bool = False
    target: Target = Target()
    engine: str = ""
    left_out: tuple[str, ...] = later(())
    nulls: tuple[str, ...] = later(())
    log: str = later("")


def read(kind: type[Facts], receipt: Receipt) -> Facts:
    """The facts of a receipt.

    Raises:
        IntegrityError: they cannot be read as that kind.
    """
    try:
        return decode(kind, receipt.facts)
    except ValueError as error:
        raise IntegrityError(
            f"The receipt for {receipt.order} holds facts that cannot be read as {kind.__name__} ({error}). Use the version of "
            f"Almanac that wrote it ({receipt.order.almanac or 'not recorded'})."
        ) from error


def left_out(receipt: Receipt) -> tuple[str, ...]:
    """The groups that a period of features or predictions lacks; empty where it is complete."""
    return tuple(receipt.facts.get(LEFT_OUT, ()))


def version_of(receipt: Receipt) -> str:
    """The version that a receipt is about; empty where there is none."""
    return str(receipt.facts.get("version", receipt.order.parameters.get("version", "")))
