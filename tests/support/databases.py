"""What tests of databases share: a schema of a real server, and copies that are kept in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from almanac.core.relations import Query, Relation, Table
from almanac.databases.extracts import Extract, extract


class Kept:
    """Copies in a folder. `put` has the names of the files that were not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.put: list[str] = []

    def keep(self, sha256: str, name: str, file: Path) -> str:
        target = self.folder / sha256 / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            self.put.append(name)
        return str(target)


class Database:
    """A schema of its own on a server."""

    def __init__(self, address: str, schema: str, folder: Path) -> None:
        self.address, self.schema = address, schema
        self.kept = Kept(folder)

    def run(self, statement: str, values: Sequence[Any] | None = None) -> list[Any]:
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute(f"SET search_path = {self.schema}")
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        with psycopg.connect(self.address, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f"SET search_path = {self.schema}".encode())
            cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(rows[0]))})".encode(), rows)

    def table(self, name: str) -> Table:
        return Table(self.schema, name)

    def extract(
        self, relation: str, *asked: str, event_time: str | None = None, timezone: str | None = None, address: str = ""
    ) -> Extract:
        """Copies a table by its name, or a query by its text with `{s}` for the schema."""
        what: Relation = Query(relation.replace("{s}", self.schema)) if " " in relation else self.table(relation)
        return extract(
            "visits",
            what,
            address or self.address,
            event_time=event_time,
            timezone=timezone,
            asked=asked,
            copies=self.kept,
        )

    def rows(self, relation: str, *asked: str, **options: Any) -> pa.Table:
        """All copied rows, in the order of the files."""
        return read(self.extract(relation, *asked, **options))


def read(found: Extract) -> pa.Table:
    return pa.concat_tables([pq.read_table(file.uri) for file in found.files])


def digests(found: Extract) -> dict[str, str]:
    return {file.name: file.sha256 for file in found.files}
