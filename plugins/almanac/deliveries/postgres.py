"""Deliveries to PostgreSQL: one transaction per period, rows by COPY. Only this module and the room databases import psycopg.

Runs that deliver to one table wait for an advisory lock. A transaction holds the lock, so it ends with its holder. The note of
what a period shows is written in the same transaction that replaces its rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from psycopg import sql

from almanac.core.deliveries import NOTES, PostgresDelivery
from almanac.core.entity import in_words
from almanac.deliveries import notes
from almanac.deliveries.notes import Applied, DeliveryAction, DeliveryNote, Position
from almanac.deliveries.places import Change, fetched
from almanac.errors import AccessRefused, DeliveryError, DescriptionError, StoreError, Unreachable, examples

BATCH_ROWS = 65_536
CONNECT_SECONDS = 10
LOCK_SECONDS = 600.0
PERIOD = "period"
TYPES = {
    pa.int64(): "bigint",
    pa.string(): "text",
    pa.large_string(): "text",
    pa.float64(): "double precision",
    pa.float32(): "real",
}
TIMESTAMP = "timestamp with time zone"
ALLOWED = "int64, string, float64 (double), float32 (float) or timestamp"

MAKE_NOTES = f"""
    CREATE TABLE IF NOT EXISTS {NOTES} (
        target_table text NOT NULL,
        period text NOT NULL,
        fence bigint NOT NULL,
        "order" text NOT NULL,
        rows bigint NOT NULL,
        source text NOT NULL,
        run text NOT NULL,
        delivered_at timestamptz NOT NULL,
        PRIMARY KEY (target_table, period)
    )
"""
READ_NOTES = f'SELECT period, source, fence, "order", rows FROM {NOTES} WHERE target_table = %s'
WRITE_NOTE = f"""
    INSERT INTO {NOTES} (target_table, period, fence, "order", rows, source, run, delivered_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, now())
    ON CONFLICT (target_table, period) DO UPDATE SET
        fence = excluded.fence, "order" = excluded."order", rows = excluded.rows, source = excluded.source,
        run = excluded.run, delivered_at = excluded.delivered_at
"""
COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


@contextmanager
def opened(delivery: PostgresDelivery, address: str) -> Iterator[PostgresPlace]:
    """The table of a delivery in a database. `address`: the database's URI.

    Raises:
        DescriptionError: the address is not valid. Unreachable: the database does not answer, or refuses access.
    """
    try:
        if not address.startswith(("postgresql://", "postgres://")):
            raise psycopg.ProgrammingError
        known = psycopg.conninfo.conninfo_to_dict(address)
    except (psycopg.ProgrammingError, ValueError):
        # psycopg's own message would show the address, including the password.
        raise DescriptionError(
            f"Delivery {delivery.name!r}: the address of its database is not valid. Expected a URI such as "
            "postgresql://user:password@host:5432/database, with special characters percent-encoded."
        ) from None
    try:
        connection = psycopg.connect(
            address, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="almanac", client_encoding="utf8"
        )
    except psycopg.OperationalError as error:
        message = _first_line(error)
        if secret := str(known.get("password") or ""):
            message = message.replace(secret, "***")
        raise Unreachable(
            f"Delivery {delivery.name!r}: the database does not answer, or refuses access ({message}). Nothing was delivered. "
            f"Check the connection {delivery.connection!r} and the server."
        ) from None
    with connection:
        yield PostgresPlace(connection, delivery)


class PostgresPlace:
    """A table with one row per entity and visible period, and its notes in the table `almanac_deliveries`."""

    def __init__(self, connection: psycopg.Connection, delivery: PostgresDelivery) -> None:
        self._connection = connection
        self._delivery = delivery
        self._table = sql.Identifier(*delivery.table.split("."))

    def notes(self) -> dict[str, DeliveryNote]:
        with self._explained():
            if not (self._exists(NOTES) and self._exists(self._delivery.table)):
                return {}  # if the table was dropped, its notes mean nothing
            rows = self._connection.execute(READ_NOTES, [self._delivery.table]).fetchall()
        return {
            period: DeliveryNote(source=source, position=Position(fence=fence, order=order, rows=count))
            for period, source, fence, order, count in rows
        }

    def apply(self, change: Change) -> tuple[DeliveryAction, Applied | None]:
        with self._explained():
            self._make_notes()
            with self._connection.transaction():
                self._lock(self._delivery.table)
                note = self.notes().get(change.period)
                action = notes.action(note, change.position)
                if action is not DeliveryAction.APPLY:
                    return action, None
                self._replace(change)
                position, origin = change.position, (change.source, change.run)
                values = [self._delivery.table, change.period, position.fence, position.order, position.rows, *origin]
                self._connection.execute(WRITE_NOTE, values)
            return action, change.applied(note)

    def tidy(self) -> None:
        """A transaction leaves nothing behind."""

    def _make_notes(self) -> None:
        if not self._exists(NOTES):
            with self._connection.transaction():
                self._lock(NOTES)  # concurrent CREATE TABLE IF NOT EXISTS statements would collide
                self._connection.execute(MAKE_NOTES)

    def _exists(self, table: str) -> bool:
        row = self._connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()
        return bool(row and row[0])

    def _lock(self, table: str) -> None:
        self._connection.execute(f"SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}")
        self._connection.execute(LOCK, [f"{NOTES}/{table}"])

    def _replace(self, change: Change) -> None:
        fitted: pa.Schema | None = None
        if self._exists(self._delivery.table):
            self._check_keys(self._columns(), change.keys)
            self._connection.execute(sql.SQL("DELETE FROM {} WHERE period = %s").format(self._table), [change.period])
        rows = 0
        for output in change.files:
            with fetched(output) as local:
                if local.columns != fitted:
                    self._fit(local.columns, change.keys)
                    fitted = local.columns
                rows += self._copy(local.path, local.columns, change.period)
        change.check_rows(rows)

    def _columns(self) -> dict[str, str]:
        return dict(self._connection.execute(COLUMNS, [self._delivery.table]).fetchall())

    def _check_keys(self, found: dict[str, str], keys: Sequence[str]) -> None:
        if missing := [name for name in (PERIOD, *keys) if name not in found]:
            raise DeliveryError(
                f"Delivery {self._delivery.name!r}: table {self._delivery.table} has no column {' and no '.join(missing)} (it "
                f"has: {examples(found, 20)}), but rows are identified by {in_words((PERIOD, *keys))}. Nothing was changed. Name "
                "another table, and it is created."
            )

    def _fit(self, columns: pa.Schema, keys: Sequence[str]) -> None:
        """Creates the table, or adds the columns that it lacks."""
        wanted = {PERIOD: "text", **{field.name: self._type_of(field) for field in columns}}
        found = self._columns()
        if not found:
            listed = sql.SQL(", ").join(_column(name, kind) for name, kind in wanted.items())
            key = sql.SQL(", ").join(map(sql.Identifier, (PERIOD, *keys)))
            self._connection.execute(sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(self._table, listed, key))
            # Notes of a dropped table with the same name would refer to rows that no longer exist.
            self._connection.execute(f"DELETE FROM {NOTES} WHERE target_table = %s", [self._delivery.table])
            return
        self._check_keys(found, keys)
        if others := [f"{name} as {found[name]}" for name in wanted if name in found and found[name] != wanted[name]]:
            expected = examples(
                (f"{name} as {kind}" for name, kind in wanted.items() if f"{name} as {found.get(name)}" in others), 20
            )
            raise DeliveryError(
                f"Delivery {self._delivery.name!r}: table {self._delivery.table} has {examples(others, 20)}, expected "
                f"{expected}. Nothing was changed. Alter the table, or name another one, and it is created."
            )
        for name, kind in wanted.items():
            if name not in found:
                added = sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(self._table, _column(name, kind))
                self._connection.execute(added)

    def _type_of(self, field: pa.Field) -> str:
        kind = TIMESTAMP if pa.types.is_timestamp(field.type) else TYPES.get(field.type)
        if kind is None or field.name == PERIOD:
            expected = f"any name but {PERIOD!r}" if kind else f"one of {ALLOWED}"
            raise DeliveryError(
                f"Delivery {self._delivery.name!r}: the predictions have a column {field.name!r} of type {field.type}, expected "
                f"{expected}. Nothing was changed."
            )
        return kind

    def _copy(self, path: Path, columns: pa.Schema, period: str) -> int:
        """Streams a file's rows in batches; returns their number."""
        names = sql.SQL(", ").join(map(sql.Identifier, (*columns.names, PERIOD)))
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(self._table, names)
        with self._connection.cursor() as cursor, pq.ParquetFile(path) as file:
            with cursor.copy(statement) as copy:
                for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                    copy.write(_csv(batch, period))
            return cursor.rowcount

    @contextmanager
    def _explained(self) -> Iterator[None]:
        name, table = self._delivery.name, self._delivery.table
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            raise StoreError(
                f"Delivery {name!r}: another session has locked table {table} for {LOCK_SECONDS:g} seconds. Nothing was changed. "
                "Find the session in pg_locks, and try again when it has ended."
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise AccessRefused(
                f"Delivery {name!r}: the database refused its user ({_first_line(error)}). Nothing was changed. Let the user "
                f"create tables, or create {table} and {NOTES} and make the user their owner."
            ) from error
        except psycopg.OperationalError as error:
            raise Unreachable(
                f"Delivery {name!r}: the database stopped the transaction ({_first_line(error)}). This period was not changed. "
                "Try again."
            ) from error
        except psycopg.Error as error:
            raise DeliveryError(_refused(name, table, error)) from error


def _refused(name: str, table: str, error: psycopg.Error) -> str:
    return (
        f"Delivery {name!r}: the database refused the rows of table {table} ({_first_line(error)}). This period was not "
        "changed. Fix the table, or name another one, and it is created."
    )


def _column(name: str, kind: str) -> sql.Composable:
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))


def _csv(batch: pa.RecordBatch, period: str) -> bytes:
    """Rows as COPY reads them: text in quotes, so that an empty text is not read as null; numbers in full precision."""
    text = io.BytesIO()
    whole = batch.append_column(PERIOD, pa.array([period] * batch.num_rows, pa.string()))
    pyarrow.csv.write_csv(whole, text, pyarrow.csv.WriteOptions(include_header=False))
    return text.getvalue()


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
