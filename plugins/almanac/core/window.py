"""The moving window: which snapshots train a version, and on which one it is judged.

A snapshot is a period's as_of. A label is known when `as_of + horizon + lag` has passed, where the lag covers how late the
label's sources are. So for a retrain's as_of, the holdout is the newest snapshot whose label is known, and a training snapshot
is one whose label had happened when the holdout's features were taken (the embargo): no training label reaches into the holdout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from almanac.core.canonical import later
from almanac.core.label import Label
from almanac.core.period import Period
from almanac.core.sampling import Sampling
from almanac.core.target import BINARY, MULTICLASS, Target
from almanac.errors import DataError, DescriptionError

# Columns of training rows, beside the entity and the features. A sampled row has a weight.
LABEL, SNAPSHOT, WEIGHT = "label", "snapshot", "@weight"


@dataclass(frozen=True, slots=True)
class MovingWindow:
    """How many periods train a version.

    Args:
        periods: how many of the newest snapshots allowed by the embargo to train on.
        minimum: with fewer, the retrain is refused; `periods` when not given.
        sampling: which of their rows train, and the weight of each; all rows, equally, when not given.
    """

    periods: int
    _: KW_ONLY
    minimum: int | None = None
    sampling: Sampling | None = later(None)

    def __post_init__(self) -> None:
        if self.periods < 1:
            raise DescriptionError(f"MovingWindow.periods: expected 1 or more, got {self.periods}.")
        if self.minimum is not None and not 1 <= self.minimum <= self.periods:
            raise DescriptionError(f"MovingWindow.minimum: expected 1 to periods ({self.periods}), got {self.minimum}.")
        if self.sampling is not None and not isinstance(self.sampling, Sampling):
            raise DescriptionError(
                f"MovingWindow.sampling: expected Sampling(...), such as Sampling(rows=100_000), or None; got {self.sampling!r}."
            )

    @property
    def least(self) -> int:
        return self.periods if self.minimum is None else self.minimum


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The snapshots of one retrain, by period: the training ones, oldest first, and the holdout."""

    training: tuple[str, ...]
    holdout: str

    @property
    def periods(self) -> tuple[str, ...]:
        return (*self.training, self.holdout)


def examples(retrained: Period, window: MovingWindow, label: Label, first: Period, lag: timedelta = timedelta(0)) -> Examples:
    """The snapshots for the retrain of a period: see the module's docstring. 2017-07 gives 03, 04, 05 and the holdout 06.

    `lag`: how late the sources of the label are; the label is not known sooner than they are.

    Raises:
        DataError: fewer labelled periods than the window's minimum lie between the pipeline's first period and this.
    """
    horizon, known = label.horizon, label.horizon + max(label.lag, lag)
    snapshots = list(first.until(retrained))
    holdout = next((period for period in reversed(snapshots) if period.as_of + known <= retrained.as_of), None)
    training = [period for period in snapshots if holdout and period.as_of + horizon <= holdout.as_of][-window.periods :]
    if holdout is None or len(training) < window.least:
        raise DataError(
            f"The retrain for {retrained} has {len(training)} labelled training periods before its holdout, expected at least "
            f"{window.least}. The pipeline begins with {first}; a label takes {known.days} days to be known. The first "
            f"period that can be retrained is {_earliest(window, label, first, known)}. Retrain that or a later one, or lower "
            "MovingWindow.minimum."
        )
    return Examples(training=tuple(period.key for period in training), holdout=holdout.key)


def _earliest(window: MovingWindow, label: Label, first: Period, known: timedelta) -> Period:
    """The first period whose retrain has enough labelled periods."""
    last, holdout = first.plus(window.least - 1), first
    while holdout.as_of < last.as_of + label.horizon:
        holdout = holdout.plus(1)
    retrained = holdout
    while retrained.as_of < holdout.as_of + known:
        retrained = retrained.plus(1)
    return retrained


def check_classes(counts: Mapping[str, Mapping[Any, int]], target: Target) -> None:
    """Checks that each snapshot has rows of both classes, of each class, or of several values. `counts`: period, label, rows.

    Raises:
        DataError: a snapshot has not; nothing can be learned or measured from it.
    """
    for period, found in counts.items():
        present = {label: rows for label, rows in found.items() if rows}
        if obstacle := _obstacle(present, target):
            raise DataError(
                f"The label of {period} {obstacle}. Check the label's function and the sources for the days after the period's "
                "end."
            )


def _obstacle(present: Mapping[Any, int], target: Target) -> str:
    """Why a snapshot's labels cannot be used, in plain words; empty when they can."""
    if target.kind == MULTICLASS:
        listed = ", ".join(f"{one}: {present.get(one, 0)} rows" for one in target.classes)
        missing = ", ".join(str(one) for one in target.classes if one not in present)
        return f"has no rows of class {missing} ({listed}), expected rows of each class" if missing else ""
    if len(present) > 1:
        return ""
    listed = ", ".join(f"{label}: {rows} rows" for label, rows in present.items()) or "no rows"
    return f"has one class ({listed}), expected two" if target.kind == BINARY else f"has one value ({listed}), expected more"
