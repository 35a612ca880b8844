"""What a label is, and so what a score is: the probability of a class, one for each class, or a value; and its metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from almanac.errors import DescriptionError, examples

BINARY, MULTICLASS, REGRESSION = KINDS = ("binary", "multiclass", "regression")
SCORE = "score"
CLASS = re.compile(r"[A-Za-z0-9_]+")
METRICS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        BINARY: ("roc_auc", "average_precision", "log_loss", "brier_score"),
        MULTICLASS: ("log_loss", "accuracy", "f1_macro", "roc_auc_ovr"),
        REGRESSION: ("rmse", "mae", "r2"),
    }
)
LOWER_IS_BETTER = ("log_loss", "brier_score", "rmse", "mae")


@dataclass(frozen=True, slots=True)
class Target:
    """What a model predicts.

    Args:
        kind: `binary` (the label is 0 or 1, the score is the probability of 1), `multiclass` (a probability for each class) or
            `regression` (the label is a finite number, the score is the predicted value).
        classes: for a multiclass label, in order: whole numbers or words of letters, digits and _.
    """

    kind: str = BINARY
    classes: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DescriptionError(f"Label.kind: expected one of {', '.join(map(repr, KINDS))}; got {self.kind!r}.")
        if (self.kind == MULTICLASS) != bool(self.classes):
            expected = "three or more, such as classes=('low', 'middle', 'high')," if self.kind == MULTICLASS else "none"
            raise DescriptionError(f"Label.classes: expected {expected} for a {self.kind} label; got {self.classes!r}.")
        if self.kind != MULTICLASS:
            return
        if (
            not isinstance(self.classes, tuple)
            or len({str(one) for one in self.classes}) != len(self.classes)
            or len(self.classes) < 3
        ):
            raise DescriptionError(f"Label.classes: expected a tuple of three or more, all different; got {self.classes!r}.")
        if strange := [one for one in self.classes if isinstance(one, bool) or not CLASS.fullmatch(str(one))]:
            raise DescriptionError(
                f"Label.classes: expected whole numbers or words of letters, digits and _, got {examples(strange)}. Each names a "
                f"column, such as {SCORE}_low."
            )
        if len({type(one) for one in self.classes}) != 1:
            raise DescriptionError(f"Label.classes: expected whole numbers or words, not both; got {self.classes!r}.")

    def __str__(self) -> str:
        """`a binary label`, `a multiclass label (low, middle, high)`."""
        return f"a {self.kind} label" + (f" ({self.allowed})" if self.classes else "")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a prediction: `("score",)`, or `("score_low", "score_middle", "score_high")`."""
        return tuple(f"{SCORE}_{one}" for one in self.classes) or (SCORE,)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range of a score; None for a regression."""
        return None if self.kind == REGRESSION else (0.0, 1.0)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics for a score of this kind."""
        return METRICS_OF[self.kind]

    @property
    def allowed(self) -> str:
        """The legal labels, in plain words."""
        if self.kind == REGRESSION:
            return "finite numbers"
        return "0 and 1" if self.kind == BINARY else ", ".join(map(str, self.classes))

    def holds(self, label: object) -> bool:
        """Whether a value is a legal label: 0 or 1, one of the classes, or a finite number."""
        if self.kind == REGRESSION:
            return isinstance(label, int | float | Decimal) and not isinstance(label, bool) and math.isfinite(label)
        return label in (self.classes or (0, 1))
