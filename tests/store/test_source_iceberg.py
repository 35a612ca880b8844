"""Iceberg tables: what a snapshot holds and held, what a catalog and a folder give, and what is refused."""

from __future__ import annotations

import decimal
import gzip
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertTableUUID, SetSnapshotRefUpdate
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, LongType, NestedField, StringType
from pyroaring import BitMap

from almanac import chunks
from almanac.core.formats import Iceberg
from almanac.core.pins import Pin
from almanac.core.sources import Cut, EventSource, ReferenceSource, Source
from almanac.cutting import cut_rows, view_of
from almanac.errors import SourceError, SourceMissing, Unreachable
from almanac.store.contents import PointInTime
from almanac.store.objects import Objects
from almanac.store.pinned_files import check_unchanged
from tests.support import lake
from tests.support.layouts import parquet
from tests.support.observing import observe

pytestmark = pytest.mark.store


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def events(*numbers: int, **more: Any) -> pa.Table:
    times = pa.array([utc(2017, 6, number) for number in numbers], pa.timestamp("us", "UTC"))
    return pa.table({"n": pa.array(numbers, pa.int64()), "at": times, **more})


def rows_of(source: Source, pin: Pin, cut: Cut | None = None) -> list[dict[str, Any]]:
    view = view_of(source, pin, cut=cut)
    batches = chunks.read_chunks(chunks.of_pinned(pin.within(cut) if cut else pin.files), view.stored)
    return sorted((row for batch in batches for row in cut_rows(batch, view).to_pylist()), key=repr)


@dataclass(frozen=True)
class Lake:
    """A catalog with one namespace, and the sources that read its tables."""

    objects: Objects
    catalog: Catalog
    root: str
    source: EventSource

    def create(self, schema: Any, **how: Any) -> Table:
        return self.catalog.create_table("shop.visits", schema, **{"location": f"{self.root}/visits", **how})

    def pin(self, then: datetime | None = None, **how: Any) -> Pin:
        point = PointInTime(moment=then, copies=lambda _digest, _name: "s3://nowhere/x") if then else None
        return observe(self.objects, "visits", replace(self.source, **how), point)

    def rows(self, then: datetime | None = None, **how: Any) -> list[dict[str, Any]]:
        return rows_of(replace(self.source, **how), self.pin(then, **how))

    def numbers(self, then: datetime | None = None) -> list[int]:
        return sorted(row["n"] for row in self.rows(then))

    def refused(self, then: datetime | None = None, kind: type[SourceError] = SourceError, **how: Any) -> str:
        with pytest.raises(kind) as error:
            self.pin(then, **how)
        return str(error.value)


@pytest.fixture
def shop(objects: Objects, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    address = f"sqlite:///{tmp_path}/catalog.db"
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", address)
    with lake.catalog(address) as catalog:
        catalog.create_namespace("shop")
        yield Lake(objects, catalog, root, EventSource("iceberg://lake/shop.visits", event_time="at"))


def tick() -> datetime:
    """A moment between two commits, whose times have milliseconds."""
    time.sleep(0.003)
    found = datetime.now(UTC)
    time.sleep(0.003)
    return found


# --- what a table holds ---


def test_an_iceberg_table_is_what_its_snapshot_says_after_overwrites_deletes_and_compaction(shop: Lake) -> None:
    table = shop.create(events().schema)
    table.append(events(1, 2, 3))
    table.append(events(4))
    pin = shop.pin()
    assert (shop.numbers(), pin.version) == ([1, 2, 3, 4], str(table.current_snapshot().snapshot_id))  # type: ignore[union-attr]
    assert pin.uri == f"{shop.root}/visits/" and pin.freshness == utc(2017, 6, 4)
    assert {file.low for file in pin.files} == {utc(2017, 6, 1), utc(2017, 6, 4)}
    table.delete("n = 2")
    assert shop.numbers() == [1, 3, 4]
    table.overwrite(table.scan().to_arrow())
    compacted = shop.pin()
    assert (len(compacted.files), shop.numbers()) == (1, [1, 3, 4])
    table.overwrite(events(9))
    assert shop.numbers() == [9]
    for one in (pin, compacted):
        check_unchanged(shop.objects, one, one.files)
    assert [row["n"] for row in rows_of(shop.source, pin)] == [1, 2, 3, 4], "what was pinned is still there"


def test_a_table_of_the_first_format_version_is_read(shop: Lake) -> None:
    table = shop.create(events().schema, properties={"format-version": "1"})
    table.append(events(1))
    moment = tick()
    table.append(events(2))
    assert (shop.numbers(), shop.numbers(moment)) == ([1, 2], [1])


def test_columns_are_known_by_their_ids_after_renames_drops_additions_and_wider_types(shop: Lake) -> None:
    table = shop.create(
        pa.schema([("n", pa.int32()), ("at", pa.timestamp("us", "UTC")), ("price", pa.float32()), ("note", pa.string())])
    )
    table.append(
        pa.table(
            {"n": pa.array([1], pa.int32()), "at": [utc(2017, 6, 1)], "price": pa.array([1.5], pa.float32()), "note": ["old"]}
        )
    )
    before = shop.pin()
    with table.update_schema() as change:
        change.delete_column("note")
    with table.update_schema() as change:
        change.add_column("note", StringType())
        change.add_column("extra", DoubleType())
        change.rename_column("at", "happened")
        change.update_column("n", LongType())
        change.update_column("price", DoubleType())
    table.append(pa.table({"n": [2**40], "happened": [utc(2017, 6, 2)], "price": [2.5], "note": ["new"], "extra": [0.5]}))
    assert shop.rows(event_time="happened") == [
        {"n": 1, "happened": utc(2017, 6, 1), "price": 1.5, "note": None, "extra": None},
        {"n": 2**40, "happened": utc(2017, 6, 2), "price": 2.5, "note": "new", "extra": 0.5},
    ]
    after = shop.pin(event_time="happened")
    assert after.columns == {
        "n": "int64",
        "happened": "timestamp[us, tz=UTC]",
        "price": "double",
        "note": "string",
        "extra": "double",
    }
    assert after.freshness == utc(2017, 6, 2)
    assert rows_of(shop.source, before) == [{"n": 1, "at": utc(2017, 6, 1), "price": 1.5, "note": "old"}], "as it was pinned"


def test_times_without_a_zone_are_read_as_declared_and_those_with_one_are_not(shop: Lake) -> None:
    table = shop.create(pa.schema([("at", pa.timestamp("us")), ("seen", pa.timestamp("us", "UTC"))]))
    table.append(pa.table({"at": pa.array([datetime(2017, 6, 1, 12)]), "seen": [utc(2017, 6, 1, 12)]}))
    assert shop.rows(timezone="America/New_York") == [{"at": utc(2017, 6, 1, 16), "seen": utc(2017, 6, 1, 12)}]


def test_types_are_those_of_any_source(shop: Lake) -> None:
    key, day = uuid.uuid4(), date(2017, 6, 1)
    rows = pa.table(
        {
            "at": [utc(2017, 6, 1)],
            "id": pa.array([key.bytes], pa.uuid()),
            "code": pa.array([b"\x00\xff"], pa.binary(2)),
            "day": [day],
            "price": pa.array([decimal.Decimal("1.50")], pa.decimal128(10, 2)),
            "tags": [["a", "b"]],
            "place": [{"city": "x", "zip": 7}],
        }
    )
    shop.create(rows.schema).append(rows)
    assert shop.rows() == [
        {"at": utc(2017, 6, 1), "id": str(key), "code": b"\x00\xff", "day": day, "price": decimal.Decimal("1.50")}
        | {"tags": ["a", "b"], "place": {"city": "x", "zip": 7}}
    ]


def test_a_uuid_that_only_its_table_tells_is_text(shop: Lake) -> None:
    key = uuid.uuid4()
    kinds = pa.schema([("at", pa.timestamp("us", "UTC")), ("id", pa.uuid())])
    table = shop.create(kinds)
    ids = [{b"PARQUET:field_id": str(number).encode()} for number in (1, 2)]
    raw = pa.schema([kinds.field("at").with_metadata(ids[0]), pa.field("id", pa.binary(16), metadata=ids[1])])
    add(table, shop.objects, parquet(pa.table([[utc(2017, 6, 1)], [key.bytes]], schema=raw)), 1)
    assert shop.rows() == [{"at": utc(2017, 6, 1), "id": str(key)}]


def test_parts_of_a_nested_column_are_null_where_they_were_added_and_refused_where_they_were_renamed(shop: Lake) -> None:
    rows = events(1, place=[{"city": "x"}])
    table = shop.create(rows.schema)
    table.append(rows)
    with table.update_schema() as change:
        change.add_column(("place", "zip"), LongType())
    assert shop.rows()[0]["place"] == {"city": "x", "zip": None}
    with table.update_schema() as change:
        change.rename_column("place.city", "town")
    file = shop.pin(columns=("n",)).files[0].uri
    assert shop.refused() == (
        f"Source 'visits': column 'place' has a part 'town' that {file} knows by another name: it was renamed, or dropped and "
        "added again. That is not read. Rewrite the table's older files with its own tools, or leave the column out with "
        "columns=(...)."
    )
    with table.update_schema() as change:
        change.delete_column("place.town")
    with table.update_schema() as change:
        change.add_column(("place", "city"), StringType())
    assert "has a part 'city' that " in shop.refused(), "dropped and added again: old values must not come back"


def test_partitions_are_read_as_columns_also_after_the_table_is_partitioned_otherwise(shop: Lake) -> None:
    kinds = events(shop=pa.array([], pa.string())).schema
    table = shop.create(kinds)
    table.append(events(1, shop=["a b/c"]))
    with table.update_spec() as change:
        change.add_identity("shop")
        change.add_field("at", DayTransform())
    body = with_ids(table, events(2, shop=["c"]))
    add(table, shop.objects, body, 1, partition=Record("c", 17319))
    add(table, shop.objects, with_ids(table, events(3, shop=pa.array([None], pa.string()))), 1, partition=Record(None, 17320))
    with table.update_spec() as change:
        change.remove_field("shop")
        change.remove_field("at_day")
    with table.update_schema() as change:
        change.rename_column("shop", "store")
    table.append(events(4, store=["d"]))
    assert [(row["n"], row["store"]) for row in shop.rows()] == [(1, "a b/c"), (2, "c"), (3, None), (4, "d")]
    assert len(shop.pin().within(Cut(low=utc(2017, 6, 2), high=utc(2017, 6, 3)))) == 1


def test_partitions_of_each_type_give_their_values(shop: Lake) -> None:
    values = {
        "day": pa.array([date(1969, 6, 1)]),
        "local": pa.array([datetime(1969, 6, 1, 1, 2, 3, 4)]),
        "since": pa.array([utc(1969, 6, 1, 1, 2, 3, 4)]),
        "price": pa.array([decimal.Decimal("0.00")], pa.decimal128(10, 2)),
        "is_new": pa.array([True]),
        "share": pa.array([0.1], pa.float32()),
        "small": pa.array([-3], pa.int32()),
    }
    rows = events(1, **values)
    table = shop.create(rows.schema)
    with table.update_spec() as change:
        for column in values:
            change.add_identity(column)
    table.append(rows)
    found = shop.rows(timezone="UTC")[0]
    assert len(shop.pin(timezone="UTC").files[0].constants) == len(values)
    expected = {name: value[0].as_py() for name, value in values.items()}
    assert found == {"n": 1, "at": utc(2017, 6, 1), **expected, "local": utc(1969, 6, 1, 1, 2, 3, 4)}


def test_files_that_were_added_from_elsewhere_are_read_by_the_tables_name_mapping(shop: Lake) -> None:
    fields = [NestedField(1, "n", LongType()), NestedField(2, "at", pa_type("timestamptz")), NestedField(3, "shop", StringType())]
    spec = PartitionSpec(PartitionField(3, 1000, IdentityTransform(), "shop"))
    table = shop.create(Schema(*fields), partition_spec=spec)
    place = f"{shop.root}/elsewhere/shop=a/x.parquet"
    shop.objects.put(place, parquet(events(1, shop=["a"]).append_column("more", pa.array([7]))))
    with pytest.raises(ValueError, match="contains more columns: more"):
        table.add_files([place])
    bare = parquet(events(1))
    add(table, shop.objects, bare, 1, partition=Record("a"), place=place)
    assert f"{place} does not tell the id of its column 'n'" in shop.refused()

    mapping = [{"field-id": 1, "names": ["n"]}, {"field-id": 2, "names": ["old at", "at"]}]
    with table.transaction() as change:
        change.set_properties({"schema.name-mapping.default": json.dumps(mapping)})
    shop.objects.put(place, parquet(events(1).append_column("shop", pa.array(["not the partition's"]))))
    pin = shop.pin()
    assert shop.rows() == [{"n": 1, "at": utc(2017, 6, 1), "shop": "a"}]
    assert pin.files[0].uri == place, "outside the table's folder"
    check_unchanged(shop.objects, pin, pin.files)


def test_files_in_a_folder_of_their_own_are_read(shop: Lake) -> None:
    table = shop.create(events().schema, properties={"write.data.path": f"{shop.root}/apart"})
    table.append(events(1))
    pin = shop.pin()
    assert pin.files[0].uri.startswith(f"{shop.root}/apart/") and shop.numbers() == [1]
    check_unchanged(shop.objects, pin, pin.files)


def test_an_empty_table_has_its_columns(shop: Lake) -> None:
    shop.create(events().schema)
    pin = shop.pin()
    assert set(pin.columns) == {"n", "at"} and (pin.files, pin.version) == ((), "")
    assert "the Iceberg table iceberg://lake/shop.visits held nothing yet at " in shop.refused(datetime.now(UTC), SourceMissing)


# --- deletes ---


def pa_type(name: str) -> Any:
    return NestedField(1, "x", name).field_type


def add(
    table: Table,
    objects: Objects,
    body: bytes,
    rows: int,
    content: DataFileContent = DataFileContent.DATA,
    form: str = "PARQUET",
    place: str = "",
    **more: Any,
) -> None:
    """Commits a file that pyiceberg itself does not write, with a manifest of its own."""
    place = place or f"{table.location()}/data/{uuid.uuid4().hex}.{form.lower()}"
    objects.put(place, body)
    metadata, current = table.metadata, table.current_snapshot()
    number, sequence = int(uuid.uuid4().int % 2**62), metadata.last_sequence_number + 1
    file = DataFile.from_args(
        content=content,
        file_path=place,
        file_format=form,
        partition=more.pop("partition", Record()),
        record_count=rows,
        file_size_in_bytes=len(body),
        **more,
    )
    file.spec_id = metadata.default_spec_id
    kind = ManifestContent.DATA if content is DataFileContent.DATA else ManifestContent.DELETES
    with _Writer(
        kind, table.spec(), table.schema(), table.io.new_output(f"{table.location()}/metadata/{number}-m0.avro"), number, "gzip"
    ) as writer:
        writer.add_entry(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=number, data_file=file))
    manifests = [writer.to_manifest_file(), *(current.manifests(table.io) if current else ())]
    place = f"{table.location()}/metadata/snap-{number}.avro"
    parent = current.snapshot_id if current else None
    with write_manifest_list(2, table.io.new_output(place), number, parent, sequence, "gzip") as lines:
        lines.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=number,
        parent_snapshot_id=parent,
        sequence_number=sequence,
        timestamp_ms=int(datetime.now(UTC).timestamp() * 1000),
        manifest_list=place,
        summary=Summary(Operation.APPEND if kind is ManifestContent.DATA else Operation.DELETE),
        schema_id=metadata.current_schema_id,
    )
    reference = SetSnapshotRefUpdate(ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=number)
    table.catalog.commit_table(
        table, (AssertTableUUID(uuid=metadata.table_uuid),), (AddSnapshotUpdate(snapshot=snapshot), reference)
    )
    table.refresh()


class _Writer(ManifestWriterV2):
    """pyiceberg's writer, which writes manifests of data alone, for deletes too."""

    def __init__(self, kind: ManifestContent, *how: Any) -> None:
        super().__init__(*how)
        self.kind = kind

    def content(self) -> ManifestContent:
        return self.kind

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "data" if self.kind is ManifestContent.DATA else "deletes"}


def with_ids(table: Table, rows: pa.Table) -> bytes:
    """A file of the table, with its ids of the columns."""
    return parquet(rows.cast(table.schema().as_arrow()))


def data_files(table: Table) -> list[str]:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    entries = (entry for manifest in snapshot.manifests(table.io) for entry in manifest.fetch_manifest_entry(table.io))
    return [entry.data_file.file_path for entry in entries if entry.data_file.content == DataFileContent.DATA]


def marks(*places: tuple[str, int]) -> bytes:
    """A position delete file."""
    return parquet(pa.table({"file_path": [path for path, _ in places], "pos": pa.array([row for _, row in places], pa.int64())}))


def test_rows_that_position_deletes_mark_are_not_read(shop: Lake) -> None:
    table = shop.create(events().schema)
    table.append(events(1, 2, 3, 4, 5))
    (first,) = data_files(table)
    before = shop.pin()
    hadoop = first.replace("s3://", "s3a://")  # as Hadoop's writers name the same file
    body = marks((first, 1), (hadoop, 3), (first, 1), ("s3://almanac/gone.parquet", 0))
    add(table, shop.objects, body, 4, DataFileContent.POSITION_DELETES)
    table.append(events(6))
    pin = shop.pin()
    assert shop.numbers() == [1, 3, 5, 6]
    assert sorted(file.rows for file in pin.files) == [1, 3]
    assert [row["n"] for row in rows_of(shop.source, before)] == [1, 2, 3, 4, 5]
    assert pin.content != before.content


def test_a_delete_does_not_apply_to_a_file_that_is_younger(shop: Lake) -> None:
    table = shop.create(events().schema)
    later = f"{table.location()}/data/later.parquet"
    add(table, shop.objects, marks((later, 0)), 1, DataFileContent.POSITION_DELETES)
    add(table, shop.objects, with_ids(table, events(1, 2)), 2, place=later)
    assert shop.numbers() == [1, 2]


def puffin(path: str, *places: int) -> bytes:
    """A Puffin file with a deletion vector, by Iceberg's specification."""
    bits = BitMap(places).serialize()
    vector = b"\xd1\xd3\x39\x64" + (1).to_bytes(8, "little") + (0).to_bytes(4, "little") + bits
    blob = len(vector).to_bytes(4, "big") + vector + b"\x00" * 4
    about = {
        "type": "deletion-vector-v1",
        "fields": [],
        "snapshot-id": -1,
        "sequence-number": -1,
        "offset": 4,
        "length": len(blob),
        "properties": {"referenced-data-file": path, "cardinality": str(len(places))},
    }
    footer = json.dumps({"blobs": [about], "properties": {}}).encode()
    return b"PFA1" + blob + b"PFA1" + footer + len(footer).to_bytes(4, "little") + b"\x00" * 4 + b"PFA1"


def test_rows_that_a_deletion_vector_marks_are_not_read(shop: Lake) -> None:
    table = shop.create(events().schema)
    table.append(events(1, 2, 3, 4, 5))
    (first,) = data_files(table)
    add(table, shop.objects, puffin(first, 0, 4), 2, DataFileContent.POSITION_DELETES, "PUFFIN")
    assert shop.numbers() == [2, 3, 4]


def test_equality_deletes_are_refused_as_long_as_they_apply(shop: Lake) -> None:
    table = shop.create(events().schema)
    table.append(events(1, 2))
    body = parquet(pa.table({"n": [1]}))
    add(table, shop.objects, body, 1, DataFileContent.EQUALITY_DELETES, equality_ids=[1])
    text = shop.refused()
    assert text.startswith(
        "Source 'visits': the Iceberg table iceberg://lake/shop.visits deletes rows by their values, with equality deletes (1): "
        "s3://"
    )
    assert text.endswith(". These are not read. Compact the table first (rewrite_data_files in Spark).")


def test_equality_deletes_of_another_partition_are_passed(shop: Lake) -> None:
    fields = [NestedField(1, "n", LongType()), NestedField(2, "at", pa_type("timestamptz"))]
    table = shop.create(Schema(*fields), partition_spec=PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "n")))
    table.append(events(1))
    body = parquet(pa.table({"n": [2]}))
    add(table, shop.objects, body, 1, DataFileContent.EQUALITY_DELETES, equality_ids=[1], partition=Record(2))
    assert shop.numbers() == [1]
    add(table, shop.objects, body, 1, DataFileContent.EQUALITY_DELETES, equality_ids=[1], partition=Record(1))
    assert "with equality deletes (1): " in shop.refused()


def test_equality_deletes_that_are_older_than_every_file_are_passed(shop: Lake) -> None:
    table = shop.create(events().schema)
    body = parquet(pa.table({"n": [1]}))
    add(table, shop.objects, body, 1, DataFileContent.EQUALITY_DELETES, equality_ids=[1])
    table.append(events(1, 2))
    assert shop.numbers() == [1, 2]


def test_too_many_deleted_rows_are_refused(shop: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from almanac.store import iceberg_tables

    monkeypatch.setattr(iceberg_tables, "MOST_DELETED", 1)
    table = shop.create(events().schema)
    table.append(events(1, 2, 3))
    (first,) = data_files(table)
    add(table, shop.objects, marks((first, 0), (first, 1)), 2, DataFileContent.POSITION_DELETES)
    assert shop.refused() == (
        "Source 'visits': the Iceberg table iceberg://lake/shop.visits marks more than 1 rows as deleted. Compact the table "
        "first (rewrite_data_files in Spark)."
    )


def test_files_of_another_format_are_refused(shop: Lake) -> None:
    table = shop.create(events().schema)
    add(table, shop.objects, b"ORC", 1, form="ORC")
    assert shop.refused().endswith(
        ".orc, which is ORC; expected Parquet. Rewrite the table's files as Parquet (write.format.default, then "
        "rewrite_data_files)."
    )


def test_a_column_with_a_default_for_older_rows_is_refused_if_it_is_read(shop: Lake) -> None:
    table = shop.create(events().schema)
    shop.objects.put(f"{shop.root}/copy/metadata/v1.metadata.json", _with_default(table))
    source = EventSource(f"{shop.root}/copy/", event_time="at", format=Iceberg())
    with pytest.raises(SourceError) as error:
        observe(shop.objects, "visits", source)
    assert str(error.value) == (
        f"Source 'visits': column 'n' of the Iceberg table {source.uri} has a default value for the rows before it "
        "(initial-default). That is not read. Compact the table first (rewrite_data_files in Spark), with a column that has "
        "none, or leave the column out with columns=(...)."
    )
    assert observe(shop.objects, "visits", replace(source, columns=("at",))).files == ()


def _with_default(table: Table) -> bytes:
    found = json.loads(table.metadata.model_dump_json())
    found["schemas"][0]["fields"][0]["initial-default"] = 7
    return json.dumps(found).encode()


# --- its past ---


def test_an_iceberg_table_is_read_as_it_was_with_the_columns_that_it_had(shop: Lake) -> None:
    table = shop.create(events().schema)
    before = tick()
    table.append(events(1))
    first = tick()
    with table.update_schema() as change:
        change.add_column("extra", DoubleType())
        change.rename_column("n", "number")
    second = tick()
    table.overwrite(pa.table({"number": [2], "at": [utc(2017, 6, 2)], "extra": [0.5]}))
    third = tick()
    for moment in (first, second):
        assert shop.rows(moment) == [{"n": 1, "at": utc(2017, 6, 1)}]
    assert shop.rows(third) == shop.rows() == [{"number": 2, "at": utc(2017, 6, 2), "extra": 0.5}]
    text = shop.refused(before, SourceMissing)
    assert f"shop.visits held nothing yet at {before.isoformat()}; its first snapshot is of 20" in text
    assert text.endswith(". Name a later known_at.")


def test_a_rollback_is_part_of_the_past(shop: Lake) -> None:
    table = shop.create(events().schema)
    table.append(events(1))
    good = table.current_snapshot()
    assert good is not None
    table.append(events(2))
    wrong = tick()
    table.manage_snapshots().rollback_to_snapshot(good.snapshot_id).commit()
    assert (shop.numbers(wrong), shop.numbers(tick()), shop.numbers()) == ([1, 2], [1], [1])


def test_a_table_whose_history_was_expired_away_is_told_as_such(shop: Lake) -> None:
    table = shop.create(events().schema)
    moments, snapshots = [], []
    for number in (1, 2, 3):
        table.append(events(number))
        moments.append(tick())
        snapshots.append(table.current_snapshot().snapshot_id)  # type: ignore[union-attr]
    table.maintenance.expire_snapshots().by_id(snapshots[1]).commit()
    assert shop.numbers() == shop.numbers(moments[2]) == [1, 2, 3]
    text = shop.refused(moments[1])  # the log names the first and the third snapshot
    assert text.startswith(
        "Source 'visits': the Iceberg table iceberg://lake/shop.visits does not tell what it was at "
        f"{moments[1].isoformat()}; its history was expired away: it tells of snapshot {snapshots[2]} of 20"
    )
    assert text.endswith(" and later ones. Name a later known_at, or keep more history (history.expire.max-snapshot-age-ms).")
    table.maintenance.expire_snapshots().by_id(snapshots[0]).commit()
    assert "; its history was expired away: it tells of snapshot" in shop.refused(moments[0])


def test_files_that_are_gone_are_told(shop: Lake) -> None:
    table = shop.create(events().schema)
    table.append(events(1))
    moment = tick()
    (first,) = data_files(table)
    shop.objects.delete(first)
    number = table.current_snapshot().snapshot_id  # type: ignore[union-attr]
    table_text = "the Iceberg table iceberg://lake/shop.visits"
    gone = f"Source 'visits': snapshot {number} of {table_text} names files that are gone (1): {first}"
    assert shop.refused() == f"{gone}. Restore them, or roll the table back."
    assert shop.refused(moment) == (
        f"{gone}; its history was expired away. Name a later known_at, or keep more history (history.expire.max-snapshot-age-ms)."
    )
    snapshot = table.current_snapshot()
    assert snapshot is not None
    shop.objects.delete(snapshot.manifest_list)
    text = shop.refused()
    assert "a file that the metadata of the Iceberg table iceberg://lake/shop.visits names is gone (" in text
    assert text.endswith("). Restore it, or roll the table back.")


# --- finding a table ---


def test_a_table_that_is_missing_is_told(shop: Lake) -> None:
    assert shop.refused(kind=SourceMissing) == (
        "Source 'visits' is missing: the catalog 'lake' has no table shop.visits. Deliver it, or correct the source's uri."
    )


def test_a_catalog_without_a_configuration_is_told(shop: Lake) -> None:
    assert shop.refused(uri="iceberg://sea/shop.visits") == (
        "Source 'visits': pyiceberg has no configuration of the catalog 'sea' of iceberg://sea/shop.visits (found: lake). Set "
        "PYICEBERG_CATALOG__SEA__URI and the like, or write it into ~/.pyiceberg.yaml, where Airflow's workers and the command "
        "line run. In the environment a _ in a catalog's name stands for a -."
    )


def test_a_catalog_that_does_not_answer_is_told(shop: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__SEA__URI", "http://127.0.0.1:9")
    with pytest.raises(
        Unreachable, match=r"^iceberg://sea/shop\.visits: the catalog does not give the table \(.*\)\. Check that it "
    ):
        shop.pin(uri="iceberg://sea/shop.visits")
    monkeypatch.setenv("PYICEBERG_CATALOG__SEA__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__SEA__URI", "postgresql+psycopg://me:secret@[")
    with pytest.raises(Unreachable) as error:
        shop.pin(uri="iceberg://sea/shop.visits")
    assert "secret" not in str(error.value)
    monkeypatch.setenv("PYICEBERG_CATALOG__SEA__TYPE", "no such type")
    assert "cannot be read ('no such type' is not a valid CatalogType). Check the" in shop.refused(
        uri="iceberg://sea/shop.visits"
    )


@pytest.fixture
def folder(shop: Lake) -> tuple[Table, Lake]:
    """A table of two commits, read by its folder."""
    table = shop.create(events().schema)
    table.append(events(1))
    table.append(events(2))
    return table, replace(shop, source=EventSource(f"{shop.root}/visits/", event_time="at", format=Iceberg()))


def test_a_folder_is_read_by_its_newest_metadata_file_with_a_note(folder: tuple[Table, Lake]) -> None:
    table, shop = folder
    pin = shop.pin()
    assert shop.numbers() == [1, 2] and pin.version == str(table.current_snapshot().snapshot_id)  # type: ignore[union-attr]
    assert pin.notes == (
        f"Source 'visits': {shop.source.uri} is read by its newest metadata file, {table.metadata_location.rsplit('/', 1)[-1]}. "
        "If a catalog commits the table, a commit that failed can have left that file; name the catalog: "
        "iceberg://CATALOG/namespace.table.",
    )
    shop.objects.put(table.metadata_location.replace("00002-", "00002-b"), b"{}")
    text = shop.refused()
    assert f"{shop.source.uri}metadata/ has 2 files of version 2 (00002-" in text
    assert text.endswith("catalog knows which is current. Read it by its catalog: iceberg://CATALOG/namespace.table.")


def test_a_version_hint_says_which_metadata_file_is_current(folder: tuple[Table, Lake]) -> None:
    table, shop = folder
    older, newer = table.metadata.metadata_log[-1].metadata_file, table.metadata_location
    for hint, expected in ((older, [1]), (newer, [1, 2]), (newer.removesuffix(".metadata.json"), [1, 2])):
        shop.objects.put(f"{shop.source.uri}metadata/version-hint.text", hint.rsplit("/", 1)[-1].encode())
        assert (shop.numbers(), shop.pin().notes) == (expected, ())
    shop.objects.put(f"{shop.source.uri}metadata/version-hint.text", b"00009-x")
    assert "version-hint.text names '00009-x', which is not there (found: 00000-" in shop.refused()


@pytest.mark.parametrize("name", ["v{n}.metadata.json", "v{n}.gz.metadata.json", "v{n}.metadata.json.gz"])
def test_a_table_of_hadoop_is_read_from_its_hint_on(folder: tuple[Table, Lake], name: str) -> None:
    table, shop = folder
    past = [entry.metadata_file for entry in table.metadata.metadata_log]
    place = f"{shop.root}/copy/"
    packed: Callable[[bytes], bytes] = gzip.compress if "gz" in name else bytes
    for number, file in enumerate((*past, table.metadata_location), 1):
        shop.objects.put(f"{place}metadata/{name.format(n=number)}", packed(shop.objects.get(file)))
    shop.objects.put(f"{place}metadata/version-hint.text", b"2\n")  # written after the file, so it may be behind
    copy = replace(shop, source=replace(shop.source, uri=place))
    assert (copy.numbers(), copy.pin().notes) == ([1, 2], ())


def test_a_folder_without_metadata_is_no_table(shop: Lake) -> None:
    uri = f"{shop.root}/nothing/"
    assert shop.refused(kind=SourceMissing, uri=uri) == (
        f"Source 'visits' is missing: {uri} is no Iceberg table (it has no metadata/*.metadata.json). Deliver it, or correct the "
        "source's uri or format."
    )


def test_metadata_that_pyiceberg_does_not_know_is_refused(shop: Lake) -> None:
    shop.objects.put(f"{shop.root}/odd/metadata/v1.metadata.json", b'{"format-version": 9}')
    text = shop.refused(uri=f"{shop.root}/odd/")
    assert text.startswith(f"Source 'visits': the Iceberg table {shop.root}/odd/ cannot be read (")
    assert text.endswith("). If it uses a feature that pyiceberg does not know, deliver a copy without it.")


def test_without_pyiceberg_an_iceberg_source_says_what_to_install(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    monkeypatch.delitem(sys.modules, "almanac.store.iceberg_tables", raising=False)
    monkeypatch.delattr("almanac.store.iceberg_tables", raising=False)
    with pytest.raises(SourceError) as error:
        observe(objects, "visits", ReferenceSource("iceberg://lake/shop.visits"))
    assert str(error.value) == (
        "Source 'visits' is an Iceberg table, and pyiceberg, which reads its metadata, is not installed. Install it where "
        "Airflow's workers and the command line run: pip install 'almanac[iceberg]'."
    )
