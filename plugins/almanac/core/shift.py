"""Whether a period's scores are spread otherwise than those of the period before: the population stability index.

PSI = sum over bins of (now - before) * ln(now / before), where `before` and `now` are the bins' shares of the two periods
(N. Siddiqi, Credit Risk Scorecards, 2006: below 0.1 nothing has moved, above 0.25 much has).
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
    """How a period's scores are spread.

    Args:
        edges: the nine deciles between its ten bins; a bin holds what is above the edge before it, its own edge included.
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
    """What a report says of a shift; empty when it is none to speak of."""
    if index <= MUCH:
        return ""
    return f"{column} is spread otherwise than in {period}: population stability index {index:.2f}, above {MUCH} much has moved"
