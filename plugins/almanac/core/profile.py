"""Profiles: what the features of a period look like, column by column; and checks drafted from some of them.

A drafted check holds for every period that it was drafted from, with room to spare. It is a beginning for a person who knows
what the columns mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from almanac.core.canonical import later

SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
FEW_VALUES = 20
ROOM = 2  # so many times the rows, and the share of nulls, that were seen are allowed
DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """A feature in a period.

    Args:
        nulls: rows without a value; a NaN is none.
        quantiles: at `SHARES`, numpy's linear ones; empty where no row has a value.
        mean: of the values; None where there are none.
        values: each value and its rows, in order, where there are no more than `FEW_VALUES`; else empty.
        infinite: rows whose value is an infinity; they count in nothing else.
    """

    nulls: int
    quantiles: tuple[float, ...] = ()
    mean: float | None = None
    values: tuple[tuple[float, int], ...] = ()
    infinite: int = later(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A period's features: rows, and each column of numbers by its name."""

    period: str
    rows: int
    columns: Mapping[str, ColumnProfile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One expectation of Great Expectations': its name, its arguments, and its severity."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: str = "critical"

    @property
    def python(self) -> str:
        """As it stands in `checks()`."""
        said = [f"{key}={value!r}" for key, value in self.arguments.items()]
        said += [f"severity={self.severity!r}"] if self.severity != "critical" else []
        return f"gxe.{self.name}({', '.join(said)})"


def draft(profiles: Sequence[Profile]) -> list[Draft]:
    """Checks that all of the profiles pass: rows; and of each column that all have nulls, and values or their range.

    - rows: from half the fewest to twice the most.
    - nulls: none where there were none, else twice the largest share; nothing is asked where that is all rows.
    - values: where each period had the very same few, these; a new one is a warning.
    - range: else, wider on each side by as much as the values were apart; not below zero where none was.
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
    told = [one for one in seen if one.quantiles]
    if not told:
        return
    sets = {tuple(value for value, _ in one.values) for one in told}
    if len(told) > 1 and len(sets) == 1 and (values := sets.pop()):
        allowed = {"column": column, "value_set": list(values)}
        yield Draft(name="ExpectColumnDistinctValuesToBeInSet", arguments=allowed, severity="warning")
    else:
        low, high = min(one.quantiles[0] for one in told), max(one.quantiles[-1] for one in told)
        room = high - low or abs(high) or 1.0
        least = 0.0 if low >= 0 else _outward(low - room, math.floor)
        bounds = {"column": column, "min_value": least, "max_value": _outward(high + room, math.ceil)}
        yield Draft(name="ExpectColumnValuesToBeBetween", arguments=bounds)


def _outward(value: float, rounded: Any) -> float:
    """A bound with few digits, on the far side of the value."""
    if value == 0 or not math.isfinite(value):
        return value
    scale = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    return float(f"{rounded(value / scale) * scale:.{DIGITS}g}")


def python(pipeline: str, profiles: Sequence[Profile]) -> str:
    """The drafted checks as Python text, to be put into a pipeline's module and made better there."""
    seen = ", ".join(profile.period for profile in profiles)
    lines = "\n".join(f"            {one.python}," for one in draft(profiles))
    return (
        "import great_expectations.expectations as gxe\n\n\n"
        "def checks():\n"
        f'    """Drafted from the features of {seen} of {pipeline}. Put in what you know of them."""\n'
        "    return {\n"
        '        "features": [\n'
        f"{lines}\n"
        "        ],\n"
        "    }\n"
    )
