"""The same rows in each format and layout that a source can have, and the description that reads them back."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import deltalake
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from almanac.core.formats import Csv, Delta, Iceberg, JsonLines
from almanac.store.objects import Objects

OPTIONS = {"AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
TYPES = {pa.int64(): "long", pa.timestamp("us"): "timestamp", pa.string(): "string", pa.float64(): "double"}


@dataclass(frozen=True)
class Layout:
    """Where rows were put, and the fields of a source that read them."""

    uri: str
    fields: Mapping[str, Any]


def parquet(rows: pa.Table, **how: Any) -> bytes:
    body = io.BytesIO()
    pq.write_table(rows, body, **how)
    return body.getvalue()


def months(rows: pa.Table, time: str) -> dict[str, pa.Table]:
    """Rows by the month of their time."""
    keys = pc.strftime(rows[time], format="%Y-%m")
    return {key: rows.filter(pc.equal(keys, key)) for key in sorted(set(keys.to_pylist()))}


def plain(objects: Objects, uri: str, rows: pa.Table, time: str) -> Layout:
    for month, part in months(rows, time).items():
        objects.put(f"{uri}{month}.parquet", parquet(part))
    return Layout(uri, {})


def other_names(objects: Objects, uri: str, rows: pa.Table, time: str) -> Layout:
    """Other names, keys as text, and lines that are no events."""
    for month, part in months(rows, time).items():
        key = part.column_names[0]
        names = [f"{name.title()} No." for name in part.column_names]
        stored = part.set_column(0, key, part[key].cast(pa.string())).rename_columns(names)
        stored = stored.append_column("Kind", pa.array(["sale"] * len(part)))
        cancelled = stored.set_column(len(names), "Kind", pa.array(["cancelled"] * len(part)))
        objects.put(f"{uri}{month}.parquet", parquet(pa.concat_tables([stored, cancelled.slice(0, 3)])))
    fields = {
        "rename": {f"{name.title()} No.": name for name in rows.column_names},
        "cast": {rows.column_names[0]: "long"},
        "where": "Kind <> 'cancelled'",
        "columns": tuple(rows.column_names),
    }
    return Layout(uri, fields)


def folders(objects: Objects, uri: str, rows: pa.Table, time: str) -> Layout:
    """A folder for each value of the first column, which the files do not have."""
    key = rows.column_names[0]
    for value in sorted(set(rows[key].to_pylist())):
        part = rows.filter(pc.equal(rows[key], value)).drop_columns([key])
        objects.put(f"{uri}{key}={value}/part-0.parquet", parquet(part))
    return Layout(uri, {"partitions": {key: TYPES[rows.schema.field(key).type]}})


def comma_separated(objects: Objects, uri: str, rows: pa.Table, time: str) -> Layout:
    for month, part in months(rows, time).items():
        text = io.StringIO()
        lines = csv.writer(text)
        lines.writerow(["", *part.column_names])
        lines.writerows([number, *row.values()] for number, row in enumerate(part.to_pylist()))
        objects.put(f"{uri}{month}.csv", text.getvalue().encode())
    return Layout(uri, {"format": Csv({field.name: TYPES[field.type] for field in rows.schema}, newlines=True)})


def json_lines(objects: Objects, uri: str, rows: pa.Table, time: str) -> Layout:
    for month, part in months(rows, time).items():
        lines = (json.dumps(row, default=lambda value: value.isoformat()) for row in part.to_pylist())
        objects.put(f"{uri}{month}.jsonl", "\n".join(lines).encode())
    return Layout(uri, {"format": JsonLines({field.name: TYPES[field.type] for field in rows.schema})})


def delta(objects: Objects, uri: str, rows: pa.Table, time: str) -> Layout:
    """A table with a history: rows that were deleted again, and two appends."""
    half = len(rows) // 2
    wrong = rows.slice(0, 5)
    for number, part in enumerate((wrong, rows.slice(0, half), rows.slice(half))):
        mode: Any = "overwrite" if number < 2 else "append"
        deltalake.write_deltalake(uri, part, mode=mode, storage_options=OPTIONS)
    return Layout(uri, {"format": Delta()})


def in_postgres(stack: ExitStack, rows: pa.Table) -> Layout:
    """A table of a server of its own, which runs until the stack is closed."""
    from tests.support import postgres

    address = f"postgresql://postgres@/postgres?host={stack.enter_context(postgres.running())}"
    os.environ["ALMANAC_CONNECTION_ROWS"] = address
    kinds = {"long": "bigint", "timestamp": "timestamp", "string": "text", "double": "double precision"}
    columns = ", ".join(f'"{field.name}" {kinds[TYPES[field.type]]}' for field in rows.schema)
    text = io.BytesIO()
    pyarrow.csv.write_csv(rows, text)
    with psycopg.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE rows ({columns})".encode())
        with cursor.copy(b"COPY rows FROM STDIN WITH (FORMAT csv, HEADER)") as copy:
            copy.write(text.getvalue())
    return Layout("postgres://rows/rows", {})


def iceberg(objects: Objects, uri: str, rows: pa.Table, time: str) -> Layout:
    """A table with a history, found by its folder: rows that were deleted again, two appends, and a column's new name."""
    from tests.support.lake import catalog, hint

    key, half = rows.column_names[0], len(rows) // 2
    stored = rows.rename_columns([f"old {key}", *rows.column_names[1:]])
    with catalog(f"sqlite:///{tempfile.mkdtemp(prefix='almanac-')}/catalog.db") as lake:
        lake.create_namespace("shop")
        table = lake.create_table("shop.rows", stored.schema, location=uri.rstrip("/"))
        table.append(stored.slice(0, 5))
        table.overwrite(stored.slice(0, half))
        with table.update_schema() as change:
            change.rename_column(f"old {key}", key)
        table.append(rows.slice(half))
        hint(objects, table)
    return Layout(uri, {"format": Iceberg()})


LAYOUTS: Mapping[str, Callable[[Objects, str, pa.Table, str], Layout]] = {
    "parquet": plain,
    "other names": other_names,
    "folders": folders,
    "csv": comma_separated,
    "json": json_lines,
    "delta": delta,
    "iceberg": iceberg,
}
