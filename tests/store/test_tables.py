"""Delta tables on a real S3 server: a period is published whole by one publisher, or not at all."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from almanac.core.canonical import sha256
from almanac.core.layout import staged_file
from almanac.core.receipts import Output
from almanac.errors import Conflict, StoreError
from almanac.store.objects import Objects
from almanac.store.tables import Table, Visible
from tests.support.threads import at_one_moment

pytestmark = pytest.mark.store

COLUMNS = pa.schema([("customer", pa.int64()), ("score", pa.float32()), ("model_version", pa.string())])


@pytest.fixture
def table(store: object, root: str) -> Table:
    """An empty table."""
    made = Table(f"{root}/predictions")
    made.create(COLUMNS)
    return made


@pytest.fixture
def stage(objects: Objects, table: Table) -> Callable[..., list[Output]]:
    """Writes the data files of an order into the table's folder, where no reader looks: a row a customer, a file each two."""

    def staged(order: str, period: str = "2017-06", customers: int = 2) -> list[Output]:
        outputs = []
        for first in range(0, customers, 2):
            found = list(range(first, min(first + 2, customers)))
            rows = pa.table(
                {"customer": found, "score": [0.5] * len(found), "model_version": [f"made by {order}"] * len(found)},
                schema=COLUMNS,
            )
            body = io.BytesIO()
            pq.write_table(rows, body)
            name = staged_file(period, order, uuid.uuid4().hex)
            objects.put(f"{table.uri}/{name}", body.getvalue())
            stats = {"customer": [found[0], found[-1]], "model_version": [f"made by {order}"] * 2}
            outputs.append(
                Output(
                    name=name,
                    uri=f"{table.uri}/{name}",
                    bytes=len(body.getvalue()),
                    sha256=sha256(body.getvalue()),
                    rows=len(found),
                    stats=stats,
                )
            )
        return outputs

    return staged


Stage = Callable[..., list[Output]]


def publish(table: Table, files: list[Output], order: str, period: str = "2017-06", fence: int | None = None) -> None:
    table.publish(period, files, fence=table.fence(period) if fence is None else fence, metadata={"order": f"publish {order}"})


def orders(table: Table) -> dict[str, str]:
    """Period to the order whose files are visible."""
    return {period: seen.order for period, seen in table.visible().items()}


def rows(table: Table) -> list[tuple[str, int, str]]:
    """What any reader of Delta tables sees."""
    read = DeltaTable(table.uri).to_pyarrow_table().to_pylist()
    return sorted((row["period"], row["customer"], row["model_version"]) for row in read)


# --- making a table ---


def test_a_table_that_is_not_there_shows_nothing(store: object, root: str) -> None:
    table = Table(f"{root}/nothing")

    assert (table.version(), table.fence("2017-06"), table.visible(), table.commit_of("o")) == (-1, 0, {}, None)


def test_a_table_is_created_empty_with_the_period_as_its_partition(table: Table) -> None:
    found = DeltaTable(table.uri)

    assert table.version() == 0
    assert table.visible() == {}
    assert found.metadata().partition_columns == ["period"]
    assert found.metadata().configuration == {"delta.logRetentionDuration": "interval 3650 days"}
    assert [field.name for field in found.schema().fields] == ["customer", "score", "model_version", "period"]


def test_creating_a_table_again_changes_nothing(table: Table, stage: Stage) -> None:
    publish(table, stage("a"), "a")
    table.create(COLUMNS)

    assert table.version() == 1
    assert orders(table) == {"2017-06": "a"}


def test_creating_a_table_at_one_moment_is_harmless(store: object, root: str) -> None:
    for lap in range(8):
        table = Table(f"{root}/features/{lap}")
        raised = at_one_moment(*[partial(table.create, COLUMNS)] * 4)
        assert raised == [None] * 4
        assert table.version() == 0
        assert table.visible() == {}


# --- staging and publishing ---


def test_staged_files_are_not_visible_until_they_are_published(table: Table, stage: Stage) -> None:
    files = stage("a", customers=5)
    assert table.visible() == {}
    assert rows(table) == []

    publish(table, files, "a")
    assert table.visible() == {
        "2017-06": Visible(
            period="2017-06",
            order="a",
            paths=tuple(sorted(output.name for output in files)),
            rows=5,
            bytes=sum(output.bytes for output in files),
            stats=table.visible()["2017-06"].stats,
        )
    }
    assert table.visible()["2017-06"].stats["model_version"] == "made by a"
    assert rows(table) == [("2017-06", customer, "made by a") for customer in range(5)]


def test_the_table_is_an_ordinary_one_for_any_reader(table: Table, stage: Stage) -> None:
    publish(table, stage("a"), "a")
    publish(table, stage("b", "2017-07"), "b", "2017-07")
    read = DeltaTable(table.uri).to_pyarrow_table(filters=[("period", "=", "2017-07")])

    assert read.select(["customer", "score", "model_version", "period"]).to_pylist() == [
        {"customer": 0, "score": 0.5, "model_version": "made by b", "period": "2017-07"},
        {"customer": 1, "score": 0.5, "model_version": "made by b", "period": "2017-07"},
    ]


def test_publishing_a_period_again_replaces_it_whole_and_leaves_the_others(table: Table, stage: Stage) -> None:
    publish(table, stage("a", customers=6), "a")
    publish(table, stage("b", "2017-07"), "b", "2017-07")
    publish(table, stage("c", customers=2), "c")

    assert orders(table) == {"2017-06": "c", "2017-07": "b"}
    assert rows(table) == [
        ("2017-06", 0, "made by c"),
        ("2017-06", 1, "made by c"),
        ("2017-07", 0, "made by b"),
        ("2017-07", 1, "made by b"),
    ]


def test_periods_are_shown_in_their_order(table: Table, stage: Stage) -> None:
    for period in ("2017-07", "2016-12", "2017-06"):
        publish(table, stage("a", period), "a", period)

    assert list(table.visible()) == ["2016-12", "2017-06", "2017-07"]


def test_the_fence_of_a_period_counts_its_publishes(table: Table, stage: Stage) -> None:
    assert table.fence("2017-06") == 0
    publish(table, stage("a"), "a")
    publish(table, stage("b"), "b")

    assert table.fence("2017-06") == 2
    assert table.fence("2017-07") == 0


def test_a_checkpoint_forgets_neither_the_fence_nor_the_commits(table: Table, stage: Stage) -> None:
    publish(table, stage("a"), "a")
    publish(table, stage("b"), "b")
    DeltaTable(table.uri).create_checkpoint()

    assert table.fence("2017-06") == 2
    with pytest.raises(Conflict):
        publish(table, stage("late"), "late", fence=1)
    assert table.commit_of("publish a") is not None
    assert orders(table) == {"2017-06": "b"}


def test_publishing_where_no_table_is_is_refused(store: object, root: str) -> None:
    table = Table(f"{root}/nothing")
    with pytest.raises(StoreError) as refused:
        table.publish("2017-06", [], fence=0, metadata={"order": "o"})

    assert str(refused.value) == (f"{table.uri}: the table does not exist. Staging a period creates it; stage the period again.")


# --- publishers that meet ---


class Beside(Table):
    """A table on which somebody publishes between our look and our commit: one of these works each time."""

    def __init__(self, uri: str, *works: Callable[[], None]) -> None:
        super().__init__(uri)
        self.works = list(works)

    def _open(self) -> DeltaTable | None:
        found = super()._open()
        if self.works:
            self.works.pop()()
        return found


def beaten(table: Table, period: str = "2017-06") -> str:
    return (
        f"{table.uri}: another run published {period} since this run staged it. Nothing from this run became visible. "
        "Start the run again: it does only what is still missing."
    )


def test_a_stale_fence_is_refused_and_the_table_does_not_move(table: Table, stage: Stage) -> None:
    files, fence = stage("late"), table.fence("2017-06")
    publish(table, stage("a"), "a")
    version = table.version()
    with pytest.raises(Conflict) as refused:
        publish(table, files, "late", fence=fence)

    assert str(refused.value) == beaten(table)
    assert table.version() == version
    assert orders(table) == {"2017-06": "a"}
    assert table.commit_of("publish late") is None


@pytest.mark.parametrize("before", [0, 1])
def test_who_is_overtaken_between_the_fence_and_the_commit_is_refused(table: Table, stage: Stage, before: int) -> None:
    """The race without luck, for a new period and for one that is there: the commit itself carries the fence."""
    for number in range(before):
        publish(table, stage(f"before-{number}"), "before")
    files, overtaking = stage("late"), stage("a")

    with pytest.raises(Conflict) as refused:
        publish(Beside(table.uri, partial(publish, table, overtaking, "a", fence=before)), files, "late", fence=before)

    assert str(refused.value) == beaten(table)
    assert table.version() == before + 1
    assert orders(table) == {"2017-06": "a"}
    assert rows(table) == [("2017-06", 0, "made by a"), ("2017-06", 1, "made by a")]
    assert table.fence("2017-06") == before + 1


def test_of_publishers_of_one_period_at_one_moment_one_wins_and_only_its_files_are_visible(table: Table, stage: Stage) -> None:
    """First for a new period, where without the fence both file sets would become visible; then for the one that is there."""
    for lap in range(6):
        names = [f"{lap}{who}" for who in "abc"]
        staged = {name: stage(name) for name in names}
        raised = at_one_moment(*[partial(publish, table, staged[name], name, fence=lap) for name in names])

        assert sorted(map(type, raised), key=str) == sorted([Conflict, Conflict, type(None)], key=str), raised
        assert {str(error) for error in raised if error} == {beaten(table)}
        winner = names[raised.index(None)]
        assert orders(table) == {"2017-06": winner}
        assert rows(table) == [("2017-06", 0, f"made by {winner}"), ("2017-06", 1, f"made by {winner}")]
        assert table.version() == table.fence("2017-06") == lap + 1
        assert [name for name in names if table.commit_of(f"publish {name}")] == [winner]


def test_publishers_of_different_periods_at_one_moment_all_succeed(table: Table, stage: Stage) -> None:
    """First for new periods; then for those that are there, where Delta itself would refuse all but one."""
    periods = ("2017-03", "2017-04", "2017-05", "2017-06")
    for lap in range(4):
        staged = {period: stage(f"{lap}", period) for period in periods}
        raised = at_one_moment(*[partial(publish, table, staged[period], period, period, fence=lap) for period in periods])

        assert raised == [None] * len(periods)
        assert orders(table) == dict.fromkeys(periods, f"{lap}")
    assert table.version() == 4 * len(periods)


def test_a_period_replaced_beside_ours_does_not_stop_us(table: Table, stage: Stage) -> None:
    """The race without luck: Delta refuses the commit, and it is tried again because the fence did not move."""
    for period in ("2017-06", "2017-07"):
        publish(table, stage("a", period), "a", period)
    beside = partial(publish, table, stage("b", "2017-07"), "b", "2017-07")
    publish(Beside(table.uri, beside), stage("c"), "c", fence=1)

    assert orders(table) == {"2017-06": "c", "2017-07": "b"}
    assert table.version() == 4


def test_a_table_on_which_others_never_cease_to_publish_is_told_as_such(
    table: Table, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("almanac.store.tables.ATTEMPTS_BESIDE_OTHERS", 2)
    for period in ("2017-06", "2017-07"):
        publish(table, stage("a", period), "a", period)
    beside = [partial(publish, table, stage("b", "2017-07"), "b", "2017-07") for _ in range(2)]
    with pytest.raises(StoreError) as refused:
        publish(Beside(table.uri, *beside), stage("c"), "c", fence=1)

    assert str(refused.value) == (
        f"{table.uri}: 2 commits of 2017-06 in a row collided with commits of other periods. "
        "Nothing became visible. Try again when fewer runs publish at a time."
    )
    assert orders(table) == {"2017-06": "a", "2017-07": "b"}


# --- what a commit carries ---


def test_the_commit_of_an_order_is_found_with_what_it_carried(table: Table, stage: Stage) -> None:
    table.publish("2017-06", stage("a"), fence=0, metadata={"order": "o1", "audit": "s3://almanac/audit"})
    publish(table, stage("b", "2017-07"), "b", "2017-07")
    found = table.commit_of("o1")

    assert found is not None
    assert found.version == 1
    assert found.metadata["audit"] == "s3://almanac/audit"
    assert timedelta(0) <= datetime.now(UTC) - found.at < timedelta(minutes=5)
    assert table.commit_of("o2") is None


def test_the_commit_of_an_order_is_found_also_when_its_files_are_visible_no_more(table: Table, stage: Stage) -> None:
    publish(table, stage("a"), "a")
    publish(table, stage("b"), "b")
    found = table.commit_of("publish a")

    assert found is not None and found.version == 1


def test_a_table_whose_log_is_broken_is_told_as_such(table: Table, objects: Objects) -> None:
    objects.put(f"{table.uri}/_delta_log/00000000000000000000.json", b"not json")

    with pytest.raises(StoreError) as refused:
        table.visible()

    assert str(refused.value).startswith(f"{table.uri}: the table cannot be read: ")
    assert str(refused.value).endswith(". Check the store and its credentials.")
    assert "\n" not in str(refused.value), "a backtrace helps nobody"
