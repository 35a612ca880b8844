"""A table or a query of PostgreSQL, copied into Parquet files in one transaction. This module loads psycopg, so callers import it
only when they need it.

The server orders the rows by all columns and sends them by COPY; here they are parsed in pieces and written month by month.
Memory holds a piece and a row group, never the table. Files are kept only after the transaction has ended: it is as short as it
can be, and a copy that fails keeps nothing.
"""

from __future__ import annotations

import re
import tempfile
from array import array
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from psycopg import sql

from almanac.core.relations import Query, Relation, Table
from almanac.core.sources import alike
from almanac.databases.conversions import ALIAS, UNBOUNDED, Column, ServerType, column_of
from almanac.databases.copies import CopiedFile, Copies, Extract
from almanac.databases.months import Months, Written
from almanac.databases.sessions import Session, opened
from almanac.errors import SourceError, SourceMissing, StoreError, examples

__all__ = ["CopiedFile", "Copies", "Extract", "extract"]

PIECE_BYTES = 8 * 2**20
MARK = b"\xef\xbb\xbf"  # pyarrow drops a byte-order mark at the beginning of a text, also one that is a value's own
LEAVE_OUT = "leave the column out with columns=(...)"
IN_COLUMN = re.compile(r"In CSV column #(\d+):\s*(?:Row #\d+:\s*)?(.*)", re.DOTALL)

RELATION = """
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s
"""
RELATIONS = """
    SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.relname
"""
COLUMNS = """
    SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
# For each OID: its own type, or the type of its elements if it is an array.
TYPES = """
    SELECT t.oid::bigint, e.typname, e.typtype::text, n.nspname = 'pg_catalog', e.oid <> t.oid
    FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN EXISTS (
        SELECT FROM pg_catalog.pg_type i WHERE i.oid = t.typelem AND i.typarray = t.oid) THEN t.typelem ELSE t.oid END
    JOIN pg_catalog.pg_namespace n ON n.oid = e.typnamespace
    WHERE t.oid = ANY (%s::oid[])
"""
SHOWN = """
    SELECT pg_catalog.format_type(kind::oid, modifier) FROM unnest(%s::bigint[], %s::int[]) AS asked (kind, modifier)
"""
# What the current transaction reads, as far as its user may lock it.
READ = """
    SELECT DISTINCT n.nspname, c.relname FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p')
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
    ORDER BY 1, 2
"""


def extract(
    name: str,
    relation: Table | Query,
    address: str,
    *,
    event_time: str | None,
    timezone: str | None,
    asked: Sequence[str],
    copies: Copies,
    optional: Sequence[str] = (),
    folder: Path | None = None,
) -> Extract:
    """Copies a table or a query's result as it was at one moment: a row that changes meanwhile is in or out, never half.

    The files are `2017-06.parquet` for each UTC month of the event time that has rows, then `undated.parquet` for rows without
    one; without an event time, or without rows, `rows.parquet`. The same rows give the same bytes, in whatever order the server
    has them, so a month that did not change is kept under the digest that it has already.

    Args:
        name: the source's name, for messages.
        address: the database's URI with its credentials, `postgresql://user:password@host:5432/database`.
        event_time: the column that says when an event happened; a timestamp.
        timezone: how naive timestamps of that column are read. They are written as they are.
        asked: the columns to copy, and the event time with them; all when this and `optional` are empty.
        optional: columns to copy if they are there.
        copies: where the files are kept.
        folder: where they lie until then, as large as the copy; the system's folder for temporary files when None.

    Raises:
        DescriptionError: the address is not valid.
        SourceMissing: the table is not there.
        SourceError: a column is missing, has a type or a value that is not read, or the database refused the query.
        Unreachable, AccessRefused: the database does not answer, or refuses its user.
        StoreError: the database stopped the copy, or the disk is full; another try may help.
    """
    wanted = Wanted(columns=tuple(asked), optional=tuple(optional), event_time=event_time, timezone=timezone)
    with ExitStack() as stack:
        try:
            spool = stack.enter_context(tempfile.TemporaryDirectory(prefix="almanac-", dir=folder))
            with opened(name, relation, address) as session, session.explained():
                written = _copied(session, Path(spool), wanted)
        except OSError as error:
            raise StoreError(
                f"Source {name!r}: its copy cannot be written to {folder or 'the folder for temporary files'} "
                f"({error.strerror or error}). Nothing was copied. Free space there, or set TMPDIR to another folder, and try "
                "again."
            ) from error
        return Extract(files=tuple(_kept(file, copies) for file in written))


def _kept(file: Written, copies: Copies) -> CopiedFile:
    uri = copies.keep(file.sha256, file.path.name, file.path)
    return CopiedFile(name=file.path.name, uri=uri, size=file.size, sha256=file.sha256, rows=file.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a relation: all columns if none is named."""

    columns: tuple[str, ...]
    optional: tuple[str, ...]
    event_time: str | None
    timezone: str | None

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that must be there."""
        return (*self.columns, *((self.event_time,) if self.event_time else ()))


def _copied(session: Session, folder: Path, wanted: Wanted) -> list[Written]:
    read = _read(session, wanted)
    with session.transaction():
        if read:
            # Before the snapshot is taken: a TRUNCATE or a rewrite that committed after it would show an empty table.
            tables = sql.SQL(", ").join(sql.Identifier(*one) for one in read)
            session.connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(tables))
        columns = _columns(session, wanted)
        _check_time(session, columns, wanted)
        schema = pa.schema([(one.name, one.type) for one in columns])
        months = Months(folder, schema, wanted.event_time, wanted.timezone)
        try:
            _stream(session, columns, wanted.event_time, months)
            return months.finish()
        finally:
            months.abandon()


def _read(session: Session, wanted: Wanted) -> list[tuple[str, str]]:
    """The tables from which the rows come, found in a transaction of its own: looking takes a snapshot."""
    with session.transaction():
        names = _names(session, wanted)
        session.connection.execute(_selected(session.relation, map(sql.Identifier, names), b" LIMIT 0"))
        return session.connection.execute(READ).fetchall()


def _selected(relation: Relation, columns: Iterable[sql.Composable], end: bytes = b"") -> sql.Composed:
    if isinstance(relation, Table):
        source: sql.Composable = sql.Identifier(relation.schema, relation.name)
    else:
        source = _text(f"(\n{relation.text}\n)")  # lines of its own: it may end with a comment
    listed = sql.SQL(", ").join(columns)
    return sql.Composed(
        [sql.SQL("SELECT "), listed, sql.SQL(" FROM "), source, sql.SQL(" AS "), sql.Identifier(ALIAS), _text(end.decode())]
    )


def _text(text: str) -> sql.SQL:
    return sql.SQL(text)


def _names(session: Session, wanted: Wanted) -> list[str]:
    """The columns to copy, in the relation's own order, so that the order of a description changes no digest."""
    relation, what = session.relation, f"Source {session.source!r} ({session.relation})"
    if isinstance(relation, Table):
        there = _names_of_table(session, relation)
    else:
        described = session.connection.execute(_selected(relation, [sql.SQL("*")], b" LIMIT 0")).description
        there = [one.name for one in described or ()]
    if missing := [name for name in wanted.needed if name not in there]:
        raise SourceError(
            f"{what} has no column {examples(missing)} (it has: {examples(there, 30)}). Names are matched including case. "
            "Correct the source's description, or add the column."
        )
    named = wanted.columns or wanted.optional
    names = [name for name in there if name in (*wanted.needed, *wanted.optional)] if named else there
    if not names:
        raise SourceError(f"{what} has no columns. Add some, or correct the source.")
    if clash := alike(names):
        one, other = clash[0][:2]
        found = f"more than one column {one!r}" if one == other else f"columns {one!r} and {other!r}, which differ only in case"
        raise SourceError(f"{what} has {found}. Rename one of them, in a query with AS, or {LEAVE_OUT}.")
    return names


def _names_of_table(session: Session, relation: Table) -> list[str]:
    found = session.connection.execute(RELATION, [relation.schema, relation.name]).fetchone()
    if found is None:
        others = [name for (name,) in session.connection.execute(RELATIONS, [relation.schema])]
        raise SourceMissing(
            f"Source {session.source!r} is missing: the database has no {relation} (schema {relation.schema} has: "
            f"{examples(others, 20)}). Names are matched including case. Create it, or correct the source's uri."
        )
    return [name for (name,) in session.connection.execute(COLUMNS, [found[0]])]


def _columns(session: Session, wanted: Wanted) -> list[Column]:
    """The columns to copy with their types. Raises: SourceError, if one of them cannot be read."""
    names = _names(session, wanted)
    cursor = session.connection.execute(_selected(session.relation, map(sql.Identifier, names), b" LIMIT 0"))
    assert cursor.pgresult is not None
    kinds = [(cursor.pgresult.ftype(place), cursor.pgresult.fmod(place)) for place in range(len(names))]
    execute = session.connection.execute
    types = {oid: more for oid, *more in execute(TYPES, [[oid for oid, _ in kinds]])}
    shown = [text for (text,) in execute(SHOWN, [[oid for oid, _ in kinds], [modifier for _, modifier in kinds]])]
    found, refused = [], []
    for name, (oid, modifier), text in zip(names, kinds, shown, strict=True):
        own, kind, builtin, is_array = types[oid]
        server = ServerType(name=own, kind=kind, modifier=modifier, shown=text, builtin=builtin, array=is_array)
        column = column_of(name, server)
        if isinstance(column, Column):
            found.append(column)
        else:
            refused.append((name, text, column))
    if refused:
        raise SourceError(_refusal(session, *refused[0], len(refused) - 1))
    return found


def _refusal(session: Session, name: str, shown: str, why: str, more: int) -> str:
    cast = "numeric(18, 4)" if why.startswith(UNBOUNDED) else "text"
    others = f" ({more} more of its columns cannot be read.)" if more else ""
    return (
        f"Source {session.source!r}: column {name!r} of {session.relation} is {shown}, {why}. Cast it in a query, such as "
        f'CAST("{name}" AS {cast}) AS "{name}", or {LEAVE_OUT}.{others}'
    )


def _check_time(session: Session, columns: Iterable[Column], wanted: Wanted) -> None:
    found = next((one for one in columns if one.name == wanted.event_time), None)
    if found is None:
        return
    if not pa.types.is_timestamp(found.type):
        raise SourceError(
            f"Source {session.source!r}: column {found.name!r} of {session.relation} is {found.server.shown}, but a time column "
            "must be a timestamp. Cast it in a query to timestamptz: a date to the time by which its events have ended, an epoch "
            "with to_timestamp(...)."
        )
    if found.type.tz is None and wanted.timezone is None:
        raise SourceError(
            f"Source {session.source!r}: column {found.name!r} of {session.relation} is {found.server.shown}. Declare how to "
            "read it with EventSource(..., timezone='UTC')."
        )


def _stream(session: Session, columns: Sequence[Column], event_time: str | None, months: Months) -> None:
    """Brings all rows to the files, by event time and then by all other columns."""
    first = sorted(columns, key=lambda one: one.name != event_time)
    order = sql.SQL(", ").join(one.ordered for one in first)
    rows = sql.Composed([_selected(session.relation, (one.selected for one in columns)), sql.SQL(" ORDER BY "), order])
    statement = sql.Composed([sql.SQL("COPY ("), rows, sql.SQL(") TO STDOUT (FORMAT csv, ENCODING 'UTF8')")])
    with session.connection.cursor() as cursor, cursor.copy(statement) as copy, closing(_pieces(copy)) as pieces:
        for text, sizes in pieces:
            months.add(_parsed(session, columns, text), np.frombuffer(sizes, np.int64))


def _pieces(rows: Iterable[bytes | bytearray | memoryview]) -> Generator[tuple[bytes, array[int]], None, None]:
    """Whole rows of some MiB after a byte-order mark, and the bytes of each row: each is a message of the protocol."""
    text, sizes = bytearray(MARK), array("q")
    for row in rows:
        text += row
        sizes.append(len(row))
        if len(text) >= PIECE_BYTES:
            yield bytes(text), sizes
            text, sizes = bytearray(MARK), array("q")
    if sizes:
        yield bytes(text), sizes


def _parsed(session: Session, columns: Sequence[Column], text: bytes) -> pa.Table:
    places = [str(place) for place in range(len(columns))]
    try:
        found = pyarrow.csv.read_csv(
            pa.BufferReader(text),
            pyarrow.csv.ReadOptions(column_names=places, block_size=len(text) + 1),  # one block: no row lies in two
            pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(
                column_types={place: one.as_text for place, one in zip(places, columns, strict=True)},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,  # COPY quotes an empty text, and not a null
                true_values=["t"],
                false_values=["f"],
            ),
        )
    except pa.ArrowInvalid as error:
        known = IN_COLUMN.search(str(error))
        raise _unfit(session, columns[int(known[1])] if known else None, known[2] if known else str(error)) from error
    made = []
    for place, one in zip(places, columns, strict=True):
        try:
            made.append(one.decoded(found.column(place)))
        except (ValueError, pa.ArrowException) as error:
            raise _unfit(session, one, str(error)) from error
    return pa.table(made, schema=pa.schema([(one.name, one.type) for one in columns]))


def _unfit(session: Session, column: Column | None, why: str) -> SourceError:
    """A value that cannot be copied, with the advice for its type."""
    what = f"column {column.name!r} of {session.relation}" if column else str(session.relation)
    advice = "Correct the value, or cast it in a query"
    if column is not None and pa.types.is_temporal(column.type.value_type if column.server.array else column.type):
        advice = (
            "Times lie in the years 1 to 9999; infinity is none. In a query, NULLIF(..., 'infinity') makes it null, and LEAST "
            "and GREATEST bound it"
        )
    why = " ".join(why.split()).rstrip(".")
    return SourceError(
        f"Source {session.source!r}: {what} has a value that cannot be copied: {why}. {advice}, or {LEAVE_OUT}. Nothing was "
        "copied."
    )
