"""The same rows in each format, as readers see them; and what is refused, before anything is pinned."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from almanac import chunks
from almanac.core.formats import Csv, Delta, JsonLines
from almanac.core.pins import Pin
from almanac.core.sources import Cut, EventSource, ReferenceSource, Source
from almanac.cutting import cut_rows, view_of
from almanac.errors import SourceError, SourceMissing
from almanac.store import texts
from almanac.store.contents import PointInTime
from almanac.store.objects import Objects
from almanac.store.pinned_files import check_unchanged
from tests.support.counting import Counting
from tests.support.layouts import LAYOUTS, OPTIONS, parquet
from tests.support.observing import observe

pytestmark = pytest.mark.store


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def rows_of(source: Source, pin: Pin, cut: Cut | None = None) -> list[dict[str, Any]]:
    """The rows that a reader sees, sorted."""
    view = view_of(source, pin, cut=cut)
    batches = chunks.read_chunks(chunks.of_pinned(pin.within(cut) if cut else pin.files), view.stored)
    return sorted((row for batch in batches for row in cut_rows(batch, view).to_pylist()), key=repr)


def seen(objects: Objects, source: Source, cut: Cut | None = None) -> list[dict[str, Any]]:
    return rows_of(source, observe(objects, "visits", source), cut)


def refused(objects: Objects, source: Source, **how: Any) -> str:
    with pytest.raises(SourceError) as error:
        observe(objects, "visits", source, **how)
    return str(error.value)


VISITS = pa.table(
    {
        "customer": pa.array([1, 2, 2, 3, 1, 40], pa.int64()),
        "at": pa.array([datetime(2017, 5, 1) + timedelta(days=9 * number, seconds=1, microseconds=5) for number in range(6)]),
        "amount": pa.array([1.5, 0.1, None, 1e300, -2.25, 3.0]),
        "note": pa.array(["a", 'it\'s, "so"', "x\ny", "é", "", "b"]),
    }
)


def expected(rows: pa.Table, low: datetime | None = None, high: datetime | None = None) -> list[dict[str, Any]]:
    listed = ({**row, "at": row["at"].replace(tzinfo=UTC)} for row in rows.to_pylist())
    found = [row for row in listed if (low is None or row["at"] >= low) and (high is None or row["at"] < high)]
    return sorted(found, key=repr)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_the_same_in_each_layout_and_so_are_cuts(objects: Objects, root: str, layout: str) -> None:
    # In CSV and JSON lines an empty text cannot be told from none, or is told: both are given here as "b".
    rows = VISITS.set_column(3, "note", pa.array(["a", 'it\'s, "so"', "x\ny", "é", "b", "b"]))
    put = LAYOUTS[layout](objects, f"{root}/visits/", rows, "at")
    source = EventSource(put.uri, event_time="at", timezone="UTC", **put.fields)
    pin = observe(objects, "visits", source)

    names = rows.column_names
    found = [{name: row[name] for name in names} for row in rows_of(source, pin)]
    assert sorted(found, key=repr) == expected(rows)
    middle = Cut(low=utc(2017, 5, 10), high=utc(2017, 6, 6))
    found = [{name: row[name] for name in names} for row in rows_of(source, pin, middle)]
    assert sorted(found, key=repr) == expected(rows, middle.low, middle.high)
    check_unchanged(objects, pin, pin.files)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_look_gives_the_same_pin_and_times_prune_files(objects: Objects, root: str, layout: str) -> None:
    put = LAYOUTS[layout](objects, f"{root}/visits/", VISITS, "at")
    source = EventSource(put.uri, event_time="at", timezone="UTC", **put.fields)
    first, second = (observe(objects, "visits", source) for _ in range(2))
    assert first.content == second.content
    if layout not in ("other names", "folders"):
        assert first.freshness == max(one["at"] for one in expected(VISITS))
        assert len(first.within(Cut(low=utc(2018, 1, 1)))) == 0


# --- rename, cast, where ---


@pytest.fixture
def orders(objects: Objects, root: str) -> EventSource:
    """Orders as a shop system exports them: odd names, a key as a double, cancelled lines."""
    rows = pa.table(
        {
            "Invoice No": ["1", "C2", "3", None],
            "Customer ID": [17.0, 17.0, None, 4.0],
            "When": pa.array([1496275200, 1496275201, 1496275202, 1496275203], pa.int64()),
            "Quantity": pa.array([1, -1, 5, 2], pa.int16()),
        }
    )
    objects.put(f"{root}/orders/2017.parquet", parquet(rows))
    return EventSource(
        f"{root}/orders/",
        event_time="at",
        rename={"Invoice No": "invoice", "Customer ID": "customer", "When": "at", "Quantity": "quantity"},
        cast={"customer": "long", "at": "timestamp_seconds"},
        where="invoice NOT LIKE 'C%' OR invoice IS NULL",
    )


def test_columns_are_renamed_and_cast_and_rows_that_are_no_events_are_left_out(objects: Objects, orders: EventSource) -> None:
    pin = observe(objects, "orders", orders)

    assert pin.columns == {"invoice": "string", "customer": "int64", "at": "timestamp[us, tz=UTC]", "quantity": "int16"}
    assert (pin.files[0].low, pin.files[0].high) == (utc(2017, 6, 1), utc(2017, 6, 1, 0, 0, 3))
    assert [(row["customer"], row["quantity"]) for row in sorted(rows_of(orders, pin), key=lambda row: row["at"])] == [
        (17, 1),
        (None, 5),
        (4, 2),
    ]


def test_a_column_that_only_where_reads_is_not_shown(objects: Objects, orders: EventSource) -> None:
    source = replace(orders, columns=("customer",))
    assert set(seen(objects, source)[0]) == {"customer", "at"}
    assert len(seen(objects, source)) == 3


def test_a_value_that_cannot_be_cast_stops_the_reader_and_is_named(objects: Objects, orders: EventSource) -> None:
    source = replace(orders, cast={**dict(orders.cast or {}), "invoice": "long"}, where="")
    with pytest.raises(SourceError) as error:
        seen(objects, source)
    assert str(error.value) == (
        "Source 'visits': column 'invoice' has a value that does not fit int64: Failed to parse string: 'C2' as a scalar of type "
        "int64. Deliver it again, or leave the column out with columns=(...)."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rename": {"Customer No": "customer"}},
            "Source 'visits': rename names column 'Customer No', which it does not have (it has: Customer ID, Invoice No, "
            "Quantity, When). Correct the description; names are written as they are stored.",
        ),
        (
            {"rename": {"Customer ID": "Quantity"}},
            "Source 'visits': rename gives column 'Customer ID' the name 'Quantity', but {uri}2017.parquet has a column of "
            "that name already. Choose another name, or rename that one as well.",
        ),
        (
            {"cast": {"Quantity": "date"}},
            "Source 'visits': {uri}2017.parquet has Quantity as int16, which cannot be cast to date (expected: text, date). "
            "Correct cast=, or deliver the column as another type.",
        ),
        (
            {"where": "state = 'paid'"},
            "Source 'visits': where=\"state = 'paid'\" names column 'state', which it does not have (it has: Customer ID, "
            "Invoice No, Quantity, When). Correct the description; names are those that rename= gives.",
        ),
        (
            {"where": "Quantity = 'paid'"},
            "Source 'visits': where=\"Quantity = 'paid'\" expects Quantity as text, got int16. Correct the condition, or "
            "declare the type with cast={'Quantity': ...}.",
        ),
    ],
)
def test_a_description_that_does_not_fit_the_files_is_refused(
    objects: Objects, orders: EventSource, change: dict[str, Any], message: str
) -> None:
    source = ReferenceSource(orders.uri, **change)
    assert refused(objects, source) == message.replace("{uri}", orders.uri)


@pytest.mark.parametrize(
    ("kind", "values", "meant"),
    [
        (pa.date32(), [date(2017, 6, 1)], utc(2017, 6, 1, 4)),
        (pa.string(), [" 2017-06-01 12:00:00 "], utc(2017, 6, 1, 16)),
        (pa.string(), ["2017-06-01T12:00:00.5+02:00"], utc(2017, 6, 1, 10, 0, 0, 500_000)),
        (pa.string(), ["2017-06-01T12:00:00Z"], utc(2017, 6, 1, 12)),
    ],
)
def test_dates_and_texts_are_times_if_they_are_cast(
    objects: Objects, root: str, kind: pa.DataType, values: Sequence[Any], meant: datetime
) -> None:
    objects.put(f"{root}/visits/a.parquet", parquet(pa.table({"at": pa.array(values, kind)})))
    source = EventSource(f"{root}/visits/", event_time="at", timezone="America/New_York", cast={"at": "timestamp"})
    assert seen(objects, source) == [{"at": meant}]
    pin = observe(objects, "visits", source)
    assert pin.files[0].low == (meant if kind == pa.date32() else None)


# --- folders ---


def test_folders_give_columns_and_prune(objects: Objects, root: str) -> None:
    for day, value in (("2017-06-01", 1), ("2017-06-02", 2), ("__HIVE_DEFAULT_PARTITION__", 3)):
        objects.put(f"{root}/visits/dt={day}/shop=a%20b%2Fc/x.parquet", parquet(pa.table({"n": [value]})))
    source = EventSource(
        f"{root}/visits/",
        event_time="dt",
        timezone="America/New_York",
        partitions={"dt": "timestamp", "shop": "string"},
        where="n < 9",
    )
    pin = observe(objects, "visits", source)

    assert pin.columns["dt"] == "timestamp[us]" and pin.notes == ()
    assert [row["shop"] for row in rows_of(source, pin)] == ["a b/c"] * 3
    cut = Cut(low=utc(2017, 6, 2, 4), high=utc(2017, 6, 3))
    assert rows_of(source, pin, cut) == [{"n": 2, "dt": utc(2017, 6, 2, 4), "shop": "a b/c"}]
    assert [file.uri.rsplit("/", 3)[1] for file in pin.within(cut)] == ["dt=2017-06-02", "dt=__HIVE_DEFAULT_PARTITION__"]


def test_the_same_bytes_in_another_folder_are_other_rows(objects: Objects, root: str) -> None:
    body = parquet(pa.table({"at": pa.array([utc(2017, 6, 1)])}))
    objects.put(f"{root}/visits/shop=a/x.parquet", body)
    source = EventSource(f"{root}/visits/", event_time="at", partitions={"shop": "string"})
    before = observe(objects, "visits", source)
    objects.delete(f"{root}/visits/shop=a/x.parquet")
    objects.put(f"{root}/visits/shop=b/x.parquet", body)
    assert observe(objects, "visits", source).content != before.content


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "x.parquet",
            "Source 'visits': {uri}x.parquet lies in no folder such as n=..., which partitions={'n': 'int'} expects. Move the "
            "file, or leave the column out of partitions.",
        ),
        (
            "n=one/x.parquet",
            "Source 'visits': the folder of {uri}n=one/x.parquet gives n the value 'one', which is no int (Failed to parse "
            "string: 'one' as a scalar of type int32). Correct the folder's name, or the type in partitions.",
        ),
    ],
)
def test_a_file_outside_its_folders_is_refused(objects: Objects, root: str, path: str, message: str) -> None:
    objects.put(f"{root}/visits/{path}", parquet(pa.table({"at": pa.array([utc(2017, 6, 1)])})))
    source = EventSource(f"{root}/visits/", event_time="at", partitions={"n": "int"})
    assert refused(objects, source) == message.replace("{uri}", source.uri)


# --- text ---


def test_csv_is_read_by_the_declared_types_alone(objects: Objects, root: str) -> None:
    text = (
        'id;at;amount;active;day;note\r\n007;01.06.2017 12:30;1.50;true;01.06.2017;NULL\r\n8;02.06.2017 00:00;;false;;"a;b"\r\n'
    )
    objects.put(f"{root}/visits/a.csv.gz", gzip.compress(text.encode("cp1252")))
    objects.put(f"{root}/visits/readme.md", b"no data at all")
    kinds = {"id": "string", "at": "timestamp", "amount": "decimal(10,2)", "active": "boolean", "day": "date", "note": "string"}
    format = Csv(kinds, delimiter=";", null=("", "NULL"), timestamp="%d.%m.%Y %H:%M", date="%d.%m.%Y", encoding="cp1252")
    source = EventSource(f"{root}/visits/", event_time="at", timezone="Europe/Berlin", format=format)
    pin = observe(objects, "visits", source)

    first, second = sorted(rows_of(source, pin), key=lambda row: row["at"])
    assert (first["id"], first["at"], str(first["amount"]), first["active"]) == ("007", utc(2017, 6, 1, 10, 30), "1.50", True)
    assert (first["day"], first["note"]) == (date(2017, 6, 1), None)
    assert (second["at"], second["amount"], second["day"], second["note"]) == (utc(2017, 6, 1, 22), None, None, "a;b")
    assert pin.notes == (
        f"Source 'visits': files that do not end in '.csv' or the like are not read (1): {source.uri}readme.md. Rename them, "
        "or move them out of the folder if they are no data.",
    )


def test_csv_without_a_header_and_an_empty_file_are_read(objects: Objects, root: str) -> None:
    objects.put(f"{root}/people/a.csv", b"1,x\n2,y\n")
    objects.put(f"{root}/people/b.csv", b"")
    source = ReferenceSource(f"{root}/people/", format=Csv({"id": "long", "name": "string"}, header=False))
    assert seen(objects, source) == [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]


def test_a_text_file_is_converted_once_and_again_if_it_or_its_description_changes(objects: Objects, root: str) -> None:
    objects.put(f"{root}/people/a.csv", b"id\n1\n")
    source = ReferenceSource(f"{root}/people/", format=Csv({"id": "long"}))
    with Counting() as copies:
        first = copies.observe(objects, source)
        second = copies.observe(objects, source)
        assert (first.files, copies.kept) == (second.files, 1)
        copies.observe(objects, replace(source, format=Csv({"id": "string"})))
        assert copies.kept == 2
        objects.put(f"{root}/people/a.csv", b"id\n2\n")
        assert copies.observe(objects, source).content != first.content
        assert copies.kept == 3


def test_a_text_file_that_is_replaced_while_it_is_converted_is_not_pinned(
    objects: Objects, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put(f"{root}/people/a.csv", b"id\n1\n")
    source = ReferenceSource(f"{root}/people/", format=Csv({"id": "long"}))
    write = texts._write

    def replaced(*given: Any) -> int:
        objects.put(f"{root}/people/a.csv", b"id\n2\n")
        return write(*given)

    with Counting() as copies:
        with monkeypatch.context() as patched, pytest.raises(SourceError) as error:
            patched.setattr(texts, "_write", replaced)
            copies.observe(objects, source)
        assert str(error.value) == (
            f"Source 'visits' changed while it was read: {root}/people/a.csv was replaced or removed. Nothing was pinned. "
            "Start the run again."
        )
        assert copies.kept == 0
        assert rows_of(source, copies.observe(objects, source)) == [{"id": 2}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b"id,at\n1,2017-06-01\nx,2017-06-02\n",
            "Source 'visits': {uri}a.csv: column 'id' has a value that is no long (Failed to parse string: 'x' as a scalar of "
            "type int64). Deliver it again, or declare another type in format=.",
        ),
        (b"id,at\n1,2017-06-01,3\n", "Source 'visits': {uri}a.csv cannot be read as CSV: CSV parse error: "),
        (b"id,id,at\n", "Source 'visits': {uri}a.csv has more than one column 'id'. Deliver it again, or declare"),
        (
            b"at\n2017-06-01\n",
            "Source 'visits': format= declares column 'id', which no file has (found: at, such as in",
        ),
        (b"\xff\xfe,at\n", "Source 'visits': {uri}a.csv cannot be read as CSV: "),
    ],
)
def test_csv_that_is_not_as_declared_is_refused(objects: Objects, root: str, text: bytes, message: str) -> None:
    objects.put(f"{root}/visits/a.csv", text)
    format = Csv({"id": "long", "at": "timestamp"})
    source = EventSource(f"{root}/visits/", event_time="at", timezone="UTC", format=format, columns=("id", "at"))
    assert refused(objects, source).startswith(message.replace("{uri}", source.uri))


def test_text_without_a_zone_needs_one(objects: Objects, root: str) -> None:
    objects.put(f"{root}/visits/a.csv", b"at\n2017-06-01\n")
    plain = EventSource(f"{root}/visits/", event_time="at", format=Csv({"at": "timestamp"}))
    for source in (plain, replace(plain, event_time="when", rename={"at": "when"})):
        assert refused(objects, source) == (
            f"Source 'visits': column '{source.event_time}' is text, which may have no time zone. Declare how to read it with "
            "EventSource(..., timezone='UTC'); a time with an offset, such as 12:00+02:00, is read by that."
        )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "{uri}a.jsonl, line 2: expected a JSON object ("),
        ("[1]", "{uri}a.jsonl, line 2: expected a JSON object, got '[1]'. Deliver it again, or declare another type in format=."),
        ('{"id": "7"}', "{uri}a.jsonl, line 2: expected 'id' as long, got \"7\". Deliver it again"),
        ('{"id": true}', "{uri}a.jsonl, line 2: expected 'id' as long, got true. Deliver it again"),
        ('{"id": 1.5}', "{uri}a.jsonl, line 2: expected 'id' as long, got "),
        ('{"id": 9223372036854775808}', "{uri}a.jsonl, lines 1 to 2: 'id' has a value that is no long ("),
        ('{"at": "soon"}', "{uri}a.jsonl, lines 1 to 2: 'at' has a value that is no timestamp ("),
    ],
)
def test_json_that_is_not_as_declared_is_refused(objects: Objects, root: str, line: str, message: str) -> None:
    objects.put(f"{root}/visits/a.jsonl", b'{"id": 1, "at": "2017-06-01T00:00:00Z", "price": 0.1, "more": {}}\n' + line.encode())
    format = JsonLines({"id": "long", "at": "timestamp", "price": "decimal(10,2)"})
    source = EventSource(f"{root}/visits/", event_time="at", timezone="UTC", format=format)
    assert refused(objects, source).startswith("Source 'visits': " + message.replace("{uri}", source.uri))


def test_json_numbers_are_exact(objects: Objects, root: str) -> None:
    objects.put(f"{root}/visits/a.json", b'\n{"id": 9007199254740993, "price": 0.1, "x": 0.1}\n\n{"price": "7"}\n')
    source = ReferenceSource(f"{root}/visits/", format=JsonLines({"id": "long", "price": "decimal(10,2)", "x": "double"}))
    first, second = sorted(seen(objects, source), key=lambda row: row["price"])
    assert (first["id"], str(first["price"]), first["x"]) == (9007199254740993, "0.10", 0.1)
    assert (second["id"], str(second["price"]), second["x"]) == (None, "7.00", None)


# --- Delta ---


def events(*numbers: int, **more: Any) -> pa.Table:
    return pa.table({"n": list(numbers), "at": pa.array([utc(2017, 6, number) for number in numbers]), **more})


def at_time(moment: datetime) -> PointInTime:
    return PointInTime(moment=moment, copies=lambda _digest, _name: "s3://nowhere/x")


@pytest.fixture
def table(store: object, root: str) -> EventSource:
    return EventSource(f"{root}/table/", event_time="at", format=Delta())


def write(source: EventSource, rows: pa.Table, mode: Any = "append", **how: Any) -> None:
    deltalake.write_deltalake(source.uri, rows, mode=mode, storage_options=OPTIONS, **how)


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(row["n"] for row in rows)


def test_a_delta_table_is_what_its_log_says_after_overwrites_deletes_and_compaction(objects: Objects, table: EventSource) -> None:
    write(table, events(1, 2, 3))
    write(table, events(4))
    assert (numbers(seen(objects, table)), observe(objects, "visits", table).version) == ([1, 2, 3, 4], "1")
    deltalake.DeltaTable(table.uri).delete("n = 2")
    assert numbers(seen(objects, table)) == [1, 3, 4]
    deltalake.DeltaTable(table.uri).optimize.compact()
    pin = observe(objects, "visits", table)
    assert (len(pin.files), numbers(rows_of(table, pin))) == (1, [1, 3, 4])
    write(table, events(9), mode="overwrite")
    assert numbers(seen(objects, table)) == [9]
    check_unchanged(objects, pin, pin.files)
    assert numbers(rows_of(table, pin)) == [1, 3, 4], "what was pinned is still there"


def test_a_delta_table_is_read_as_it_was(objects: Objects, table: EventSource) -> None:
    before = datetime.now(UTC)
    write(table, events(1))
    first = datetime.now(UTC)
    write(table, events(2), mode="overwrite")
    second = observe(objects, "visits", table, at_time(datetime.now(UTC)))
    pin = observe(objects, "visits", table, at_time(first))
    assert (pin.version, numbers(rows_of(table, pin))) == ("0", [1])
    assert (second.version, numbers(rows_of(table, second))) == ("1", [2])
    with pytest.raises(SourceMissing, match=r"was created at .*, after .*\. Name a later known_at\."):
        observe(objects, "visits", table, at_time(before - timedelta(seconds=1)))


def test_a_delta_table_whose_history_was_vacuumed_away_is_told_as_such(objects: Objects, table: EventSource) -> None:
    write(table, events(1))
    first = datetime.now(UTC)
    write(table, events(2), mode="overwrite")
    deltalake.DeltaTable(table.uri).vacuum(0, dry_run=False, enforce_retention_duration=False)
    text = refused(objects, table, then=at_time(first))
    assert text.startswith(f"Source 'visits': version 0 of the Delta table {table.uri} names files that are gone (1): part-")
    assert text.endswith(
        "; its history was vacuumed away. Name a later known_at, or keep more history (delta.deletedFileRetentionDuration)."
    )


def test_a_delta_table_whose_log_was_cleaned_up_is_told_as_such(objects: Objects, table: EventSource) -> None:
    write(table, events(1))
    first = datetime.now(UTC)
    write(table, events(2))
    deltalake.DeltaTable(table.uri).create_checkpoint()
    objects.delete(f"{table.uri}_delta_log/{0:020}.json")
    text = refused(objects, table, then=at_time(first))
    assert f"does not tell what it was at {first.isoformat()}: its log begins with version 1 of " in text
    assert text.endswith("vacuumed away. Name a later known_at, or keep more history (delta.logRetentionDuration).")


def test_partitions_and_columns_that_were_added_later_are_read(objects: Objects, table: EventSource) -> None:
    zoned = pa.array([utc(1969, 12, 31, 23, 59, 59, 5)] * 2)
    rows = events(1, 2, shop=["a b", None], day=[date(2017, 6, 1)] * 2, since=zoned)
    write(table, rows, partition_by=["shop", "day", "since"])
    more = events(3, shop=["c/d%"], day=[date(2017, 6, 2)], since=zoned.slice(0, 1), extra=[1.5])
    write(table, more, schema_mode="merge")
    found = sorted(seen(objects, table), key=lambda row: row["n"])
    assert [(row["shop"], row["day"].day, row["extra"]) for row in found] == [("a b", 1, None), (None, 1, None), ("c/d%", 2, 1.5)]
    assert {row["since"] for row in found} == {zoned[0].as_py()}


def test_parts_that_were_added_to_a_struct_later_are_null(objects: Objects, table: EventSource) -> None:
    write(table, events(1, place=[{"city": "x"}]))
    write(table, events(2, place=[{"city": "y", "zip": 7}]), schema_mode="merge")
    assert [row["place"] for row in seen(objects, table)] == [{"city": "x", "zip": None}, {"city": "y", "zip": 7}]


def hand_made(
    objects: Objects, source: EventSource, files: dict[str, pa.Table], vector: dict[str, Any] | None = None, **how: str
) -> None:
    """A table with mapped names, as Spark writes it, and with a deletion vector."""
    columns = [("n", "long", "col-1"), ("at", "timestamp", "col-2"), ("old n", "long", "col-3")]
    fields = [
        {
            "name": name,
            "type": kind,
            "nullable": True,
            "metadata": {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": physical},
        }
        for number, (name, kind, physical) in enumerate(columns, 1)
    ]
    features = ["columnMapping", "deletionVectors"]
    metadata = {
        "id": "1",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": [],
        "configuration": {"delta.columnMapping.mode": "name", "delta.enableDeletionVectors": "true", **how},
        "createdTime": 1,
    }
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    actions: list[dict[str, Any]] = [{"protocol": protocol}, {"metaData": metadata}]
    for name, rows in files.items():
        body = parquet(rows)
        objects.put(f"{source.uri}{name}", body)
        add = {"path": name, "partitionValues": {}, "size": len(body), "modificationTime": 1, "dataChange": True}
        stats = {"stats": json.dumps({"numRecords": len(rows)})}
        actions.append({"add": add | stats | ({"deletionVector": vector} if vector else {})})
    objects.put(f"{source.uri}_delta_log/{0:020}.json", "\n".join(map(json.dumps, actions)).encode())


MAPPED = pa.table(
    {
        "col-1": [1, 2, 3],
        "col-2": pa.array([datetime(2017, 6, 1, 12)] * 3),  # naive, as INT96: its table says that times are in UTC
        "n": [7, 8, 9],  # a column that was dropped
    }
)


def test_names_that_a_table_maps_are_honoured_and_a_dropped_columns_name_is_not_mixed_up(
    objects: Objects, table: EventSource
) -> None:
    hand_made(objects, table, {"a.parquet": MAPPED})
    source = replace(table, timezone="America/New_York")  # for naive times; these are none
    found = sorted(seen(objects, source), key=lambda row: row["n"])
    assert found == [{"n": number, "at": utc(2017, 6, 1, 12), "old n": None} for number in (1, 2, 3)]
    assert observe(objects, "visits", source).files[0].low == utc(2017, 6, 1, 12)


def test_columns_are_found_by_id_where_the_table_says_so(objects: Objects, table: EventSource) -> None:
    ids = pa.schema(
        [
            pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "1"}),
            pa.field("y", pa.timestamp("us", "UTC"), metadata={"PARQUET:field_id": "2"}),
            pa.field("n", pa.int64(), metadata={"PARQUET:field_id": "9"}),
        ]
    )
    rows = pa.table([MAPPED["col-1"], MAPPED["col-2"].cast(pa.timestamp("us", "UTC")), MAPPED["n"]], schema=ids)
    hand_made(objects, table, {"a.parquet": rows}, **{"delta.columnMapping.mode": "id"})
    assert numbers(seen(objects, table)) == [1, 2, 3]
    hand_made(objects, table, {"a.parquet": MAPPED}, **{"delta.columnMapping.mode": "id"})
    assert "does not tell the id of its column 'col-1'" in refused(objects, table)


def test_rows_that_a_deletion_vector_marks_are_not_read(objects: Objects, table: EventSource) -> None:
    # Rows 3, 4, 7, 11, 18 and 29 as a Roaring bitmap in base 85: the example of Delta's protocol.
    vector = {"storageType": "i", "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L", "sizeInBytes": 44}
    inline = vector | {"cardinality": 6}
    rows = pa.table({"col-1": list(range(30)), "col-2": pa.array([utc(2017, 6, 1)] * 30), "col-3": list(range(30))})
    hand_made(objects, table, {"a.parquet": rows}, inline)
    pin = observe(objects, "visits", table)
    assert pin.files[0].deleted is not None and pin.files[0].rows == 24
    left = sorted(set(range(30)) - {3, 4, 7, 11, 18, 29})
    assert numbers(rows_of(table, pin)) == left
    without = replace(pin, files=tuple(replace(file, deleted=None) for file in pin.files))
    assert pin.content != without.content, "the same file with other deletions holds other rows"


def test_what_is_no_delta_table_is_told(objects: Objects, table: EventSource) -> None:
    with pytest.raises(SourceMissing) as error:
        observe(objects, "visits", table)
    assert str(error.value) == (
        f"Source 'visits' is missing: {table.uri} is no Delta table (it has no _delta_log/). Deliver it, or correct the "
        "source's uri or format."
    )


def test_an_empty_delta_table_has_its_columns(objects: Objects, table: EventSource) -> None:
    write(table, events(1).slice(0, 0))
    pin = observe(objects, "visits", table)
    assert set(pin.columns) == {"n", "at"} and rows_of(table, pin) == []


# --- references in time ---


def test_a_reference_tells_the_newest_time_that_it_holds(objects: Objects, root: str) -> None:
    rows = pa.table({"id": [1, 2], "updated": pa.array([utc(2017, 6, 1), utc(2017, 8, 1)]), "born": [date(1990, 1, 1)] * 2})
    objects.put(f"{root}/people/a.parquet", parquet(rows))
    pin = observe(objects, "people", ReferenceSource(f"{root}/people/"))
    assert pin.latest == {"born": utc(1990, 1, 1), "updated": utc(2017, 8, 1)}


def test_snapshots_are_known_by_their_folders_or_their_columns(objects: Objects, root: str) -> None:
    for day in (1, 5, 9):
        objects.put(f"{root}/people/dt=2017-06-0{day}/a.parquet", parquet(pa.table({"id": [day]})))
    kept = {"snapshots": "dt", "timezone": "UTC"}
    source = ReferenceSource(f"{root}/people/", partitions={"dt": "timestamp"}, **kept)  # type: ignore[arg-type]
    one = pa.table({"id": [1, 5, 9], "dt": pa.array([datetime(2017, 6, day) for day in (1, 5, 9)])})
    objects.put(f"{root}/whole/a.parquet", parquet(one))
    for way in (source, ReferenceSource(f"{root}/whole/", **kept)):  # type: ignore[arg-type]
        pin = observe(objects, "people", way)
        assert pin.snapshots == (utc(2017, 6, 1), utc(2017, 6, 5), utc(2017, 6, 9))
        seen_at = {day: [row["id"] for row in rows_of(way, pin, Cut(at=utc(2017, 6, day)))] for day in (1, 2, 5, 6, 10)}
        assert seen_at == {1: [], 2: [1], 5: [1], 6: [5], 10: [9]}
