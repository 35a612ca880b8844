"""Text files as Parquet: CSV and JSON lines are converted once, when they are pinned, by the declared types alone.

No type is guessed: a value that is not of its column's type is an error that names the file, and nothing is pinned.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import tempfile
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from almanac.columns import UTC_TIME, converted, moments, named
from almanac.core.canonical import digest, encode
from almanac.core.formats import Csv, JsonLines, Text
from almanac.core.pins import PinnedFile
from almanac.core.receipts import Output
from almanac.core.sources import Source
from almanac.errors import SourceError, examples
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
            zone, text = source.zone, _fetched(file, Path(folder))
            rows = _write(path, _csv(format, zone, text) if isinstance(format, Csv) else _json(format, zone, text))
        except (OSError, UnicodeError, RecursionError, csv.Error, pa.ArrowException) as error:
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


def _csv(format: Csv, zone: str | None, text: Path) -> Rows:
    """The declared columns that a CSV file has, in batches; one empty batch at least."""
    header, lines = _looked_over(format, text)
    names = list(format.order) or header
    if doubled := [one for one in format.columns if names.count(one) > 1]:
        raise _Unfit(f" has more than one column {doubled[0]!r}")
    there = [one for one in names if one in format.columns]
    if not there:
        raise _Unfit(f" has none of the declared columns (its first line: {examples(map(repr, header), 30)})")
    encoding = "utf8" if _is_utf8(format.encoding) else format.encoding
    read = pyarrow.csv.ReadOptions(
        block_size=BLOCK, encoding=encoding, use_threads=False, column_names=None if format.header else names
    )
    parse = pyarrow.csv.ParseOptions(delimiter=format.delimiter, newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=there,
        null_values=list(format.null),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    yield _typed(pa.RecordBatch.from_pydict({one: pa.array([], pa.string()) for one in there}), format, zone)
    rows = 0
    with _opened(text) as stream:
        for batch in pyarrow.csv.open_csv(stream, read, parse, convert) if lines else ():
            rows += batch.num_rows
            yield _typed(batch, format, zone)
    if not format.newlines and rows != lines - format.header:
        raise _Unfit(
            f" has {lines} lines and {rows} rows: a quote spans lines. If values hold line breaks, declare Csv(..., "
            "newlines=True); else correct the quotes"
        )


def _looked_over(format: Csv, text: Path) -> tuple[list[str], int]:
    """The names in a file's first line, and how many lines are not empty. Raises: _Unfit, if a quote is left open."""
    first, lines, quotes = "", 0, 0
    with _opened(text) as stream:
        encoding = "utf-8-sig" if _is_utf8(format.encoding) else format.encoding
        for line in io.TextIOWrapper(stream, encoding=encoding):
            if line != "\n":
                first = first if lines else line
                lines += 1
            quotes += line.count('"')
    if format.header and not lines:
        raise _Unfit(" is empty, expected a first line with the names of its columns")
    if quotes % 2:
        raise _Unfit(" has a quote that is not closed")
    return next(csv.reader([first], delimiter=format.delimiter), []), lines


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


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
    texts = pc.utf8_trim_whitespace(column).dictionary_encode()
    parsed = [_parsed(text, pattern) for text in texts.dictionary.to_pylist()]
    if kind == "date":
        return pa.array([one.date() for one in parsed], pa.date32()).take(texts.indices)
    local = pa.array([one if one.tzinfo is None else None for one in parsed], pa.timestamp("us"))
    fixed = pa.array([None if one.tzinfo is None else one for one in parsed], UTC_TIME)
    return pc.coalesce(moments(local, zone), fixed).take(texts.indices)


def _parsed(text: str, pattern: str) -> datetime:
    """A text as a time. Raises: ArrowInvalid. (Arrow's own strptime takes 31.02. for the 3rd of March.)"""
    try:
        return datetime.strptime(text, pattern)
    except ValueError as error:
        raise pa.ArrowInvalid(str(error)) from error


def _json(format: JsonLines, zone: str | None, text: Path) -> Rows:
    """The declared columns of a file of JSON lines, in batches; one empty batch at least."""
    with _opened(text) as stream:
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
            return _finite([None if one is None else float(one) for one in plain], found)
        return pa.array(plain, found)
    except (pa.ArrowException, OverflowError, InvalidOperation) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise _Unfit(f", lines {values[0][0]} to {values[-1][0]}: {name!r} has a value that is no {kind} ({why})") from error


def _finite(values: list[float | None], kind: pa.DataType) -> pa.Array:
    """Raises: ArrowInvalid, if a number is too large for its type."""
    found = pa.array(values, kind)
    if pc.any(pc.is_inf(found)).as_py():
        raise pa.ArrowInvalid(f"a number is too large for {kind}")
    return found


def _fetched(file: PinnedFile, folder: Path) -> Path:
    """A file's bytes on the local disk, under its name: they are read more than once."""
    system, path = locate(file.copy or file.uri)
    fetched = folder / file.uri.rsplit("/", 1)[-1]
    with system.open_input_stream(path, compression=None) as stream, fetched.open("wb") as local:
        while piece := stream.read(BLOCK):
            local.write(piece)
    return fetched


def _opened(text: Path) -> IO[bytes]:
    return pa.input_stream(str(text), compression="detect", buffer_size=2**20)  # type: ignore[no-any-return]
