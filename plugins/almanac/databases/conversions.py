"""PostgreSQL's types as Arrow's: how a column is selected, ordered and read from the text that COPY gives.

Each type is mapped by name, and any other is refused: a type that was guessed would change when the server or a library does.
Texts are ordered by their bytes (collation "C"), because the order of other collations depends on the server's libraries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from psycopg import sql

from almanac.columns import MOST_DIGITS, UTC_TIME

ALIAS = "almanac_source"  # of the table or query: with it, a name is never one of the result
NAIVE_TIME = pa.timestamp("us")
ENUM = "e"  # pg_type.typtype
TEXTS = ("text", "varchar", "bpchar", "uuid", "json", "jsonb")
NAMED: dict[str, pa.DataType] = {
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": NAIVE_TIME,
    "timestamptz": UTC_TIME,
    "bytea": pa.binary(),
    **dict.fromkeys(TEXTS, pa.string()),
}
READABLE = (
    "smallint, integer, bigint, numeric(p, s), real, double precision, text, varchar, char, uuid, json, jsonb, enums, boolean, "
    "date, timestamp, timestamptz, bytea, and arrays of these"
)
UNBOUNDED = "numeric without digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerType:
    """A column's type as the server names it.

    Args:
        name: pg_type.typname, of an array's elements.
        kind: pg_type.typtype of the same; `e` for an enum.
        modifier: what a declaration adds, such as the digits of numeric; -1 for nothing.
        shown: as people write it, such as `numeric(18,4)[]`.
        builtin: whether it is one of PostgreSQL's own.
        array: whether it is an array.
    """

    name: str
    kind: str
    modifier: int
    shown: str
    builtin: bool = True
    array: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that is copied: its Arrow type and how it gets there."""

    name: str
    server: ServerType
    type: pa.DataType

    @property
    def as_text(self) -> pa.DataType:
        """The type as which COPY's text is parsed; `decoded` does the rest."""
        return pa.string() if self.server.array or pa.types.is_binary(self.type) else self.type

    @property
    def read(self) -> sql.Composable:
        """The column itself."""
        return sql.Identifier(ALIAS, self.name)

    @property
    def selected(self) -> sql.Composable:
        """The expression that is copied."""
        column = self.read
        is_text = self._element == pa.string()
        if self.server.array:
            return sql.SQL("to_json({}::text[])" if is_text else "to_json({})").format(column)
        if pa.types.is_decimal(self.type):
            return sql.SQL("NULLIF({}, 'NaN')").format(column)
        return sql.SQL("{}::text").format(column) if is_text else column

    @property
    def ordered(self) -> sql.Composable:
        """What rows are ordered by. Equal only for values that are written alike: 0.0 and -0.0 are not."""
        if self.server.array:
            return sql.SQL('({})::text COLLATE "C"').format(self.selected)
        if pa.types.is_floating(self.type):
            return sql.SQL("{}({})").format(sql.Identifier("pg_catalog", f"{self.server.name}send"), self.read)
        return sql.SQL('({}) COLLATE "C"').format(self.selected) if self.type == pa.string() else self.selected

    def decoded(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """The values of what was parsed as `as_text`. Raises: ValueError, ArrowException."""
        if self.as_text == self.type:
            return column
        value = _elements(self._element) if self.server.array else _bytes
        return pa.chunked_array([pa.array((None if one is None else value(one) for one in column.to_pylist()), self.type)])

    @property
    def _element(self) -> pa.DataType:
        return self.type.value_type if self.server.array else self.type


def column_of(name: str, server: ServerType) -> Column | str:
    """A column, or why it cannot be read."""
    element = _scalar(server)
    if isinstance(element, str):
        return element
    return Column(name=name, server=server, type=pa.list_(element) if server.array else element)


def _scalar(server: ServerType) -> pa.DataType | str:
    if server.kind == ENUM:
        return pa.string()
    if server.builtin and server.name == "numeric":
        return _decimal(server.modifier)
    found = NAMED.get(server.name) if server.builtin else None
    return found if found is not None else f"a type that is not read (read are {READABLE})"


def _decimal(modifier: int) -> pa.DataType | str:
    """The decimal of numeric(p, s), which may have more digits after the point than in all, or drop some before it."""
    if modifier < 0:
        return f"{UNBOUNDED}, which has no fixed number of digits"
    precision = ((modifier - 4) >> 16) & 0xFFFF
    scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    digits = max(precision, scale) if scale >= 0 else precision - scale
    return pa.decimal128(digits, max(scale, 0)) if digits <= MOST_DIGITS else f"of more than {MOST_DIGITS} digits"


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])  # after \x


def _elements(kind: pa.DataType) -> Callable[[str], list[Any]]:
    """How an array is read from JSON. Numbers are never read as another kind of number, which could round them."""
    one, types = _element(kind), pa.types
    number: Any = Decimal if types.is_decimal(kind) else float
    whole: Any = int if types.is_integer(kind) else number

    def read(text: str) -> list[Any]:
        found = json.loads(text, parse_float=number, parse_int=whole)
        if any(isinstance(value, list) for value in found):
            raise ValueError("an array of several dimensions")
        return [None if value is None else one(value) for value in found]

    return read


def _element(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_decimal(kind):
        return lambda value: None if value == "NaN" else value
    if pa.types.is_floating(kind):
        return lambda value: {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value, value)
    if pa.types.is_date(kind):
        return date.fromisoformat
    if kind == UTC_TIME:
        return lambda value: datetime.fromisoformat(value).astimezone(UTC)
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat
    return _bytes if pa.types.is_binary(kind) else lambda value: value
