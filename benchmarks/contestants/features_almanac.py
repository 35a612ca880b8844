"""Almanac: described aggregates, as a job of `features.stage` builds them from files that lie in a local folder.

Partial sums are kept below `out`: for `nine` from nothing, for `next` those that `nine` would have left are made before.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from almanac import Aggregates, EventSource, ReferenceSource, columns
from almanac.core.aggregates import edges
from almanac.core.period import Calendar, Every
from almanac.core.pins import PinnedFile
from almanac.core.receipts import Output
from almanac.core.timezone import as_utc
from almanac.cutting import View
from almanac.local.spark_conf import PROPERTIES
from almanac.spark import aggregates, partials
from almanac.spark.aggregates import Merge
from almanac.spark.partials import Aggregation, Block, Wanted
from benchmarks import events
from benchmarks.contestants.answering import Task, answer
from benchmarks.contestants.session import local

SOURCE = EventSource("s3://bucket/events/", event_time=events.TIME, timezone="UTC")
PRODUCTS = ReferenceSource("s3://bucket/products/")
SHOPPING = Aggregates(
    "shopping",
    reads=("events",),
    windows=events.WINDOWS,
    events=("count",),
    columns={"quantity": ("sum",), "sales_value": ("sum", "max")},
)
BY = Aggregates(
    "by",
    reads=("events", "products"),
    on=events.PRODUCT,
    windows=events.WINDOWS[-1:],
    events=("count",),
    columns={"sales_value": ("sum",)},
    split=events.DEPARTMENT,
    values=events.DEPARTMENTS,
)
GROUPS = (SHOPPING, BY)
SOCKETS = "spark.python.unix.domain.socket.enabled"  # as the jobs of the demo have it
Kept = dict[tuple[str, str, tuple[int, ...]], Mapping[str, Output]]


class Builder:
    def __init__(self, spark: SparkSession) -> None:
        self.spark, self.kept = spark, Kept()

    def prepare(self, task: Task) -> None:
        self.kept = {}
        if task.model == events.NEXT:
            self.sums(task, [pinned(file) for file in task.files[:-1]])

    def sums(self, task: Task, pins: Sequence[PinnedFile]) -> None:
        """Makes the missing partial sums of all groups."""
        missing = [(part, block) for part in GROUPS for block in blocks(part, pins) if key(part, block) not in self.kept]
        wanted = []
        for part, block in missing:
            folder = Path(task.out).with_suffix(".partials") / part.name
            folder.mkdir(parents=True, exist_ok=True)
            wanted.append(Wanted(asked=asked(part, task), block=block, folder=str(folder)))
        made = partials.summed(self.spark, wanted)
        self.kept |= {key(part, block): one.files for (part, block), one in zip(missing, made, strict=True)}

    def carry(self, task: Task) -> None:
        """All groups and periods at once, as a job builds described groups that read one source."""
        pins = [pinned(file) for file in task.files]
        self.sums(task, pins)
        merges = []
        for part in GROUPS:
            schema = aggregates.schema_of(asked(part, task))
            for as_of in (as_utc(moment, None) for moment in events.AS_OFS[task.model]):
                seen = [pin for pin in pins if pin.low and pin.high and pin.low < as_of and pin.high >= as_of - part.lookback]
                used = [self.kept[key(part, block)] for block in blocks(part, seen)]
                folder = Path(task.out) / part.name / f"{as_of:%Y-%m}"
                folder.mkdir(parents=True)
                merges.append(Merge(asked=asked(part, task), kept=used, high=as_of, folder=str(folder), schema=schema))
        aggregates.merged(self.spark, merges)


def asked(part: Aggregates, task: Task) -> Aggregation:
    products = task.options["products"]
    looked = View(source=PRODUCTS, shown=schema(products, {events.PRODUCT, events.DEPARTMENT})) if part is BY else None
    used = {events.ENTITY, events.TIME, *part.columns, *((events.PRODUCT,) if looked else ())}
    return Aggregation(
        part=part,
        entity=(events.ENTITY,),
        events=View(source=SOURCE, shown=schema(task.files[0], used)),
        reference=(of_footer(products),) if looked else (),
        looked=looked,
    )


def schema(file: str, names: Collection[str]) -> pa.Schema:
    """A file's columns of these names, as a pin would tell them."""
    found = pq.read_schema(file)
    return pa.schema([(name, columns.seen(columns.plain(found.field(name).type))) for name in found.names if name in names])


def pinned(file: str) -> PinnedFile:
    low = datetime(2017, int(Path(file).stem), 1, tzinfo=UTC)
    return replace(of_footer(file), low=low, high=(low + timedelta(days=31)).replace(day=1) - timedelta(microseconds=1))


def of_footer(file: str) -> PinnedFile:
    footer = pq.read_metadata(file)
    groups = tuple(footer.row_group(group).num_rows for group in range(footer.num_row_groups))
    return PinnedFile(uri=file, size=Path(file).stat().st_size, etag=file, groups=groups)


def blocks(part: Aggregates, pins: Sequence[PinnedFile]) -> list[Block]:
    found = []
    for pin in pins:
        assert pin.low is not None and pin.high is not None
        found += partials.blocks(pin, edges(part.windows, timedelta(0), Calendar(Every.MONTH), pin.low, pin.high))
    return found


def key(part: Aggregates, block: Block) -> tuple[str, str, tuple[int, ...]]:
    return part.name, block.file.uri, block.groups


def main() -> None:
    builder = Builder(local(2, {SOCKETS: PROPERTIES[SOCKETS]}))

    def prepare(task: Task) -> None:
        shutil.rmtree(Path(task.out).with_suffix(".partials"), ignore_errors=True)
        builder.prepare(task)

    answer(builder.carry, prepare)


if __name__ == "__main__":
    main()
