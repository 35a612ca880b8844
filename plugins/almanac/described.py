"""Described feature groups held against the columns of their sources: what they read, and whether its types fit their use.

A pin knows the columns, so this is checked when sources are pinned, before any job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from almanac import columns
from almanac.columns import is_key, key_kind
from almanac.core.aggregates import DISTINCT, Aggregates
from almanac.core.pins import Pin
from almanac.core.pipeline import Pipeline
from almanac.core.sources import Source
from almanac.cutting import plain_of
from almanac.errors import DescriptionError, examples

NUMBERS = ("int", "uint", "float", "double", "decimal", "bool")


@dataclass(frozen=True, slots=True)
class Reads:
    """The columns that a described group reads: of the events, and of the reference if it looks something up there."""

    events: pa.Schema
    looked: pa.Schema | None


def check(pipeline: Pipeline, pins: Mapping[str, Pin]) -> None:
    """Checks the described groups whose sources are all pinned. Raises: DescriptionError."""
    for part in pipeline.features:
        if isinstance(part, Aggregates) and all(name in pins for name in part.reads):
            reads(pipeline, part, pins)


def _schema_of(source: Source, pin: Pin, names: Sequence[str]) -> pa.Schema:
    return columns.schema_of(source, plain_of(pin), pin.source, names)


def reads(pipeline: Pipeline, part: Aggregates, pins: Mapping[str, Pin]) -> Reads:
    """What a described group reads.

    Raises:
        DescriptionError: a source lacks a column, or a column's type does not fit its use.
    """
    events, reference = pins[part.reads[0]], pins[part.reads[1]] if part.on else None
    source = pipeline.sources[events.source]
    for pin in (events, *filter(None, (reference,))):
        needed = [*(pipeline.keys if pin is events else ()), *filter(None, (part.on,))]
        if missing := [name for name in dict.fromkeys(needed) if name not in pin.columns]:
            raise DescriptionError(
                f"Aggregates({part.name!r}): source {pin.source!r} has no column {examples(missing)} (it has: "
                f"{examples(sorted(pin.columns), 30)}). Correct the description, or deliver the column."
            )
    aggregated = [*part.columns, *filter(None, (part.split,))]
    keys = (*pipeline.keys, part.on)
    looked = [name for name in (reference.columns if reference else ()) if name in aggregated and name not in keys]
    if both := [f"{name} ({events.columns[name]})" for name in looked if name in events.columns]:
        raise DescriptionError(
            f"Aggregates({part.name!r}): {examples(both)} is ambiguous: both {' and '.join(part.reads)} have it. Rename it in "
            "one of them, or leave it out of one with columns=(...)."
        )
    known = {**events.columns, **{name: reference.columns[name] for name in looked if reference}}
    wanted = [*pipeline.keys, *aggregated]
    if missing := [name for name in wanted if name not in known]:
        raise DescriptionError(
            f"Aggregates({part.name!r}): {', '.join(part.reads)} have no column {examples(missing)} (they have: "
            f"{examples(sorted(known), 30)}). Correct the description, or deliver the column."
        )
    summed = [name for name, functions in part.columns.items() if set(functions) - {DISTINCT}]
    if strange := [f"{name} ({known[name]})" for name in summed if not known[name].startswith(NUMBERS)]:
        raise DescriptionError(
            f"Aggregates({part.name!r}): expected numeric columns, got {examples(strange)}. Use only 'distinct', which counts "
            "different values."
        )
    read = dict.fromkeys(name for name in (*pipeline.keys, *source.times, part.on, *aggregated) if name and name not in looked)
    found = Reads(_schema_of(source, events, list(read)), None)
    if reference is not None:
        looked_up = _schema_of(pipeline.sources[reference.source], reference, [str(part.on), *looked])
        found = Reads(found.events, looked_up)
    _check_types(part, pipeline.keys, found)
    return found


def _check_types(part: Aggregates, entity: Sequence[str], found: Reads) -> None:
    """Checks that keys and values can be compared. Raises: DescriptionError."""
    looked = found.looked
    own = f"Aggregates({part.name!r})"
    if aggregated := [key for key in entity if key in part.columns]:
        what = "the entity" if len(entity) == 1 else "a column of the entity,"
        raise DescriptionError(f"{own}.columns: expected columns to aggregate, got {what} {aggregated[0]!r}. Remove it.")
    types = {field.name: field.type for schema in (looked or (), found.events) for field in schema}
    if strange := [key for key in entity if not is_key(types[key])]:
        raise DescriptionError(
            f"{own}: expected {strange[0]} as whole numbers or text, got {types[strange[0]]} in source {part.reads[0]!r}. "
            f"Deliver it as one of them{_why(types[strange[0]])}."
        )
    if looked is not None:
        ours, theirs = (schema.field(str(part.on)).type for schema in (found.events, looked))
        if key_kind(ours) != key_kind(theirs):
            raise DescriptionError(
                f"{own}.on: expected {part.on} with one type, got {ours} in source {part.reads[0]!r} and {theirs} in source "
                f"{part.reads[1]!r}. Only values of one type are matched. Deliver both as one type{_why(ours) or _why(theirs)}."
            )
    compared: dict[str, list[str]] = {
        "on": [part.on] if part.on else [],
        "columns": [name for name, functions in part.columns.items() if DISTINCT in functions],
    }
    for place, names in compared.items():
        if nested := [f"{name} ({types[name]})" for name in names if pa.types.is_nested(types[name])]:
            raise DescriptionError(
                f"{own}.{place}: expected columns that are not nested, got {examples(nested)}, whose values cannot be compared. "
                "Name another column, or deliver the parts as separate columns."
            )
    if part.split and not is_key(types[part.split]):
        raise DescriptionError(
            f"{own}.split: expected a column of text or whole numbers, got {part.split} ({types[part.split]}). Deliver it as "
            f"text, such as {part.values[0]!r}."
        )
    if part.split and pa.types.is_integer(types[part.split]) and (odd := [one for one in part.values if not _is_whole(one)]):
        raise DescriptionError(
            f"{own}.values: expected whole numbers, as in {part.split}; got {examples(map(repr, odd))}. Write them as '1', '-20'."
        )


def _why(kind: pa.DataType) -> str:
    """Why a type that looks like a key is not one."""
    if pa.types.is_decimal(kind) and not kind.scale:
        return ", whole numbers as int64: uint64 is read as a decimal"
    return ": above 2^53 two keys can be one double" if pa.types.is_floating(kind) else ""


def _is_whole(text: str) -> bool:
    """Whether a text is the usual form of a whole number."""
    try:
        return str(int(text)) == text
    except ValueError:
        return False
