"""Described feature groups, staged: missing partial sums of the source's files are built, then all are merged."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from almanac.columns import is_key, key_kind
from almanac.core.aggregates import DISTINCT, Aggregates, edges
from almanac.core.canonical import digest, encode, sealed
from almanac.core.cuts import reach
from almanac.core.facts import StagedGroup
from almanac.core.pins import Pin, PinnedFile, content_of
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Order, Receipt
from almanac.core.sources import UNTIL, Cut, EventSource
from almanac.errors import DescriptionError, examples
from almanac.jobs import user_functions
from almanac.jobs.context import JobContext
from almanac.settings import VERSION
from almanac.store.objects import record
from almanac.store.sources import check_unchanged

if TYPE_CHECKING:
    from almanac.spark.partials import Aggregation, Block, PartialSums

READERS = 16
RECORD = "record.json"
KEPT_AS = 3  # the format of kept partial sums; 1 had no digests, in 2 sums of whole numbers could wrap
LONGEST = timedelta(days=36_525)  # time span of the events of a file
NUMBERS = ("int", "uint", "float", "double", "decimal", "bool")


def features(context: JobContext, part: Aggregates) -> Receipt:
    """The features of a described group, one row per entity that has an event in the longest window.

    Raises:
        DescriptionError: a source lacks a column, or a column's type does not fit its use.
        DataError: the reference has two rows for one value.
    """
    from almanac.spark import aggregates

    cuts = user_functions.cuts(context)
    with user_functions.reading(context, cuts):
        pins = user_functions.pins_of(context, part.reads)
        asked = _aggregation(context, part, pins)
        cut = cuts[part.reads[0]]
        schema = aggregates.schema_of(part, asked.entity, asked.schema.field(asked.entity).type)
        partials = _partials(context, asked, pins)
        kept = [one.files for one in partials]
        assert cut.high is not None
        written = aggregates.merged(
            context.job.spark, asked, kept, cut.high, context.home.layout.part(context.order.digest, uuid.uuid4().hex), schema
        )
    facts = StagedGroup(
        rows=written.rows,
        schema={field.name: str(field.type) for field in schema},
        partials=tuple(sorted(file.uri for files in kept for file in files.values())),
    )
    nameless = sum(one.nameless for one in partials)
    findings = []
    if nameless:
        where = "in the files of these windows"
        findings = [f"Source {part.reads[0]!r} has {nameless} events without {asked.entity} {where}; they are ignored."]
    return context.receipt(content=written.sums.digest, outputs=written.outputs, findings=findings, facts=facts)


def _aggregation(context: JobContext, part: Aggregates, pins: Mapping[str, Pin]) -> Aggregation:
    from almanac.spark import sources
    from almanac.spark.partials import Aggregation

    events, reference = pins[part.reads[0]], pins[part.reads[1]] if part.on else None
    source, entity = context.pipeline.sources[events.source], context.pipeline.entity
    assert isinstance(source, EventSource)
    for pin in (events, *filter(None, (reference,))):
        keys = {entity: pin is events, str(part.on): bool(part.on)}
        if missing := [name for name, needed in keys.items() if needed and name not in pin.columns]:
            raise DescriptionError(
                f"Aggregates({part.name!r}): source {pin.source!r} has no column {examples(missing)} (it has: "
                f"{examples(sorted(pin.columns), 30)}). Correct the description, or deliver the column."
            )
    aggregated = [*part.columns, *filter(None, (part.split,))]
    looked = [name for name in (reference.columns if reference else ()) if name in aggregated and name not in (entity, part.on)]
    if both := [f"{name} ({events.columns[name]})" for name in looked if name in events.columns]:
        raise DescriptionError(
            f"Aggregates({part.name!r}): {examples(both)} is ambiguous: both {' and '.join(part.reads)} have it. Rename it in "
            "one of them, or leave it out of one with columns=(...)."
        )
    columns = {**events.columns, **{name: reference.columns[name] for name in looked if reference}}
    wanted = [entity, *aggregated]
    if missing := [name for name in wanted if name not in columns]:
        raise DescriptionError(
            f"Aggregates({part.name!r}): {', '.join(part.reads)} have no column {examples(missing)} (they have: "
            f"{examples(sorted(columns), 30)}). Correct the description, or deliver the column."
        )
    summed = [name for name, functions in part.columns.items() if set(functions) - {DISTINCT}]
    if strange := [f"{name} ({columns[name]})" for name in summed if not columns[name].startswith(NUMBERS)]:
        raise DescriptionError(
            f"Aggregates({part.name!r}): expected numeric columns, got {examples(strange)}. Use only 'distinct', which counts "
            "different values."
        )
    read = dict.fromkeys(name for name in (entity, *source.times, part.on, *aggregated) if name and name not in looked)
    found = Aggregation(part=part, entity=entity, source=source, schema=sources.schema_of(source, events, list(read)))
    if reference is not None:
        types = sources.schema_of(context.pipeline.sources[reference.source], reference, [str(part.on), *looked])
        found = replace(found, reference=tuple(file.place for file in reference.files), looked=types)
    _check_types(found)
    return found


def _check_types(asked: Aggregation) -> None:
    """Checks that keys and values can be compared. Raises: DescriptionError."""
    part, looked = asked.part, asked.looked
    own = f"Aggregates({part.name!r})"
    if asked.entity in part.columns:
        raise DescriptionError(f"{own}.columns: expected columns to aggregate, got the entity {asked.entity!r}. Remove it.")
    types = {field.name: field.type for schema in (looked or (), asked.schema) for field in schema}
    if not is_key(types[asked.entity]):
        raise DescriptionError(
            f"{own}: expected {asked.entity} as whole numbers or text, got {types[asked.entity]} in source {part.reads[0]!r}. "
            f"Deliver it as one of them{_why(types[asked.entity])}."
        )
    if looked is not None:
        ours, theirs = (schema.field(str(part.on)).type for schema in (asked.schema, looked))
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


def _partials(context: JobContext, asked: Aggregation, pins: Mapping[str, Pin]) -> list[PartialSums]:
    """The partial sums of all blocks that can hold an event of the order's cut, in an order that depends only on the blocks.

    Those that other orders of the job need are built in the same pass.
    """
    from almanac.spark.partials import blocks

    pin, references = pins[asked.part.reads[0]], [content_of(pins[name].files) for name in asked.part.reads[1:]]
    types = [f"{field.name} {field.type}" for schema in (asked.schema, asked.looked or ()) for field in schema]
    shape = digest([VERSION, KEPT_AS, encode(asked.part), asked.entity, encode(asked.source.shape), references, types])[:16]
    folder = context.home.layout.partials(shape)

    def read(order: Order) -> list[tuple[str, Block]]:
        cut = dict(reach(order, context.pipeline))[asked.part.reads[0]]
        found = (block for file in pin.within(cut) for block in blocks(file, _edges(context.pipeline, asked, order, file, cut)))
        return [(f"{folder}{digest(block.identity)[:32]}", block) for block in found]

    wanted = read(context.order)
    every = dict([*wanted, *(named for order in _alike(context) for named in read(order))])
    kept = _existing(context, folder, every)
    missing = {name: block for name, block in every.items() if name not in kept}
    if missing:
        kept |= _build(context, asked, pin, missing)
    # A file that was delivered twice counts twice, as it does for a user function.
    return [kept[name] for name in sorted(name for name, _ in wanted)]


def _alike(context: JobContext) -> Iterator[Order]:
    """The job's orders of the same group, from the same pin."""
    mine, pin = context.order, context.placed.links["pin"]
    for placed in context.job.orders:
        order = placed.order
        same = (order.part, order.description, order.module) == (mine.part, mine.description, mine.module)
        if same and placed.links.get("pin") == pin:
            yield order


def _edges(pipeline: Pipeline, asked: Aggregation, order: Order, file: PinnedFile, cut: Cut) -> list[datetime]:
    """Where segments begin in a file. Only the edges of the cut's windows if the cut was moved, or if the file holds a time such
    as 9999-12-31, which would give far too many edges.
    """
    assert cut.low is not None and cut.high is not None
    low, high = file.low or cut.low, file.high or cut.high
    if UNTIL in order.parameters or high - low > LONGEST:
        return sorted({cut.high, *(cut.high - window for window in asked.part.windows)})
    every, behind = pipeline.period(order.period).every, asked.source.behind
    return edges(asked.part.windows, behind, every, low, high)


def _existing(context: JobContext, folder: str, wanted: Mapping[str, Block]) -> dict[str, PartialSums]:
    """The partial sums that exist with all their files, by block name."""
    there = {item.uri for item in context.home.objects.walk(folder)}
    names = [name for name in wanted if f"{name}/{RECORD}" in there]

    from almanac.spark.partials import PartialSums

    def read(name: str) -> PartialSums | None:
        body = context.home.objects.find(f"{name}/{RECORD}")
        return record(PartialSums, body, f"{name}/{RECORD}") if body is not None else None

    with ThreadPoolExecutor(READERS) as pool:
        found = zip(names, pool.map(read, names), strict=True)
        return {
            name: kept for name, kept in found if kept is not None and there.issuperset(file.uri for file in kept.files.values())
        }


def _build(context: JobContext, asked: Aggregation, pin: Pin, missing: Mapping[str, Block]) -> dict[str, PartialSums]:
    """Builds the partial sums of blocks. They are recorded only if the source files are still the pinned ones.

    Raises:
        SourceError: one was replaced or removed while it was read.
    """
    from almanac.spark import partials

    names: Sequence[str] = sorted(missing)
    made = partials.summed(context.job.spark, asked, [missing[name] for name in names], names)
    check_unchanged(context.home.objects, pin, {missing[name].file for name in names})
    found = {}
    for name, kept in zip(names, made, strict=True):
        found[name] = kept
        context.home.objects.put(f"{name}/{RECORD}", sealed(kept))
    return found
