"""A store that refuses for a moment delays a task; one that goes on refusing ends it with a clear error."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from almanac import chunks, files
from almanac.errors import Unreachable
from almanac.local import seaweed
from almanac.spark import arrow
from tests.support import faulty_store

pytestmark = pytest.mark.store

ROWS = pa.table({"customer": [1, 2, 3], "score": [0.1, 0.2, 0.3]})


class Busy:
    """Refuses so many requests, and counts them all."""

    def __init__(self, refused: int) -> None:
        self.refused, self.asked = refused, 0

    def __call__(self, _: str) -> str:
        self.asked += 1
        return faulty_store.BUSY if self.asked <= self.refused else ""


@pytest.fixture
def busy(store: seaweed.Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    """The store of this test's tasks, which refuses as many requests as the test says."""
    found = Busy(0)
    with faulty_store.way(store, found) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        files.filesystem.cache_clear()
        yield found
    files.filesystem.cache_clear()


@pytest.mark.slow
def test_a_file_is_written_and_read_although_the_store_is_busy_for_a_moment(busy: Busy, root: str) -> None:
    busy.refused = 2
    (record,) = arrow.sink_batches(ROWS.to_batches(), root, "stem", ROWS.schema)
    assert busy.asked > 2
    (name,) = [part for part in record.split('"') if part.endswith(".parquet") and part.startswith("s3://")]

    busy.refused, busy.asked = 2, 0
    assert pa.Table.from_batches(chunks.read_chunks(chunks.chunks_of([name]), ["customer"])) == ROWS.select(["customer"])
    assert busy.asked > 2


@pytest.mark.slow
def test_a_store_that_stays_busy_ends_the_task_after_few_tries(busy: Busy, root: str) -> None:
    busy.refused = 10_000
    with pytest.raises(Unreachable) as refused:
        chunks.open_parquet(f"{root}/rows.parquet")
    assert str(refused.value).startswith(f"{root}/rows.parquet: the file cannot be read (")
    assert str(refused.value).endswith("Check the store and its credentials.")
    assert 1 < busy.asked <= files.TRIES + 1
