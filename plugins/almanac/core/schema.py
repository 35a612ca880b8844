"""The columns of a source: which it must have, and how they changed since they were last pinned."""

from __future__ import annotations

from collections.abc import Mapping

from almanac.core.sources import Source
from almanac.errors import SourceError, examples


def schema_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """How a source's columns changed between two pins, in plain words; empty when they are the same."""
    both = sorted(before.keys() & now.keys())
    return [
        *(f"column {name} ({now[name]}) is new" for name in sorted(now.keys() - before.keys())),
        *(f"column {name} ({before[name]}) is gone" for name in sorted(before.keys() - now.keys())),
        *(f"column {name} was {before[name]} and is {now[name]}" for name in both if before[name] != now[name]),
    ]


def check_columns(name: str, source: Source, columns: Mapping[str, str]) -> None:
    """Checks that a source has the columns that it needs, and event times that can be read.

    Raises:
        SourceError: a column is missing, a time column is not a timestamp, or it is naive and no timezone is declared.
    """
    needed = dict.fromkeys((*source.columns, *source.times, *(source.fill or ()), *(source.cast or ())))
    if missing := [column for column in needed if column not in columns]:
        raise SourceError(
            f"Source {name!r} ({source.uri}) has no column {examples(missing)} (it has: {examples(sorted(columns), 30)}). "
            "Deliver the column, or change the source's description."
        )
    for column in source.times:
        found = columns[column]
        if not found.startswith("timestamp"):
            raise SourceError(
                f"Source {name!r}: column {column!r} is {found}, but a time column must be a timestamp. "
                f"{_as_a_time(column, found)}"
            )
        if "tz=" not in found and source.zone is None:
            raise SourceError(
                f"Source {name!r}: column {column!r} is {found}, a timestamp without a time zone. "
                f"Declare how to read it with {type(source).__name__}(..., timezone='UTC')."
            )


def _as_a_time(column: str, found: str) -> str:
    """What to do about a time column of another type."""
    if found == "null":
        return "It is null in every row: deliver the times, or describe another column as the source's time."
    if found.startswith("date"):
        return (
            f"cast={{{column!r}: 'timestamp'}} reads a date as its first moment; if its events are known only when the day has "
            "ended, deliver that moment instead."
        )
    if found.startswith(("int", "uint")):
        return f"If it is an epoch, declare its unit: cast={{{column!r}: 'timestamp_seconds'}}, or _millis, or _micros."
    if found.startswith(("float", "double", "decimal")):
        return "If it is an epoch, deliver it as a timestamp: cast it where the files are written, by its unit."
    if found in ("string", "large_string"):
        return (
            f"cast={{{column!r}: 'timestamp'}} reads text in ISO 8601, such as 2017-06-01 12:00:00; deliver another form as a "
            "timestamp."
        )
    return "Deliver it as a timestamp: parse it where the files are written, or describe another column as the source's time."
