"""Content digests: what rows say, whatever their order, their files or their number of files.

Every row gives two 64-bit hashes, of its columns in the order of their names; the sums of those over all rows, with
the number of rows and the columns' names and types, are the identity. Sums can be taken file by file and added, so a
digest costs no sort. It finds corruption and mix-ups; it does not protect against a deliberate collision.

The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
generators, OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from almanac.core.canonical import digest

Hashes = npt.NDArray[np.uint64]

LANES = 2
NULL = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Sums:
    """The digest of some rows so far; addition joins two."""

    rows: int
    lanes: tuple[int, ...]
    columns: tuple[str, ...]

    def __add__(self, other: Sums) -> Sums:
        if self.columns != other.columns:
            raise ValueError(f"Sums.columns: expected {self.columns}, got {other.columns}. Add only sums of the same columns.")
        lanes = tuple((one + two) % 2**64 for one, two in zip(self.lanes, other.lanes, strict=True))
        return Sums(self.rows + other.rows, lanes, self.columns)

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return digest([self.rows, self.lanes, self.columns])


def nothing(schema: pa.Schema) -> Sums:
    return Sums(0, (0,) * LANES, _columns(schema))


def of_batch(batch: pa.RecordBatch, constant: Collection[str] = ()) -> Sums:
    """The sums of a batch. Columns may be integers, floats, booleans, timestamps or strings. Those in `constant` hold one value,
    which is hashed once.
    """
    rows = batch.num_rows
    if not rows:
        return nothing(batch.schema)
    hashed = [
        hashes(batch.column(name).slice(0, 1) if name in constant else batch.column(name)) for name in sorted(batch.schema.names)
    ]
    lanes = (_rows(hashed, lane) for lane in range(LANES))
    return Sums(rows, tuple(int(np.broadcast_to(lane, rows).sum(dtype=np.uint64)) for lane in lanes), _columns(batch.schema))


def row_hashes(batch: pa.RecordBatch) -> Hashes:
    """A hash of each row, of shape (rows,): pseudorandom, and the same for the same row."""
    return _rows([hashes(batch.column(name)) for name in sorted(batch.schema.names)], 0)


def _rows(hashed: Iterable[Hashes], lane: int) -> Hashes:
    """The hashes of rows in a lane, from the hashes of their columns."""
    row: Hashes = np.full(1, lane + 1, dtype=np.uint64)
    for column in hashed:
        row = _mix(row ^ column)
    return row


def of_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Sums:
    total = nothing(schema)
    for batch in batches:
        total = total + of_batch(batch)
    return total


def _columns(schema: pa.Schema) -> tuple[str, ...]:
    return tuple(f"{name}:{schema.field(name).type}" for name in sorted(schema.names))


def _mix(value: Hashes) -> Hashes:
    """Mixes the numbers in place, and returns them."""
    shifted = np.empty_like(value)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        np.right_shift(value, np.uint64(shift), out=shifted)
        np.bitwise_xor(value, shifted, out=value)
        np.multiply(value, np.uint64(factor), out=value)
    np.right_shift(value, np.uint64(31), out=shifted)
    np.bitwise_xor(value, shifted, out=value)
    return value


def hashes(column: pa.Array) -> Hashes:
    """A 64-bit hash of each value."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        encoded = column if pa.types.is_dictionary(kind) else pc.dictionary_encode(column)
        values = np.array([_hash_text(text) for text in encoded.dictionary.to_pylist()] or [0], dtype=np.uint64)
        bits = values[_numbers(pc.fill_null(encoded.indices, 0), np.int64)]
    elif pa.types.is_floating(kind):
        bits = _float_bits(_numbers(column.cast(pa.float64()), np.float64))
    elif pa.types.is_timestamp(kind):
        bits = _numbers(column.cast(pa.timestamp("us", tz=kind.tz)).cast(pa.int64()), np.int64).view(np.uint64)
    else:
        bits = _numbers(column.cast(pa.int64()), np.int64).view(np.uint64)
    mixed = _mix(bits.copy())
    return np.where(column.is_null().to_numpy(zero_copy_only=False), NULL, mixed) if column.null_count else mixed


def _numbers(column: Any, kind: Any) -> Any:
    filled = pc.fill_null(column, 0) if column.null_count else column
    return filled.to_numpy(zero_copy_only=False).astype(kind, copy=False)


def _float_bits(values: npt.NDArray[np.float64]) -> Hashes:
    # One NaN and one zero: numbers that compare as equal have one hash.
    canonical = np.where(np.isnan(values), np.nan, values) + 0.0
    return canonical.view(np.uint64)


def _hash_text(text: str | None) -> int:
    return int.from_bytes(hashlib.blake2b((text or "").encode(), digest_size=8).digest(), "little")
