"""Profiles: what the features of a period look like, column by column; and checks drafted from some of them.

A drafted check holds for every period that it was drafted from, with room to spare. It is a starting point for a person who
knows what the columns mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from almanac.core.canonical import later

SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
FEW_VALUES = 20
ROOM = 2  # how many times the observed rows, and the observed share of nulls, are allowed
DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """A feature in a period.

    Args:
        nulls: rows without a value; NaN counts as null.
        quantiles: at `SHARES`, numpy's linear ones; empty if no row has a value.
        mean: of the values; None if there are none.
        values: each value and its rows, in order, if there are no more than `FEW_VALUES`; else empty.
        infinite: rows whose value is infinite; they count nowhere else.
    """

    nulls: int
    quantiles: tuple[float, ...] = ()
    mean: float | None = None
    values: tuple[tuple[float, int], ...] = ()
    infinite: int = later(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A period's features: rows, and each numeric column by name."""

    period: str
    rows: int
    columns: Mapping[str, ColumnProfile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An expectation for Great Expectations: its name, its arguments, and its severity."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: str = "critical"

    @property
    def python(self) -> str:
        """The code for `checks()`."""
        arguments = [f"{key}={value!r}" for key, value in self.arguments.items()]
        arguments += [f"severity={self.severity!r}"] if self.severity != "critical" else []
        return f"gxe.{self.name}({', '.join(arguments)})"


def draft(profiles: Sequence[Profile]) -> list[Draft]:
    """Checks that all profiles pass: rows; and for each column that all have, nulls, and either values or their range.

    - rows: from half the fewest to twice the most.
    - nulls: none if there were none, else twice the largest share; no check if that is all rows.
    - values: if every period had the same few, these; a new one is a warning.
    - range: otherwise, widened on each side by the observed range; not below zero if no value was.
    """
    rows = [profile.rows for profile in profiles]
    found = [
        Draft(name="ExpectTableRowCountToBeBetween", arguments={"min_value": min(rows) // ROOM, "max_value": max(rows) * ROOM})
    ]
    for column in profiles[0].columns:
        if all(column in profile.columns for profile in profiles):
            found += _of_column(column, profiles)
    return found


def _of_column(column: str, profiles: Sequence[Profile]) -> Iterator[Draft]:
    seen = [profile.columns[column] for profile in profiles]
    share = max(one.nulls / profile.rows if profile.rows else 0.0 for one, profile in zip(seen, profiles, strict=True))
    mostly = math.floor((1 - ROOM * share) * 100) / 100
    if share == 0:
        yield Draft(name="ExpectColumnValuesToNotBeNull", arguments={"column": column})
    elif mostly > 0:
        yield Draft(name="ExpectColumnValuesToNotBeNull", arguments={"column": column, "mostly": mostly})
    filled = [one for one in seen if one.quantiles]
    if not filled:
        return
    sets = {tuple(value for value, _ in one.values) for one in filled}
    if len(filled) > 1 and len(sets) == 1 and (values := sets.pop()):
        allowed = {"column": column, "value_set": list(values)}
        yield Draft(name="ExpectColumnDistinctValuesToBeInSet", arguments=allowed, severity="warning")
    else:
        low, high = min(one.quantiles[0] for one in filled), max(one.quantiles[-1] for one in filled)
        room = high - low or abs(high) or 1.0
        least = 0.0 if low >= 0 else _outward(low - room, math.floor)
        bounds = {"column": column, "min_value": least, "max_value": _outward(high + room, math.ceil)}
        yield Draft(name="ExpectColumnValuesToBeBetween", arguments=bounds)


def _outward(value: float, rounded: Any) -> float:
    """A bound with few digits, rounded away from the values."""
    if value == 0 or not math.isfinite(value):
        return value
    scale = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    return float(f"{rounded(value / scale) * scale:.{DIGITS}g}")


def python(pipeline: str, profiles: Sequence[Profile]) -> str:
    """The drafted checks as Python text, to be pasted into a pipeline's module and improved there."""
    seen = ", ".join(profile.period for profile in profiles)
    lines = "\n".join(f"            {one.python}," for one in draft(profiles))
    return (
        "import great_expectations.expectations as gxe\n\n\n"
        "def checks():\n"
        f'    """Drafted from the features of {seen} of {pipeline}. Adjust them to what you know of the data."""\n'
        "    return {\n"
        '        "features": [\n'
        f"{lines}\n"
        "        ],\n"
        "    }\n"
    )
