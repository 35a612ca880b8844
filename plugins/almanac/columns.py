"""Columns of source files: one mapping from a file's type to the type that user code sees, and the conversion of values.

Files are compared after the mapping, so types that differ only in spelling agree. The mapping keeps a naive timestamp naive,
because a file with a time zone and a file without one do not agree; when rows are read, both become UTC.
"""

from __future__ import annotations

import base64
import functools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from almanac.core.entity import shown
from almanac.core.formats import DECIMAL, EPOCHS
from almanac.core.sources import Source, alike
from almanac.errors import SourceError

UTC_TIME = pa.timestamp("us", tz="UTC")
# How Parquet files are opened: INT96 times outside the years 1677 to 2262 do not fit into nanoseconds.
AS_WRITTEN: Mapping[str, Any] = {"coerce_int96_timestamp_unit": "us"}
INSTANT = b"almanac.instant"  # metadata of a field: its table's log says that its times are in UTC, whatever a file says
CAST = b"almanac.cast"  # metadata of a field: the name of the type that its column is cast to
FILL = b"almanac.fill"  # metadata of a field: the value for files that lack the column, as JSON
SOURCE = b"almanac.source"  # metadata of a schema: the source's name
DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}  # bits of an integer type to its decimal digits
MOST_DIGITS = 38  # Spark's limit for decimals
# For types that Spark does not know, the type that holds each of their values.
SPELLINGS = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
}


NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# The types of a description, by name; decimals and epochs have functions.
NAMED = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "binary": pa.binary(),
}
# What each of them, and a decimal, can be cast from without a doubt about the value.
CASTS = {
    "boolean": ("text", "boolean"),
    "int": ("text", "whole", "float", "decimal", "boolean"),
    "long": ("text", "whole", "float", "decimal", "boolean"),
    "float": ("text", "whole", "float", "decimal", "boolean"),
    "double": ("text", "whole", "float", "decimal", "boolean"),
    "decimal": ("text", "whole", "decimal"),
    "string": ("text", "whole", "decimal", "boolean", "date", "binary"),
    "date": ("text", "date"),
    "timestamp": ("text", "date", "timestamp"),
    "binary": ("text", "binary"),
}


def named(name: str) -> pa.DataType:
    """The plain type with a name of `core.formats`; an epoch's is a timestamp in UTC."""
    if found := DECIMAL.fullmatch(name):
        return pa.decimal128(int(found[1]), int(found[2]))
    return UTC_TIME if name in EPOCHS else NAMED[name]


def cast_to(kind: pa.DataType, name: str) -> pa.DataType | None:
    """The plain type of a column of plain type `kind` that is cast to a named type; None if that cannot be done."""
    found = named(name)
    if pa.types.is_null(kind):
        return found
    allowed = ("whole",) if name in EPOCHS else CASTS["decimal" if pa.types.is_decimal(found) else name]
    if _class_of(kind) not in allowed:
        return None
    return kind if pa.types.is_timestamp(kind) else found


def _class_of(kind: pa.DataType) -> str:
    """The word of `CASTS` for a plain type; empty if it has none."""
    kinds = pa.types
    classes = {
        "text": kinds.is_string,
        "whole": kinds.is_integer,
        "float": kinds.is_floating,
        "decimal": kinds.is_decimal,
        "boolean": kinds.is_boolean,
        "date": kinds.is_date,
        "timestamp": kinds.is_timestamp,
        "binary": kinds.is_binary,
    }
    return next((name for name, fits in classes.items() if fits(kind)), "")


def constant(kind: str, value: str | None, rows: int) -> pa.Array:
    """A column of one value, from its text. Raises: ArrowInvalid, if the text is not of the type."""
    found = named(kind)
    if value is None:
        return pa.nulls(rows, found)
    if kind in EPOCHS:
        return pa.repeat(pa.scalar(int(value), pa.timestamp(EPOCHS[kind])).cast(found), rows)
    return pa.repeat(pa.scalar(value).cast(found), rows)


def plain(kind: pa.DataType) -> pa.DataType:
    """The type by which files of one source are compared. A type that Spark cannot read stays as it is: see `unreadable`."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string() if isinstance(kind, pa.UuidType) else plain(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_decimal(kind) and kind.precision <= MOST_DIGITS:
        return pa.decimal128(kind.precision, kind.scale)
    return _nested(kind, plain) or SPELLINGS.get(kind, kind)


def seen(kind: pa.DataType) -> pa.DataType:
    """The type that user code sees for a plain one: every timestamp in UTC."""
    return UTC_TIME if pa.types.is_timestamp(kind) else _nested(kind, seen) or kind


def has_zone(kind: pa.DataType) -> bool:
    """Whether a plain type is a timestamp with a time zone, or holds such times and no others."""
    zones = list(_zones(kind))
    return bool(zones) and None not in zones


def _zones(kind: pa.DataType) -> Iterator[str | None]:
    if pa.types.is_timestamp(kind):
        yield kind.tz
    elif pa.types.is_nested(kind):
        for number in range(kind.num_fields):
            yield from _zones(kind.field(number).type)


def _nested(kind: pa.DataType, change: Any) -> pa.DataType | None:
    """A nested type with its parts changed; None if it is not nested."""
    if is_list(kind):
        return pa.list_(change(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(change(kind.key_type), change(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, change(field.type)) for field in kind.fields])
    return None


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is a list, in any of its layouts."""
    named = pa.types
    return bool(
        named.is_list(kind)
        or named.is_large_list(kind)
        or named.is_fixed_size_list(kind)
        or named.is_list_view(kind)
        or named.is_large_list_view(kind)
    )


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The plain type that holds every value of both, or None. Numbers are widened as long as none is rounded."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _common_struct(one, other)
    if is_list(one) and is_list(other):
        item = common(one.value_type, other.value_type)
        return None if item is None else pa.list_(item)
    if pa.types.is_map(one) and pa.types.is_map(other):
        key, item = common(one.key_type, other.key_type), common(one.item_type, other.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    return _common_number(one, other)


def _common_struct(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    theirs = {field.name: field.type for field in other.fields}
    if theirs.keys() != {field.name for field in one.fields} or len(theirs) != one.num_fields or len(theirs) != other.num_fields:
        return None
    found = [(field.name, common(field.type, theirs[field.name])) for field in one.fields]
    return None if any(kind is None for _, kind in found) else pa.struct(found)


def _common_number(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    both, kinds = (one, other), pa.types
    if all(map(kinds.is_integer, both)) or all(map(kinds.is_floating, both)):
        return max(both, key=lambda kind: int(kind.bit_width))
    if all(kinds.is_floating(kind) or (kinds.is_integer(kind) and kind.bit_width < 64) for kind in both):
        return pa.float64()
    if all(kinds.is_decimal(kind) or kinds.is_integer(kind) for kind in both):
        scales = [kind.scale if kinds.is_decimal(kind) else 0 for kind in both]
        wholes = [kind.precision - kind.scale if kinds.is_decimal(kind) else DIGITS[kind.bit_width] for kind in both]
        digits = max(wholes) + max(scales)
        return pa.decimal128(digits, max(scales)) if digits <= MOST_DIGITS else None
    return None


def key_kind(kind: pa.DataType) -> str:
    """A key's kind: `whole numbers` of any width, `text`, or the type itself. Keys of one kind are compared by their values."""
    if pa.types.is_integer(kind):
        return "whole numbers"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)


def is_key(kind: pa.DataType) -> bool:
    """Whether values of a type can identify an entity."""
    return key_kind(kind) != str(kind)


def places(keys: pa.Array | pa.ChunkedArray, among: pa.Array) -> pa.Array | pa.ChunkedArray:
    """For each key the index of its equal in `among`, int32; null where it has none, and for a null. Both are of one kind."""
    wide = pa.int64() if pa.types.is_integer(among.type) else among.type
    return pc.index_in(keys.cast(wide), value_set=among.cast(wide), skip_nulls=True)


def row_places(keys: Sequence[pa.Array | pa.ChunkedArray], among: Sequence[pa.Array]) -> pa.Array | pa.ChunkedArray:
    """As `places`, for keys of several columns: two rows are equal if all their columns are. A row with a null has none."""
    ours, theirs = keys[0], among[0]
    for one, other in zip(keys[1:], among[1:], strict=True):
        # Numbers for the pairs of the first two columns, and so on: no text is joined, so no two pairs become one.
        left, right = pc.unique(theirs), pc.unique(other)
        pairs = [_paired(places(a, left), places(b, right), len(right)) for a, b in ((ours, one), (theirs, other))]
        ours, theirs = pairs
    return places(ours, theirs)


def _paired(first: pa.Array, second: pa.Array, size: int) -> pa.Array:
    """A number for each pair of a place and one below `size`; null if one of them is. Places are below 2^31, pairs below 2^62."""
    return pc.add(pc.multiply(first.cast(pa.int64()), size), second.cast(pa.int64()))


def entities(rows: pa.Table | pa.RecordBatch, keys: Sequence[str]) -> list[str]:
    """The entity of each row, for messages."""
    return [shown(values) for values in zip(*(rows.column(key).to_pylist() for key in keys), strict=True)]


def all_valid(rows: pa.Table | pa.RecordBatch, names: Sequence[str]) -> Any:
    """Which rows have no null in these columns: a boolean column."""
    return functools.reduce(pc.and_, (rows.column(name).is_valid() for name in names))


def unreadable(kind: pa.DataType) -> str:
    """Why Spark cannot read a plain type; empty where it can."""
    kinds = pa.types
    if kinds.is_decimal(kind) and kind.precision > MOST_DIGITS:
        return f"Spark's decimals have at most {MOST_DIGITS} digits"
    if kinds.is_time(kind):
        return "Spark has no time of day"
    if kinds.is_struct(kind):
        if doubled := alike(field.name for field in kind.fields):
            return f"its fields {' and '.join(doubled[0])} differ only in case"
        return next(filter(None, (unreadable(field.type) for field in kind.fields)), "")
    if is_list(kind):
        return unreadable(kind.value_type)
    if kinds.is_map(kind):
        return unreadable(kind.key_type) or unreadable(kind.item_type)
    known = (kinds.is_boolean, kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_temporal)
    is_known = any(fits(kind) for fits in known) or kind in (pa.null(), pa.string(), pa.binary())
    return "" if is_known and not kinds.is_interval(kind) else "Spark does not know this type"


def refusal(source: str, column: str, kind: pa.DataType, why: str) -> str:
    """The message for a source's column that cannot be read."""
    return (
        f"Source {source!r}: column {column!r} is {kind}, which cannot be read: {why}. Deliver it as another type, or leave the "
        "column out with columns=(...)."
    )


def schema_of(source: Source, schema: pa.Schema, name: str, columns: Iterable[str]) -> pa.Schema:
    """The types that user code sees for a source's columns, and the values for files that lack one. `schema`: their plain types.

    Raises:
        SourceError: Spark cannot read one of them.
    """
    fields, fill = [], source.fill or {}
    if source.has_log:  # a column that was added later is null in older files
        fill = dict.fromkeys(columns := list(columns)) | dict(fill)
    for field in map(schema.field, columns):
        if why := unreadable(field.type):
            raise SourceError(refusal(name, field.name, field.type, why))
        instant = {INSTANT: b"true"} if source.has_log and has_zone(field.type) else None
        field = pa.field(field.name, seen(field.type), metadata=instant)
        field = filled(field, fill[field.name]) if field.name in fill else field
        if cast := (source.cast or {}).get(field.name):
            field = field.with_metadata({**(field.metadata or {}), CAST: cast.encode()})
        fields.append(field)
    return pa.schema(fields, {SOURCE: name.encode()})


def packed(schema: pa.Schema) -> str:
    """A schema as text, without loss."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def unpacked(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(text)))


def filled(field: pa.Field, value: Any) -> pa.Field:
    """A field with the value for files that lack its column. Raises: ValueError, if the value is not of its type."""
    if pa.scalar(value, field.type).as_py() != value:
        raise ValueError(f"expected a value of type {field.type}, got {value!r}")
    return field.with_metadata({**(field.metadata or {}), FILL: json.dumps(value).encode()})


def of_batch(
    batch: pa.RecordBatch, schema: pa.Schema, timezone: str | None, names: Mapping[str, str] | None = None
) -> pa.RecordBatch:
    """A batch of a file as user code sees it: the schema's columns and types, NaN as null.

    Args:
        names: the batch's name for a column of the schema, where they differ.

    Raises:
        SourceError: a value does not fit the column's type.
    """
    found = []
    there = set(batch.schema.names)
    for field in schema:
        stored = (names or {}).get(field.name, field.name)
        if stored not in there:
            found.append(_filling(field, batch.num_rows, _source(schema)))
            continue
        try:
            column, told = batch.column(stored), field.metadata or {}
            cast, zone = told.get(CAST, b"").decode(), "UTC" if INSTANT in told else timezone
            found.append(_brought(converted(column, cast, zone) if cast else column, field.type, zone))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError) as error:
            why = " ".join(str(error).split()).rstrip(".")
            raise SourceError(
                f"{_source(schema)}: column {field.name!r} has a value that does not fit {field.type}: {why}. Deliver it again, "
                "or leave the column out with columns=(...)."
            ) from error
    return pa.RecordBatch.from_arrays(found, names=schema.names)


def _source(schema: pa.Schema) -> str:
    return f"Source {(schema.metadata or {}).get(SOURCE, b'').decode()!r}"


def _filling(field: pa.Field, rows: int, source: str) -> pa.Array:
    if FILL not in (field.metadata or {}):
        raise SourceError(
            f"{source}: a file has no column {field.name!r}. Deliver it again, or set fill={{{field.name!r}: None}}."
        )
    value = json.loads(field.metadata[FILL])
    return pa.nulls(rows, field.type) if value is None else pa.repeat(pa.scalar(value, field.type), rows)


def converted(column: pa.Array, name: str, timezone: str | None) -> pa.Array:
    """A column cast to a named type: a value that does not stand for one of that type is an error, not null.

    Raises:
        ArrowInvalid: a value cannot be cast.
    """
    if pa.types.is_timestamp(column.type):
        return column
    column, target = _brought(column, plain(column.type), timezone), named(name)
    if name in EPOCHS:
        return column.cast(pa.int64()).cast(pa.timestamp(EPOCHS[name])).cast(UTC_TIME)
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        if name == "timestamp":
            return _moments_of(column, timezone)
        if pa.types.is_integer(target) or pa.types.is_floating(target):  # Arrow also knows nan, inf and 0x1F
            _check_texts(column, NUMBER, target)
    if pa.types.is_floating(target):
        return _finite(column, column.cast(target))
    if pa.types.is_decimal(target) and pa.types.is_integer(column.type):
        column = column.cast(pa.decimal128(MOST_DIGITS, target.scale))  # Arrow wants room for every number of the type
    return column.cast(target)


def _check_texts(column: pa.Array, pattern: str, kind: pa.DataType) -> None:
    """Raises: ArrowInvalid, if a text does not match."""
    fits = pc.match_substring_regex(column, pattern)
    if pc.all(fits).as_py() is False:
        first = column.filter(pc.invert(fits))[0].as_py()
        raise pa.ArrowInvalid(f"Failed to parse string: {first!r} as a scalar of type {kind}")


def _finite(column: pa.Array, found: pa.Array) -> pa.Array:
    """A column that was cast to floats. Raises: ArrowInvalid, if a finite value became infinite."""
    became = pc.is_inf(found)
    if pa.types.is_floating(column.type):
        became = pc.and_(became, pc.is_finite(column))
    if pc.any(became).as_py():
        raise pa.ArrowInvalid(f"{column.filter(became)[0].as_py()!r} is too large for {found.type}")
    return found


def _moments_of(column: pa.Array, timezone: str | None) -> pa.Array:
    """Texts in ISO 8601 as times in UTC. One with an offset is read by it, one without in `timezone`."""
    column = pc.replace_substring_regex(column, r"([.,]\d{6})\d+", r"\1")  # to microseconds
    offset = pc.match_substring_regex(column, r"(Z|[+-]\d{2}:?\d{2}|[T ]\d{2}:\d{2}.*[+-]\d{2})$")
    none = pa.scalar(None, pa.string())
    fixed = pc.if_else(offset, column, none).cast(pa.timestamp("us", "UTC"))
    local = moments(pc.if_else(offset, none, column).cast(pa.timestamp("us")), timezone)
    return pc.coalesce(fixed, local)


def _brought(column: pa.Array, kind: pa.DataType, timezone: str | None) -> pa.Array:
    """A column converted to a type, which may be its own; NaN becomes null."""
    found, kinds = column.type, pa.types
    if isinstance(found, pa.UuidType):
        return _uuids(column.storage)
    if kinds.is_fixed_size_binary(found) and kinds.is_string(kind):  # a file that tells only its table that these are UUIDs
        return _uuids(column)
    if isinstance(found, pa.BaseExtensionType):
        return _brought(column.storage, kind, timezone)
    if kinds.is_dictionary(found):
        return _brought(column.dictionary_decode(), kind, timezone)
    if kinds.is_null(found):
        return pa.nulls(len(column), kind)
    if kinds.is_timestamp(found) and kinds.is_timestamp(kind):
        return moments(column, timezone)
    if kinds.is_floating(kind):
        return without_nan(column.cast(kind))
    if kinds.is_nested(kind):
        return _rebuilt(column, kind, timezone)
    return column if found == kind else _cast(column, kind)


def _uuids(column: pa.Array) -> pa.Array:
    return pa.array((None if one is None else str(uuid.UUID(bytes=one)) for one in column.to_pylist()), pa.string())


def moments(column: pa.Array, timezone: str | None) -> pa.Array:
    """Timestamps in UTC, to the microsecond; naive ones are read in `timezone`, UTC when none is declared.

    A local time that occurs twice is read as the first of the two; a skipped one, as the moment of the jump.
    """
    naive = column.type.tz is None
    if column.type.unit == "ns" and (first := pc.min(column)).is_valid and first.value < 0:
        column = pc.floor_temporal(column, unit="microsecond")  # a cast would truncate towards 1970
    column = _cast(column, pa.timestamp("us", column.type.tz))
    if naive and timezone not in (None, "UTC"):  # a cast reads it as UTC at no cost
        column = pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="latest")
    return column.cast(UTC_TIME)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A safe cast, except that times are truncated to their unit."""
    return pc.cast(column, options=pc.CastOptions(target_type=kind, allow_time_truncate=True))


def without_nan(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column with NaN as null; one without floating-point numbers is returned as it is."""
    if not pa.types.is_floating(column.type):
        return column
    if not column.null_count:
        with np.errstate(all="ignore"):
            if not np.isnan(np.sum(column.to_numpy())):  # costs a third of a look at each value
                return column
    nan = pc.is_nan(column)
    return pc.if_else(nan, pa.scalar(None, column.type), column) if pc.any(nan).as_py() else column


def _rebuilt(column: pa.Array, kind: pa.DataType, timezone: str | None) -> pa.Array:
    """A nested column with its parts converted to the types of `kind`."""
    missing = column.is_null()
    if pa.types.is_struct(kind):
        there = {field.name for field in column.type.fields}  # a table with a log can have added parts since
        parts = [
            _brought(column.field(field.name), field.type, timezone) if field.name in there else pa.nulls(len(column), field.type)
            for field in kind.fields
        ]
        return pa.StructArray.from_arrays(parts, fields=list(kind.fields), mask=missing)
    if pa.types.is_map(kind):
        keys, items = _brought(column.keys, kind.key_type, timezone), _brought(column.items, kind.item_type, timezone)
        return pa.MapArray.from_arrays(_ends(column), keys, items, type=kind, mask=missing)
    column = column.cast(pa.list_(column.type.value_type))  # whatever its layout
    return pa.ListArray.from_arrays(_ends(column), _brought(column.values, kind.value_type, timezone), type=kind, mask=missing)


def _ends(column: pa.Array) -> pa.Array:
    """The offsets of lists, as an array of its own: Arrow accepts no slice together with a mask."""
    return pa.array(column.offsets.to_numpy(), pa.int32())


def leaves(schema: pa.Schema) -> Iterator[tuple[str, int]]:
    """Each column of a Parquet file and the index of its first leaf, which locates its statistics."""
    place = 0
    for field in schema:
        yield field.name, place
        place += _count(field.type)


def _count(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _count(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _count(kind.value_type)
    if is_list(kind):
        return _count(kind.value_type)
    if pa.types.is_map(kind):
        return _count(kind.key_type) + _count(kind.item_type)
    return sum(_count(field.type) for field in kind.fields) if pa.types.is_struct(kind) else 1
