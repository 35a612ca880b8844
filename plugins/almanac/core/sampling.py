"""Sampling: which rows of the training snapshots a version is fitted on, and what each of them weighs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TypeVar

from almanac.errors import DescriptionError

Stratum = TypeVar("Stratum", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How training rows are sampled. The holdout never is.

    Rows are drawn from strata, each about as many: so rows of a rare label stay, and of a frequent one some do. A row that was
    drawn stands for those that were not, and its weight, the rows of its stratum divided by those drawn, says for how many;
    weights go into fitting and into the figures that choose and describe a model, so probabilities stay what they are.

    Args:
        rows: at most so many rows; all when None.
        by: features whose values part the strata, besides the label; a regression's label parts none.
        half_life: after so many periods a snapshot's rows weigh half; all weigh the same when None.

    Raises:
        DescriptionError: a field is not as it must be, or nothing is asked for.
    """

    rows: int | None = None
    _: KW_ONLY
    by: tuple[str, ...] = ()
    half_life: float | None = None

    def __post_init__(self) -> None:
        if self.rows is None and self.half_life is None:
            raise DescriptionError("Sampling: found neither rows nor half_life; say how many rows may train, or how they age.")
        if self.rows is not None and self.rows < 1:
            raise DescriptionError(f"Sampling.rows: found {self.rows}, allowed is 1 or more.")
        if isinstance(self.by, str):
            raise DescriptionError(f"Sampling.by: found the text {self.by!r}, allowed is a tuple: ({self.by!r},) with its comma.")
        if self.by and self.rows is None:
            raise DescriptionError(
                f"Sampling.by: found {', '.join(self.by)} and no rows; strata are drawn from only under a cap."
            )
        if self.half_life is not None and self.half_life <= 0:
            raise DescriptionError(f"Sampling.half_life: found {self.half_life}, allowed is more than 0 periods.")

    def aged(self, periods: int) -> float:
        """What a row weighs whose snapshot is so many periods older than the newest."""
        return 1.0 if self.half_life is None else 0.5 ** (periods / self.half_life)


def shares(counts: Mapping[Stratum, int], rows: int) -> dict[Stratum, int]:
    """How many rows to draw from each stratum, `rows` in all or every row there is: a stratum is drawn whole, or
    as many rows from it as from any other that is not. The smallest comes first: what it does not fill is left to the others.
    """
    drawn, left = {}, rows
    smallest_first = sorted(counts, key=lambda stratum: (counts[stratum], str(stratum)))
    for others, stratum in zip(range(len(counts), 0, -1), smallest_first, strict=True):
        drawn[stratum] = min(counts[stratum], left // others)
        left -= drawn[stratum]
    return drawn
