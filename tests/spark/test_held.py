"""Bytes that are read are held against their digests: a file that was altered gives its rows as they were, or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from almanac import chunks
from almanac.core.canonical import decode
from almanac.core.receipts import Output
from almanac.errors import IntegrityError
from almanac.spark import arrow

DICE = np.random.default_rng(0)
ROWS = 3000
KINDS: dict[str, Callable[[], Any]] = {
    "numbers": lambda: pa.array(DICE.random(ROWS, dtype=np.float32)),
    "few numbers": lambda: pa.array(DICE.integers(0, 3, ROWS).astype(np.float32)),
    "nulls": lambda: pa.array([None if number % 3 else float(number) for number in range(ROWS)], pa.float32()),
    "nothing but nulls": lambda: pa.nulls(ROWS, pa.float32()),
}
PLACES = ("read whole", "read in parts", "read in parts, of an older Almanac")


@dataclass(frozen=True)
class Kept:
    """A file as Almanac writes it, its rows, and what its receipt says of it."""

    rows: pa.Table
    output: Output
    body: bytes

    def read(self) -> pa.Table:
        names = self.rows.schema.names
        batches = list(chunks.read_chunks(chunks.chunks_of([self.output]), names))
        return pa.Table.from_batches(batches, self.rows.schema).combine_chunks()

    def put(self, body: bytes) -> None:
        Path(self.output.uri).write_bytes(body)


@pytest.fixture(params=["numbers", "text"])
def keys(request: pytest.FixtureRequest) -> pa.Array:
    listed = list(range(ROWS))
    return pa.array(listed if request.param == "numbers" else [f"C{one}" for one in listed])


@pytest.fixture(params=PLACES)
def kept(request: pytest.FixtureRequest, keys: pa.Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(arrow, "GROUP_ROWS", 1000)
    if request.param != "read whole":
        monkeypatch.setattr(chunks, "SMALL_FILE", 0)
    rows = pa.table({"customer": keys, **{name: make() for name, make in KINDS.items()}})
    (record,) = arrow.sink_batches(rows.to_batches(max_chunksize=500), str(tmp_path), "order", rows.schema)
    output = decode(Output, json.loads(record)[0])
    if request.param.endswith("of an older Almanac"):
        output = replace(output, footer="")
    yield Kept(rows.combine_chunks(), output, Path(output.uri).read_bytes())


def test_a_file_as_it_was_written_gives_its_rows(kept: Kept) -> None:
    assert kept.read().equals(kept.rows)
    assert chunks.schema_of(kept.output) == kept.rows.schema


@settings(derandomize=True, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_is_refused_or_changes_no_row(kept: Kept, place: float, bit: int) -> None:
    body = bytearray(kept.body)
    body[int(place * len(body))] ^= 1 << bit
    kept.put(bytes(body))
    try:
        found = kept.read()
    except IntegrityError as refused:
        assert kept.output.uri in str(refused)
        return
    assert found.equals(kept.rows)


OTHERS: dict[str, Callable[[Kept], bytes]] = {
    "cut short": lambda kept: kept.body[: len(kept.body) // 2],
    "empty": lambda _: b"",
    "with fewer rows": lambda kept: _written(kept.rows.slice(0, 10)),
    "of the same rows, written anew": lambda kept: _written(kept.rows),
    "with another value": lambda kept: _written(kept.rows.set_column(1, "numbers", pa.array([0.5] * ROWS, pa.float32()))),
    "with bytes behind it": lambda kept: kept.body + b"!",
}


def _written(rows: pa.Table) -> bytes:
    packed = pa.BufferOutputStream()
    pq.write_table(rows, packed)
    return bytes(packed.getvalue())


@pytest.mark.parametrize("other", OTHERS)
def test_another_file_in_its_place_is_refused_by_name_with_what_to_do(kept: Kept, other: str) -> None:
    kept.put(OTHERS[other](kept))

    with pytest.raises(IntegrityError) as refused:
        kept.read()
    assert str(refused.value).startswith(f"{kept.output.uri}: ")
    assert str(refused.value).endswith(
        ("Restore it from the bucket's versions, or build it again.", "Deliver or build it again.")
    )


def test_a_file_without_rows_gives_none(tmp_path: Path) -> None:
    """A row group may be empty: nothing is missing of it."""
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"customer": pa.array([], pa.int64())}), path)
    empty = arrow.empty(str(tmp_path), "order", pa.schema([("customer", "int64")])).outputs

    assert list(chunks.read_chunks(chunks.chunks_of([path]), ["customer"])) == []
    assert list(chunks.read_chunks([chunks.Chunk(path, 0, 0, 0, 0)], ["customer"])) == []
    assert list(chunks.read_chunks(chunks.chunks_of(empty), ["customer"])) == []
