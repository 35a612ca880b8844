"""What a database refuses, in words that say what to do and never contain the password."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from almanac.core.relations import Query, Table
from almanac.databases import extracts, sessions
from almanac.databases.extracts import extract
from almanac.errors import AccessRefused, AlmanacError, DescriptionError, SourceError, SourceMissing, StoreError, Unreachable
from tests.support.databases import Database

pytestmark = pytest.mark.store

SECRET = "s3cr/et"


@pytest.fixture
def visits(database: Database) -> Database:
    database.run("CREATE TABLE visits (id int, at timestamptz, day date, naive timestamp)")
    database.run("INSERT INTO visits VALUES (1, '2017-06-01', '2017-06-01', '2017-06-01')")
    return database


@pytest.fixture
def reader(visits: Database) -> Iterator[str]:
    """The address of a user who may read nothing."""
    name = f"reader_{visits.schema}"
    visits.run(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    visits.run(f"GRANT USAGE ON SCHEMA {visits.schema} TO {name}")
    yield visits.address.replace("postgres@", f"{name}:s3cr%2Fet@")


def refused(kind: type[AlmanacError], database: Database, relation: str, *asked: str, **options: Any) -> str:
    with pytest.raises(kind) as error:
        database.extract(relation, *asked, **options)
    assert type(error.value) is kind
    assert database.kept.put == []
    told = "".join(traceback.format_exception(error.value))
    assert SECRET not in told and "s3cr%2Fet" not in told
    return str(error.value)


# --- the table ---


def test_a_missing_table_is_told_with_the_tables_there(visits: Database) -> None:
    assert refused(SourceMissing, visits, "Visits") == (
        f"Source 'visits' is missing: the database has no table {visits.schema}.Visits (schema {visits.schema} has: visits). "
        "Names are matched including case. Create it, or correct the source's uri."
    )
    with pytest.raises(SourceMissing, match=r"has no table nowhere\.visits \(schema nowhere has: none\)"):
        extract(
            "visits", Table("nowhere", "visits"), visits.address, event_time=None, timezone=None, asked=(), copies=visits.kept
        )


def test_a_missing_table_of_a_query_is_told(visits: Database) -> None:
    assert refused(SourceMissing, visits, "SELECT * FROM visits") == (
        "Source 'visits' is missing: the database has not all that the query reads (relation \"visits\" does not exist). Names "
        "are matched including case; a query names tables of other schemas than public with their schema. Create it, or correct "
        "the source."
    )


def test_a_missing_column_is_told_with_the_columns_there(visits: Database) -> None:
    assert refused(SourceError, visits, "visits", "id", "AT", event_time="at") == (
        f"Source 'visits' (table {visits.schema}.visits) has no column AT (it has: id, at, day, naive). Names are matched "
        "including case. Correct the source's description, or add the column."
    )
    assert "(the query) has no column b (it has: a)." in refused(SourceError, visits, "SELECT 1 AS a", "b")
    assert "has no column when (it has: id, at, day, naive)." in refused(SourceError, visits, "visits", event_time="when")


def test_columns_that_differ_only_in_case_are_refused_if_they_are_read(database: Database) -> None:
    database.run('CREATE TABLE visits (id int, amount int, "Amount" int)')
    assert refused(SourceError, database, "visits") == (
        f"Source 'visits' (table {database.schema}.visits) has columns 'amount' and 'Amount', which differ only in case. Rename "
        "one of them, in a query with AS, or leave the column out with columns=(...)."
    )
    assert database.rows("visits", "Amount", "id").column_names == ["id", "Amount"]


def test_a_query_with_two_columns_of_one_name_is_refused(database: Database) -> None:
    assert "(the query) has more than one column 'a'. Rename" in refused(SourceError, database, "SELECT 1 AS a, 2 AS a, 3 AS b")


def test_a_table_without_columns_is_refused(database: Database) -> None:
    database.run("CREATE TABLE visits ()")
    assert "has no columns. Add some, or correct the source." in refused(SourceError, database, "visits")


def test_columns_with_odd_names_are_read(database: Database) -> None:
    database.run(
        'CREATE TABLE visits ("a ""b""" int, "to_json" int[], "nullif" numeric(3, 1), "é{}%s;" text, "almanac_source" text)'
    )
    database.run("INSERT INTO visits VALUES (1, '{2}', 3, '4', '5')")
    (row,) = database.rows("visits").to_pylist()
    assert list(map(str, row.values())) == ["1", "[2]", "3.0", "4", "5"]
    assert list(row) == ['a "b"', "to_json", "nullif", "é{}%s;", "almanac_source"]


def test_a_query_may_have_braces_percents_and_a_comment_at_its_end(visits: Database) -> None:
    query = "SELECT '{}%s' || id AS a FROM {s}.visits WHERE id % 2 = 1 -- the odd ones"
    found = visits.rows(query)
    assert found.to_pylist() == [{"a": "{}%s1"}]


# --- the time ---


def test_a_time_column_is_a_timestamp(visits: Database) -> None:
    assert refused(SourceError, visits, "visits", event_time="day") == (
        f"Source 'visits': column 'day' of table {visits.schema}.visits is date, but a time column must be a timestamp. Cast it "
        "in a query to timestamptz: a date to the time by which its events have ended, an epoch with to_timestamp(...)."
    )


def test_a_naive_time_needs_a_time_zone(visits: Database) -> None:
    assert refused(SourceError, visits, "visits", event_time="naive") == (
        f"Source 'visits': column 'naive' of table {visits.schema}.visits is timestamp without time zone. Declare how to read it "
        "with EventSource(..., timezone='UTC')."
    )


# --- the user ---


def test_a_user_without_the_right_to_read_is_told_the_grant(visits: Database, reader: str) -> None:
    assert refused(AccessRefused, visits, "visits", address=reader) == (
        f"Source 'visits': the database does not let the connection's user read table {visits.schema}.visits (permission denied "
        f"for table visits). Grant it, for example with GRANT SELECT ON {visits.schema}.visits, and USAGE on the schema."
    )
    text = refused(AccessRefused, visits, "SELECT * FROM {s}.visits", address=reader)
    assert "Grant it, for example with GRANT SELECT ON each table of the query, and USAGE on the schema." in text


def test_a_user_who_may_read_some_columns_reads_those(visits: Database, reader: str) -> None:
    visits.run(f"GRANT SELECT (id) ON visits TO reader_{visits.schema}")

    assert visits.rows("visits", "id", address=reader).to_pylist() == [{"id": 1}]
    visits.kept.put.clear()
    refused(AccessRefused, visits, "visits", address=reader)


def test_a_user_who_may_only_read_a_view_reads_it(visits: Database, reader: str) -> None:
    visits.run("CREATE VIEW ids AS SELECT id FROM visits")
    visits.run(f"GRANT SELECT ON ids TO reader_{visits.schema}")
    assert visits.rows("ids", address=reader).to_pylist() == [{"id": 1}]


def test_a_user_whom_the_server_does_not_know_is_refused(visits: Database) -> None:
    text = refused(Unreachable, visits, "visits", address=visits.address.replace("postgres@", "nobody:s3cr%2Fet@"))
    assert text.startswith("Source 'visits': the database does not answer, or refuses the user (")
    assert 'role "nobody" does not exist' in text
    assert text.endswith("). Nothing was copied. Check the source's connection and the server.")


@contextmanager
def asking_for_a_password(socket_of: str) -> Iterator[int]:
    """A port whose server wants a password and then refuses it, as PostgreSQL does, quoting it."""

    def answer() -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(4096)
            if peer.recv(0) == b"":
                peer.sendall(b"R\0\0\0\x08\0\0\0\x03")
            peer.recv(4096)
            fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword s3cr/et is wrong\0\0"
            peer.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_wrong_password_is_refused_and_not_repeated(visits: Database, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), asking_for_a_password("") as port:
        address = f"postgresql://ann:s3cr%2Fet@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"
        text = refused(Unreachable, visits, "visits", address=address)
    assert "password *** is wrong" in text
    assert "s3cr" not in text + caplog.text


@pytest.mark.parametrize(
    "address",
    [
        "",
        "mysql://ann:s3cr/et@db/x",
        "postgresql://ann:s3cr/et@127.0.0.1:1/x",
        "postgresql://ann:12/et@127.0.0.1:1/x",
        "postgresql://ann:s3@cret@127.0.0.1:1/x",
        "postgresql://ann:s3%cret@127.0.0.1:1/x",
        "postgresql://ann:s3cret@127.0.0.1:1/x?unknown=1",
    ],
)
def test_an_address_that_is_not_valid_is_refused_and_not_repeated(database: Database, address: str) -> None:
    with pytest.raises(DescriptionError) as error:
        extract("visits", Query("SELECT 1"), address, event_time=None, timezone=None, asked=(), copies=database.kept)
    assert str(error.value) == (
        "Source 'visits': the address of its database is not valid. Expected a URI such as "
        "postgresql://user:password@host:5432/database, with special characters percent-encoded."
    )
    assert error.value.__cause__ is None and error.value.__suppress_context__


def test_a_server_that_does_not_answer_is_worth_another_try(database: Database) -> None:
    text = refused(Unreachable, database, "visits", address="postgresql://ann:s3cr%2Fet@127.0.0.1:1/x")
    assert "Connection refused" in text


# --- what stops a copy ---


def test_a_statement_timeout_is_worth_another_try(visits: Database) -> None:
    address = f"{visits.address}&options=-cstatement_timeout%3D100"
    assert refused(StoreError, visits, "SELECT id, pg_sleep(3)::text AS b FROM {s}.visits", address=address) == (
        "Source 'visits': the database stopped the copy of the query (canceling statement due to statement timeout). Nothing was "
        "copied. Try again; if it was a timeout, raise statement_timeout for the connection's user, or read fewer columns or "
        "rows."
    )


def test_a_table_that_stays_locked_is_worth_another_try(visits: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOCK_SECONDS", 0.2)
    with psycopg.connect(visits.address) as other:
        other.execute(f"LOCK TABLE {visits.schema}.visits IN ACCESS EXCLUSIVE MODE".encode())
        text = refused(StoreError, visits, "visits")
    assert text == (
        f"Source 'visits': another session has locked what table {visits.schema}.visits reads for 0.2 seconds. Nothing was "
        "copied. Find the session in pg_locks, and try again when it has ended."
    )


@pytest.mark.parametrize(("state", "kind"), [("40001", "conflict"), ("40P01", "conflict")])
def test_a_conflict_with_recovery_is_worth_another_try(visits: Database, state: str, kind: str) -> None:
    """As a standby raises it when the primary has removed rows that a snapshot still sees."""
    visits.run(
        "CREATE FUNCTION conflict() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'canceling statement due to "
        f"conflict with recovery' USING ERRCODE = '{state}'; END $$"
    )
    assert refused(StoreError, visits, f"SELECT {visits.schema}.conflict() AS a") == (
        "Source 'visits': the database gave up the copy of the query because of other transactions (canceling statement due to "
        "conflict with recovery). Nothing was copied. Try again; on a standby, raise max_standby_streaming_delay or set "
        "hot_standby_feedback."
    )


def test_a_connection_that_is_lost_in_the_middle_is_worth_another_try(visits: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real = extracts._parsed

    def killed(*given: Any) -> Any:
        visits.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'almanac'")
        return real(*given)

    monkeypatch.setattr(extracts, "_parsed", killed)
    monkeypatch.setattr(extracts, "PIECE_BYTES", 1000)
    text = refused(Unreachable, visits, "SELECT repeat('x', 9000) AS a FROM generate_series(1, 9000)")
    assert text.startswith("Source 'visits': the database stopped the copy of the query (")
    assert text.endswith("). Nothing was copied. Try again.")


@pytest.mark.parametrize(
    ("state", "kind", "part"),
    [
        ("08P01", SourceError, "the server's answer about the query is not PostgreSQL's protocol (told)"),
        ("53100", StoreError, "the database stopped the copy of the query (told). Nothing was copied. Try again."),
        ("22012", SourceError, "the database refused to read the query (told). Nothing was copied. Correct the query;"),
    ],
)
def test_other_errors_are_told_with_the_relation(visits: Database, state: str, kind: type[AlmanacError], part: str) -> None:
    raised = f"BEGIN RAISE EXCEPTION 'told' USING ERRCODE = '{state}'; END"
    visits.run(f"CREATE FUNCTION raised() RETURNS int LANGUAGE plpgsql AS $$ {raised} $$")
    assert part in refused(kind, visits, f"SELECT {visits.schema}.raised() AS a")


def test_a_query_with_an_error_is_refused(visits: Database) -> None:
    text = refused(SourceError, visits, "SELECT nothing FROM {s}.visits")
    assert 'refused to read the query (column "nothing" does not exist). Nothing was copied. Correct the query;' in text
    assert "syntax error" in refused(SourceError, visits, "SELECT id FROM {s}.visits WHERE")
    assert "read-only transaction" in refused(SourceError, visits, "SELECT id FROM {s}.visits FOR UPDATE")


def test_a_disk_that_is_full_is_told(visits: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*given: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(extracts.Months, "add", full)
    text = refused(StoreError, visits, "visits")
    assert "(No space left on device). Nothing was copied. Free space there, or set TMPDIR to another folder" in text
