"""Suspicion: when a feature looks like a leak, as if it held what was not yet known at as_of.

The usual cause is a table of events described as a reference, or a column that is filled in later. Such a model is excellent on
the holdout, which leaks as well, and useless on new periods. A version with such a feature is *suspect*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from almanac.core.target import REGRESSION, Target
from almanac.errors import DescriptionError, examples

# On pipelines without a leak no feature alone exceeded a ROC AUC of 0.86 (decision 22). At 0.98 a feature orders 49 of 50 pairs
# of rows with different labels correctly: it is rather the label itself, or happened after it.
AREA = 0.98
# Of a regression. Values that persist from period to period, such as a shop's sales, reach 0.98 without a leak.
CORRELATION = 0.99
# An honest signal may hold nearly all importance in a weak model (0.89 at a ROC AUC of 0.67), so a share counts only in a model
# that is this good.
SHARE = 0.95
STRONG_AREA, STRONG_R2 = 0.9, 0.95
# With few rows, or few of one label, an honest feature is perfect by chance. So fewer rows than a slice needs are not judged,
# and the lower bound of an area must exceed what honest features reach.
LEAST_ROWS = 50
LEAST_AREA = 0.9
NORMAL = 1.96  # the bound's one-sided confidence is 97.5 %
MOST_NAMED = 3
ADVICE = "Look for a reference without time, or a column that is filled in later"


class Sign(Enum):
    """What looks like a leak, most telling first: only one sign of a feature is reported."""

    NULLS = "nulls"
    VALUE = "value"
    IMPORTANCE = "importance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was measured of one feature on the holdout.

    Args:
        figure: from 0 to 1. Of the nulls: the ROC AUC with which being null tells the label. Of the value: the ROC AUC, or a
            regression's absolute rank correlation. Of the importance: the feature's share of it. Either direction counts.
        sides: for an area, the rows on its two sides, such as those with the label 1 and with 0; else zeros.
        told: for a multiclass label, the class that the feature tells from the others.
    """

    feature: str
    sign: Sign
    figure: float
    sides: tuple[int, int] = (0, 0)
    told: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.figure <= 1 + 1e-9:
            raise DescriptionError(f"Evidence.figure: expected a number from 0 to 1, got {self.figure!r}. Measure it again.")
        if min(self.sides) < 0 or (self.sides[0] == 0) != (self.sides[1] == 0):
            raise DescriptionError(f"Evidence.sides: expected rows on both sides or on neither, got {self.sides!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A feature that looks like a leak.

    Args:
        figure: what was measured, see `Evidence`.
        threshold: what it reached.
        measure: of what it is, in words.
        told: for a multiclass label, the class that the feature tells from the others.
    """

    feature: str
    sign: Sign
    figure: float
    threshold: float
    measure: str
    told: str = ""

    @property
    def fact(self) -> str:
        """`feature 'refunds' alone tells the label with a ROC AUC of 1.000`."""
        if self.sign is Sign.IMPORTANCE:
            return f"feature {self.feature!r} holds {self.figure:.3f} of the importance"
        by = "alone" if self.sign is Sign.VALUE else "by its nulls alone"
        what = f"class {self.told!r}" if self.told else "the label"
        return f"feature {self.feature!r} {by} tells {what} with a {self.measure} of {self.figure:.3f}"

    def __str__(self) -> str:
        """The fact with its threshold."""
        return f"{self.fact} (threshold {self.threshold:g})"


def suspects(evidence: Iterable[Evidence], rows: int, target: Target) -> tuple[Suspect, ...]:
    """The features that look like leaks, each once, the highest figure first; none if there are too few rows to judge.

    `rows`: of the holdout that was measured.
    """
    if rows < LEAST_ROWS:
        return ()
    order = list(Sign)
    found: dict[str, Suspect] = {}
    for one in sorted(evidence, key=lambda one: (order.index(one.sign), -one.figure, one.feature)):
        threshold, measure = _standard(one, target)
        if one.figure >= threshold and (not any(one.sides) or lower_bound(one.figure, *one.sides) >= LEAST_AREA):
            found.setdefault(
                one.feature,
                Suspect(
                    feature=one.feature,
                    sign=one.sign,
                    figure=round(one.figure, 6),
                    threshold=threshold,
                    measure=measure,
                    told=one.told,
                ),
            )
    return tuple(sorted(found.values(), key=lambda one: (one.sign is Sign.IMPORTANCE, -one.figure, one.feature)))


def _standard(one: Evidence, target: Target) -> tuple[float, str]:
    """The threshold of a figure, and its name."""
    if one.sign is Sign.IMPORTANCE:
        return SHARE, "share of the importance"
    if one.sign is Sign.VALUE and target.kind == REGRESSION:
        return CORRELATION, "rank correlation"
    return AREA, "ROC AUC"


def is_strong(figure: float, target: Target) -> bool:
    """Whether a model is so good on the holdout that one feature with nearly all importance is suspect. `figure`: ROC AUC
    (one-vs-rest if multiclass) or R2; NaN is not good.
    """
    return figure >= (STRONG_R2 if target.kind == REGRESSION else STRONG_AREA)


def lower_bound(area: float, ones: int, zeros: int) -> float:
    """The lower bound of a ROC AUC of 0.5 or more, at a one-sided confidence of 97.5 %, at least 0.5.

    Newcombe 2006, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2, method 5: the
    variance of Hanley and McNeil (1982) taken at the bound, so it is not zero for an area of 1. `ones`, `zeros`: the rows on each
    side, at least one.
    """
    half = (ones + zeros) / 2 - 1

    def excess(bound: float) -> float:
        spread = 1 + half * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        return area - bound - NORMAL * math.sqrt(bound * (1 - bound) * spread / (ones * zeros))

    low, high = 0.5, min(area, 1.0)
    if excess(low) <= 0:
        return low
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low


def summary(found: Sequence[Suspect]) -> str:
    """Suspects in a sentence without an end, such as a verdict begins with; empty if there are none."""
    if not found:
        return ""
    listed = "; ".join(map(str, found[:MOST_NAMED]))
    others = [one.feature for one in found[MOST_NAMED:]]
    return f"suspect: {listed}" + (f"; {len(others)} more: {examples(others)}" if others else "")


def not_judged(rows: int) -> str:
    """Why features were not judged, as a finding; empty if they were."""
    if rows >= LEAST_ROWS:
        return ""
    return f"The holdout has {rows} rows, so features were not examined for leaks; {LEAST_ROWS} rows are needed."
