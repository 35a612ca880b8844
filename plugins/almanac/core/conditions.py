"""Conditions: the criteria of a search for versions, and whether a version meets them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from almanac.core.gate import METRICS
from almanac.core.notes import Note
from almanac.core.period import Calendar, Every, Period
from almanac.errors import PeriodError

HOURS = {"h": 1, "d": 24, "w": 24 * 7}
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class Fate(Enum):
    """What became of a version, and whether it is suspect. It can have several: a version may be promoted and withdrawn."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricBound:
    """A bound on a metric on the holdout, such as `roc_auc>=0.8`."""

    metric: str
    sign: str
    value: float

    def holds(self, metrics: Mapping[str, float]) -> bool:
        return self.metric in metrics and SIGNS[self.sign](metrics[self.metric], self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What conditions look at in a version.

    Args:
        classes: the class names of the fitted pipeline and its steps.
        trained: when its training ended; None when that is unknown.
    """

    pipeline: str
    version: str
    period: str
    estimator: str
    classes: tuple[str, ...]
    features: tuple[str, ...]
    metrics: Mapping[str, float]
    trained: datetime | None
    fates: tuple[Fate, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a version must meet; conditions that are not given do not count. All given features, metrics, fates and tags must fit.

    Args:
        estimator: part of the estimator's name or of a class's name, in any case.
        since: it was trained then or later.
        note: part of the text of a note, in any case.
    """

    estimator: str = ""
    since: datetime | None = None
    features: tuple[str, ...] = ()
    period: str = ""
    metrics: tuple[MetricBound, ...] = ()
    fates: tuple[Fate, ...] = ()
    note: str = ""
    tags: tuple[str, ...] = ()

    def fit(self, found: Candidate) -> bool:
        named = (found.estimator, *found.classes)
        return (
            _within(self.estimator, named)
            and (self.since is None or (found.trained is not None and found.trained >= self.since))
            and set(self.features) <= set(found.features)
            and self.period in ("", found.period)
            and all(bound.holds(found.metrics) for bound in self.metrics)
            and set(self.fates) <= set(found.fates)
            and (not self.note or _within(self.note, [note.text for note in found.notes]))
            and set(self.tags) <= {tag for note in found.notes for tag in note.tags}
        )


def newest_first(found: Iterable[Candidate]) -> list[Candidate]:
    """By training time; versions for which it is unknown come last."""
    beginning = datetime.min.replace(tzinfo=UTC)
    return sorted(found, key=lambda one: (one.trained or beginning, one.version), reverse=True)


def _within(part: str, texts: tuple[str, ...] | list[str]) -> bool:
    return not part or any(part.casefold() in text.casefold() for text in texts)


def age(text: str) -> timedelta:
    """A duration: `36h`, `7d` or `2w`.

    Raises:
        ValueError: it is not written like that.
    """
    found = re.fullmatch(r"(\d{1,4})([hdw])", text.strip())
    if found is None:
        raise ValueError(f"expected a number of hours, days or weeks, such as 36h, 7d or 2w; got {text!r}.")
    return timedelta(hours=int(found[1]) * HOURS[found[2]])


def since(text: str, now: datetime) -> datetime:
    """A moment: a duration ago, or a day (its beginning, in UTC).

    Raises:
        ValueError: it is neither.
    """
    try:
        return now - age(text)
    except ValueError:
        pass
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"expected how long ago (36h, 7d, 2w) or a day such as 2017-01-01; got {text!r}.") from None


def bound(text: str) -> MetricBound:
    """A bound on a metric.

    Raises:
        ValueError: it is not a known metric, a sign and a number.
    """
    found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)\s*", text)
    if found is None or found[1] not in METRICS:
        raise ValueError(
            f"expected one of {', '.join(METRICS)} with a sign (>=, <=, >, <) and a number, such as roc_auc>=0.8; got {text!r}. "
            "Quote it, so that the shell does not interpret the sign."
        )
    return MetricBound(metric=found[1], sign=found[2], value=float(found[3]))


def period(text: str) -> str:
    """A period's key.

    Raises:
        ValueError: no period is written like that.
    """
    for every in Every:
        try:
            return Period.parse(text, Calendar(every)).key  # a week's key is a day's, also where weeks begin on Sunday
        except PeriodError:
            continue
    raise ValueError(
        f"expected a period's key, a month such as 2017-09, a quarter such as 2017-Q3 or a day such as 2017-09-04; got {text!r}."
    )
