"""Partial sums of blocks of source files, computed inside the tasks and kept, one file each, sorted into buckets by entity.

A block's partial sums depend only on the block's rows and the description, so they are reused: the next period reads only new
files. Each bucket is a row group, so that a task reads only its own entities.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from almanac import chunks
from almanac.chunks import Chunk
from almanac.columns import UTC_TIME, all_valid, places
from almanac.core.aggregates import DISTINCT, SUM, Aggregates
from almanac.core.canonical import decode, encode
from almanac.core.pins import PinnedFile
from almanac.core.receipts import Output
from almanac.core.sources import EventSource
from almanac.cutting import View, cut_rows
from almanac.errors import DataError, examples
from almanac.files import locate
from almanac.spark import arrow, digests

BUCKETS = 8
BLOCK_ROWS = 1_000_000
GROUPS = b"almanac.buckets"  # metadata of a file of partial sums: bucket to its row group, as JSON
# Columns besides the keys: a segment's start (microseconds), the position of the split's value, the events, the newest of them.
START, CODE, EVENTS, LAST = "@start", "@code", "@events", "@last"
SUMS = "sums"
EXACT = pa.decimal128(38, 0)  # for whole numbers whose sum may exceed 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Row groups of a pinned source file, small enough for a task to hold.

    Args:
        edges: where segments begin, in order; events before the first are not needed.
    """

    file: PinnedFile
    groups: tuple[int, ...]
    edges: tuple[datetime, ...]

    @property
    def place(self) -> str:
        """Where its rows are, and how they are read: two source files with the same bytes can be one converted file."""
        return json.dumps([self.file.place, self.groups, self.file.content, self.file.aside])

    @property
    def identity(self) -> list[Any]:
        """What its partial sums depend on, besides the description."""
        etag, size, *read = self.file.content
        aside = [list(self.file.aside)] if self.file.aside or read else []
        return [etag, size, list(self.groups), encode(self.edges), *aside, *read]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """What a task needs from the description.

    Args:
        entity: the columns that name one.
        events: what is read of the events; nothing is cut.
        reference: the reference's files that can hold a row that is seen; empty if there is no reference.
        looked: what is read of the reference, including the column that both share.
    """

    part: Aggregates
    entity: tuple[str, ...]
    events: View
    reference: tuple[PinnedFile, ...] = ()
    looked: View | None = None

    @property
    def source(self) -> EventSource:
        assert isinstance(self.events.source, EventSource)
        return self.events.source

    @property
    def schema(self) -> pa.Schema:
        """The columns of the events."""
        return self.events.shown


def blocks(file: PinnedFile, edges: Sequence[datetime]) -> list[Block]:
    """A file's blocks. They depend on the file alone."""
    found: list[list[int]] = []
    rows = 0
    for group, count in enumerate(file.groups):
        if not found or rows + count > BLOCK_ROWS:
            found.append([])
            rows = 0
        found[-1].append(group)
        rows += count
    return [Block(file=file, groups=tuple(groups), edges=tuple(edges)) for groups in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSums:
    """The partial sums of a block: table name to file, and how many of its events have no entity."""

    files: Mapping[str, Output]
    nameless: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The partial sums of a block by one description, and the folder for their files."""

    asked: Aggregation
    block: Block
    folder: str


def summed(spark: SparkSession, wanted: Sequence[Wanted]) -> list[PartialSums]:
    """Writes partial sums to new files. Where there are blocks for all cores, each is read once for all descriptions.

    Raises:
        DataError: the reference has two rows for one value, or a sum has more digits than a decimal holds.
    """

    def work(hand: Sequence[tuple[int, Wanted]]) -> Iterator[str]:
        rows: dict[str, list[pa.RecordBatch]] = {}
        columns = sorted({name for _, one in hand for name in one.asked.events.stored})
        for number, one in hand:
            if one.block.place not in rows:
                rows.clear()  # a task holds one block at a time
                rows[one.block.place] = list(chunks.read_chunks(_chunks(one.block), columns, BLOCK_ROWS))
            tables, nameless = _partial(one.asked, one.block, rows[one.block.place])
            kept = PartialSums(files=_keep(tables, one.asked.entity, one.folder), nameless=nameless)
            yield json.dumps([number, encode(kept)])

    together: dict[str, list[tuple[int, Wanted]]] = {}
    for number, one in enumerate(wanted):
        together.setdefault(one.block.place, []).append((number, one))
    hands = list(together.values())
    if len(hands) < 2 * spark.sparkContext.defaultParallelism:
        hands = [[numbered] for numbered in enumerate(wanted)]
    written = dict(json.loads(text) for text in arrow.in_tasks(spark, hands, work))
    return [decode(PartialSums, written[number]) for number in range(len(wanted))]


def _reference(asked: Aggregation) -> pa.Table | None:
    """What is looked up in the reference, one row per value: columns, and the position of the split's value. Nulls are dropped.

    Raises:
        DataError: a value has two rows.
    """
    if asked.looked is None:
        return None
    on, view = str(asked.part.on), asked.looked
    read = chunks.read_chunks(chunks.of_pinned(asked.reference), view.stored)
    batches = [cut_rows(batch, view) for batch in read]
    found = pa.Table.from_batches(batches, None if batches else view.shown.remove_metadata())
    found = found.filter(found[on].is_valid())
    counted = found.group_by(on, use_threads=False).aggregate([([], "count_all")])
    doubled = counted.filter(pc.greater(counted["count_all"], 1))[on].to_pylist()
    if doubled:
        raise DataError(
            f"The reference of {asked.part.name!r}: expected one row per value of {on}, got {len(doubled)} values with several, "
            f"such as {examples(doubled[:5])}. Deliver one row per value."
        )
    if asked.part.split not in view.shown.names:
        return found
    return found.append_column(CODE, _code(asked.part, found[str(asked.part.split)].combine_chunks()))


def _code(part: Aggregates, column: pa.Array) -> pa.Array:
    """The position of each row's value among those of the split, which are text or whole numbers; null if it is none of them."""
    return pc.index_in(column.cast(pa.string()), value_set=pa.array(part.values, pa.string())).cast(pa.int16())


def _partial(asked: Aggregation, block: Block, batches: Sequence[pa.RecordBatch]) -> tuple[dict[str, pa.Table], int]:
    """The partial sums of a block: `sums`, and a table of distinct values for each column counted by distinct; and the number of
    its events without an entity. `batches`: its rows, with the columns of the description and maybe others.
    """
    part, reference = asked.part, _reference(asked)
    looked = [] if reference is None else [name for name in reference.column_names if name != part.on]
    return _grouped(asked, [rows for batch in batches if (rows := _rows(asked, block, batch, reference, looked)).num_rows])


def _chunks(block: Block) -> list[Chunk]:
    return [chunk for chunk in chunks.of_pinned([block.file]) if chunk.group in block.groups]


def _rows(asked: Aggregation, block: Block, batch: pa.RecordBatch, reference: pa.Table | None, looked: Sequence[str]) -> pa.Table:
    """A batch's events, with the segment of each and what was looked up."""
    part, source = asked.part, asked.source
    batch = cut_rows(batch, asked.events)
    time = batch.column(source.event_time)
    edges = np.array([micros(edge) for edge in block.edges], dtype=np.int64)
    segment = np.searchsorted(edges, pc.fill_null(time.cast(pa.int64()), -(2**63)).to_numpy(zero_copy_only=False), "right") - 1
    columns: dict[str, Any] = {name: batch.column(name) for name in batch.schema.names}
    if reference is not None:
        place = places(columns[str(part.on)], reference[str(part.on)].combine_chunks())
        columns |= {name: reference[name].combine_chunks().take(place) for name in looked}
    if part.split:
        columns[CODE] = columns[CODE] if CODE in columns else _code(part, columns[part.split])
    columns[START] = pa.array(edges[np.maximum(segment, 0)], mask=segment < 0)
    columns[LAST] = time.cast(pa.int64())
    return pa.table({name: columns[name] for name in (*keys(asked), LAST, *part.columns)})


def micros(moment: datetime) -> int:
    """A moment in microseconds, as files of partial sums hold it."""
    return int(pa.scalar(moment, UTC_TIME).value)


def keys(asked: Aggregation) -> list[str]:
    """The columns that partial sums are grouped by."""
    return [*asked.entity, START, *([CODE] if asked.part.split else [])]


def _grouped(asked: Aggregation, tables: Sequence[pa.Table]) -> tuple[dict[str, pa.Table], int]:
    """The partial sums of events, and how many events have no entity. An event that is not counted has a null among its keys. It
    is dropped after grouping, because groups are fewer than events.
    """
    if not tables:
        return {}, 0
    rows, part, by = pa.concat_tables(tables), asked.part, keys(asked)
    sums: list[Any] = [([], "count_all"), (LAST, "max")]
    names = [*by, EVENTS, LAST]
    for column, functions in part.columns.items():
        for function in functions:
            if function != DISTINCT:
                sums.append((column, function))
                names.append(f"{function} {column}")
    rows = summable(rows, [column for column, functions in part.columns.items() if SUM in functions], part.name)
    groups = rows.group_by(by, use_threads=False).aggregate(sums).rename_columns(names)
    nameless = groups.filter(pc.and_(pc.invert(all_valid(groups, asked.entity)), groups[START].is_valid()))
    found = {SUMS: groups.filter(all_valid(groups, by))}
    for column, functions in part.columns.items():
        if DISTINCT in functions:
            values = rows.group_by([*by, column], use_threads=False).aggregate([])
            found[f"{DISTINCT} {column}"] = values.filter(all_valid(values, [*by, column]))
    return (found if found[SUMS].num_rows else {}), int(pc.sum(nameless[EVENTS]).as_py() or 0)


def summable(rows: pa.Table, columns: Sequence[str], part: str) -> pa.Table:
    """Rows whose columns can be summed: whole numbers whose sum might exceed 64 bits become decimals.

    Raises:
        DataError: a sum might have more than 38 digits.
    """
    for name in columns:
        column = rows[name]
        exact = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
        bounds: dict[str, Any] = pc.min_max(column).as_py() if exact else {"min": None}
        if bounds["min"] is None:
            continue
        most = max(abs(bounds["min"]), abs(bounds["max"])) * rows.num_rows
        if pa.types.is_integer(column.type):
            if most >= 2**63:
                rows = rows.set_column(rows.column_names.index(name), name, column.cast(EXACT))
        elif most >= 10 ** (38 - column.type.scale):
            raise DataError(
                f"Aggregates({part!r}): sums of {name} ({column.type}, up to {bounds['max']}) may have more than the 38 digits "
                "that a decimal holds. Deliver the column with fewer digits, or as a double."
            )
    return rows


def _buckets(rows: pa.Table, entity: Sequence[str]) -> digests.Hashes:
    """The bucket of each row, by all columns of its entity."""
    columns = [rows[key].combine_chunks() for key in entity]
    if len(columns) == 1:  # by the value's own hash: files of partial sums that exist are sorted so
        return digests.hashes(columns[0]) % BUCKETS
    return digests.row_hashes(pa.RecordBatch.from_arrays(columns, names=list(entity))) % BUCKETS


def _keep(tables: Mapping[str, pa.Table], entity: Sequence[str], folder: str) -> dict[str, Output]:
    """Writes tables to new files, sorted into buckets. Returns table name to file."""
    found = {}
    for number, (name, rows) in enumerate(tables.items()):
        bucket = _buckets(rows, entity)
        order = np.argsort(bucket, kind="stable")
        bounds = np.searchsorted(bucket[order], np.arange(BUCKETS + 1))
        present = [one for one in range(BUCKETS) if bounds[one] < bounds[one + 1]]
        metadata = {GROUPS: json.dumps({str(one): group for group, one in enumerate(present)})}
        rows = rows.take(pa.array(order)).replace_schema_metadata(metadata)
        uri = f"{folder}/{uuid.uuid4().hex}-{number}.parquet"
        system, path = locate(uri)
        few = [
            key for key in (START, CODE) if key in rows.column_names
        ]  # for other columns a dictionary costs more than it saves
        packed = pa.BufferOutputStream()
        with pq.ParquetWriter(packed, rows.schema, compression="lz4", use_dictionary=few, write_page_checksum=True) as writer:
            for one in present:
                writer.write_table(rows.slice(bounds[one], bounds[one + 1] - bounds[one]), row_group_size=len(rows))
        body = packed.getvalue()
        with system.open_output_stream(path) as stream:
            stream.write(body)
        footer = hashlib.sha256(chunks.footer(memoryview(body))).hexdigest()
        found[name] = Output(name=name, uri=uri, bytes=len(body), sha256="", rows=len(rows), footer=footer)
    return found
