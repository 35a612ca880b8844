"""The gate: whether a candidate may take over, decided on one frozen holdout by a declared policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from almanac.errors import DescriptionError

LOWER_IS_BETTER = ("log_loss", "brier_score")
METRICS = ("roc_auc", "average_precision", *LOWER_IS_BETTER)


class Verdict(Enum):
    PROMOTE = "promote"
    REJECT = "reject"
    NOT_COMPARABLE = "not_comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a candidate must show on the holdout.

    Args:
        metric: one of roc_auc, average_precision, log_loss, brier_score.
        min_gain: by how much it must be better than the version in force; negative tolerates a loss.
        floor: what it must reach in any case, also when nothing is in force.
    """

    metric: str = "roc_auc"
    min_gain: float = 0.0
    floor: float | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise DescriptionError(f"Gate.metric: found {self.metric!r}, allowed are {', '.join(METRICS)}.")
        for name, value in (("min_gain", self.min_gain), ("floor", self.floor)):
            if value is not None and not math.isfinite(value):
                raise DescriptionError(f"Gate.{name}: found {value}, allowed is a finite number.")

    @property
    def sign(self) -> int:
        """1 when more is better, -1 when less is."""
        return -1 if self.metric in LOWER_IS_BETTER else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Candidate and version in force, measured on the same holdout.

    Args:
        holdout: its period.
        candidate, champion: metric to value; no champion when nothing was in force.
        champion_version: what was in force, if anything was.
        obstacle: why the two cannot be compared, in plain words; empty when they can.
        position: the last entry of the promotion log that was read to find the champion.
    """

    holdout: str
    rows: int
    candidate_version: str
    candidate: Mapping[str, float]
    position: int
    champion_version: str = ""
    champion: Mapping[str, float] | None = None
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate said, with its reasons in plain words, and the log position that it saw."""

    verdict: Verdict
    reasons: tuple[str, ...]
    position: int


def decide(comparison: Comparison, gate: Gate) -> Decision:
    """Whether the candidate is promoted.

    The floor holds in any case. With nothing in force it decides alone. Otherwise the candidate must gain at least
    `min_gain` in the gate's metric over the version in force. A metric that is no number reaches and gains nothing.

    Raises:
        DescriptionError: the metric was not measured.
    """
    value = _measured(gate.metric, comparison.candidate, "the candidate's report")
    found = f"{gate.metric} {value:.4f} on the holdout {comparison.holdout}"
    if gate.floor is not None and not gate.sign * (value - gate.floor) >= 0:
        side = "above" if gate.metric in LOWER_IS_BETTER else "below"
        return _decision(Verdict.REJECT, f"{found} is {side} the floor {gate.floor:.4f}", comparison)
    if not comparison.champion_version:
        held = "no floor is set" if gate.floor is None else f"the floor {gate.floor:.4f} holds"
        return _decision(Verdict.PROMOTE, f"{found}; {held} and nothing is in force", comparison)
    if comparison.obstacle or comparison.champion is None:
        return _decision(Verdict.NOT_COMPARABLE, comparison.obstacle, comparison)
    standing = _measured(gate.metric, comparison.champion, f"the report of {comparison.champion_version} in force")
    gain = gate.sign * (value - standing)
    against = f"{found}, {comparison.champion_version} in force has {standing:.4f}"
    if not gain >= gate.min_gain:
        return _decision(Verdict.REJECT, f"{against}: a gain of {gain:+.4f}, needed is {gate.min_gain:+.4f}", comparison)
    return _decision(Verdict.PROMOTE, f"{against}: a gain of {gain:+.4f}, needed was {gate.min_gain:+.4f}", comparison)


def _measured(metric: str, report: Mapping[str, float], where: str) -> float:
    if metric not in report:
        raise DescriptionError(f"Metric {metric!r} is not in {where} (found: {', '.join(sorted(report))}). Change Gate.metric.")
    return report[metric]


def _decision(verdict: Verdict, reason: str, comparison: Comparison) -> Decision:
    return Decision(verdict=verdict, reasons=(reason,), position=comparison.position)
