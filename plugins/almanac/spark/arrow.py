"""Chunks in, files out: rows of Parquet files enter and leave Spark as Arrow, read and written inside the tasks.

A frame over files is a frame of chunks and `mapInArrow`; a write is `mapInArrow` that returns the files written. The
JVM carries only names and counts, and no s3a jar is needed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from almanac.core.canonical import decode, encode
from almanac.core.receipts import Output
from almanac.errors import IntegrityError, SourceError, Unreachable
from almanac.spark import digests
from almanac.spark.digests import Sums

BATCH_ROWS = 65_536
SMALL_FILE = 4 * 2**20  # bytes; such a file is read in one request
Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of reading: one row group of one file, which has so many bytes."""

    uri: str
    group: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a write gave: the files, and the digest of all their rows."""

    outputs: tuple[Output, ...]
    sums: Sums

    @property
    def rows(self) -> int:
        return self.sums.rows


@functools.cache
def filesystem(bucket: str) -> pyarrow.fs.FileSystem:
    """The file system of a bucket; credentials and endpoint come from the environment. One a process."""
    found, _ = pyarrow.fs.FileSystem.from_uri(f"s3://{bucket}/")
    return found


def locate(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """A URI's file system and path. A path without a scheme is a local file."""
    if not uri.startswith("s3://"):
        return pyarrow.fs.LocalFileSystem(), uri
    path = uri.removeprefix("s3://")
    return filesystem(path.split("/", 1)[0]), path


def open_parquet(uri: str, *, whole: bool = False) -> pq.ParquetFile:
    """A Parquet file, its footer read; with `whole` all of it, in one request, which is quicker for a small file.

    Raises:
        Unreachable: it cannot be read.
        IntegrityError: it is no whole Parquet file.
    """
    system, path = locate(uri)
    try:
        if whole:
            with system.open_input_stream(path) as stream:
                return pq.ParquetFile(pa.BufferReader(stream.read()))
        return pq.ParquetFile(system.open_input_file(path))
    except pa.ArrowInvalid as error:
        raise IntegrityError(f"{uri}: this is no whole Parquet file ({error}). Deliver or make it again.") from error
    except FileNotFoundError as error:
        raise SourceError(f"{uri}: the file is gone since it was pinned. Start the run again, it pins anew.") from error
    except OSError as error:
        raise Unreachable(f"{uri}: the file cannot be read ({error}). Check the store and its credentials.") from error


def chunks_of(uris: Iterable[str]) -> list[Chunk]:
    """The chunks of some files, from their footers."""
    found = []
    for uri in uris:
        footer = open_parquet(uri).metadata
        groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        found += [Chunk(uri, number, group.num_rows, size) for number, group in enumerate(groups)]
    return found


def share(chunks: Sequence[Chunk], tasks: int) -> list[list[Chunk]]:
    """Deals chunks out to at most so many tasks, each about as many rows. The largest are dealt first."""
    hands: list[list[Chunk]] = [[] for _ in range(max(1, min(tasks, len(chunks))))]
    rows = [0] * len(hands)
    for chunk in sorted(chunks, key=lambda chunk: (-chunk.rows, chunk.uri, chunk.group)):
        least = rows.index(min(rows))
        hands[least].append(chunk)
        rows[least] += chunk.rows
    return hands


def read_chunks(chunks: Iterable[Chunk], columns: Sequence[str], rows: int = BATCH_ROWS) -> Batches:
    """The batches of some chunks, in a task. A task holds one batch at a time."""
    opened: tuple[str, pq.ParquetFile] | None = None
    for chunk in sorted(chunks, key=lambda chunk: (chunk.uri, chunk.group)):
        if opened is None or opened[0] != chunk.uri:
            opened = (chunk.uri, open_parquet(chunk.uri, whole=chunk.bytes <= SMALL_FILE))
        try:
            yield from opened[1].iter_batches(rows, row_groups=[chunk.group], columns=list(columns), use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise IntegrityError(f"{chunk.uri}: row group {chunk.group} cannot be read ({error}). Deliver it again.") from error


def frame(
    spark: SparkSession, hands: Sequence[Sequence[Chunk]], work: Callable[[Sequence[Chunk]], Batches], schema: Any
) -> DataFrame:
    """A frame with a task for each hand of chunks: `work` turns it into batches of `schema`."""
    dealt = [list(hand) for hand in hands]

    def run(batches: Batches) -> Batches:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                yield from work(dealt[number])

    return spark.range(0, len(dealt), 1, max(1, len(dealt))).mapInArrow(run, schema)


class Sink:
    """A file on its way out: Parquet, its bytes digested as they are written, its rows as they come."""

    def __init__(self, uri: str, schema: pa.Schema, outside: Sequence[str] = ()) -> None:
        system, path = locate(uri)
        self.uri = uri
        self._stream = system.open_output_stream(path)
        self._hash, self._bytes = hashlib.sha256(), 0
        self._writer = pq.ParquetWriter(pa.PythonFile(self, mode="w"), schema, compression="zstd")
        self._identity = identity_of(schema, outside)
        self.sums = digests.nothing(self._identity)

    closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._hash.update(view)
        self._bytes += view.nbytes
        self._stream.write(view)
        return view.nbytes

    def flush(self) -> None: ...

    def add(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.sums = self.sums + digests.of_batch(batch.select(self._identity.names))

    def finish(self, name: str, stats: Mapping[str, Any]) -> Output:
        self._writer.close()
        self._stream.close()
        return Output(name=name, uri=self.uri, bytes=self._bytes, sha256=self._hash.hexdigest(), rows=self.sums.rows, stats=stats)


def identity_of(schema: pa.Schema, outside: Sequence[str]) -> pa.Schema:
    """The columns that a content digest is taken of: all but those that tell where rows are from."""
    return pa.schema([field for field in schema if field.name not in outside])


def sink_batches(
    batches: Iterable[pa.RecordBatch], folder: str, stem: str, schema: pa.Schema, outside: Sequence[str] = ()
) -> Iterator[str]:
    """Writes batches to one new file `folder/stem-UNIQUE.parquet`, in a task; gives its record. No rows, no file.

    The columns `outside` are written, but are no part of the content digest.
    """
    sink: Sink | None = None
    name = f"{stem}-{uuid.uuid4().hex}.parquet"
    for batch in batches:
        if batch.num_rows:
            sink = sink or Sink(f"{folder}/{name}", schema, outside)
            sink.add(batch.select(schema.names).cast(schema))
    if sink is not None:
        output = sink.finish(name, {})
        yield json.dumps([encode(output), encode(sink.sums)])


RECORD = "record string"


def records(texts: Iterable[str]) -> Batches:
    yield pa.RecordBatch.from_pydict({"record": pa.array(list(texts), pa.string())})


def write(frame: DataFrame, folder: str, stem: str, schema: pa.Schema, stats: Mapping[str, Any] | None = None) -> Written:
    """Writes a frame to new files below a folder, one a task, and gives what was written. Nothing is committed.

    `stats` are bounds that hold for every row of every file, such as a constant column's.
    """

    def run(batches: Batches) -> Batches:
        yield from records(sink_batches(batches, folder, stem, schema))

    return collect(frame.mapInArrow(run, RECORD), schema, stats)


def collect(written: DataFrame, schema: pa.Schema, stats: Mapping[str, Any] | None = None) -> Written:
    """Joins the records that the tasks of a write gave."""
    sums, outputs = digests.nothing(schema), []
    for row in written.collect():
        output, part = json.loads(row.record)
        found = decode(Output, {**output, "stats": dict(stats or {})})
        outputs.append(found)
        sums = sums + Sums(part["rows"], tuple(part["lanes"]), tuple(part["columns"]))
    return Written(outputs=tuple(sorted(outputs, key=lambda output: output.name)), sums=sums)


def table(outputs: Iterable[Output], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of some files, whole, in the driver; each file's bytes are held against its digest.

    Raises:
        IntegrityError: a file's bytes were altered.
    """
    tables = []
    for output in outputs:
        system, path = locate(output.uri)
        with system.open_input_stream(path) as stream:
            body = stream.read()
        if hashlib.sha256(body).hexdigest() != output.sha256:
            raise IntegrityError(f"{output.uri}: the file was altered since it was written; it is not used. Make it again.")
        tables.append(pq.read_table(pa.BufferReader(body), columns=list(columns) if columns else None))
    return pa.concat_tables(tables)


def sort(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    return rows.take(pc.sort_indices(rows, sort_keys=[(key, "ascending") for key in keys]))
