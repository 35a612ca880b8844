"""Chunks in: every row is read once, and tasks get about as much each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac import chunks
from almanac.chunks import HAND_BYTES, HAND_ROWS, LEAST_ROWS, Chunk
from almanac.core.pins import Constant
from almanac.errors import IntegrityError, SourceError

ROWS = pa.table({"customer": [1, 2, 3, 4], "score": [0.1, 0.2, None, 0.4], "order": ["a"] * 4})


def files(*rows: int, width: int = 100) -> list[Chunk]:
    return [Chunk(f"file{number:03}", 0, count, count * width, count * width) for number, count in enumerate(rows)]


def held(hands: list[list[Chunk]]) -> list[int]:
    return [sum(chunk.rows for chunk in hand) for hand in hands]


@given(st.lists(st.integers(1, 2_000_000), max_size=12), st.integers(1, 5))
def test_every_row_is_dealt_out_once(rows: list[int], cores: int) -> None:
    ends: Counter[str] = Counter()
    for chunk in (chunk for hand in chunks.share(files(*rows), cores) for chunk in hand):
        assert chunk.start == ends[chunk.uri], "each part begins where the one before ended"
        ends[chunk.uri] += chunk.rows
    assert ends == Counter({f"file{number:03}": count for number, count in enumerate(rows)})


@pytest.mark.parametrize(
    ("rows", "cores", "tasks"),
    [
        ((80,), 2, 1),
        ((400,) * 40, 2, 1),  # many small files do not cost a task each
        ((400,) * 200, 2, 2),
        ((3 * LEAST_ROWS,), 2, 2),  # one large file uses every core
        ((3 * LEAST_ROWS,), 8, 3),
        ((HAND_ROWS,), 2, 2),
        ((3 * HAND_ROWS,), 2, 4),  # as many tasks on each core
        ((5 * HAND_ROWS, 10, 3 * HAND_ROWS), 2, 10),
    ],
)
def test_there_are_tasks_enough_and_no_more(rows: tuple[int, ...], cores: int, tasks: int) -> None:
    found = held(chunks.share(files(*rows, width=10), cores))
    assert len(found) == tasks
    assert max(found) - min(found) <= LEAST_ROWS


def test_wide_rows_make_more_tasks_than_their_number_alone() -> None:
    wide = chunks.share(files(100_000, 100_000, width=HAND_BYTES // 50_000), 2)
    assert held(wide) == [50_000] * 4


def test_a_row_group_is_split_only_where_a_task_would_get_much_more_than_others() -> None:
    (first, second) = chunks.share(files(LEAST_ROWS + 10, LEAST_ROWS - 10), 2)
    assert [chunk.rows for chunk in first] == [LEAST_ROWS + 10]
    assert [chunk.start for chunk in second] == [0]


def test_chunks_are_dealt_the_same_whatever_their_order() -> None:
    given = files(30_000, 90_000, 9, 20_000, 50_000)
    assert chunks.share(given, 3) == chunks.share(given[::-1], 3)


def test_no_chunks_are_no_task() -> None:
    assert chunks.share([], 4) == []


def test_a_split_chunk_keeps_its_rows_and_bytes() -> None:
    (chunk,) = files(100)
    first, others = chunk.split(30)
    assert (first.start, first.rows, first.bytes) == (0, 30, 3000)
    assert (others.start, others.rows, others.bytes, others.file_bytes) == (30, 70, 7000, 10_000)


def test_a_files_row_groups_are_its_chunks_and_each_is_read_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    pq.write_table(ROWS, path, row_group_size=3)

    found = chunks.chunks_of([path])
    read = [pa.Table.from_batches(chunks.read_chunks([chunk], ["customer"])).to_pydict() for chunk in found]

    assert [(chunk.uri, chunk.group, chunk.rows) for chunk in found] == [(path, 0, 3), (path, 1, 1)]
    assert read == [{"customer": [1, 2, 3]}, {"customer": [4]}]


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
def test_a_part_of_a_row_group_is_read_alone_whatever_the_batches(tmp_path: Path, batch: int) -> None:
    path = str(tmp_path / "rows.parquet")
    pq.write_table(ROWS, path)
    (chunk,) = chunks.chunks_of([path])
    first, others = chunk.split(1)
    middle, _ = others.split(2)

    read = [row for found in chunks.read_chunks([middle], ["customer"], rows=batch) for row in found.column(0).to_pylist()]
    assert (read, first.rows) == ([2, 3], 1)


def test_a_large_row_group_is_read_through_buffers_and_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "rows.parquet")
    pq.write_table(ROWS, path)
    monkeypatch.setattr(chunks, "LARGE_GROUP", 1)
    assert chunks.open_parquet(path).read().equals(ROWS)


def test_a_task_holds_one_batch_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    pq.write_table(ROWS, path)
    sizes = [batch.num_rows for batch in chunks.read_chunks(chunks.chunks_of([path]), ["customer"], rows=3)]
    assert sizes == [3, 1]


@pytest.mark.parametrize("whole", [False, True])
def test_a_file_that_is_gone_or_no_parquet_is_told_apart(tmp_path: Path, whole: bool) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"customer,score\n")

    with pytest.raises(SourceError, match=r"gone\.parquet: the file was removed since it was pinned\. Start the run again"):
        chunks.open_parquet(str(tmp_path / "gone.parquet"), whole=whole)
    with pytest.raises(
        IntegrityError, match=r"broken\.parquet: this is not a complete Parquet file \(.+\)\. Deliver or build it again"
    ):
        chunks.open_parquet(str(broken), whole=whole)


def test_a_row_group_of_garbage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"customer": list(range(100_000))}), path, compression="zstd")
    body = bytearray(path.read_bytes())
    body[4:400] = bytes(396)
    path.write_bytes(body)

    with pytest.raises(IntegrityError, match=r"rows\.parquet: row group 0 cannot be read \(.+\)\. Deliver it again"):
        list(chunks.read_chunks(chunks.chunks_of([str(path)]), ["customer"]))


def test_a_constant_counts_although_a_file_holds_the_column_under_an_older_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"shop": ["in the file"], "n": [1]}), path)
    constants = (Constant(name="store", type="string", value="of the folder"),)
    chunk = Chunk(str(path), 0, 1, 10, 10, constants=constants, names=(("shop", "store"),))
    (batch,) = chunks.read_chunks([chunk], ["store", "n"])
    assert batch.to_pylist() == [{"n": 1, "store": "of the folder"}]
