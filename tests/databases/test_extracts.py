"""A copy of a table is one state of it, in files whose bytes depend on the rows alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.databases import extracts, months, sessions
from almanac.errors import SourceError
from tests.support.databases import Database, digests, read

pytestmark = pytest.mark.store

YEAR = """
    SELECT i, '2017-01-31 12:00+00'::timestamptz + i * interval '1 hour', i / 7.0::float8, 'n' || i
    FROM generate_series(1, 2000) i
"""


@pytest.fixture
def visits(database: Database) -> Database:
    """2,000 visits in a table of January to April 2017."""
    database.run("CREATE TABLE visits (id int, at timestamptz, amount float8, note text)")
    database.run(f"INSERT INTO visits {YEAR}")
    return database


# --- the files ---


def test_there_is_a_file_for_each_utc_month_and_one_for_rows_without_a_time(visits: Database) -> None:
    visits.run(
        "INSERT INTO visits VALUES (0, NULL, 1, 'x'), (-1, '2016-12-31 23:59:59.999999+00', 1, ''), (-2, '2017-05-01 +02', 1, '')"
    )
    found = visits.extract("visits", event_time="at")
    rows = {"2016-12": 1, "2017-01": 11, "2017-02": 672, "2017-03": 744, "2017-04": 574, "undated": 1}

    assert {file.name: file.rows for file in found.files} == {f"{name}.parquet": count for name, count in rows.items()}
    for file in found.files:
        assert Path(file.uri).stat().st_size == file.size
        times = pq.read_table(file.uri)["at"].to_pylist()
        assert {f"{time:%Y-%m}" if time else "undated" for time in times} == {file.name.removesuffix(".parquet")}


def test_months_of_naive_times_are_those_of_utc_as_the_source_reads_them(database: Database) -> None:
    """The hour that occurs twice is the first of the two, and the skipped one the moment of the jump, as when rows are read."""
    database.run("CREATE TABLE a (at timestamp)")
    times = ["2017-05-31 19:59:59", "2017-05-31 20:00:00", "2017-11-05 01:30:00", "2017-03-12 02:30:00"]
    database.insert("a", [(time,) for time in times])
    found = database.extract("a", event_time="at", timezone="America/New_York")

    assert {file.name: file.rows for file in found.files} == {
        "2017-03.parquet": 1,
        "2017-05.parquet": 1,
        "2017-06.parquet": 1,
        "2017-11.parquet": 1,
    }
    assert sorted(str(time) for time in read(found)["at"].to_pylist()) == sorted(times)  # written as they are


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Africa/Monrovia", "Pacific/Apia"])
def test_naive_times_around_jumps_of_the_clock_stay_in_order(database: Database, zone: str) -> None:
    database.run("CREATE TABLE a (at timestamp)")
    database.run("INSERT INTO a SELECT generate_series('2011-01-01'::timestamp, '2012-01-03', '17 minutes')")
    assert sum(file.rows for file in database.extract("a", event_time="at", timezone=zone).files) == 31_088


def test_without_an_event_time_there_is_one_file(visits: Database) -> None:
    (file,) = visits.extract("visits").files
    assert (file.name, file.rows) == ("rows.parquet", 2000)


@pytest.mark.parametrize("event_time", [None, "at"])
def test_an_empty_table_gives_one_file_with_its_columns(database: Database, event_time: str | None) -> None:
    database.run("CREATE TABLE a (id bigint, at timestamptz, tags text[])")
    (file,) = database.extract("a", event_time=event_time).files

    assert (file.name, file.rows) == ("rows.parquet", 0)
    assert pq.read_schema(file.uri) == pa.schema(
        [("id", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("tags", pa.list_(pa.string()))]
    )


def test_rows_are_copied_as_they_are_also_equal_ones(database: Database) -> None:
    database.run("CREATE TABLE a (v int)")
    database.run("INSERT INTO a VALUES (1), (1), (NULL), (NULL), (1)")
    assert database.rows("a")["v"].to_pylist() == [1, 1, 1, None, None]


def test_pages_have_checksums_and_statistics_show_the_times(visits: Database) -> None:
    file = visits.extract("visits", event_time="at").files[0]
    column = pq.read_metadata(file.uri).row_group(0).column(1)

    assert column.statistics.min == datetime(2017, 1, 31, 13, tzinfo=UTC)
    assert column.statistics.max == datetime(2017, 1, 31, 23, tzinfo=UTC)
    body = bytearray(Path(file.uri).read_bytes())
    body[column.dictionary_page_offset + column.total_compressed_size - 1] ^= 1
    Path(file.uri).write_bytes(body)
    with pytest.raises(OSError, match=r"CRC|crc|corrupt|Corrupt"):
        pq.ParquetFile(file.uri, page_checksum_verification=True).read()


# --- the same rows, the same bytes ---

CHANGES = {
    "moved by updates": "UPDATE visits SET note = note WHERE id % 3 = 0",
    "stored in another order": "CREATE INDEX by_note ON visits (note); CLUSTER visits USING by_note",
    "stored anew": "DELETE FROM visits WHERE id > 9; VACUUM FULL; INSERT INTO visits SELECT * FROM ({y}) y (i) WHERE i > 9",
    "from an index": "CREATE INDEX by_time ON visits (at); ANALYZE visits",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_same_rows_have_the_same_digests_wherever_the_server_stores_them(visits: Database, change: str) -> None:
    before = visits.extract("visits", event_time="at")
    for statement in change.replace("{y}", YEAR).split("; "):
        visits.run(statement)

    assert visits.extract("visits", event_time="at") == before
    assert len(visits.kept.put) == len(before.files)


def test_values_that_are_equal_but_not_the_same_have_one_order(database: Database) -> None:
    """Zero and minus zero are equal."""
    database.run("CREATE TABLE a (f float8, g float4, fs float4[])")
    rows = [(one, other, [one]) for one in (0.0, -0.0) for other in (0.0, -0.0)]
    database.insert("a", rows)
    before = database.extract("a")
    database.run("TRUNCATE a")
    database.insert("a", rows[::-1])

    assert database.extract("a") == before


def test_how_the_stream_is_cut_changes_no_byte(visits: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(months, "GROUP_ROWS", 300)
    monkeypatch.setattr(months, "GROUP_BYTES", 10_000)
    before = visits.extract("visits", event_time="at")
    for piece in (1, 777, 50_000):
        monkeypatch.setattr(extracts, "PIECE_BYTES", piece)
        assert visits.extract("visits", event_time="at") == before

    groups = pq.read_metadata(before.files[1].uri)
    counts = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
    assert sum(counts) == 672 and all(150 < count <= 300 for count in counts[:-1])


def test_only_the_month_that_changed_is_kept_anew(visits: Database) -> None:
    before = digests(visits.extract("visits", event_time="at"))
    visits.kept.put.clear()
    visits.run("INSERT INTO visits VALUES (9999, '2017-04-30 12:00+00', 1, 'late')")
    after = digests(visits.extract("visits", event_time="at"))

    assert visits.kept.put == ["2017-04.parquet"]
    assert {name for name in after if after[name] != before[name]} == {"2017-04.parquet"}
    visits.run("DELETE FROM visits WHERE id = 30")
    visits.extract("visits", event_time="at")
    assert visits.kept.put == ["2017-04.parquet", "2017-02.parquet"]


def test_the_order_of_asked_columns_changes_nothing(visits: Database) -> None:
    assert visits.extract("visits", "note", "id", event_time="at") == visits.extract(
        "visits", "id", "at", "note", event_time="at"
    )


# --- one state ---


def moving(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, change: Callable[[], None]) -> list[int]:
    """Runs a change once, in another session, before a function of the copy is called for the first time."""
    real, times = getattr(owner, name), [0]

    def call(*given: Any, **named: Any) -> Any:
        times[0] += 1
        if times[0] == 1:
            change()
        return real(*given, **named)

    monkeypatch.setattr(owner, name, call)
    return times


@pytest.mark.parametrize(
    ("owner", "name"),
    [(extracts, "_check_time"), (extracts, "_stream"), (extracts, "_parsed")],
    ids=["after the snapshot", "before the rows", "after the first row"],
)
def test_rows_that_change_while_they_are_copied_are_all_as_they_were(
    visits: Database, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """Rows are moved to months that are read already or not yet, deleted and added, in committed transactions."""
    before = visits.extract("visits", event_time="at")

    def change() -> None:
        visits.run("UPDATE visits SET at = at + interval '40 days', note = 'moved' WHERE id % 3 = 0")
        visits.run("UPDATE visits SET at = at - interval '40 days', note = 'moved' WHERE id % 3 = 1")
        visits.run("DELETE FROM visits WHERE id % 5 = 2")
        visits.run("INSERT INTO visits SELECT id + 10000, at, amount, 'new' FROM visits")

    monkeypatch.setattr(extracts, "PIECE_BYTES", 500)  # some rows at a time
    times = moving(monkeypatch, owner, name, change)
    during = visits.extract("visits", event_time="at")

    assert times[0] >= 1
    assert during == before
    assert sorted(read(during)["id"].to_pylist()) == list(range(1, 2001))
    assert visits.extract("visits", event_time="at") != before


def test_a_query_over_two_tables_sees_both_at_one_moment(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Money goes from one table to the other while the query reads: the sum stays."""
    database.run("CREATE TABLE a (id int, v int)")
    database.run("CREATE TABLE b (id int, v int)")
    database.run("INSERT INTO a SELECT i, 100 FROM generate_series(1, 500) i")
    database.run("INSERT INTO b SELECT i, 0 FROM generate_series(1, 500) i")
    ended, moves = threading.Event(), [0]

    def move() -> None:
        with psycopg.connect(database.address) as connection:
            connection.execute(f"SET search_path = {database.schema}".encode())
            connection.commit()
            while not ended.is_set():
                connection.execute("UPDATE a SET v = v - 1 WHERE id % 2 = 0")
                connection.execute("UPDATE b SET v = v + 1 WHERE id % 2 = 0")
                connection.commit()
                moves[0] += 1

    thread = threading.Thread(target=move)
    thread.start()
    try:
        query = "SELECT v FROM {s}.a UNION ALL SELECT v FROM {s}.b CROSS JOIN (SELECT pg_sleep(0.05)) slow"
        sums = [sum(database.rows(query)["v"].to_pylist()) for _ in range(5)]
    finally:
        ended.set()
        thread.join()

    assert sums == [50_000] * 5
    assert moves[0] > 5


@pytest.mark.parametrize("relation", ["visits", "SELECT * FROM {s}.visits", "SELECT * FROM {s}.of_visits", "of_visits", "parts"])
def test_a_table_that_is_loaded_anew_is_never_seen_empty(visits: Database, relation: str) -> None:
    """TRUNCATE does not spare older snapshots, so the lock is taken before the snapshot."""
    visits.run("CREATE VIEW of_visits AS SELECT * FROM visits")
    visits.run("CREATE TABLE parts (LIKE visits) PARTITION BY RANGE (at)")
    visits.run("CREATE TABLE part PARTITION OF parts DEFAULT")
    visits.run("INSERT INTO parts SELECT * FROM visits")
    truncated = "part" if relation == "parts" else "visits"
    found: list[Any] = []
    copying = threading.Thread(target=lambda: found.append(visits.extract(relation, event_time="at")))
    with psycopg.connect(visits.address) as loading:
        loading.execute(f"SET search_path = {visits.schema}".encode())
        loading.execute(f"CREATE TEMP TABLE loaded AS SELECT * FROM {truncated}".encode())
        loading.execute(f"TRUNCATE {truncated}".encode())
        copying.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = ANY (%s::regclass[])"
        tables = [f"{visits.schema}.{name}" for name in ("visits", "part")]
        with psycopg.connect(visits.address, autocommit=True) as looking:
            while looking.execute(waiting, [tables]).fetchone() == (0,):
                assert copying.is_alive()
        loading.execute(f"INSERT INTO {truncated} SELECT * FROM loaded".encode())
    copying.join()

    assert sum(file.rows for file in found[0].files) == 2000


def test_a_truncate_between_looking_and_copying_gives_the_new_state(visits: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real = extracts._read

    def looked(*given: Any) -> Any:
        tables = real(*given)
        visits.run("TRUNCATE visits")
        return tables

    monkeypatch.setattr(extracts, "_read", looked)
    assert [file.rows for file in visits.extract("visits", event_time="at").files] == [0]


def test_a_copy_holds_no_transaction_while_its_files_are_kept(visits: Database) -> None:
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'almanac'"
    seen: list[Any] = []
    real = visits.kept.keep

    def keep(*given: Any) -> str:
        seen.append(visits.run(open_ones)[0][0])
        return real(*given)

    visits.kept.keep = keep  # type: ignore[method-assign]
    visits.extract("visits", event_time="at")
    assert seen == [0] * 4


def test_a_copy_that_fails_keeps_nothing_and_ends_at_once(visits: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    visits.run("INSERT INTO visits VALUES (0, '2018-01-01', 'NaN', NULL)")
    visits.run("ALTER TABLE visits ADD COLUMN until date")
    visits.run("UPDATE visits SET until = 'infinity' WHERE id = 0")  # in the last month
    monkeypatch.setattr(extracts, "PIECE_BYTES", 1000)
    with pytest.raises(SourceError, match=r"column 'until' of table .*'infinity'"):
        visits.extract("visits", event_time="at")

    assert visits.kept.put == []
    assert visits.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'almanac'") == [(0,)]


def test_a_session_is_set_for_its_transaction_alone(visits: Database) -> None:
    """A pooler may give the next transaction to another session."""
    address = f"{visits.address}&options=-ctimezone%3DAsia/Tokyo"
    with sessions.opened("visits", visits.table("visits"), address) as session:

        def shown(name: str) -> Any:
            return (session.connection.execute(f"SHOW {name}".encode()).fetchone() or ())[0]

        with session.transaction():
            assert (shown("timezone"), shown("search_path")) == ("UTC", "pg_catalog, public")
            assert (shown("transaction_isolation"), shown("transaction_read_only")) == ("repeatable read", "on")
        assert shown("timezone") == "Asia/Tokyo"


def test_a_copy_writes_nothing_in_the_database(visits: Database) -> None:
    visits.run("CREATE TABLE IF NOT EXISTS public.sneaked (id int)")
    visits.run("CREATE FUNCTION sneaky() RETURNS int LANGUAGE sql VOLATILE AS 'DELETE FROM public.sneaked RETURNING 1'")
    with pytest.raises(SourceError, match="cannot execute DELETE in a read-only transaction"):
        visits.extract(f"SELECT {visits.schema}.sneaky() AS a")


# --- size ---

MEASURED = """
    from pathlib import Path
    from almanac.core.relations import Query
    from almanac.databases.extracts import extract
    class Nowhere:
        def keep(self, sha256, name, file):
            return name
    query = Query('''SELECT i AS id, '2017-01-01+00'::timestamptz + (i % 8000) * interval '1 hour' AS at,
                     i / 7.0::float8 AS amount,
                     md5(i::text) AS note FROM generate_series(1, {rows}) i''')
    found = extract('v', query, {address!r}, event_time=None, timezone=None, asked=(), copies=Nowhere())
    # Not ru_maxrss, which begins with what the parent had when it forked.
    peak = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    print(sum(file.rows for file in found.files), int(peak.split()[1]) // 1024)
"""


def measured(database: Database, rows: int) -> int:
    """The largest resident memory of a process that copies so many rows, in MiB."""
    code = textwrap.dedent(MEASURED.format(rows=rows, address=database.address))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    copied, memory = map(int, done.stdout.split())
    assert copied == rows
    return memory


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(database: Database) -> None:
    """In one file, which is the largest."""
    small, large = measured(database, 200_000), measured(database, 1_000_000)

    assert large < 500
    assert large - small < 120
