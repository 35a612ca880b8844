"""How a pipeline's versions score: which engine they use, and what is written beside the score."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from almanac.core.bundle import ONNXRUNTIME, SCIKIT_LEARN, Engine
from almanac.core.canonical import later
from almanac.errors import DescriptionError

AUTO = "auto"
CHOICES = (AUTO, SCIKIT_LEARN)
# The most rows of the holdout that two engines are compared on.
COMPARED_ROWS = 100_000
TAIL = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How versions score. A version keeps the settings that its pipeline had at its audit; only `degrade` is today's.

    Args:
        engine: `auto`: onnxruntime, or numpy for trees, if it reproduces the version's scores within the tolerances, else
            scikit-learn; or `scikit-learn`: always that.
        tail: how large the 99.99th percentile of the scores' differences may be, on real rows.
        worst: how much any score may differ there.
        keep: features that are written beside the score.
        degrade: if feature groups cannot be built, a period is scored with nulls in their place, as long as they hold at most
            this share of the version's importance, from 0 (none is left out) to less than 1.
    """

    engine: str = AUTO
    tail: float = 1e-5
    worst: float = 1e-3
    keep: tuple[str, ...] = ()
    degrade: float = later(0.0)

    def __post_init__(self) -> None:
        if self.engine not in CHOICES:
            raise DescriptionError(f"Scoring.engine: expected one of {', '.join(map(repr, CHOICES))}; got {self.engine!r}.")
        for name, value in (("tail", self.tail), ("worst", self.worst)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise DescriptionError(f"Scoring.{name}: expected a number of 0 or more, such as 1e-5; got {value!r}.")
        if not isinstance(self.keep, tuple) or not all(isinstance(name, str) and name for name in self.keep):
            raise DescriptionError(f"Scoring.keep: expected a tuple of feature names, got {self.keep!r}.")
        if len(set(self.keep)) < len(self.keep):
            raise DescriptionError(f"Scoring.keep: expected each feature once, got {self.keep!r}.")
        if isinstance(self.degrade, bool) or not isinstance(self.degrade, int | float) or not 0 <= self.degrade < 1:
            raise DescriptionError(
                "Scoring.degrade: expected a share of the importance, 0 or more and less than 1, such as 0.1; "
                f"got {self.degrade!r}."
            )

    def choose(self, parity: Parity, columns: tuple[int, ...], name: str = ONNXRUNTIME) -> Engine:
        """The engine of a version for which the named engine and scikit-learn gave these differences."""
        # The reason enters the version's manifest, and so its digest: its text stays.
        measured = Engine(rows=parity.rows, worst=parity.worst, tail=parity.tail)
        found = (
            f"on {parity.rows} rows the engines' scores differ by {parity.worst:.2g} at most and by {parity.tail:.2g} at the "
            f"99.99th percentile, on golden rows by {parity.golden:.2g}; allowed are {self.worst:.2g}, {self.tail:.2g} and "
            f"{self.tail:.2g}"
        )
        if parity.worst <= self.worst and parity.tail <= self.tail and parity.golden <= self.tail:
            return replace(measured, name=name, reason=found, golden=self.tail, columns=columns)
        return replace(measured, reason=f"{found}, so the slower one is used")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """By how much two engines' scores differ: at most, at the 99.99th percentile, and at most on the golden rows."""

    rows: int
    worst: float
    tail: float
    golden: float
