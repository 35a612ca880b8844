"""What a source's description refuses, with what it says; and what a description leaves out stays out of its digest."""

from __future__ import annotations

from typing import Any

import pytest

from almanac import Csv, Delta, EventSource, Iceberg, JsonLines, Late, Parquet, ReferenceSource
from almanac.core.canonical import decode, digest, encode
from almanac.core.sources import Source
from almanac.errors import DescriptionError

FOLDER, TABLE = "s3://shop/visits/", "postgres://shop/public.visits"


def refused(uri: str = FOLDER, **fields: Any) -> str:
    with pytest.raises(DescriptionError) as error:
        ReferenceSource(uri, **fields)
    return str(error.value).removeprefix("ReferenceSource")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"rename": {"a": ""}},
            ".rename: expected stored name to the name to read it by, such as {'Customer ID': 'customer_id'}; got",
        ),
        (
            {"rename": {"a": "c", "b": "C"}},
            ".rename: expected different names, got 'c' and 'C' for several columns. Rename one of them.",
        ),
        (
            {"cast": {"a": "bigint"}},
            ".cast['a']: expected one of boolean, int, long, float, double, string, date, timestamp, binary, ",
        ),
        ({"cast": {"a": "decimal(39,2)"}}, ".cast['a']: expected one of boolean, "),
        ({"cast": ["a"]}, ".cast: expected column to type, such as {'customer': 'long'}; got ['a']."),
        ({"partitions": {"dt": "timestamp_seconds"}}, ".partitions['dt']: expected one of boolean, "),
        ({"where": ("a = 1",)}, ".where: expected a text such as \"status <> 'cancelled' AND quantity > 0\", got ('a = 1',)."),
        ({"where": "a ="}, "where: expected a value such as"),
        ({"format": "csv"}, ".format: expected Parquet(), Csv(...), JsonLines(...), Delta() or Iceberg(); got 'csv'."),
        (
            {"format": Delta(), "versioned": True},
            ".versioned: expected files in a bucket, got a table whose log tells its past. Leave",
        ),
        (
            {"uri": TABLE, "versioned": True},
            ".versioned: expected files in a bucket, got a table whose past cannot be read. Leave",
        ),
        ({"format": Delta(), "partitions": {"dt": "date"}}, ".partitions: expected files in folders, got a table, which has its"),
        ({"uri": TABLE, "format": Delta()}, ".format: expected none for 'postgres://shop/public.visits', got Delta("),
        (
            {"uri": "iceberg://lake/shop.visits", "format": Delta()},
            ".format: expected Iceberg() for 'iceberg://lake/shop.visits', got",
        ),
        ({"uri": "iceberg://lake/visits"}, ".uri: expected iceberg://CATALOG/namespace.table, got 'iceberg://lake/visits'."),
        (
            {"query": "SELECT 1"},
            ".query: expected a uri such as 'postgres://CONNECTION/', got 's3://shop/visits/'. Leave query out.",
        ),
        (
            {"uri": TABLE, "query": "SELECT 1"},
            ".uri: expected postgres://CONNECTION/ beside a query, got 'postgres://shop/public.visits'",
        ),
        (
            {"uri": "postgres://me:secret@shop/visits"},
            ".uri: expected postgres://CONNECTION/schema.table, or postgres://CONNECTION/ with",
        ),
        (
            {"uri": "postgres://shop/", "query": "DROP TABLE x"},
            ".query: expected a statement that begins with SELECT or WITH, got 'DROP'.",
        ),
        (
            {"format": Csv({"dt": "date"}), "partitions": {"dt": "date"}},
            ".partitions: 'dt' is among the columns of Csv as well. Leave one out.",
        ),
        ({"valid_from": "a", "snapshots": "b"}, ": expected valid_from or snapshots, got both. A copy holds as of its own time."),
        (
            {"valid_to": "b"},
            ".valid_from: expected the column that says since when a row holds, beside valid_to='b'; got nothing.",
        ),
        (
            {"valid_from": "a", "valid_to": "b", "where": "b IS NULL"},
            ".where: expected columns other than valid_to='b', which lies in the future of the rows that are seen. Leave it out",
        ),
    ],
)
def test_a_field_that_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    text = refused(**fields)
    assert text.startswith(message) and "secret" not in text


def test_a_marker_needs_a_folder() -> None:
    with pytest.raises(DescriptionError) as error:
        EventSource(TABLE, event_time="at", late=Late("wait", marker="ready-{period}"))
    assert str(error.value) == (
        "EventSource.late: Late.marker is a file below the uri, and 'postgres://shop/public.visits' is no folder. Use within= "
        "or rows=."
    )


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (lambda: Csv({}), "Csv.columns: expected at least one column with its type, got none."),
        (
            lambda: Csv({"a": "binary"}),
            "Csv.columns['a']: expected a type that text can hold, got 'binary'. Read it as 'string'.",
        ),
        (lambda: Csv({"a": "long"}, delimiter=";;"), "Csv.delimiter: expected one ASCII character, such as ';', got ';;'."),
        (
            lambda: Csv({"a": "long"}, null="NULL"),
            "Csv.null: expected a tuple of texts, such as ('', 'NULL'); got 'NULL'.",
        ),  # type: ignore[arg-type]
        (
            lambda: Csv({"a": "long"}, encoding="klingon"),
            "Csv.encoding: expected one such as 'utf-8' or 'cp1252', got 'klingon'.",
        ),
        (
            lambda: JsonLines({"a": "text"}),
            "JsonLines.columns['a']: expected one of boolean, int, long, float, double, string, date, ",
        ),
        (lambda: Csv({"a": "date"}, date="%d.%m."), "Csv.date: expected strptime's format of a whole date, such as '%d.%m.%Y'"),
        (lambda: Csv({"a": "date"}, timestamp="%c %Z"), "Csv.timestamp: expected strptime's format of a whole date"),
        (lambda: Csv({"a": "date", "A": "date"}), "Csv.columns: expected names that differ in more than case, got A, a."),
    ],
)
def test_a_format_that_cannot_be_is_refused(format: Any, message: str) -> None:
    with pytest.raises(DescriptionError) as error:
        format()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "source",
    [
        EventSource(
            FOLDER, event_time="at", rename={"A": "a"}, cast={"a": "decimal(10,2)"}, where="a > 1", partitions={"dt": "date"}
        ),
        EventSource(FOLDER, event_time="at", format=Csv({"at": "timestamp"}, delimiter=";", null=("", "-"))),
        EventSource(FOLDER, event_time="at", format=JsonLines({"at": "timestamp"})),
        EventSource(FOLDER, event_time="at", format=Delta()),
        EventSource("iceberg://lake/shop.visits", event_time="at"),
        EventSource("postgres://shop/", event_time="at", query="SELECT * FROM visits"),
        ReferenceSource(FOLDER, valid_from="since", valid_to="until", timezone="UTC"),
        ReferenceSource(FOLDER, snapshots="dt"),
    ],
)
def test_a_description_is_read_back_as_it_was(source: Source) -> None:
    assert decode(type(source), encode(source)) == source
    assert source.shape == decode(type(source), encode(source.shape))


def test_what_is_left_out_stays_out_of_the_digest() -> None:
    assert encode(ReferenceSource(FOLDER)) == {"uri": FOLDER, "columns": [], "kind": "reference"}
    assert encode(ReferenceSource(FOLDER, format=Parquet(), rename={}, cast={}, partitions={})) == encode(ReferenceSource(FOLDER))
    assert digest(ReferenceSource(FOLDER)) != digest(ReferenceSource(FOLDER, where="a = 1"))
    assert ReferenceSource("iceberg://lake/shop.visits").format == Iceberg()


def test_each_source_knows_what_it_can_tell_of_its_past() -> None:
    def told(source: Source) -> tuple[bool, bool]:
        return source.tells_its_past, source.tells_what_was_known

    assert told(EventSource(FOLDER, event_time="at")) == (False, False)
    assert told(EventSource(FOLDER, event_time="at", versioned=True)) == (True, True)
    assert told(EventSource(FOLDER, event_time="at", format=Delta())) == (True, True)
    assert told(EventSource(TABLE, event_time="at", knowledge_time="known")) == (False, True)
    assert told(ReferenceSource(FOLDER, snapshots="dt")) == (False, True)
    assert told(ReferenceSource(FOLDER, valid_from="since")) == (False, False)
