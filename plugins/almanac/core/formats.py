"""Formats of sources, and the names of the types that a description declares columns with."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
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
    """Text files of comma-separated values that end in `.csv` or `.tsv`, also compressed (`.gz`, `.bz2`, `.zst`).

    The pin converts each file once, to Parquet, and keeps that with Almanac's own files: jobs read only the converted file.

    Args:
        columns: column to type, for the columns to read; the others are not. Types as `docs/sources.md` lists them.
        delimiter: one character.
        header: the first line has the names. Without it, `columns` names the columns of the files, in order.
        null: the texts that stand for no value.
        timestamp: how times are written, as strptime's format; ISO 8601 when empty.
        date: how dates are written, in the same way.
        encoding: of the text.

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
    kind: Literal["csv"] = "csv"

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", _declared("Csv", self.columns))
        if len(self.delimiter) != 1:
            raise DescriptionError(f"Csv.delimiter: expected one character, such as ';', got {self.delimiter!r}.")
        if isinstance(self.null, str):
            raise DescriptionError(
                f"Csv.null: expected a tuple, got the text {self.null!r}. Write ({self.null!r},) with its comma."
            )
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


def _declared(noun: str, columns: object) -> Mapping[str, str]:
    found = checked_types(f"{noun}.columns", columns)
    if not found:
        raise DescriptionError(f"{noun}.columns: expected at least one column with its type, got none.")
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
