"""Medians, ratios and their spread. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure from several measurements: median, lowest and highest."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, seen: Sequence[float]) -> Figure:
        return cls(value=median(seen), low=min(seen), high=max(seen))


def ratio(above: Sequence[float], below: Sequence[float]) -> Figure:
    """The ratio of two series measured in turns. It is taken round by round, so that a slow moment of the machine, which slows
    both, does not count. A round that one of them lacks is left out.

        >>> ratio([2.0, 4.0], [1.0, 1.0])
        Figure(value=3.0, low=2.0, high=4.0)
    """
    return Figure.of([one / other for one, other in zip(above, below, strict=False)])


def rates(rows: int, seconds: Sequence[float]) -> list[float]:
    """Rows a second."""
    return [rows / one for one in seconds]


def short(rows: int) -> str:
    """4000000 as 4M, 250000 as 250k."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if rows % size == 0:
            return f"{rows // size}{letter}"
    return str(rows)
