"""Formats of sources, and the names of the types that a description declares columns with."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from almanac.errors import DescriptionError

TYPES = ("boolean", "int", "long", "float", "double", "string", "date", "timestamp", "binary")
EPOCHS = {
    "timestamp_seconds": "s",
    "timestamp_millis": "ms",
    "timestamp_micros": "us",
}  # whole numbers since 1970, and their unit
DECIMAL = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")


def check_type(field: str, text: object, epochs: bool = False) -> None:
    """Checks a type's name. `epochs`: whether those of `EPOCHS` are types as well. Raises: DescriptionError."""
    if isinstance(text, str) and (text in TYPES or (epochs and text in EPOCHS)):
        return
    found = DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if found is not None and 1 <= int(found[1]) <= 38 and int(found[2]) <= int(found[1]):
        return
    names = ", ".join((*TYPES, "decimal(10,2)", *(EPOCHS if epochs else ())))
    raise DescriptionError(f"{field}: expected one of {names}; got {text!r}.")


def checked_types(field: str, types: object, epochs: bool = False) -> Mapping[str, str]:
    """Columns to the names of their types, as a mapping that cannot change. Raises: DescriptionError."""
    if not isinstance(types, Mapping):
        raise DescriptionError(f"{field}: expected column to type, such as {{'customer': 'long'}}; got {types!r}.")
    for name, text in types.items():
        check_type(f"{field}[{name!r}]", text, epochs)
    return MappingProxyType(dict(types))


@dataclass(frozen=True, slots=True)
class Parquet:
    """Parquet files; the default. Their columns have types already."""

    kind: Literal["parquet"] = "parquet"


@dataclass(frozen=True, slots=True)
class Csv:
    """Text files of comma-separated values (RFC 4180) that end in `.csv` or `.tsv`, also compressed (`.gz`, `.bz2`, `.zst`).

    The pin converts each file once, to Parquet, and keeps that with Almanac's own files: jobs read only the converted file.

    Args:
        columns: column to type, for the columns to read; the others are not. Types as `docs/sources.md` lists them.
        delimiter: one character.
        header: the first line has the names. Without it, `columns` names the columns of the files, in order.
        null: the texts that stand for no value, in quotes or not.
        timestamp: how times are written, as strptime's format; ISO 8601 when empty.
        date: how dates are written, in the same way.
        encoding: of the text.
        newlines: values in quotes may hold line breaks. Otherwise each line is a row, so that a stray quote is found.
        order: the columns in order, for files without a header; taken from `columns`.

    Raises:
        DescriptionError: a field is invalid.
    """

    columns: Mapping[str, str]
    _: KW_ONLY
    delimiter: str = ","
    header: bool = True
    null: tuple[str, ...] = ("",)
    timestamp: str = ""
    date: str = ""
    encoding: str = "utf-8"
    newlines: bool = False
    order: tuple[str, ...] = ()
    kind: Literal["csv"] = "csv"

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", _declared("Csv", self.columns))
        if not self.header and not self.order:  # a stored description has its mappings sorted
            object.__setattr__(self, "order", tuple(self.columns))
        if self.order and (self.header or sorted(self.order) != sorted(self.columns)):
            raise DescriptionError(f"Csv.order: expected the columns, only with header=False; got {self.order!r}. Leave it out.")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n' or ord(self.delimiter) > 127:
            raise DescriptionError(f"Csv.delimiter: expected one ASCII character, such as ';', got {self.delimiter!r}.")
        for name in ("timestamp", "date"):
            _check_pattern(f"Csv.{name}", getattr(self, name))
        if isinstance(self.null, str) or any(not isinstance(one, str) for one in self.null):
            raise DescriptionError(f"Csv.null: expected a tuple of texts, such as ('', 'NULL'); got {self.null!r}.")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise DescriptionError(f"Csv.encoding: expected one such as 'utf-8' or 'cp1252', got {self.encoding!r}.") from None


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Text files with a JSON object in each line, that end in `.json`, `.jsonl` or `.ndjson`, also compressed.

    The pin converts each file once, to Parquet, and keeps that with Almanac's own files: jobs read only the converted file.

    Args:
        columns: key to type, for the keys to read; the others are not. A line without the key has null there.

    Raises:
        DescriptionError: a field is invalid.
    """

    columns: Mapping[str, str]
    kind: Literal["jsonl"] = "jsonl"

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", _declared("JsonLines", self.columns))


def _check_pattern(field: str, pattern: str) -> None:
    """Checks a format of times. Raises: DescriptionError."""
    moment = datetime(2017, 6, 1, 12, 30, 15, tzinfo=UTC)
    try:
        found = datetime.strptime(moment.strftime(pattern), pattern) if pattern else moment
        fits = "%Z" not in pattern and found.date() == moment.date()
    except ValueError:
        fits = False
    if not fits:
        raise DescriptionError(
            f"{field}: expected strptime's format of a whole date, such as '%d.%m.%Y', without %Z; got {pattern!r}. Offsets "
            "are %z."
        )


def _declared(noun: str, columns: object) -> Mapping[str, str]:
    found = checked_types(f"{noun}.columns", columns)
    if not found:
        raise DescriptionError(f"{noun}.columns: expected at least one column with its type, got none.")
    if doubled := sorted(name for name in found if sum(name.casefold() == other.casefold() for other in found) > 1):
        raise DescriptionError(f"{noun}.columns: expected names that differ in more than case, got {', '.join(doubled)}.")
    if binary := [name for name, kind in found.items() if kind == "binary"]:
        raise DescriptionError(
            f"{noun}.columns[{binary[0]!r}]: expected a type that text can hold, got 'binary'. Read it as 'string'."
        )
    return found


@dataclass(frozen=True, slots=True)
class Delta:
    """A Delta table: its log says which files are current, and what the table was at an earlier time."""

    kind: Literal["delta"] = "delta"


@dataclass(frozen=True, slots=True)
class Iceberg:
    """An Iceberg table: its metadata says which files are current, and what the table was at an earlier time.

    A table that a catalog commits has the uri `iceberg://CATALOG/namespace.table`; one in a folder, `s3://bucket/table/`, is read
    by its newest metadata file. It needs pyiceberg: `pip install 'almanac[iceberg]'`.
    """

    kind: Literal["iceberg"] = "iceberg"


Format = Parquet | Csv | JsonLines | Delta | Iceberg
Text = Csv | JsonLines  # converted to Parquet when they are pinned
Log = Delta | Iceberg  # tables with a log
