"""Each type of PostgreSQL that is read arrives as it was, and each other one is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from almanac.columns import UTC_TIME
from almanac.errors import SourceError
from tests.support.databases import Database

pytestmark = pytest.mark.store

D = Decimal
EACH: list[tuple[str, list[Any], pa.DataType]] = [
    ("smallint", [-(2**15), 2**15 - 1, None], pa.int16()),
    ("integer", [-(2**31), 2**31 - 1, None], pa.int32()),
    ("bigint", [-(2**63), 2**63 - 1, None], pa.int64()),
    ("numeric(10, 2)", [D("-99999999.99"), D("0.00"), D("0.01"), None], pa.decimal128(10, 2)),
    ("numeric(38, 0)", [D("9" * 38), D("-" + "9" * 38)], pa.decimal128(38, 0)),
    ("numeric(3, -2)", [D(-12300), D(99900)], pa.decimal128(5, 0)),
    ("numeric(2, 5)", [D("0.00012"), D("-0.00099")], pa.decimal128(5, 5)),
    ("real", [0.5, -3.4028234663852886e38, math.inf, 1.401298464324817e-45], pa.float32()),
    ("double precision", [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, -math.inf], pa.float64()),
    ("text", ["", " ", 'a "b"', "a,b;c\td", "\n\r\n", "\\N", "\\.", "NULL", "né 漢字 🙂", None], pa.string()),
    ("varchar(20)", ["ab ", "NaN", None], pa.string()),
    ("json", ['{"b": 1,  "a": [null]}', "1", None], pa.string()),
    ("boolean", [True, False, None], pa.bool_()),
    ("date", [date(1, 1, 1), date(1969, 12, 31), date(9999, 12, 31), None], pa.date32()),
    (
        "timestamp",
        [datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(9999, 12, 31, 23, 59)],
        pa.timestamp("us"),
    ),
    ("timestamptz", [datetime(1900, 1, 1, 0, 0, 0, 1, UTC), datetime(2017, 6, 1, tzinfo=UTC), None], UTC_TIME),
    ("bytea", [b"", bytes(range(256)), None], pa.binary()),
    ("bigint[]", [[], [1, None, -(2**63)], None], pa.list_(pa.int64())),
    ("numeric(20, 4)[]", [[D("-1234567890123456.7890"), None]], pa.list_(pa.decimal128(20, 4))),
    ("double precision[]", [[-0.0, math.inf, 1e300, 0.1, 3.0]], pa.list_(pa.float64())),
    ("real[]", [[0.5, -math.inf]], pa.list_(pa.float32())),
    ("text[]", [["", "a,b", '"', "NULL", None, "{}", "漢\n"], []], pa.list_(pa.string())),
    ("boolean[]", [[True, None, False]], pa.list_(pa.bool_())),
    ("date[]", [[date(1900, 2, 28), None]], pa.list_(pa.date32())),
    ("timestamp[]", [[datetime(1969, 12, 31, 23, 59, 59, 999999)]], pa.list_(pa.timestamp("us"))),
    ("timestamptz[]", [[datetime(2017, 6, 1, 0, 0, 0, 1, UTC), None]], pa.list_(UTC_TIME)),
    ("bytea[]", [[b"", b"\x00\xff"]], pa.list_(pa.binary())),
]


@pytest.mark.parametrize(("kind", "values", "arrow"), EACH, ids=[kind for kind, _, _ in EACH])
def test_values_of_each_type_arrive_as_they_were(database: Database, kind: str, values: list[Any], arrow: pa.DataType) -> None:
    database.run(f"CREATE TABLE a (id int, v {kind})")
    database.insert("a", list(enumerate(values)))
    found = database.rows("a").sort_by("id")["v"]

    assert found.type == arrow
    assert repr(found.to_pylist()) == repr(pa.array(values, arrow).to_pylist())  # -0.0 == 0.0


def test_texts_of_other_types_are_texts(database: Database) -> None:
    database.run("CREATE TYPE mood AS ENUM ('sad', 'a ''b')")
    database.run("CREATE DOMAIN positive AS numeric(6, 3) CHECK (value > 0)")
    database.run("CREATE TABLE a (u uuid, j jsonb, m mood, c char(5), ms mood[], us uuid[], js json[], cs char(3)[], p positive)")
    database.run(
        "INSERT INTO a VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"b\":1,\"a\":2}', 'a ''b', 'ab', '{sad,NULL}', "
        "'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}', ARRAY['{\"a\":\"x,y\"}'::json], '{ab}', 1.5)"
    )
    uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

    assert database.rows("a").to_pylist() == [
        {
            "u": uuid,
            "j": '{"a": 2, "b": 1}',
            "m": "a 'b",
            "c": "ab",
            "ms": ["sad", None],
            "us": [uuid],
            "js": ['{"a":"x,y"}'],
            "cs": ["ab"],
            "p": D("1.500"),
        }
    ]


def test_nan_is_null_where_arrow_has_none(database: Database) -> None:
    database.run("CREATE TABLE a (n numeric(5, 2), ns numeric(5, 2)[], f float8, fs float4[])")
    database.run("INSERT INTO a VALUES ('NaN', '{NaN,1}', 'NaN', '{NaN}')")
    (row,) = database.rows("a").to_pylist()

    assert (row["n"], row["ns"]) == (None, [None, D("1.00")])
    assert math.isnan(row["f"]) and math.isnan(row["fs"][0])


@pytest.mark.parametrize("values", [[None, None], ["", None], [None], ["\ufeffa"], ["\ufeff", "\ufeff"]])
def test_a_single_column_of_nulls_empty_texts_and_byte_order_marks_keeps_its_rows(database: Database, values: list[Any]) -> None:
    database.run("CREATE TABLE a (v text)")
    database.insert("a", [(value,) for value in values])

    assert sorted(map(str, database.rows("a")["v"].to_pylist())) == sorted(map(str, values))


MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
DECIMALS = st.decimals(-(10**12), 10**12, places=4, allow_nan=False)


def rare(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


ROWS = st.lists(
    st.tuples(
        rare(st.integers(-(2**63), 2**63 - 1)),
        rare(DECIMALS),
        rare(st.floats(allow_nan=False)),
        rare(TEXTS),
        rare(st.dates()),
        rare(MOMENTS),
        rare(MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC))),
        rare(st.binary(max_size=12)),
        rare(st.lists(rare(TEXTS), max_size=3)),
        rare(st.lists(rare(DECIMALS), max_size=3)),
    ),
    max_size=20,
)
COLUMNS = (
    "a bigint, b numeric(18, 4), c float8, d text, e date, f timestamp, g timestamptz, h bytea, i text[], j numeric(18, 4)[]"
)


@pytest.fixture
def anew(database: Database) -> Callable[[], str]:
    """The name of a new table."""

    def made() -> str:
        name = f"t{uuid4().hex}"
        database.run(f"CREATE TABLE {name} ({COLUMNS})")
        return name

    return made


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_any_rows_arrive_as_they_were(database: Database, anew: Callable[[], str], rows: list[tuple[Any, ...]]) -> None:
    table = anew()
    if rows:
        database.insert(table, rows)
    found = [tuple(row.values()) for row in database.rows(table, event_time="g").to_pylist()]

    assert sorted(map(repr, found)) == sorted(repr(plain(row)) for row in rows)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS.filter(bool), order=st.randoms(use_true_random=False))
def test_any_rows_have_the_same_bytes_in_any_order(
    database: Database, anew: Callable[[], str], rows: list[tuple[Any, ...]], order: Random
) -> None:
    one, other = anew(), anew()
    database.insert(one, rows)
    database.insert(other, order.sample(rows, len(rows)))

    assert database.extract(one, event_time="f", timezone="UTC") == database.extract(other, event_time="f", timezone="UTC")


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as Arrow gives it."""
    kinds = [pa.int64(), pa.decimal128(18, 4), pa.float64(), pa.string(), pa.date32(), pa.timestamp("us"), UTC_TIME, pa.binary()]
    kinds += [pa.list_(pa.string()), pa.list_(pa.decimal128(18, 4))]
    return tuple(pa.array([value], kind).to_pylist()[0] for value, kind in zip(row, kinds, strict=True))


@pytest.mark.parametrize(
    "kind", ["time", "timetz", "interval", "money", "xml", "inet", "point", "int4range", "oid", "name", "bit(3)"]
)
def test_any_other_type_is_refused_by_name(database: Database, kind: str) -> None:
    database.run(f"CREATE TABLE a (id int, v {kind}, w {kind}[])")
    (shown,) = database.run(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'a'::regclass AND attnum = 2"
    )[0]

    with pytest.raises(SourceError) as refused:
        database.extract("a")
    assert str(refused.value) == (
        f"Source 'visits': column 'v' of table {database.schema}.a is {shown}, a type that is not read (read are smallint, "
        "integer, bigint, numeric(p, s), real, double precision, text, varchar, char, uuid, json, jsonb, enums, boolean, date, "
        'timestamp, timestamptz, bytea, and arrays of these). Cast it in a query, such as CAST("v" AS text) AS "v", or leave '
        "the column out with columns=(...). (1 more of its columns cannot be read.)"
    )
    assert database.rows("a", "id").column_names == ["id"]


def test_a_type_of_the_user_named_like_one_of_postgres_is_refused(database: Database) -> None:
    database.run("CREATE TYPE int8 AS (a int)")
    database.run(f"CREATE TABLE a (v {database.schema}.int8)")
    with pytest.raises(SourceError, match=r"is test_.*int8, a type that is not read"):
        database.extract("a")


def test_a_numeric_without_digits_is_refused_and_can_be_cast_in_a_query(database: Database) -> None:
    database.run("CREATE TABLE a (v numeric)")
    database.run("INSERT INTO a VALUES (1.23456)")
    with pytest.raises(SourceError) as refused:
        database.extract("a")

    assert str(refused.value) == (
        f"Source 'visits': column 'v' of table {database.schema}.a is numeric, numeric without digits, which has no fixed number "
        'of digits. Cast it in a query, such as CAST("v" AS numeric(18, 4)) AS "v", or leave the column out with columns=(...).'
    )
    assert database.rows('SELECT CAST("v" AS numeric(18, 4)) AS "v" FROM {s}.a').to_pylist() == [{"v": D("1.2346")}]


def test_a_numeric_of_too_many_digits_is_refused(database: Database) -> None:
    database.run("CREATE TABLE a (v numeric(39, 2))")
    with pytest.raises(SourceError, match=r"is numeric\(39,2\), of more than 38 digits\. Cast it in a query"):
        database.extract("a")


TIMES = (
    "Times lie in the years 1 to 9999; infinity is none. In a query, NULLIF(..., 'infinity') makes it null, and LEAST and "
    "GREATEST bound it, or leave the column out with columns=(...). Nothing was copied."
)


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz", "date[]", "timestamptz[]"])
@pytest.mark.parametrize("value", ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01"])
def test_a_time_outside_of_the_years_1_to_9999_is_refused(database: Database, kind: str, value: str) -> None:
    database.run(f"CREATE TABLE a (id int, v {kind})")
    database.insert("a", [(1, f"{{{value}}}" if "[]" in kind else value)])
    with pytest.raises(SourceError) as refused:
        database.extract("a")

    text = str(refused.value)
    assert text.startswith(f"Source 'visits': column 'v' of table {database.schema}.a has a value that cannot be copied: ")
    assert value.split("-")[0] in text
    assert text.endswith(TIMES)
    assert database.kept.put == []


def test_an_array_of_several_dimensions_is_refused(database: Database) -> None:
    database.run("CREATE TABLE a (v int[])")
    database.run("INSERT INTO a VALUES ('{{1,2},{3,4}}')")
    with pytest.raises(SourceError, match="has a value that cannot be copied: an array of several dimensions"):
        database.extract("a")


def test_text_that_is_not_utf8_is_refused(database: Database) -> None:
    name = f"ascii_{database.schema}"
    database.run(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    address = database.address.replace("/postgres?", f"/{name}?")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.a (v text)")
        connection.execute("INSERT INTO public.a VALUES (convert_from('\\xe9', 'SQL_ASCII'))")
    with pytest.raises(
        SourceError, match=r"refused to read the query \(invalid byte sequence for encoding .UTF8.: 0xe9\)\. Nothing"
    ):
        database.extract("SELECT v FROM public.a", address=address)


def test_the_mapping_does_not_depend_on_settings_of_the_user(database: Database, tmp_path: Path) -> None:
    database.run("CREATE TABLE a (d date, at timestamptz, f float8, b bytea)")
    database.run("INSERT INTO a VALUES ('2017-02-01', '2017-02-01 12:00+00', 0.1::float8 + 0.2::float8, '\\x00ff')")
    odd = "-c datestyle=German -c timezone=Asia/Tokyo -c extra_float_digits=-5 -c bytea_output=escape -c search_path=pg_temp"
    address = f"{database.address}&options={odd.replace(' ', '%20').replace('=', '%3D')}"

    assert database.extract("a", event_time="at", address=address) == database.extract("a", event_time="at")
    assert database.rows("a")["f"].to_pylist() == [0.1 + 0.2]
