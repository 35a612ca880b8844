"""Whether a period's scores are distributed differently from those of the period before: the population stability index.

PSI = sum over bins of (now - before) * ln(now / before), where `before` and `now` are the bins' shares of the two periods
(N. Siddiqi, Credit Risk Scorecards, 2006: below 0.1 there is no shift, above 0.25 a large one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10
MUCH = 0.25
# A bin that is empty in one of the two periods has this share there, so that the logarithm is finite.
LEAST_SHARE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The distribution of a period's scores.

    Args:
        edges: the nine deciles between its ten bins; a bin holds scores above the edge before it, up to and including its own.
        counts: rows in each bin.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """The PSI of two periods' rows in the same bins; 0 when one of them has no rows."""
    if not sum(before) or not sum(now):
        return 0.0
    shares = [[max(count / sum(counts), LEAST_SHARE) for count in counts] for counts in (before, now)]
    return math.fsum((new - old) * math.log(new / old) for old, new in zip(*shares, strict=True))


def warning(column: str, index: float, period: str) -> str:
    """What a report says about a shift; empty unless it is large."""
    if index <= MUCH:
        return ""
    return f"{column} has shifted since {period}: population stability index {index:.2f}, above {MUCH} is a large shift"
