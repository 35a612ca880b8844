"""Described feature groups, staged: missing partial sums of the source's files are built, then all are merged."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from almanac import described
from almanac.core.aggregates import Aggregates, edges
from almanac.core.canonical import digest, encode, sealed
from almanac.core.facts import StagedGroup
from almanac.core.pins import Pin, PinnedFile, content_of
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Order, Receipt
from almanac.core.sources import UNTIL, Cut
from almanac.cutting import WHOLE, view_of
from almanac.errors import AlmanacError
from almanac.jobs import user_functions
from almanac.jobs.context import JobContext
from almanac.jobs.failures import plain
from almanac.settings import VERSION
from almanac.store.objects import record
from almanac.store.pinned_files import check_unchanged

if TYPE_CHECKING:
    from almanac.spark.arrow import WrittenFiles
    from almanac.spark.partials import Aggregation, Block, PartialSums

READERS = 16
RECORD = "record.json"
# The format of kept partial sums: 1 had no digests, in 2 sums of whole numbers could wrap, in 3 a reference that was replaced
# while it was read could be taken for the pinned one, in 4 a reference that is described otherwise was taken for the same.
KEPT_AS = 5
LONGEST = timedelta(days=36_525)  # time span of the events of a file


def features(context: JobContext, part: Aggregates) -> Receipt:
    """The features of a described group, one row per entity that has an event in the longest window. Those of the job's later
    orders that read the same source are built with them.

    Raises:
        DescriptionError: a source lacks a column, or a column's type does not fit its use.
        DataError: the reference has two rows for one value.
    """
    from almanac.spark import aggregates, partials, sources  # noqa: F401 - here: not in the thread, as `SparkJob.background` says

    pins = user_functions.pins_of(context)
    with user_functions.reading(context, pins):
        made = context.job.made.pop(context.order.digest, None)
        made = made or context.job.result(context.job.background.submit(_made, context, pins))
    written, schema = made.written, made.group.schema
    facts = StagedGroup(
        rows=written.rows,
        schema={field.name: str(field.type) for field in schema},
        partials=tuple(sorted(file.uri for one in made.partials for file in one.files.values())),
    )
    nameless = sum(one.nameless for one in made.partials)
    findings = []
    if nameless:
        where, without = "in the files of these windows", " or ".join(context.pipeline.keys)
        findings = [f"Source {part.reads[0]!r} has {nameless} events without {without} {where}; they are ignored."]
    return context.receipt(content=written.sums.digest, outputs=written.outputs, findings=findings, facts=facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The order of a described group, and what it reads.

    Args:
        pin, reference: of the events, and of what they look up.
        blocks: the blocks that can hold an event of its cut, each with the folder of its partial sums.
        folder: of the partial sums by its description.
    """

    context: JobContext
    asked: Aggregation
    pin: Pin
    reference: Pin | None
    cut: Cut
    blocks: Sequence[tuple[str, Block]]
    folder: str

    @property
    def schema(self) -> pa.Schema:
        from almanac.spark import aggregates

        return aggregates.schema_of(self.asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    group: _Group
    partials: Sequence[PartialSums]
    written: WrittenFiles


def _made(context: JobContext, pins: Mapping[str, Pin]) -> _Made:
    """The features of the context's order. Those of the job's later orders are left in `job.made`."""
    mine = _group(context, pins)
    others = () if context.job.apart or context.retried else tuple(_others(context))
    if others:
        try:
            made = _built([mine, *others])
        except Exception as error:  # one of the orders is at fault; which one shows when each is built by itself
            context.job.apart = True
            print(f"almanac: {1 + len(others)} groups could not be built at once ({plain(error)}); each is built by itself.")
        else:
            context.job.made |= {one.group.context.order.digest: one for one in made[1:]}
            return made[0]
    return _built([mine])[0]


def _others(context: JobContext) -> Iterator[_Group]:
    """The job's later orders of described groups that read the same source, from the same pin."""
    source = context.pipeline.group(context.order.part).reads[0]
    for placed in context.job.after(context.placed):
        order = placed.order
        same = (order.description, order.module) == (context.order.description, context.order.module)
        if not same or placed.links.get("pin") != context.placed.links["pin"] or not order.part:
            continue
        part = context.pipeline.group(order.part)
        if isinstance(part, Aggregates) and part.reads[0] == source and context.home.receipts.done(order) is None:
            with contextlib.suppress(AlmanacError):  # raised again at the order's turn
                yield _group(other := replace(context, placed=placed), user_functions.pins_of(other))


def _group(context: JobContext, pins: Mapping[str, Pin]) -> _Group:
    """The order's group. Raises: DescriptionError."""
    from almanac.spark.partials import blocks

    part = context.pipeline.group(context.order.part)
    assert isinstance(part, Aggregates)
    asked = aggregation(context.pipeline, part, pins, user_functions.cuts(context))
    pin, reference = pins[part.reads[0]], pins[part.reads[1]] if part.on else None
    looked = asked.looked
    references: list[Any] = [content_of(asked.reference)] if reference else []
    if looked is not None:
        references.append(encode(looked.source.shape))
    if looked is not None and looked.cut != WHOLE:  # as the reference was then; other periods see another one
        references.append(encode(looked.cut))
    types = [f"{field.name} {field.type}" for schema in (asked.schema, looked.shown if looked else ()) for field in schema]
    entity = encode(context.pipeline.entity)
    shape = digest([VERSION, KEPT_AS, encode(part), entity, encode(asked.source.shape), references, types])[:16]
    folder, cut = context.home.layout.partials(shape), user_functions.cuts(context)[part.reads[0]]
    edged = [(file, _edges(context.pipeline, asked, context.order, file, cut)) for file in pin.within(cut)]
    named = [(f"{folder}{digest(block.identity)[:32]}", block) for file, starts in edged for block in blocks(file, starts)]
    return _Group(context=context, asked=asked, pin=pin, reference=reference, cut=cut, blocks=named, folder=folder)


def _built(groups: Sequence[_Group]) -> list[_Made]:
    """The features of several orders that read one source, in one pass over what is missing."""
    from almanac.spark import aggregates, partials
    from almanac.spark.partials import Wanted

    context, spark = groups[0].context, groups[0].context.job.spark
    wanted = {name: Wanted(asked=one.asked, block=block, folder=name) for one in groups for name, block in one.blocks}
    kept = _existing(context, sorted({one.folder for one in groups}), wanted)
    missing = sorted(wanted.keys() - kept.keys())
    if missing:
        summed = partials.summed(spark, [wanted[name] for name in missing])
        # Recorded only if the source's files are still the pinned ones.
        read = {file.uri: file for file in (wanted[name].block.file for name in missing)}
        check_unchanged(context.home.objects, groups[0].pin, read.values())
        for reference in {one.reference.source: one.reference for one in groups if one.reference}.values():
            check_unchanged(context.home.objects, reference, reference.files)
        for name, found in zip(missing, summed, strict=True):
            kept[name] = found
            context.home.objects.put(f"{name}/{RECORD}", sealed(found))
    merges, used = [], []
    for one in groups:
        assert one.cut.high is not None
        # In an order that depends only on the blocks. A file that was delivered twice counts twice, as for a user function.
        used.append([kept[name] for name in sorted(name for name, _ in one.blocks)])
        folder = context.home.layout.part(one.context.order.digest, uuid.uuid4().hex)
        files = [found.files for found in used[-1]]
        merges.append(aggregates.Merge(asked=one.asked, kept=files, high=one.cut.high, folder=folder, schema=one.schema))
    written = aggregates.merged(spark, merges)
    return [_Made(group=one, partials=sums, written=found) for one, sums, found in zip(groups, used, written, strict=True)]


def aggregation(pipeline: Pipeline, part: Aggregates, pins: Mapping[str, Pin], cuts: Mapping[str, Cut]) -> Aggregation:
    """What the tasks need of a described group. `cuts`: of its sources, for a period. Raises: DescriptionError."""
    from almanac.spark.partials import Aggregation

    found = described.reads(pipeline, part, pins)
    events, reference = part.reads[0], part.reads[1] if part.on else None
    return Aggregation(
        part=part,
        entity=pipeline.keys,
        events=view_of(pipeline.sources[events], pins[events], found.events.names),
        reference=pins[reference].within(cuts[reference]) if reference else (),
        looked=view_of(pipeline.sources[reference], pins[reference], found.looked.names, cuts[reference])
        if reference and found.looked is not None
        else None,
    )


def _edges(pipeline: Pipeline, asked: Aggregation, order: Order, file: PinnedFile, cut: Cut) -> list[datetime]:
    """Where segments begin in a file. Only the edges of the cut's windows if the cut was moved, or if the file holds a time such
    as 9999-12-31, which would give far too many edges.
    """
    assert cut.low is not None and cut.high is not None
    low, high = file.low or cut.low, file.high or cut.high
    if UNTIL in order.parameters or high - low > LONGEST:
        return sorted({cut.high, *(cut.high - window for window in asked.part.windows)})
    return edges(asked.part.windows, asked.source.behind, pipeline.calendar, low, high)


def _existing(context: JobContext, folders: Iterable[str], wanted: Iterable[str]) -> dict[str, PartialSums]:
    """The partial sums that exist with all their files, by the folder of each block."""
    there = {item.uri for folder in folders for item in context.home.objects.walk(folder)}
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
