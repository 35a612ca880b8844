"""Chunks in, files out: rows of Parquet files enter and leave Spark as Arrow, read and written inside the tasks.

A frame over files is a frame of chunks and `mapInArrow`; a write is `mapInArrow` that returns the files written. The
JVM carries only names and counts, and no s3a jar is needed.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from almanac import chunks
from almanac.chunks import Batches
from almanac.core.canonical import decode, encode
from almanac.core.receipts import Output
from almanac.errors import IntegrityError
from almanac.files import locate
from almanac.spark import digests
from almanac.spark.digests import Sums

# A row group is written once this many rows or bytes are waiting.
GROUP_ROWS, GROUP_BYTES = 262_144, 64 * 2**20

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFiles:
    """The result of a write: the files, and the digest of all their rows."""

    outputs: tuple[Output, ...]
    sums: Sums

    @property
    def rows(self) -> int:
        return self.sums.rows

    def within(self, period: str) -> WrittenFiles:
        """The same, with each file named by its path within a table."""
        outputs = (replace(output, name=f"period={period}/{output.name}") for output in self.outputs)
        return WrittenFiles(outputs=tuple(outputs), sums=self.sums)


def frame(
    spark: SparkSession, hands: Sequence[Sequence[Item]], work: Callable[[Sequence[Item]], Batches], schema: Any
) -> DataFrame:
    """A frame with one task per hand of chunks: `work` turns a hand into batches of `schema`."""
    dealt = [list(hand) for hand in hands]

    def run(batches: Batches) -> Batches:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                yield from work(dealt[number])

    return spark.range(0, len(dealt), 1, max(1, len(dealt))).mapInArrow(run, schema)


class Sink:
    """A Parquet file being written: its bytes are digested as they are written, its rows as they are added.

    Args:
        outside: columns that are not part of the content digest.
        constant: columns that hold one value. If there are any, only these are tried as dictionaries: the others differ from
            row to row.
    """

    def __init__(self, uri: str, schema: pa.Schema, outside: Sequence[str] = (), constant: Sequence[str] = ()) -> None:
        system, path = locate(uri)
        self.uri = uri
        self._schema, self._constant = schema, constant
        self._stream = system.open_output_stream(path)
        self._hash, self._bytes = hashlib.sha256(), 0
        self._end: list[bytes] | None = None  # what closing the file writes; it ends with the footer
        kept = pa.PythonFile(self, mode="w")
        self._writer = pq.ParquetWriter(
            kept, schema, compression="zstd", use_dictionary=list(constant) or True, write_page_checksum=True
        )
        self._identity = identity_of(schema, outside)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = 0
        self.sums = digests.nothing(self._identity)

    closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._hash.update(view)
        self._bytes += view.nbytes
        if self._end is not None:
            self._end.append(bytes(view))
        self._stream.write(view)
        return view.nbytes

    def flush(self) -> None: ...

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self.sums = self.sums + digests.of_batch(batch.select(self._identity.names), self._constant)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= GROUP_ROWS or self._waiting_bytes >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0

    def finish(self, name: str, stats: Mapping[str, Any]) -> Output:
        if self._waiting:
            self._write_group()
        self._end = []
        self._writer.close()
        self._stream.close()
        return Output(
            name=name,
            uri=self.uri,
            bytes=self._bytes,
            sha256=self._hash.hexdigest(),
            rows=self.sums.rows,
            stats=stats,
            footer=hashlib.sha256(chunks.footer(b"".join(self._end))).hexdigest(),
        )


def identity_of(schema: pa.Schema, outside: Sequence[str]) -> pa.Schema:
    """The columns that a content digest covers: all but those that say where rows come from."""
    return pa.schema([field for field in schema if field.name not in outside])


def sink_batches(
    batches: Iterable[pa.RecordBatch],
    folder: str,
    stem: str,
    schema: pa.Schema,
    outside: Sequence[str] = (),
    constant: Sequence[str] = (),
) -> Iterator[str]:
    """Writes batches to one new file `folder/stem-UNIQUE.parquet`, in a task, and yields its record. No rows, no file.

    `outside`, `constant`: see `Sink`.
    """
    sink: Sink | None = None
    name = _unique(stem)
    for batch in batches:
        if batch.num_rows:
            sink = sink or Sink(f"{folder}/{name}", schema, outside, constant)
            sink.add(batch.select(schema.names).cast(schema))
    if sink is not None:
        output = sink.finish(name, {})
        yield json.dumps([encode(output), encode(sink.sums)])


def empty(
    folder: str, stem: str, schema: pa.Schema, outside: Sequence[str] = (), stats: Mapping[str, Any] | None = None
) -> WrittenFiles:
    """Writes one new file without rows, in the driver: for a period that is empty on purpose."""
    name = _unique(stem)
    sink = Sink(f"{folder}/{name}", schema, outside)
    return WrittenFiles(outputs=(sink.finish(name, dict(stats or {})),), sums=sink.sums)


def _unique(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex}.parquet"


RECORD = "record string"


def records(texts: Iterable[str]) -> Batches:
    yield pa.RecordBatch.from_pydict({"record": pa.array(list(texts), pa.string())})


def write(frame: DataFrame, folder: str, stem: str, schema: pa.Schema, stats: Mapping[str, Any] | None = None) -> WrittenFiles:
    """Writes a frame to new files below a folder, one per task, and returns what was written. Nothing is committed.

    `stats`: bounds that hold for every row of every file, such as those of a constant column.
    """

    def run(batches: Batches) -> Batches:
        yield from records(sink_batches(batches, folder, stem, schema))

    return collect((row.record for row in frame.mapInArrow(run, RECORD).collect()), schema, stats)


def in_tasks(spark: SparkSession, hands: Sequence[Sequence[Item]], work: Callable[[Sequence[Item]], Iterator[str]]) -> list[str]:
    """The results of `work` for each hand of chunks or of other items, one task per hand.

    Not a frame: nothing is planned, so a JVM that has just started need not first load and compile the query planner.
    """
    if not hands:
        return []
    dealt = spark.sparkContext.parallelize([list(hand) for hand in hands], len(hands))

    def run(given: Iterable[Sequence[Item]]) -> Iterator[str]:
        for hand in given:
            yield from work(hand)
        settle(len(sys.modules))

    return dealt.mapPartitions(run).collect()


@functools.lru_cache(maxsize=1)
def settle(modules: int) -> None:
    """Exempts all objects that a worker holds from garbage collection, once per number of imported modules.

    Spark lets a Python worker collect after each task. Scanning the objects of pandas and an inference engine takes a tenth of a
    second, and they are never garbage.
    """
    del modules  # the cache's key
    gc.collect()
    gc.freeze()


def collect(records: Iterable[str], schema: pa.Schema, stats: Mapping[str, Any] | None = None) -> WrittenFiles:
    """Joins the records that the tasks of a write returned."""
    sums, outputs = digests.nothing(schema), []
    for record in records:
        output, part = json.loads(record)
        found = decode(Output, {**output, "stats": dict(stats or {})})
        outputs.append(found)
        sums = sums + Sums(part["rows"], tuple(part["lanes"]), tuple(part["columns"]))
    return WrittenFiles(outputs=tuple(sorted(outputs, key=lambda output: output.name)), sums=sums)


def table(outputs: Iterable[Output], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of some files, whole, in the driver; each file's bytes are checked against its digest.

    Raises:
        IntegrityError: a file's bytes were altered.
    """
    tables = []
    for output in outputs:
        system, path = locate(output.uri)
        with system.open_input_stream(path) as stream:
            body = stream.read()
        if hashlib.sha256(body).hexdigest() != output.sha256:
            raise IntegrityError(f"{output.uri}: the file was altered since it was written, so it is not used. Build it again.")
        tables.append(pq.read_table(pa.BufferReader(body), columns=list(columns) if columns else None))
    return pa.concat_tables(tables)


def sort(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    return rows.take(pc.sort_indices(rows, sort_keys=[(key, "ascending") for key in keys]))
