"""Rows to be checked: held in the driver if they are few, a Spark frame if they are many, and plain in both.

Plain means: NaN is null, a time is naive and in UTC, a dictionary has the type of its values. Great Expectations' engines differ
in all of these; plain rows look the same to both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from almanac import chunks, columns
from almanac.chunks import Batches
from almanac.core.receipts import Output
from almanac.spark import arrow

HELD_BYTES = 16 * 2**20  # of values, at 8 bytes each; and of files
TIME = pa.timestamp("us")

Session = Callable[[], SparkSession]
Item = TypeVar("Item")
Data = TypeVar("Data", pa.Table, pa.RecordBatch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows to be checked.

    Args:
        schema, count: of all rows.
        held: all rows, if they are few; None if they are many.
        frame: gives them as a Spark frame; no session is started before it is called.
        scan: runs a function on some columns' batches, inside the tasks, and gives what it yields.
    """

    schema: pa.Schema
    count: int
    held: pa.Table | None
    frame: Callable[[], DataFrame]
    scan: Callable[[Sequence[str], Callable[[Batches], Iterator[str]]], list[str]]


def few(rows: int, columns: int, size: int) -> bool:
    """Whether this many rows and columns, in files of `size` bytes in all, are held in the driver."""
    return rows * columns * 8 <= HELD_BYTES and size <= HELD_BYTES


def of_table(session: Session, table: pa.Table) -> Rows:
    """Rows that the driver already holds."""
    batches = table.to_batches()

    def work(_: Sequence[int], names: Sequence[str]) -> Batches:
        return (batch.select(list(names)) for batch in batches)

    return read(session, [0], work, table.schema, len(table), hold=True)


def of_files(session: Session, files: Sequence[str | Output]) -> Rows:
    """The rows of files that Almanac wrote; they stay in Spark."""
    found = chunks.chunks_of(files)
    schema, count = chunks.schema_of(files[0]), sum(chunk.rows for chunk in found)
    return read(session, found, chunks.read_chunks, schema, count, hold=False, deal=chunks.share)


def read(
    session: Session,
    items: Sequence[Item],
    work: Callable[[Sequence[Item], Sequence[str]], Batches],
    schema: pa.Schema,
    count: int,
    *,
    hold: bool,
    deal: Callable[[Sequence[Item], int], Sequence[Sequence[Item]]] = lambda items, _: [items],
) -> Rows:
    """The `count` rows that `work` reads from chunks or other items, in batches of some columns of `schema`.

    With `hold` they are read at once. `deal` deals the items out to tasks, for a number of cores.
    """
    seen = plain_schema(schema)

    def plainly(hand: Sequence[Item], names: Sequence[str]) -> Batches:
        return (plain(batch) for batch in work(hand, names))

    def hands(spark: SparkSession) -> Sequence[Sequence[Item]]:
        return deal(items, spark.sparkContext.defaultParallelism)

    def frame() -> DataFrame:
        spark, kind = session(), from_arrow_schema(seen, prefer_timestamp_ntz=True)
        return arrow.frame(spark, hands(spark), lambda hand: plainly(hand, seen.names), kind)

    def scan(names: Sequence[str], fold: Callable[[Batches], Iterator[str]]) -> list[str]:
        spark = session()
        return arrow.in_tasks(spark, hands(spark), lambda hand: fold(plainly(hand, names)))

    held = pa.Table.from_batches(plainly(items, seen.names), seen) if hold else None
    return Rows(schema=seen, count=count, held=held, frame=frame, scan=scan)


def counted(rows: Rows) -> int:
    """How many rows there are, by reading them: for rows that were not counted before."""
    if rows.held is not None:
        return len(rows.held)
    first = rows.schema.names[:1]
    return sum(map(int, rows.scan(first, lambda batches: (str(batch.num_rows) for batch in batches))))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def plain(rows: Data) -> Data:
    """The same rows, plain."""
    schema = plain_schema(rows.schema)
    cast = (column.cast(field.type, safe=False) for column, field in zip(rows.columns, schema, strict=True))
    return type(rows).from_arrays([columns.without_nan(column) for column in cast], schema=schema)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return TIME if pa.types.is_timestamp(kind) else columns.plain(kind)
