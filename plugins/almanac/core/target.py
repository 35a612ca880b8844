"""What a label is, and so what a score is: the probability of a class, one for each class, or a value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from almanac.errors import DescriptionError, examples

BINARY, MULTICLASS, REGRESSION = KINDS = ("binary", "multiclass", "regression")
SCORE = "score"
CLASS = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Target:
    """What a model predicts.

    Args:
        kind: `binary` (the label is 0 or 1, the score is the probability of 1), `multiclass` (a probability for each class) or
            `regression` (the label is a finite number, the score is the predicted value).
        classes: of a multiclass label, in order: whole numbers or words of letters, digits and _.
    """

    kind: str = BINARY
    classes: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DescriptionError(f"Label.kind: found {self.kind!r}, allowed are {', '.join(KINDS)}.")
        if (self.kind == MULTICLASS) != bool(self.classes):
            allowed = "three or more, such as classes=('low', 'middle', 'high')" if self.kind == MULTICLASS else "none"
            raise DescriptionError(f"Label.classes: found {self.classes!r}, allowed for a {self.kind} label: {allowed}.")
        if self.kind != MULTICLASS:
            return
        if (
            not isinstance(self.classes, tuple)
            or len({str(one) for one in self.classes}) != len(self.classes)
            or len(self.classes) < 3
        ):
            raise DescriptionError(f"Label.classes: found {self.classes!r}, allowed is a tuple of three or more, all different.")
        if strange := [one for one in self.classes if isinstance(one, bool) or not CLASS.fullmatch(str(one))]:
            raise DescriptionError(
                f"Label.classes: found {examples(strange)}, allowed are whole numbers and words of letters, digits and _: each "
                f"names a column, such as {SCORE}_low."
            )
        if len({type(one) for one in self.classes}) != 1:
            raise DescriptionError(f"Label.classes: found {self.classes!r}, allowed are whole numbers or words, not both.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a prediction: `("score",)`, or `("score_low", "score_middle", "score_high")`."""
        return tuple(f"{SCORE}_{one}" for one in self.classes) or (SCORE,)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Between what a score lies; None for a regression's."""
        return None if self.kind == REGRESSION else (0.0, 1.0)
