"""The gate: whether a candidate may take over, decided on one frozen holdout by a declared policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from almanac.core import suspicion
from almanac.core.canonical import later
from almanac.core.suspicion import Suspect
from almanac.core.target import LOWER_IS_BETTER, METRICS_OF
from almanac.errors import DescriptionError, examples

# For all kinds of labels; a pipeline's label decides which of them its gate may use.
METRICS = tuple(dict.fromkeys(metric for metrics in METRICS_OF.values() for metric in metrics))
ENFORCE, DRY_RUN = MODES = ("enforce", "dry_run")
# Figures that differ by no more than this are equal: 0.58 - 0.56 is a gain of 0.02.
TOLERANCE = 1e-9


class Verdict(Enum):
    PROMOTE = "promote"
    REJECT = "reject"
    NOT_COMPARABLE = "not_comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a candidate must reach for each value of a feature.

    Args:
        by: the feature, which has few values; null is a value of its own.
        floor: what the gate's metric must reach on the holdout's rows of each value.
        minimum_rows: a value is not judged if it has fewer rows, or if the metric is undefined for its labels (rows of one class
            only).
    """

    by: str
    floor: float
    minimum_rows: int = 50

    def __post_init__(self) -> None:
        if not isinstance(self.by, str) or not self.by.strip():
            raise DescriptionError(f"Slice.by: expected the name of a feature, got {self.by!r}.")
        _check_finite("Slice.floor", self.floor)
        if not isinstance(self.minimum_rows, int) or isinstance(self.minimum_rows, bool) or self.minimum_rows < 1:
            raise DescriptionError(f"Slice.minimum_rows: expected a whole number of 1 or more, got {self.minimum_rows!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a candidate must show on the holdout.

    Args:
        metric: for a binary label roc_auc, average_precision, log_loss or brier_score; for a multiclass one log_loss, accuracy,
            f1_macro or roc_auc_ovr; for a regression rmse, mae or r2.
        min_gain: by how much it must be better than the version in force; negative tolerates a loss.
        floor: what it must reach in any case, also when nothing is in force.
        confidence: such as 0.95: not the measured gain but its lower bound at this one-sided confidence must reach `min_gain`.
            A `min_gain` of zero or more then requires superiority, less requires non-inferiority with that margin.
        slices: what it must reach on parts of the holdout, also when nothing is in force.
        mode: `enforce`, or `dry_run`: the gate decides and gives its reasons, and nothing is promoted.
        approval: whether a person must agree before a version is promoted.
        allow_suspect: whether a candidate may be promoted although a feature looks like a leak (`core.suspicion`). It stays
            suspect in its report, its manifest and the gate's reasons.
    """

    metric: str = "roc_auc"
    min_gain: float = 0.0
    floor: float | None = None
    confidence: float | None = None
    slices: tuple[Slice, ...] = ()
    mode: str = ENFORCE
    approval: bool = False
    allow_suspect: bool = later(False)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise DescriptionError(f"Gate.metric: expected one of {', '.join(map(repr, METRICS))}; got {self.metric!r}.")
        _check_finite("Gate.min_gain", self.min_gain)
        if self.floor is not None:
            _check_finite("Gate.floor", self.floor)
        if self.confidence is not None and not (_is_number(self.confidence) and 0.5 <= self.confidence < 1):
            raise DescriptionError(
                f"Gate.confidence: expected a number from 0.5 to below 1, such as 0.95, or None; got {self.confidence!r}."
            )
        if not isinstance(self.slices, tuple) or not all(isinstance(item, Slice) for item in self.slices):
            raise DescriptionError(f"Gate.slices: expected a tuple of Slice, got {self.slices!r}.")
        named = [item.by for item in self.slices]
        if doubled := sorted({name for name in named if named.count(name) > 1}):
            raise DescriptionError(f"Gate.slices: expected one Slice for each feature, got {examples(doubled)} more than once.")
        if self.mode not in MODES:
            raise DescriptionError(f"Gate.mode: expected one of {', '.join(map(repr, MODES))}; got {self.mode!r}.")
        for name in ("approval", "allow_suspect"):
            if not isinstance(given := getattr(self, name), bool):
                raise DescriptionError(f"Gate.{name}: expected True or False, got {given!r}.")

    @property
    def sign(self) -> int:
        """1 when more is better, -1 when less is."""
        return -1 if self.metric in LOWER_IS_BETTER else 1

    def reaches(self, value: float, floor: float) -> bool:
        """Whether a value of the metric is as good as a floor. A value that is not a number reaches nothing."""
        return self.sign * (value - floor) >= -TOLERANCE


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_finite(name: str, value: float) -> None:
    if not _is_number(value) or not math.isfinite(value):
        raise DescriptionError(f"{name}: expected a finite number, got {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GainBound:
    """How certain the candidate's gain is, by a paired bootstrap over the holdout's rows.

    Args:
        gain_at: the lower bound of the gain at the gate's confidence; None when none was requested or could be computed.
        resamples: how many it was computed from.
        rows: how many rows of the holdout were used.
        obstacle: why there is no bound, in plain words.
    """

    gain_at: float | None = None
    resamples: int = 0
    rows: int = 0
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFigure:
    """The candidate on the holdout's rows of one value of a feature.

    Args:
        figure: the value of the gate's metric; None when the rows cannot be judged.
        obstacle: why they cannot be judged, in plain words.
    """

    by: str
    value: str
    rows: int
    figure: float | None = None
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Candidate and version in force, measured on the same holdout.

    Args:
        holdout: its period.
        candidate, champion: metric to value; no champion when nothing was in force.
        champion_version: what was in force, if anything was.
        obstacle: why the two cannot be compared, in plain words; empty when they can.
        position: the last entry of the promotion log that was read to find the champion.
        bound: how certain the candidate's gain is, where the gate has a confidence.
        slices: the candidate on parts of the holdout, where the gate has floors for them.
        suspects: the candidate's features that look like leaks.
    """

    holdout: str
    rows: int
    candidate_version: str
    candidate: Mapping[str, float]
    position: int
    champion_version: str = ""
    champion: Mapping[str, float] | None = None
    obstacle: str = ""
    bound: GainBound = field(default_factory=GainBound)
    slices: tuple[SliceFigure, ...] = ()
    suspects: tuple[Suspect, ...] = later(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The gate's verdict, its reasons in plain words, those that block first, and the log position that it read."""

    verdict: Verdict
    reasons: tuple[str, ...]
    position: int
    mode: str = ENFORCE

    @property
    def passed(self) -> bool:
        """Whether the candidate may be promoted: that is the verdict, and it was not a dry run."""
        return self.verdict is Verdict.PROMOTE and self.mode == ENFORCE


@dataclass(frozen=True, slots=True)
class _Reason:
    """One reason, and the verdict that it forces; None when it forces none."""

    text: str
    forces: Verdict | None = None


def decide(comparison: Comparison, gate: Gate) -> Decision:
    """Whether the candidate is promoted.

    A suspect candidate is rejected unless the gate allows it. The floor and the floors of slices hold in any case. With nothing
    in force these decide alone. Otherwise the candidate must gain at least `min_gain` in the gate's metric over the version in
    force; with a `confidence`, the lower bound of the gain must reach it. A metric that is not a number reaches and gains
    nothing.

    Raises:
        DescriptionError: the metric, the bound or a slice was not measured.
    """
    found = [
        *_on_suspects(comparison, gate),
        *_on_floor(comparison, gate),
        *_on_slices(comparison, gate),
        *_on_gain(comparison, gate),
    ]
    forced = [one.forces for one in found if one.forces is not None]
    verdict = Verdict.REJECT if Verdict.REJECT in forced else forced[0] if forced else Verdict.PROMOTE
    # These texts enter the decision's digest: reworded, the same decision would get another one.
    reasons = [one.text for one in sorted(found, key=lambda one: one.forces is None)]
    if gate.mode == DRY_RUN:
        reasons.insert(0, f"a dry run: nothing is promoted; enforced, this gate would say {verdict.value}")
    return Decision(verdict=verdict, reasons=tuple(reasons), position=comparison.position, mode=gate.mode)


def _on_suspects(comparison: Comparison, gate: Gate) -> list[_Reason]:
    """Whether a feature of the candidate looks like a leak. A suspect candidate that is allowed is named all the same."""
    if not comparison.suspects:
        return []
    found = suspicion.summary(comparison.suspects)
    if gate.allow_suspect:
        return [_Reason(f"{found}; Gate(allow_suspect=True) lets it through")]
    advice = f"{suspicion.ADVICE}; if it is right, set Gate(allow_suspect=True)"
    return [_Reason(f"{found}. {advice}", Verdict.REJECT)]


def _on_floor(comparison: Comparison, gate: Gate) -> list[_Reason]:
    """Whether the candidate reaches the floor; with nothing in force, also that the floor decides alone."""
    value = _measured(gate.metric, comparison.candidate, "the candidate's report")
    found = f"{gate.metric} {value:.4f} on the holdout {comparison.holdout}"
    if gate.floor is not None and not gate.reaches(value, gate.floor):
        return [_Reason(f"{found} is {_beyond(gate)} the floor {gate.floor:.4f}", Verdict.REJECT)]
    if not comparison.champion_version:
        held = "no floor is set" if gate.floor is None else f"the floor {gate.floor:.4f} holds"
        return [_Reason(f"{found}; {held} and nothing is in force")]
    return [] if gate.floor is None else [_Reason(f"{found} reaches the floor {gate.floor:.4f}")]


def _on_slices(comparison: Comparison, gate: Gate) -> list[_Reason]:
    """For each slice: the values below its floor, those that reach it, those that were not judged."""
    reasons = []
    for part in gate.slices:
        figures = [figure for figure in comparison.slices if figure.by == part.by]
        if not figures:
            raise DescriptionError(f"Slice {part.by!r} was not measured on the holdout. Clear the task champion.stage.")
        held = []
        for figure in figures:
            if figure.figure is None:
                continue
            if gate.reaches(figure.figure, part.floor):
                held.append(f"{figure.value} ({figure.figure:.4f})")
            else:
                where = f"{gate.metric} {figure.figure:.4f} where {part.by} is {figure.value} ({figure.rows} rows)"
                reasons.append(_Reason(f"{where} is {_beyond(gate)} the slice's floor {part.floor:.4f}", Verdict.REJECT))
        if held:
            reasons.append(
                _Reason(f"{gate.metric} reaches the slice's floor {part.floor:.4f} where {part.by} is {_listed(held)}")
            )
        if unjudged := [f"{one.value} ({one.obstacle})" for one in figures if one.figure is None]:
            reasons.append(_Reason(f"not judged is where {part.by} is {_listed(unjudged)}"))
    return reasons


def _on_gain(comparison: Comparison, gate: Gate) -> list[_Reason]:
    """The candidate's gain over the version in force, if there is one that it can be compared with."""
    name = comparison.champion_version
    if not name:
        return []
    if comparison.obstacle or comparison.champion is None:
        return [_Reason(comparison.obstacle, Verdict.NOT_COMPARABLE)]
    value = _measured(gate.metric, comparison.candidate, "the candidate's report")
    standing = _measured(gate.metric, comparison.champion, f"the report of {name} in force")
    gain = gate.sign * (value - standing)
    found = f"{gate.metric} {value:.4f} on the holdout {comparison.holdout}, {name} in force has {standing:.4f}"
    if gate.confidence is not None:
        return [_on_bound(comparison, gate, gate.confidence, f"{found}: a gain of {gain:+.4f}")]
    if not gain >= gate.min_gain - TOLERANCE:
        return [_Reason(f"{found}: a gain of {gain:+.4f}, needed is {gate.min_gain:+.4f}", Verdict.REJECT)]
    return [_Reason(f"{found}: a gain of {gain:+.4f}, needed was {gate.min_gain:+.4f}")]


def _on_bound(comparison: Comparison, gate: Gate, confidence: float, found: str) -> _Reason:
    """Whether the gain is certain enough: superiority, or non-inferiority where a loss is tolerated."""
    bound, margin = comparison.bound, gate.min_gain
    if bound.gain_at is None and not bound.obstacle:
        raise DescriptionError("The gain's lower bound was not measured on the holdout. Clear the task champion.stage.")
    claim = "superiority" if margin >= 0 else f"non-inferiority with a margin of {-margin:.4f}"
    if bound.gain_at is None:
        return _Reason(f"{found}; how sure it is cannot be told ({bound.obstacle}), so {claim} is not shown", Verdict.REJECT)
    rows = f"{bound.rows} rows" if bound.rows == comparison.rows else f"{bound.rows} of {comparison.rows} rows, evenly spaced"
    at_least = (
        f"{found}, at {100 * confidence:g}% confidence at least {bound.gain_at:+.4f} ({bound.resamples} resamples of {rows})"
    )
    if not bound.gain_at >= margin - TOLERANCE:
        return _Reason(f"{at_least}, needed is {margin:+.4f}: {claim} is not shown", Verdict.REJECT)
    return _Reason(f"{at_least}, needed was {margin:+.4f}: {claim} is shown")


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items)


def _beyond(gate: Gate) -> str:
    return "above" if gate.sign < 0 else "below"


def _measured(metric: str, report: Mapping[str, float], where: str) -> float:
    if metric not in report:
        raise DescriptionError(f"Metric {metric!r} is not in {where} (found: {', '.join(sorted(report))}). Change Gate.metric.")
    return report[metric]
