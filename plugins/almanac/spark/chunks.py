"""Chunks: rows of Parquet files as they are read inside the tasks, and how they are dealt out to tasks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from almanac.columns import AS_WRITTEN
from almanac.core.sources import PinnedFile
from almanac.errors import IntegrityError, SourceError, Unreachable
from almanac.files import locate

BATCH_ROWS = 65_536
SMALL_FILE = 4 * 2**20  # bytes; such a file is read in one request
LARGE_GROUP = 64 * 2**20  # bytes; a row group of more is read through buffers of a bounded size
BUFFER = 2**20  # bytes
# A task has at most so many rows and bytes, and at least so many rows where there are that many.
HAND_ROWS, HAND_BYTES, LEAST_ROWS = 500_000, 128 * 2**20, 20_000

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of reading: a row group of a file, or the rows of it from `start` on.

    Args:
        bytes: of these rows.
        file_bytes: of the whole file. Both are those of the decoded columns, as the file's footer tells them.
        aside: rows of the row group that no reader sees, in order.
    """

    uri: str
    group: int
    rows: int
    bytes: int
    file_bytes: int
    start: int = 0
    aside: tuple[int, ...] = ()

    def split(self, rows: int) -> tuple[Chunk, Chunk]:
        """The first so many rows, and the others."""
        first = self.bytes * rows // self.rows
        others = replace(self, rows=self.rows - rows, bytes=self.bytes - first, start=self.start + rows)
        return replace(self, rows=rows, bytes=first), others


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
                return pq.ParquetFile(pa.BufferReader(stream.read()), **AS_WRITTEN)
        buffered = not isinstance(system, pyarrow.fs.LocalFileSystem)
        file = pq.ParquetFile(system.open_input_file(path), pre_buffer=buffered, **AS_WRITTEN)
        footer = file.metadata
        if max((footer.row_group(group).total_byte_size for group in range(footer.num_row_groups)), default=0) > LARGE_GROUP:
            return pq.ParquetFile(system.open_input_file(path), metadata=footer, buffer_size=BUFFER, **AS_WRITTEN)
        return file
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
        found += [Chunk(uri, number, group.num_rows, group.total_byte_size, size) for number, group in enumerate(groups)]
    return found


def of_pinned(files: Iterable[PinnedFile]) -> list[Chunk]:
    """The chunks of pinned files, which tell their row groups and the rows that no reader is to see."""
    found = []
    for file in files:
        size, begin = file.size // max(1, file.rows), 0
        for group, rows in enumerate(file.groups):
            aside = file.aside[bisect_left(file.aside, begin) : bisect_left(file.aside, begin + rows)]
            told = tuple(row - begin for row in aside)
            found.append(Chunk(file.place, group, rows, size * rows, file.size, aside=told))
            begin += rows
    return found


def share(chunks: Sequence[Chunk], cores: int) -> list[list[Chunk]]:
    """Deals chunks out to tasks, in their order, each task about as many rows.

    There are tasks enough that none is too large, and for every core one where there are rows enough; no more than that,
    so that many small files do not cost a task each. A row group that lies across two tasks is split.
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


def read_chunks(chunks: Iterable[Chunk], columns: Sequence[str], rows: int = BATCH_ROWS) -> Batches:
    """The batches of some chunks, in a task. A task holds one batch at a time."""
    opened: tuple[str, pq.ParquetFile] | None = None
    for chunk in sorted(chunks, key=lambda chunk: (chunk.uri, chunk.group)):
        if opened is None or opened[0] != chunk.uri:
            opened = (chunk.uri, open_parquet(chunk.uri, whole=chunk.file_bytes <= SMALL_FILE))
        try:
            read = opened[1].iter_batches(rows, row_groups=[chunk.group], columns=list(columns), use_threads=False)
            yield from _within(read, chunk)
        except (OSError, pa.ArrowInvalid) as error:
            said = " ".join(str(error).split())
            raise IntegrityError(f"{chunk.uri}: row group {chunk.group} cannot be read ({said}). Deliver it again.") from error


def _within(batches: Iterable[pa.RecordBatch], chunk: Chunk) -> Batches:
    """The rows of a row group's batches that the chunk asks for."""
    end, at = chunk.start + chunk.rows, 0
    for batch in batches:
        low, high = max(chunk.start, at), min(end, at + batch.num_rows)
        if low < high:
            part = _without(batch.slice(low - at, high - low), low, chunk.aside)
            if part.num_rows:
                yield part
        at += batch.num_rows
        if at >= end:
            return


def _without(batch: pa.RecordBatch, begin: int, aside: Sequence[int]) -> pa.RecordBatch:
    """A batch whose first row has the number `begin`, but for those set aside."""
    out = aside[bisect_left(aside, begin) : bisect_left(aside, begin + batch.num_rows)]
    if not out:
        return batch
    kept = np.ones(batch.num_rows, dtype=bool)
    kept[np.array(out) - begin] = False
    return batch.filter(pa.array(kept))
