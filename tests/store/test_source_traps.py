"""Sources that gave wrong rows in silence, or an error that helped nobody: each was found by trying to break them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from almanac import pinning
from almanac.columns import converted
from almanac.core.canonical import decode, dumps
from almanac.core.formats import Csv, Delta, JsonLines
from almanac.core.layout import Layout
from almanac.core.pins import Constant, PinnedFile
from almanac.core.sources import Cut, EventSource, ReferenceSource
from almanac.cutting import view_of
from almanac.errors import SourceError
from almanac.spark.partials import Block
from almanac.store import delta_tables
from almanac.store.copies import LocalCopies, StoredCopies
from almanac.store.objects import Objects
from tests.store.test_source_formats import at_time, events, numbers, refused, rows_of, seen, utc, write
from tests.support.layouts import parquet
from tests.support.observing import observe

pytestmark = pytest.mark.store

# Rows 3, 4, 7, 11, 18 and 29: the example of Delta's protocol.
VECTOR = {
    "storageType": "i",
    "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
    "sizeInBytes": 44,
    "cardinality": 6,
}


def marked(objects: Objects, source: EventSource, stored: str, logged: str, shop: str) -> None:
    """A Delta table of one file, partitioned by shop, with six of its thirty rows deleted."""
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in (("n", "long"), ("at", "timestamp"), ("shop", "string"))
    ]
    metadata = {
        "id": "1",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": ["shop"],
        "configuration": {"delta.enableDeletionVectors": "true"},
        "createdTime": 1,
    }
    features = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    body = parquet(pa.table({"n": list(range(30)), "at": pa.array([utc(2017, 6, 1)] * 30)}))
    objects.put(f"{source.uri}{stored}", body)
    add = {
        "path": logged,
        "partitionValues": {"shop": shop},
        "size": len(body),
        "modificationTime": 1,
        "dataChange": True,
        "stats": json.dumps({"numRecords": 30}),
        "deletionVector": VECTOR,
    }
    actions = [{"protocol": protocol}, {"metaData": metadata}, {"add": add}]
    objects.put(f"{source.uri}_delta_log/{0:020}.json", "\n".join(map(json.dumps, actions)).encode())


@pytest.mark.parametrize(
    ("stored", "logged", "shop"),
    [
        ("shop=a/x.parquet", "shop=a/x.parquet", "a"),
        ("shop=a b/x.parquet", "shop=a%20b/x.parquet", "a b"),
        ("shop=a%2Fb/x.parquet", "shop=a%252Fb/x.parquet", "a/b"),
        ("shop=é/x.parquet", "shop=%C3%A9/x.parquet", "é"),
        ("shop=2017-06-01 12%3A00/x.parquet", "shop=2017-06-01%2012%253A00/x.parquet", "2017-06-01 12:00"),
    ],
)
def test_deleted_rows_of_a_file_whose_name_a_log_encodes_stay_deleted(
    objects: Objects, root: str, stored: str, logged: str, shop: str
) -> None:
    source = EventSource(f"{root}/table/", event_time="at", format=Delta())
    marked(objects, source, stored, logged, shop)
    assert numbers(seen(objects, source)) == sorted(set(range(30)) - {3, 4, 7, 11, 18, 29})


def test_deletions_that_belong_to_no_file_are_refused(objects: Objects, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = EventSource(f"{root}/table/", event_time="at", format=Delta())
    marked(objects, source, "shop=a/x.parquet", "shop=a/x.parquet", "a")
    found = delta_tables._deleted
    monkeypatch.setattr(delta_tables, "_deleted", lambda *given: {f"{uri}?": rows for uri, rows in found(*given).items()})
    assert "marks rows as deleted in files that it does not name" in refused(objects, source)


def test_a_version_is_found_by_its_files_time_where_a_commit_does_not_tell_its_own(objects: Objects, root: str) -> None:
    table = EventSource(f"{root}/table/", event_time="at", format=Delta())
    for number in (1, 2, 3):
        write(table, events(number))
    uri = f"{table.uri}_delta_log/{1:020}.json"
    lines = objects.get(uri).splitlines()
    objects.put(uri, b"\n".join(line for line in lines if b"commitInfo" not in line))
    assert observe(objects, "visits", table, at_time(datetime.now(UTC) + timedelta(seconds=2))).version == "2"
    with pytest.raises(SourceError, match="was created at"):  # never a later version than that of the time
        observe(objects, "visits", table, at_time(datetime.now(UTC) - timedelta(seconds=30)))


def test_files_without_a_header_keep_their_columns_order_in_a_stored_description(objects: Objects, root: str) -> None:
    objects.put(f"{root}/sales/a.csv", b"100,2\n")
    source = ReferenceSource(f"{root}/sales/", format=Csv({"price": "long", "amount": "long"}, header=False))
    stored = decode(ReferenceSource, json.loads(dumps(source)))
    assert seen(objects, stored) == seen(objects, source) == [{"price": 100, "amount": 2}]
    other = replace(source, format=Csv({"amount": "long", "price": "long"}, header=False))
    assert dumps(other) != dumps(source)


@pytest.mark.parametrize("text", ["31.02.2017 10:00", "31.04.2017 10:00", "1.6.17 10:00", "01.06.2017 24:00"])
def test_a_day_that_does_not_exist_is_refused(objects: Objects, root: str, text: str) -> None:
    objects.put(f"{root}/visits/a.csv", f"at\n{text}\n".encode())
    format = Csv({"at": "timestamp"}, timestamp="%d.%m.%Y %H:%M")
    source = EventSource(f"{root}/visits/", event_time="at", timezone="UTC", format=format)
    assert "column 'at' has a value that is no timestamp (" in refused(objects, source)


def test_an_offset_in_a_pattern_counts(objects: Objects, root: str) -> None:
    objects.put(f"{root}/visits/a.csv", b"at\n2017-06-01 12:00 +0200\n2017-06-01 12:00 +0000\n")
    format = Csv({"at": "timestamp"}, timestamp="%Y-%m-%d %H:%M %z")
    source = EventSource(f"{root}/visits/", event_time="at", timezone="America/New_York", format=format)
    assert [row["at"] for row in seen(objects, source)] == [utc(2017, 6, 1, 10), utc(2017, 6, 1, 12)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'id,note\n1,"5 inch\n2,b\n', "a.csv has a quote that is not closed. Deliver it again"),
        (
            b'id,note\n1,"5 inch\n2,b\n3,"c\n',
            "a.csv has 4 lines and 1 rows: a quote spans lines. If values hold line breaks, declare",
        ),
        (b"", "a.csv is empty, expected a first line with the names of its columns."),
        (b"x,y\n1,2\n", "a.csv has none of the declared columns (its first line: 'x', 'y')."),
        (b"id, note\n1,2\n", "format= declares column 'note', which no file has (found: id, such as in"),
    ],
)
def test_a_csv_that_would_lose_lines_or_columns_is_refused(objects: Objects, root: str, text: bytes, message: str) -> None:
    objects.put(f"{root}/people/a.csv", text)
    assert message in refused(objects, ReferenceSource(f"{root}/people/", format=Csv({"id": "long", "note": "string"})))


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "utf8"])
def test_a_byte_order_mark_is_no_part_of_a_name(objects: Objects, root: str, encoding: str) -> None:
    objects.put(f"{root}/people/a.csv", "\ufeffid\n1\n".encode())
    assert seen(objects, ReferenceSource(f"{root}/people/", format=Csv({"id": "long"}, encoding=encoding))) == [{"id": 1}]


def test_line_breaks_in_values_are_read_if_they_are_declared(objects: Objects, root: str) -> None:
    objects.put(f"{root}/people/a.csv", b'id,note\n1,"a\nb"\n')
    source = ReferenceSource(f"{root}/people/", format=Csv({"id": "long", "note": "string"}, newlines=True))
    assert seen(objects, source) == [{"id": 1, "note": "a\nb"}]


def test_a_key_that_no_line_has_is_told(objects: Objects, root: str) -> None:
    objects.put(f"{root}/people/a.jsonl", b'{"customer": 1}\n')
    source = ReferenceSource(f"{root}/people/", format=JsonLines({"custmer": "long", "customer": "long"}))
    assert observe(objects, "people", source).notes == (
        "Source 'people': no line has a value for custmer, so it is null in every row. Correct format= if the key is written "
        "otherwise.",
    )


@pytest.mark.parametrize(
    ("text", "kind"), [("nan", "double"), ("inf", "double"), ("0x1F", "long"), ("1e400", "double"), ("1e300", "float")]
)
def test_text_that_is_no_number_to_a_person_is_refused(text: str, kind: str) -> None:
    with pytest.raises(pa.ArrowInvalid):
        converted(pa.array([text]), kind, None)


def test_a_double_that_a_float_cannot_hold_is_refused() -> None:
    with pytest.raises(pa.ArrowInvalid, match="too large for float"):
        converted(pa.array([1e300]), "float", None)
    assert converted(pa.array([0.1, float("nan")]), "float", None).null_count == 1


def test_nanoseconds_in_text_are_truncated() -> None:
    found = converted(pa.array(["2017-06-01T00:00:00.123456789Z"]), "timestamp", None)
    assert found[0].as_py() == utc(2017, 6, 1, 0, 0, 0, 123456)


def test_the_copies_of_a_reference_are_the_same_whichever_rows_where_leaves(objects: Objects, root: str) -> None:
    days = [datetime(2017, 6, day) for day in (1, 5, 9)]
    for day in days:
        rows = pa.table({"dt": [day], "state": ["gone" if day.day == 9 else "there"]})
        objects.put(f"{root}/apart/{day:%d}.parquet", parquet(rows))
    objects.put(f"{root}/whole/a.parquet", parquet(pa.table({"dt": days, "state": ["there", "there", "gone"]})))
    for name in ("apart", "whole"):
        source = ReferenceSource(f"{root}/{name}/", snapshots="dt", timezone="UTC", where="state = 'there'")
        pin = observe(objects, "people", source)
        assert pin.snapshots == tuple(day.replace(tzinfo=UTC) for day in days)
        assert rows_of(source, pin, Cut(at=utc(2017, 6, 10))) == []


def test_a_file_that_has_the_new_name_already_is_refused(objects: Objects, root: str) -> None:
    objects.put(f"{root}/people/a.parquet", parquet(pa.table({"Customer ID": [1]})))
    objects.put(f"{root}/people/b.parquet", parquet(pa.table({"customer": [2]})))
    text = refused(objects, ReferenceSource(f"{root}/people/", rename={"Customer ID": "customer"}))
    assert text.endswith("b.parquet has a column of that name already. Choose another name, or rename that one as well.")


def test_a_folder_of_null_decides_over_a_column_of_the_same_name(objects: Objects, root: str) -> None:
    rows = pa.table({"since": pa.array([datetime(2018, 1, 1)]), "id": [1]})
    objects.put(f"{root}/people/since=__HIVE_DEFAULT_PARTITION__/a.parquet", parquet(rows))
    source = ReferenceSource(f"{root}/people/", valid_from="since", timezone="UTC", partitions={"since": "timestamp"})
    pin = observe(objects, "people", source)
    assert pin.files[0].low is None and len(rows_of(source, pin, Cut(at=utc(2017, 6, 1)))) == 1


def test_where_on_a_column_of_nulls_keeps_no_row(objects: Objects, root: str) -> None:
    objects.put(f"{root}/people/a.parquet", parquet(pa.table({"id": [1], "z": pa.nulls(1)})))
    assert seen(objects, ReferenceSource(f"{root}/people/", where="z LIKE 'x'")) == []


def test_equal_text_files_are_converted_at_once_without_harm(objects: Objects, root: str, tmp_path: Path) -> None:
    for number in range(40):
        objects.put(f"{root}/people/{number}.csv", b"id\n1\n")
    source = ReferenceSource(f"{root}/people/", format=Csv({"id": "long"}))
    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(pinning.observe, objects, LocalCopies(tmp_path), "people", source) for _ in range(4)]
        assert {len(look.result().files) for look in looks} == {40}


def test_blocks_of_equal_bytes_in_other_folders_are_other_rows(objects: Objects, root: str) -> None:
    for shop in ("a", "b"):
        objects.put(f"{root}/visits/shop={shop}/x.csv", b"at\n2017-06-01\n")
    source = EventSource(
        f"{root}/visits/", event_time="at", timezone="UTC", format=Csv({"at": "timestamp"}), partitions={"shop": "string"}
    )
    pin = observe(objects, "visits", source)
    files = [replace(file, made=pin.files[0].made) for file in pin.files]  # one converted file stands for both, once it is kept
    blocks = [Block(file=file, groups=(0,), edges=()) for file in files]
    assert len({block.place for block in blocks}) == 2 and blocks[0].identity != blocks[1].identity


def test_a_constant_is_part_of_a_files_content() -> None:
    file = PinnedFile(uri="a", size=1, etag="a", groups=(1,))
    others: list[dict[str, Any]] = [{"names": {"x": "y"}}, {"constants": (Constant(name="x", type="int", value="1"),)}]
    assert len({json.dumps(replace(file, **other).content) for other in others} | {json.dumps(file.content)}) == 3


def test_a_view_reads_columns_by_their_stored_names(objects: Objects, root: str) -> None:
    objects.put(f"{root}/people/a.parquet", parquet(pa.table({"A b": [1], "c": [2]})))
    source = ReferenceSource(f"{root}/people/", rename={"A b": "a"}, columns=("a",), where="c = 2")
    assert view_of(source, observe(objects, "people", source)).stored == ["A b", "c"]


def test_a_copy_that_was_lost_is_made_again(objects: Objects, root: str, tmp_path: Path) -> None:
    file, copies = tmp_path / "rows.parquet", StoredCopies(objects, Layout(root, "shop"))
    file.write_bytes(parquet(pa.table({"n": [1]})))
    made = copies.keep("key", "rows.parquet", file, 1)
    assert copies.find("key") == made == copies.keep("key", "rows.parquet", file, 1)
    objects.delete(made.uri)
    assert copies.find("key") is None
    again = copies.keep("key", "rows.parquet", file, 1)
    assert copies.find("key") == again and objects.get(again.uri) == file.read_bytes()
