"""Chunks: rows of Parquet files, how they are read inside the tasks and dealt out to them.

A chunk gives the rows of a table as it is stored: what its log, or the names of its folders, say of a file is applied here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from almanac.columns import AS_WRITTEN, constant
from almanac.core.pins import Constant, Deleted, PinnedFile
from almanac.core.receipts import Output
from almanac.errors import IntegrityError, SourceError, Unreachable
from almanac.files import locate

BATCH_ROWS = 65_536
SMALL_FILE = 4 * 2**20  # bytes; such a file is read in one request
LARGE_GROUP = 64 * 2**20  # bytes; a row group of more is read through buffers of a bounded size
BUFFER = 2**20  # bytes
END = 64 * 2**10  # bytes; read from a file's end first, as most footers are shorter
MAGIC = b"PAR1"  # every Parquet file ends with it
AGAIN = "Restore it from the bucket's versions, or build it again"
# A task gets at most this many rows and bytes, and at least LEAST_ROWS rows if there are that many.
HAND_ROWS, HAND_BYTES, LEAST_ROWS = 500_000, 128 * 2**20, 20_000

Batches = Iterator[pa.RecordBatch]
Places = bytes  # an array of int64
NOTHING: npt.NDArray[np.int64] = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of reading: a row group of a file, or its rows from `start` on.

    Args:
        bytes: of these rows.
        file_bytes: of the whole file. Both count the decoded columns, as the file's footer gives them.
        aside: quarantined rows of the row group, in order; no reader sees them.
        made: for a file that Almanac wrote, its record in the receipt: what is read is checked against it.
        begin: the position in the file of the row group's first row.
        deleted: positions in the row group (int64) of rows that no reader sees, by a table's log.
        constants, names: as a pinned file has them.
    """

    uri: str
    group: int
    rows: int
    bytes: int
    file_bytes: int
    start: int = 0
    aside: tuple[int, ...] = ()
    made: Output | None = None
    begin: int = 0
    deleted: Places = b""
    constants: tuple[Constant, ...] = ()
    names: tuple[tuple[str, str], ...] = ()

    def split(self, rows: int) -> tuple[Chunk, Chunk]:
        """The first `rows` rows, and the rest."""
        first = self.bytes * rows // self.rows
        others = replace(self, rows=self.rows - rows, bytes=self.bytes - first, start=self.start + rows)
        return replace(self, rows=rows, bytes=first), others


def open_parquet(uri: str, *, whole: bool = False) -> pq.ParquetFile:
    """Opens a Parquet file and reads its footer; with `whole` all of it, in one request, which is faster for a small file.

    Raises:
        Unreachable: it cannot be read.
        SourceError: it is gone.
        IntegrityError: it is not a complete Parquet file.
    """
    with _opening(uri) as (system, path):
        if whole:
            with system.open_input_stream(path) as stream:
                return pq.ParquetFile(pa.BufferReader(stream.read()), **AS_WRITTEN)
        return _opened(system, path)


def _opened(
    system: pyarrow.fs.FileSystem, path: str, metadata: pq.FileMetaData | None = None, *, checksums: bool = False
) -> pq.ParquetFile:
    """Opens a file to be read in parts. `checksums`: whether those of its pages are verified."""
    remote = not isinstance(system, pyarrow.fs.LocalFileSystem)
    options = {"page_checksum_verification": checksums, **AS_WRITTEN}
    file = pq.ParquetFile(system.open_input_file(path), metadata=metadata, pre_buffer=remote, **options)
    footer = file.metadata
    if max((footer.row_group(group).total_byte_size for group in range(footer.num_row_groups)), default=0) > LARGE_GROUP:
        return pq.ParquetFile(system.open_input_file(path), metadata=footer, buffer_size=BUFFER, **options)
    return file


@contextlib.contextmanager
def _opening(uri: str) -> Iterator[tuple[pyarrow.fs.FileSystem, str]]:
    """A file's system and path; failures inside become errors in plain words. Raises: as `open_parquet`."""
    try:
        yield locate(uri)
    except pa.ArrowInvalid as error:
        raise IntegrityError(f"{uri}: this is not a complete Parquet file ({error}). Deliver or build it again.") from error
    except FileNotFoundError as error:
        raise SourceError(
            f"{uri}: the file was removed since it was pinned. Start the run again, which makes a new pin."
        ) from error
    except OSError as error:
        raise Unreachable(f"{uri}: the file cannot be read ({error}). Check the store and its credentials.") from error


def chunks_of(files: Iterable[str | Output]) -> list[Chunk]:
    """The chunks of some files, from their footers. Raises: IntegrityError, if one that Almanac wrote was altered."""
    found = []
    for file in files:
        made = file if isinstance(file, Output) else None
        footer = open_parquet(str(file)).metadata if made is None else open_made(made).metadata
        uri = str(file) if made is None else made.uri
        groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        found += [
            Chunk(uri, number, group.num_rows, group.total_byte_size, size, made=made) for number, group in enumerate(groups)
        ]
    return found


def schema_of(file: str | Output) -> pa.Schema:
    """The columns of a file. Raises: as `open_parquet` and `open_made`."""
    return (open_made(file) if isinstance(file, Output) else open_parquet(file)).schema_arrow


def footer(end: bytes | memoryview) -> bytes | memoryview:
    """The footer of a Parquet file, from the bytes at its end; empty if they are too few."""
    size = int.from_bytes(end[-8:-4], "little") + 8
    return end[-size:] if size <= len(end) else b""


def open_made(made: Output, *, whole: bool = False) -> pq.ParquetFile:
    """Opens a Parquet file that Almanac wrote and checks it against its digests: all its bytes if it is read whole; otherwise its
    footer now, and its pages by their checksums as they are read.

    Raises:
        IntegrityError: it was altered. Otherwise as `open_parquet`.
    """
    if not (made.sha256 or made.footer):  # no receipt has its digests
        return open_parquet(made.uri, whole=whole)
    with _opening(made.uri) as (system, path):
        if whole:
            with system.open_input_stream(path) as stream:
                body = stream.read()
            _check_end(body)
            _check(hashlib.sha256(body).hexdigest() == made.sha256, made.uri)
            return pq.ParquetFile(pa.BufferReader(body))
        file = system.open_input_file(path)
        if not made.footer:  # written before footer digests were kept: it is read twice
            _check(_hashed(file) == made.sha256, made.uri)
            return open_parquet(made.uri)
        end = file.read_at(END, max(0, file.size() - END))
        _check_end(end)
        _check(file.size() == made.bytes, made.uri)
        if not (found := footer(end)):
            found = footer(file.read_at(made.bytes, 0))
        _check(hashlib.sha256(found).hexdigest() == made.footer, made.uri)
        return _opened(system, path, pq.read_metadata(pa.BufferReader(found)), checksums=True)


def _hashed(file: pa.NativeFile) -> str:
    found = hashlib.sha256()
    while piece := file.read(BUFFER):
        found.update(piece)
    return found.hexdigest()


def _check_end(body: bytes) -> None:
    if body[-len(MAGIC) :] != MAGIC:
        raise pa.ArrowInvalid(f"it ends without {MAGIC.decode()}")


def _check(holds: bool, uri: str) -> None:
    if not holds:
        raise IntegrityError(f"{uri}: the file was altered since it was written, so it is not used. {AGAIN}.")


def of_pinned(files: Iterable[PinnedFile]) -> list[Chunk]:
    """The chunks of pinned files. The pin lists their row groups, the quarantined rows and what a table's log says of them."""
    found = []
    for file in files:
        size, begin = file.size // max(1, sum(file.groups)), 0
        deleted = unpacked(file.deleted) if file.deleted else NOTHING
        for group, rows in enumerate(file.groups):
            aside = file.aside[bisect_left(file.aside, begin) : bisect_left(file.aside, begin + rows)]
            gone = deleted[np.searchsorted(deleted, begin) : np.searchsorted(deleted, begin + rows)] - begin
            found.append(
                Chunk(
                    uri=file.place,
                    group=group,
                    rows=rows,
                    bytes=size * rows,
                    file_bytes=file.made.bytes if file.made else file.size,
                    aside=tuple(row - begin for row in aside),
                    made=file.made,
                    begin=begin,
                    deleted=gone.tobytes(),
                    constants=file.constants,
                    names=tuple((file.names or {}).items()),
                )
            )
            begin += rows
    return found


def packed(places: npt.NDArray[np.int64]) -> Deleted:
    """Positions of deleted rows, in order, as a pin holds them: their differences as 32-bit numbers, compressed, in base64."""
    steps = np.diff(places, prepend=0).astype("<u4")
    return Deleted(rows=len(places), places=base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode())


def unpacked(deleted: Deleted) -> npt.NDArray[np.int64]:
    """The positions of deleted rows, in order."""
    return np.cumsum(np.frombuffer(zlib.decompress(base64.b64decode(deleted.places)), "<u4"), dtype=np.int64)


def share(chunks: Sequence[Chunk], cores: int) -> list[list[Chunk]]:
    """Deals chunks out to tasks, in order, about the same number of rows to each.

    There are enough tasks that none is too large, and one for every core if there are enough rows; no more than that, so that
    many small files do not cost a task each. A row group that spans two tasks is split.
    """
    rows, size = sum(chunk.rows for chunk in chunks), sum(chunk.bytes for chunk in chunks)
    tasks = max(1, min(cores, rows // LEAST_ROWS), -(-rows // HAND_ROWS), -(-size // HAND_BYTES))
    if tasks > cores:
        tasks = -(-tasks // cores) * cores
    hands: list[list[Chunk]] = [[] for _ in range(tasks)]
    left, number, dealt = sorted(chunks, key=lambda chunk: (chunk.uri, chunk.group), reverse=True), 0, 0
    while left:
        chunk, room = left.pop(), rows * (number + 1) // tasks - dealt
        if room > 0 and chunk.rows - room >= LEAST_ROWS // 2:
            chunk, others = chunk.split(room)
            left.append(others)
        hands[number].append(chunk)
        dealt += chunk.rows
        while number < tasks - 1 and dealt >= rows * (number + 1) // tasks:
            number += 1
    return [hand for hand in hands if hand]


def read_chunks(chunks: Iterable[Chunk], columns: Sequence[str], rows: int = BATCH_ROWS, numbered: str = "") -> Batches:
    """The batches of some chunks, in a task, which holds one batch at a time. A file may lack some of the columns.

    Args:
        numbered: the name of a further column, if given, with each row's position in its file (int64).
    """
    opened: tuple[str, pq.ParquetFile] | None = None
    for chunk in sorted(chunks, key=lambda chunk: (chunk.uri, chunk.group)):
        if opened is None or opened[0] != chunk.uri:
            whole = chunk.file_bytes <= SMALL_FILE
            file = open_made(chunk.made, whole=whole) if chunk.made else open_parquet(chunk.uri, whole=whole)
            opened = (chunk.uri, file)
        there = _physical(chunk, columns)
        with reading(chunk.uri, chunk.group, chunk.made):
            read = opened[1].iter_batches(rows, row_groups=[chunk.group], columns=list(there), use_threads=False)
            yield from _within((_dressed(batch, chunk, columns, there) for batch in read), chunk, numbered)


def _physical(chunk: Chunk, columns: Sequence[str]) -> Mapping[str, str]:
    """The names in the file of some columns of the table, each with the table's name for it."""
    inside = {table: own for own, table in chunk.names if table}
    given = {one.name for one in chunk.constants}
    # A name that the table has given to another column is not that column's.
    taken = {own for own, _ in chunk.names}
    return {inside.get(name, name): name for name in columns if name not in given and (name in inside or name not in taken)}


def _dressed(batch: pa.RecordBatch, chunk: Chunk, columns: Sequence[str], there: Mapping[str, str]) -> pa.RecordBatch:
    """A batch of a file with the table's names, and with the columns that the file does not hold."""
    if chunk.names:
        batch = batch.rename_columns([there.get(name, name) for name in batch.schema.names])
    for one in chunk.constants:
        if one.name in columns and one.name not in batch.schema.names:
            batch = batch.append_column(one.name, constant(one.type, one.value, batch.num_rows))
    return batch


@contextlib.contextmanager
def reading(uri: str, group: int, made: Output | None = None) -> Iterator[None]:
    """Wraps the reading of a row group. Raises: IntegrityError, in plain words, if it cannot be read."""
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        cause = " ".join(str(error).split())
        raise IntegrityError(
            f"{uri}: row group {group} cannot be read ({cause}). {AGAIN if made else 'Deliver it again'}."
        ) from error


def _within(batches: Iterable[pa.RecordBatch], chunk: Chunk, numbered: str = "") -> Batches:
    """The chunk's rows in the batches of its row group. Raises: ArrowInvalid, if the batches have fewer rows."""
    end, at = chunk.start + chunk.rows, 0
    deleted = np.frombuffer(chunk.deleted, np.int64)
    for batch in batches:
        low, high = max(chunk.start, at), min(end, at + batch.num_rows)
        if low < high:
            part = batch.slice(low - at, high - low)
            if numbered:
                places = pa.array(np.arange(chunk.begin + low, chunk.begin + high, dtype=np.int64))
                part = part.append_column(numbered, places)
            part = _without(part, low, chunk.aside, deleted)
            if part.num_rows:
                yield part
        at += batch.num_rows
        if at >= end:
            return
    if at < end:
        raise pa.ArrowInvalid(f"expected {end} rows, got {at}")


def _without(batch: pa.RecordBatch, begin: int, aside: Sequence[int], deleted: npt.NDArray[np.int64] = NOTHING) -> pa.RecordBatch:
    """A batch without the rows set aside and the deleted ones. Its first row has the number `begin`."""
    end = begin + batch.num_rows
    out = aside[bisect_left(aside, begin) : bisect_left(aside, end)]
    gone = deleted[np.searchsorted(deleted, begin) : np.searchsorted(deleted, end)]
    if not out and not len(gone):
        return batch
    kept = np.ones(batch.num_rows, dtype=bool)
    kept[np.array(out, dtype=np.int64) - begin] = False
    kept[gone - begin] = False
    return batch.filter(pa.array(kept))
