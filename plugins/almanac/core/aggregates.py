"""Aggregates: features that are described instead of coded, so that their partial sums can be stored.

A feature of an entity is a function of its events in the window before a period's cut. All functions here can be merged from
their results for parts of the window, so the time line is divided into segments at every moment where a window of any period
begins or ends. A file's events are summed once for each segment; a period's features are merged from the segments inside its
windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from almanac.core.period import Calendar, Period
from almanac.errors import DescriptionError

COUNT, SUM, MIN, MAX, DISTINCT, RECENCY = "count", "sum", "min", "max", "distinct", "recency"
OF_EVENTS, OF_COLUMNS = (COUNT, RECENCY), (SUM, MIN, MAX, DISTINCT)
# For an entity without events these are zero; the others are null.
ZERO = (COUNT, SUM, DISTINCT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column of the features.

    Args:
        window: how far before the cut it looks.
        column: what is aggregated; empty for `count` and `recency`.
        value: of the column that splits the features; None without one.
    """

    name: str
    function: str
    window: timedelta
    column: str = ""
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Aggregates:
    """A feature group without a function: aggregates of an entity's events over windows that end where the source is cut.

    Gives the columns `NAME_[VALUE_][COLUMN_]FUNCTION_WINDOW`, such as `shopping_sales_sum_30d` and
    `shopping_drug_gm_count_90d`. For an entity without events, counts and sums are 0 and the others null. Events without an
    entity, or with a value of the split that `values` does not list, are left out. A null in a column is not a value, and a sum
    of only nulls is null. Sums of whole numbers and decimals are exact until the last step, which converts them to float32. A
    null matches nothing in a reference. Dots and backticks in a column's name become underscores in the names of its features.

    Args:
        name: of the group.
        reads: the event source and, optionally, the reference that is looked up by the column `on`; the reference has one row
            for each value of that column.
        windows: how far before the cut the features look, one length each. A day is 24 hours, also where clocks change.
        events: functions of the events themselves: `count`, and `recency`, the days between the newest one and the cut.
        columns: column to its functions: `sum`, `min`, `max` of numbers, and `distinct`, the number of different values.
        on: the column that both sources have.
        split, values: a column of text or whole numbers, and those of its values, as text, that get columns of their own.

    Raises:
        DescriptionError: a field is invalid.
    """

    name: str
    _: KW_ONLY
    reads: tuple[str, ...]
    windows: tuple[timedelta, ...]
    events: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    on: str | None = None
    split: str | None = None
    values: tuple[str, ...] = ()
    kind: Literal["aggregates"] = "aggregates"

    def __post_init__(self) -> None:
        own = f"Aggregates({self.name!r})"
        if not self.name.isidentifier():
            raise DescriptionError(f"Aggregates.name: expected a name such as 'shopping', got {self.name!r}.")
        if isinstance(self.reads, str) or not 1 <= len(self.reads) <= 2:
            raise DescriptionError(
                f"{own}.reads: expected a tuple of an event source, or of an event source and a reference; got {self.reads!r}."
            )
        if (len(self.reads) == 2) != bool(self.on):
            raise DescriptionError(
                f"{own}.on: expected the column that both sources have if two are read, else None; got {self.on!r}."
            )
        if not self.windows or any(window <= timedelta(0) for window in self.windows):
            raise DescriptionError(f"{own}.windows: expected a tuple of times above zero, got {self.windows!r}.")
        if not self.events and not self.columns:
            raise DescriptionError(f"{own}: expected events or columns, got neither. Give functions, such as events=('count',).")
        self._check_functions(own)
        if dotted := [name for name in (*self.columns, self.on or "") if name.startswith(".")]:
            raise DescriptionError(
                f"{own}: expected columns whose names do not begin with a dot, got {dotted[0]!r}. Rename it in the files."
            )
        if bool(self.split) != bool(self.values):
            raise DescriptionError(
                f"{own}.split: expected both split and values, or neither; got {self.split!r} and {self.values!r}."
            )
        names = [feature.name for feature in self.features]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise DescriptionError(f"{own}: two features would be called {doubled[0]!r}. Leave out a window, value or function.")
        object.__setattr__(self, "columns", MappingProxyType(dict(self.columns)))

    def _check_functions(self, own: str) -> None:
        given: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"events": (self.events, OF_EVENTS)}
        given |= {f"columns[{column!r}]": (functions, OF_COLUMNS) for column, functions in self.columns.items()}
        for name, (found, allowed) in given.items():
            if isinstance(found, str) or any(function not in allowed for function in found):
                expected = ", ".join(map(repr, allowed))
                raise DescriptionError(f"{own}.{name}: expected a tuple of any of {expected}; got {found!r}.")

    @property
    def lookback(self) -> timedelta:
        """How far before the cut it reads events."""
        return max(self.windows)

    @property
    def features(self) -> list[Feature]:
        """The columns that it gives, in order."""
        found = []
        for value in self.values or (None,):
            for window in self.windows:
                requested = [("", function) for function in self.events]
                requested += [(column, function) for column, functions in self.columns.items() for function in functions]
                for column, function in requested:
                    named = re.sub(r"[.`]", "_", column)
                    words = [self.name, *([_slug(value)] if value is not None else []), named, function, _length(window)]
                    name = "_".join(word for word in words if word)
                    found.append(Feature(name=name, function=function, window=window, column=column, value=value))
        return found

    @property
    def zeros(self) -> list[str]:
        """Those of its columns that are 0 for an entity without events."""
        return [feature.name for feature in self.features if feature.function in ZERO]


def _slug(text: str) -> str:
    """A value as part of a column's name: `drug_gm`, and `minus_20` for a negative number."""
    text = re.sub(r"^-(?=\d+$)", "minus_", text)
    return re.sub(r"\W+", "_", text.lower()).strip("_")


def _length(window: timedelta) -> str:
    """A window in the largest unit that divides it: `30d`, `36h`, `90s`."""
    seconds = window.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def edges(windows: tuple[timedelta, ...], lag: timedelta, calendar: Calendar, low: datetime, high: datetime) -> list[datetime]:
    """The starts of the segments from `low` to `high`: the last edge at or before `low`, and all later ones up to `high`.

    An edge is a moment where a window of any period begins or ends: `as_of - lag - window`, and `as_of - lag`.
    """
    found: set[datetime] = set()
    for window in (timedelta(0), *windows):
        for as_of in _ends(low + lag + window, calendar):
            edge = as_of - lag - window
            if edge > high:
                break
            found.add(edge)
    first = max(edge for edge in found if edge <= low)
    return sorted(edge for edge in found if edge >= first)


def _ends(moment: datetime, calendar: Calendar) -> Iterator[datetime]:
    """The ends of periods, starting with the last one at or before a moment."""
    period = Period.holding(moment, calendar)
    while True:
        yield period.start
        period = period.plus(1)
