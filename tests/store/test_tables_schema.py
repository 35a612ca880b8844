"""The schema of a Delta table follows what is published: every reader finds every column, and a column keeps its type."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from almanac.core.canonical import sha256
from almanac.core.layout import staged_file
from almanac.core.receipts import Output
from almanac.errors import DataError, StoreError
from almanac.store.objects import Objects
from almanac.store.tables import Table
from tests.support.threads import at_one_moment

pytestmark = pytest.mark.store

FIRST = {"customer": pa.array([1, 2]), "score": pa.array([0.5, 0.25])}


@pytest.fixture
def table(store: object, root: str) -> Table:
    return Table(f"{root}/predictions")


@pytest.fixture
def stage(objects: Objects, table: Table) -> Callable[..., Output]:
    """Stages a file of some columns; the table is made from the first."""

    def staged(columns: dict[str, Any], period: str = "2017-06") -> Output:
        rows, packed = pa.table(columns), io.BytesIO()
        table.create(rows.schema)
        pq.write_table(rows, packed)
        name, body = staged_file(period, "order", uuid.uuid4().hex), packed.getvalue()
        objects.put(f"{table.uri}/{name}", body)
        return Output(name=name, uri=f"{table.uri}/{name}", bytes=len(body), sha256=sha256(body), rows=len(rows))

    return staged


Stage = Callable[..., Output]


def publish(table: Table, file: Output, period: str = "2017-06") -> None:
    table.publish(period, [file], fence=table.fence(period), metadata={"order": "o"})


def read(table: Table) -> list[dict[str, Any]]:
    """What a reader outside sees, by its own library."""
    return DeltaTable(table.uri).to_pyarrow_table().sort_by([("period", "ascending")]).to_pylist()


LATER: dict[str, dict[str, Any]] = {
    "a kept feature": {"visits": pa.array([3.0, 4.0], pa.float32())},
    "several": {"visits": pa.array([3.0, 4.0], pa.float32()), "band": pa.array([1.0, None], pa.float32())},
    "text": {"reason": pa.array(["a", None])},
    "a time": {"at": pa.array([0, 1], pa.timestamp("us", tz="UTC"))},
}


@pytest.mark.parametrize("later", LATER)
def test_a_column_that_comes_later_is_in_the_schema_of_its_commit_and_null_before(table: Table, stage: Stage, later: str) -> None:
    publish(table, stage(FIRST))
    publish(table, stage({**FIRST, **LATER[later]}, "2017-07"), "2017-07")

    names = [field.name for field in DeltaTable(table.uri).schema().fields]
    assert names == [*FIRST, *LATER[later], "period"]
    rows = read(table)
    for name, column in LATER[later].items():
        assert [row[name] for row in rows] == [None, None, *column.to_pylist()]


def test_scores_of_classes_after_one_score_stand_beside_it(table: Table, stage: Stage) -> None:
    publish(table, stage(FIRST))
    classes = {"customer": pa.array([1]), "score_low": pa.array([0.9]), "score_high": pa.array([0.1])}
    publish(table, stage(classes, "2017-07"), "2017-07")

    *before, after = read(table)
    assert {(row["score"] is None, row["score_low"] is None) for row in before} == {(False, True)}
    assert (after["score"], after["score_low"], after["score_high"]) == (None, 0.9, 0.1)


def test_what_lacks_a_column_changes_no_schema(table: Table, stage: Stage) -> None:
    publish(table, stage({**FIRST, "visits": pa.array([3.0, 4.0])}))
    before = DeltaTable(table.uri).schema()
    publish(table, stage(FIRST, "2017-07"), "2017-07")

    assert DeltaTable(table.uri).schema() == before
    assert [row["visits"] for row in read(table)] == [3.0, 4.0, None, None]


def test_two_that_add_columns_at_one_moment_both_succeed(table: Table, stage: Stage) -> None:
    publish(table, stage(FIRST, "2017-05"), "2017-05")
    files = {
        period: stage({**FIRST, name: pa.array([1.0, 2.0])}, period) for period, name in (("2017-06", "a"), ("2017-07", "b"))
    }

    assert at_one_moment(*[partial(publish, table, file, period) for period, file in files.items()]) == [None, None]

    assert {field.name for field in DeltaTable(table.uri).schema().fields} == {*FIRST, "a", "b", "period"}
    assert [(row["a"] is None, row["b"] is None) for row in read(table)] == [(True, True)] * 2 + [(False, True)] * 2 + [
        (True, False)
    ] * 2


OTHERS: dict[str, tuple[str, Any]] = {
    "a key that becomes text": ("customer", pa.array(["C1", "C2"])),
    "a key that becomes a double": ("customer", pa.array([1.0, 2.0])),
    "a score that becomes text": ("score", pa.array(["0.5", "0.25"])),
    "a score that becomes narrower": ("score", pa.array([0.5, 0.25], pa.float32())),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_column_that_changes_its_type_is_refused_and_nothing_becomes_visible(table: Table, stage: Stage, other: str) -> None:
    name, column = OTHERS[other]
    publish(table, stage(FIRST))
    file, before = stage({**FIRST, name: column}, "2017-07"), table.version()

    with pytest.raises(DataError) as refused:
        publish(table, file, "2017-07")

    assert str(refused.value) == (
        f"{table.uri}: column {name!r} is {column.type}, expected {FIRST[name].type}, as in the visible periods. "
        "Nothing became visible. Restore the column's type, or describe the change in a pipeline with another name."
    )
    assert table.version() == before and len(read(table)) == 2


@pytest.mark.parametrize(("was", "now"), [("int64", "int32"), ("int64", "int8"), ("int32", "int16")])
def test_a_narrower_key_is_staged_as_wide_as_the_tables(table: Table, stage: Stage, was: str, now: str) -> None:
    publish(table, stage({**FIRST, "customer": FIRST["customer"].cast(was)}))
    narrow = pa.schema([("customer", now), ("score", "float64")])

    assert table.fitting(narrow) == pa.schema([("customer", was), ("score", "float64")])


def test_a_wider_key_than_the_tables_is_refused(table: Table, stage: Stage) -> None:
    publish(table, stage({**FIRST, "customer": FIRST["customer"].cast("int32")}))

    with pytest.raises(DataError, match="column 'customer' is int64, expected int32"):
        table.fitting(pa.schema([("customer", "int64")]))


def test_what_was_staged_and_never_published_binds_nobody(table: Table, stage: Stage) -> None:
    stage({"customer": pa.array(["C1"]), "strange": pa.array([1])})
    publish(table, stage(FIRST))

    assert [field.name for field in DeltaTable(table.uri).schema().fields] == [*FIRST, "period"]
    assert [row["customer"] for row in read(table)] == [1, 2]
    assert table.shown() == pa.schema([("customer", "int64"), ("score", "float64")])


def test_a_staged_file_that_is_gone_or_altered_is_not_published(table: Table, stage: Stage, objects: Objects) -> None:
    publish(table, stage(FIRST))
    gone, altered = stage(FIRST, "2017-07"), stage(FIRST, "2017-08")
    objects.delete(gone.uri)
    objects.put(altered.uri, b"no rows")

    for file, period in ((gone, "2017-07"), (altered, "2017-08")):
        with pytest.raises(StoreError) as refused:
            publish(table, file, period)
        assert str(refused.value).startswith(f"{file.uri}: the staged file cannot be read (")
        assert str(refused.value).endswith("Nothing became visible. Stage it again.")
    assert list(table.visible()) == ["2017-06"]
