"""A stream of rows as Parquet files, one for each UTC month of the event time. The same rows in the same order give the same
bytes.

Nothing of the bytes depends on how the stream was cut: row groups are counted from the beginning of each month, in rows and in
the bytes of the rows as the server sends them. The version of pyarrow is part of the bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from almanac.columns import moments

GROUP_ROWS, GROUP_BYTES = 131_072, 32 * 2**20
ROWS, UNDATED = "rows.parquet", "undated.parquet"
NO_MONTH = 2**31 - 1  # after every month, as nulls are after every time
# Written out, so that a new default of pyarrow does not change the bytes.
WRITTEN: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": True,
    "write_statistics": True,
    "store_schema": True,
    "write_page_checksum": True,
    "data_page_size": 2**20,
    "dictionary_pagesize_limit": 2**20,
    "write_batch_size": 1024,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A complete file on the local disk. `size`: in bytes."""

    path: Path
    rows: int
    size: int
    sha256: str


class Months:
    """The files of one copy, written one after the other.

    Args:
        folder: an empty folder on the local disk.
        event_time: the column whose month names a row's file; None writes one file.
        timezone: how its naive timestamps are read.
    """

    def __init__(self, folder: Path, schema: pa.Schema, event_time: str | None, timezone: str | None) -> None:
        self._folder, self._schema = folder, schema
        self._event_time, self._timezone = event_time, timezone
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._paths: list[Path] = []

    def add(self, rows: pa.Table, sizes: npt.NDArray[np.int64]) -> None:
        """Writes rows, ordered by event time with nulls last across all calls. `sizes`: the bytes of each row as it was sent."""
        for name, begin, end in self._by_month(rows):
            self._open(name)
            while begin < end:
                taken = self._taken(sizes[begin:end])
                self._waiting.append(rows.slice(begin, taken))
                self._waiting_rows += taken
                self._waiting_bytes += int(sizes[begin : begin + taken].sum())
                begin += taken
                if self._waiting_rows >= GROUP_ROWS or self._waiting_bytes >= GROUP_BYTES:
                    self._flush()

    def finish(self) -> list[Written]:
        """Ends the last file. Gives all files; without any row, one that has the columns alone."""
        if not self._paths:
            self._open(ROWS)
        self._close()
        return [_written(path) for path in self._paths]

    def abandon(self) -> None:
        """Lets go of the file that is being written."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _by_month(self, rows: pa.Table) -> Iterator[tuple[str, int, int]]:
        """The file of each stretch of rows, with its bounds."""
        if not rows.num_rows:
            return
        if self._event_time is None:
            yield ROWS, 0, rows.num_rows
            return
        times = moments(rows.column(self._event_time).combine_chunks(), self._timezone)
        months = pc.add(pc.multiply(pc.year(times), 12), pc.subtract(pc.month(times), 1))
        keys = pc.fill_null(months, NO_MONTH).to_numpy(zero_copy_only=False)
        bounds = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
        for begin, end in pairwise(bounds):
            key = int(keys[begin])
            yield UNDATED if key == NO_MONTH else f"{key // 12:04}-{key % 12 + 1:02}.parquet", begin, end

    def _taken(self, sizes: npt.NDArray[np.int64]) -> int:
        """How many of these rows the row group still takes: the one that fills it is its last."""
        enough = int(np.searchsorted(np.cumsum(sizes), GROUP_BYTES - self._waiting_bytes)) + 1
        return min(len(sizes), GROUP_ROWS - self._waiting_rows, enough)

    def _open(self, name: str) -> None:
        path = self._folder / name
        if self._paths and self._paths[-1] == path:
            return
        assert path not in self._paths, f"rows are not ordered by {self._event_time}"
        self._close()
        self._paths.append(path)
        self._writer = pq.ParquetWriter(path, self._schema, **WRITTEN)

    def _flush(self) -> None:
        assert self._writer is not None
        whole = pa.concat_tables(self._waiting).combine_chunks()  # pages end where chunks do
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        self._writer.write_table(whole, row_group_size=whole.num_rows)

    def _close(self) -> None:
        if self._waiting:
            self._flush()
        self.abandon()


def _written(path: Path) -> Written:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Written(path=path, rows=pq.read_metadata(path).num_rows, size=path.stat().st_size, sha256=digest)
