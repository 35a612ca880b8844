"""The label: what is predicted, how long it takes to happen, and when it is known."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import timedelta

from almanac.core.canonical import later
from almanac.core.target import BINARY, Target
from almanac.errors import DescriptionError


@dataclass(frozen=True, slots=True)
class Label:
    """What is predicted.

    Args:
        name: its function, which returns the entity column and `label`.
        reads: the sources it is given, cut to `[as_of, as_of + horizon)`.
        horizon: how long after as_of it takes to happen.
        lag: how much longer it takes to be known; at least as long as the latest of the sources that it reads is behind.
        absent: the label of an entity that the function does not return; None if it must return each.
        kind, classes: what a label is, as in `Target`: `binary` (0 or 1), `multiclass` (one of the classes) or `regression`
            (a finite number).
    """

    name: str
    _: KW_ONLY
    reads: tuple[str, ...]
    horizon: timedelta
    lag: timedelta = timedelta(0)
    absent: int | float | str | None = None
    kind: str = later(BINARY)
    classes: tuple[int | str, ...] = later(())

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise DescriptionError(f"Label.name: expected the name of a function, got {self.name!r}.")
        if isinstance(self.reads, str) or not self.reads:
            raise DescriptionError(
                f"Label({self.name!r}).reads: expected a tuple of source names, at least one; got {self.reads!r}."
            )
        if self.horizon <= timedelta(0):
            raise DescriptionError(f"Label.horizon: expected more than zero, got {self.horizon}.")
        if self.lag < timedelta(0):
            raise DescriptionError(f"Label.lag: expected zero or more, got {self.lag}.")
        target = self.target
        if self.absent is not None and not target.holds(self.absent):
            raise DescriptionError(
                f"Label.absent: expected {target.allowed}, or None, for a {self.kind} label; got {self.absent!r}."
            )

    @property
    def target(self) -> Target:
        """What a model of this label predicts. Raises: DescriptionError."""
        return Target(self.kind, self.classes)
