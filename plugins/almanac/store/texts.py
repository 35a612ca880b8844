"""Text files as Parquet: CSV and JSON lines are converted once, when they are pinned, by the declared types alone.

No type is guessed: a value that is not of its column's type is an error that names the file, and nothing is pinned.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from almanac.columns import converted, moments, named
from almanac.core.canonical import digest, encode
from almanac.core.formats import Csv, JsonLines, Text
from almanac.core.pins import PinnedFile
from almanac.core.receipts import Output
from almanac.core.sources import Source
from almanac.errors import SourceError
from almanac.files import locate
from almanac.store.copies import Copies
from almanac.store.footers import check_reached
from almanac.store.objects import Objects

CONVERTED_AS = 1  # raised when files are converted in another way
GROUP_ROWS = 262_144
BLOCK = 8 * 2**20  # bytes
Rows = Iterator[pa.RecordBatch]


def convert(objects: Objects, copies: Copies, name: str, source: Source, file: PinnedFile) -> Output:
    """The Parquet file that stands for a text file: the one that was kept before, or a new one. Its times are in UTC.

    Raises:
        SourceError: the text is not of the format, or a value not of its column's type.
    """
    format = source.format
    assert isinstance(format, Text)
    key = digest([CONVERTED_AS, encode(format), source.zone, file.etag, file.size])[:32]
    kept = copies.find(key)
    if kept is not None:
        return kept
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        path = Path(folder) / "rows.parquet"
        try:
            zone = source.zone
            rows = _write(path, _csv(format, zone, file) if isinstance(format, Csv) else _json(format, zone, file))
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            check_reached(file.uri, error)
            kind = "CSV" if isinstance(format, Csv) else "JSON lines"
            why = " ".join(str(error).split()).rstrip(".")
            raise SourceError(
                f"Source {name!r}: {file.uri} cannot be read as {kind}: {why}. Deliver it again, or correct format=."
            ) from error
        except _Unfit as error:
            raise SourceError(
                f"Source {name!r}: {file.uri}{error}. Deliver it again, or declare another type in format=."
            ) from error
        _check_unchanged(objects, name, file)
        return copies.keep(key, "rows.parquet", path, rows)


def _check_unchanged(objects: Objects, name: str, file: PinnedFile) -> None:
    """Checks that the bytes that were converted are the listed ones. Raises: SourceError."""
    now = next((item.etag for item in objects.walk(file.uri) if item.uri == file.uri), "") if not file.copy else file.etag
    if now != file.etag:
        raise SourceError(
            f"Source {name!r} changed while it was read: {file.uri} was replaced or removed. Nothing was pinned. Start the run "
            "again."
        )


class _Unfit(ValueError):
    """A value is not of its column's type."""


def _write(path: Path, batches: Rows) -> int:
    rows, writer, waiting = 0, None, list[pa.RecordBatch]()

    def write() -> None:
        assert writer is not None
        writer.write_table(pa.Table.from_batches(waiting), row_group_size=GROUP_ROWS)
        waiting.clear()

    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd", write_page_checksum=True)
            rows += batch.num_rows
            waiting.append(batch)
            if sum(one.num_rows for one in waiting) >= GROUP_ROWS:
                write()
        if waiting:
            write()
    finally:
        if writer is not None:
            writer.close()
    return rows


def _csv(format: Csv, zone: str | None, file: PinnedFile) -> Rows:
    """The declared columns that a CSV file has, in batches; one empty batch at least."""
    names = list(format.columns)
    read = pyarrow.csv.ReadOptions(
        block_size=BLOCK, encoding=format.encoding, use_threads=False, column_names=None if format.header else names
    )
    parse = pyarrow.csv.ParseOptions(delimiter=format.delimiter, newlines_in_values=True)
    with _opened(file) as stream:
        header = format.header and _header(stream, format)
    there = [one for one in names if one in header] if header else names
    if header and len(set(header)) < len(header):
        doubled = next(one for one in header if header.count(one) > 1)
        raise _Unfit(f" has more than one column {doubled!r}")
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(header or names, pa.string()),
        include_columns=there,
        null_values=list(format.null),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    yield _typed(pa.RecordBatch.from_pydict({one: pa.array([], pa.string()) for one in there}), format, zone)
    with _opened(file) as stream:
        try:
            batches = pyarrow.csv.open_csv(stream, read, parse, convert)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return
            raise
        for batch in batches:
            yield _typed(batch, format, zone)


def _header(stream: pa.NativeFile, format: Csv) -> list[str]:
    """The names in a file's first line."""
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig" if format.encoding == "utf-8" else format.encoding, newline="")
    return next(csv.reader(lines, delimiter=format.delimiter), [])


def _typed(batch: pa.RecordBatch, format: Csv, zone: str | None) -> pa.RecordBatch:
    """A batch of text in the declared types."""
    found = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = format.columns[name]
        try:
            found.append(_of_text(column, kind, format, zone))
        except pa.ArrowInvalid as error:
            why = " ".join(str(error).split()).rstrip(".")
            raise _Unfit(f": column {name!r} has a value that is no {kind} ({why})") from error
    return pa.RecordBatch.from_arrays(found, names=batch.schema.names)


def _of_text(column: pa.Array, kind: str, format: Csv, zone: str | None) -> pa.Array:
    pattern = {"timestamp": format.timestamp, "date": format.date}.get(kind)
    if not pattern:
        return column if kind == "string" else converted(column, kind, zone)
    found = pc.strptime(pc.utf8_trim_whitespace(column), format=pattern, unit="us", error_is_null=False)
    return found.cast(pa.date32()) if kind == "date" else moments(found, zone)


def _json(format: JsonLines, zone: str | None, file: PinnedFile) -> Rows:
    """The declared columns of a file of JSON lines, in batches; one empty batch at least."""
    with _opened(file) as stream:
        lines = enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig"), 1)
        while True:
            listed = list(islice(lines, GROUP_ROWS // 4))
            objects = [_object(number, line) for number, line in listed if line.strip()]
            yield pa.RecordBatch.from_pydict(
                {
                    name: _values(name, kind, [(number, one.get(name)) for number, one in objects], zone)
                    for name, kind in format.columns.items()
                }
            )
            if not listed:
                return


def _object(number: int, line: str) -> tuple[int, dict[str, Any]]:
    try:
        found = json.loads(line, parse_float=Decimal)
    except ValueError as error:
        raise _Unfit(f", line {number}: expected a JSON object ({error})") from error
    if not isinstance(found, dict):
        raise _Unfit(f", line {number}: expected a JSON object, got {line.strip()[:40]!r}")
    return number, found


def _values(name: str, kind: str, values: list[tuple[int, Any]], zone: str | None) -> pa.Array:
    """A declared column of JSON values."""
    found = named(kind)
    if kind in ("date", "timestamp", "string"):
        fits: tuple[type, ...] = (str,)
    elif kind == "boolean":
        fits = (bool,)
    elif kind in ("int", "long"):
        fits = (int,)
    else:
        fits = (int, Decimal, *((str,) if kind.startswith("decimal") else ()))
    for number, value in values:
        if value is not None and (not isinstance(value, fits) or (isinstance(value, bool) and kind != "boolean")):
            raise _Unfit(f", line {number}: expected {name!r} as {kind}, got {json.dumps(value, default=str)[:40]}")
    plain = [value for _, value in values]
    try:
        if kind in ("date", "timestamp"):
            return converted(pa.array(plain, pa.string()), kind, zone)
        if pa.types.is_decimal(found):
            return pa.array([None if one is None else Decimal(one) for one in plain], found)
        if pa.types.is_floating(found):
            return pa.array([None if one is None else float(one) for one in plain], found)
        return pa.array(plain, found)
    except (pa.ArrowException, OverflowError, InvalidOperation) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise _Unfit(f", lines {values[0][0]} to {values[-1][0]}: {name!r} has a value that is no {kind} ({why})") from error


def _opened(file: PinnedFile) -> IO[bytes]:
    system, path = locate(file.copy or file.uri)
    return system.open_input_stream(path, compression="detect")  # type: ignore[no-any-return]
