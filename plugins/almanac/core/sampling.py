"""Sampling: which rows of the training snapshots a version is fitted on, and the weight of each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TypeVar

from almanac.errors import DescriptionError

Stratum = TypeVar("Stratum", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How training rows are sampled. The holdout never is.

    Rows are drawn from strata, about equally many from each, so that rare labels keep their rows and frequent ones lose some. A
    drawn row also stands for rows that were not: its weight is the rows of its stratum divided by the rows drawn from it. Weights
    enter the fit and the figures that choose and describe a model, so probabilities do not change.

    Args:
        rows: at most this many rows; all when None.
        by: features whose values define the strata, together with the label; a regression's label defines none.
        half_life: after this many periods a snapshot's rows weigh half; all weigh the same when None.

    Raises:
        DescriptionError: a field is invalid, or neither `rows` nor `half_life` is given.
    """

    rows: int | None = None
    _: KW_ONLY
    by: tuple[str, ...] = ()
    half_life: float | None = None

    def __post_init__(self) -> None:
        if self.rows is None and self.half_life is None:
            raise DescriptionError(
                "Sampling: expected rows or half_life, got neither. Say how many rows may train, or how they age."
            )
        if self.rows is not None and self.rows < 1:
            raise DescriptionError(f"Sampling.rows: expected 1 or more, got {self.rows}.")
        if isinstance(self.by, str):
            raise DescriptionError(
                f"Sampling.by: expected a tuple, got the text {self.by!r}. Write ({self.by!r},) with its comma."
            )
        if self.by and self.rows is None:
            raise DescriptionError(
                f"Sampling.by: expected rows as well, got {', '.join(self.by)} without rows. Strata only matter under a cap."
            )
        if self.half_life is not None and self.half_life <= 0:
            raise DescriptionError(f"Sampling.half_life: expected more than 0 periods, got {self.half_life}.")

    def aged(self, periods: int) -> float:
        """The weight of a row whose snapshot is this many periods older than the newest."""
        return 1.0 if self.half_life is None else 0.5 ** (periods / self.half_life)


def shares(counts: Mapping[Stratum, int], rows: int) -> dict[Stratum, int]:
    """How many rows to draw from each stratum, `rows` in all or every row there is. Small strata are drawn whole; the others get
    equally many rows each. The smallest comes first: what it does not fill is left to the others.
    """
    drawn, left = {}, rows
    smallest_first = sorted(counts, key=lambda stratum: (counts[stratum], str(stratum)))
    for others, stratum in zip(range(len(counts), 0, -1), smallest_first, strict=True):
        drawn[stratum] = min(counts[stratum], left // others)
        left -= drawn[stratum]
    return drawn
