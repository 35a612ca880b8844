"""Canonical JSON of records: its digest, and frozen dataclasses to and from it.

Two records are equal exactly when their canonical bytes are equal, so a digest of the bytes is an identity.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

Record = TypeVar("Record")
Value = TypeVar("Value")

SEAL = "seal"
LATER = "later"
STORED = "stored"


def later(default: Value) -> Value:
    """The default of a field that was added after records of its kind were stored. While the field has it, it is left out of
    the JSON, so records stored earlier keep their digest.
    """
    return dataclasses.field(default=default, metadata={LATER: True})


def stored_as(key: str, **options: Any) -> Any:
    """A field whose key in JSON differs from its name: a key of stored records never changes. `options`: those of
    `dataclasses.field`.
    """
    return dataclasses.field(metadata={STORED: key}, **options)


def dumps(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8, no NaN. Dataclasses, enums and times are encoded first."""
    return _written(encode(value))


def _written(plain: Any) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes, 64 hex digits."""
    return sha256(dumps(value))


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def sealed(value: object) -> bytes:
    """A record's canonical JSON with its own digest beside its fields: every read detects an altered byte."""
    return dumps({**encode(value), SEAL: digest(value)})


def opened(kind: type[Record], body: bytes) -> Record:
    """The record of sealed bytes.

    Raises:
        ValueError: they are not such a record, or the seal does not match the fields beside it.
    """
    found = json.loads(body)
    if not isinstance(found, dict) or SEAL not in found:
        raise ValueError("it has no seal")
    seal = found.pop(SEAL)
    if sha256(_written(found)) != seal:
        raise ValueError("its seal does not match its fields")
    return decode(kind, found)


def encode(value: Any) -> Any:
    """Plain JSON values. A dataclass is the object of its fields; a timedelta is seconds; a datetime is ISO 8601."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {_key(field): encode(item) for field, item in fields if LATER not in field.metadata or item != field.default}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _key(field: dataclasses.Field[Any]) -> str:
    return field.metadata.get(STORED, field.name)  # type: ignore[no-any-return]


def decode(kind: type[Record], value: Any) -> Record:
    """The inverse of `encode`, for a dataclass whose fields are annotated. Fields that are absent take their default.

    Raises:
        ValueError: a field is missing or unknown, or the value is not such a record. A record of a newer schema is refused, not
            guessed at.
    """
    try:
        return typing.cast(Record, _decode(kind, value))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{kind.__name__} cannot be read: {error!r}") from error


def _decode(kind: Any, value: Any) -> Any:
    read = _decoder(kind)
    return value if read is None else read(value)


@functools.cache
def _decoder(kind: Any) -> Callable[[Any], Any] | None:
    """What makes a value of a type from JSON; None for a type whose JSON is the value."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union_decoder(arguments)
    if origin in (tuple, list):
        return _items_decoder(origin, _decoder(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _values_decoder(_decoder(arguments[1]))
    if dataclasses.is_dataclass(kind):
        return functools.partial(_decode_record, kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if kind is timedelta:
        return lambda value: timedelta(seconds=value)
    return datetime.fromisoformat if kind is datetime else None


def _items_decoder(kind: Callable[[Any], Any], read: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    return kind if read is None else lambda value: kind(read(item) for item in value)


def _values_decoder(read: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    return lambda value: {key: item if read is None else read(item) for key, item in value.items()}


def _union_decoder(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    kinds = [argument for argument in arguments if argument is not types.NoneType]
    if len(kinds) == 1:
        return lambda value: None if value is None else _decode(kinds[0], value)
    sequence = next((kind for kind in kinds if typing.get_origin(kind) in (tuple, list)), None)
    # Each record of a union has a `kind` of its own. A record that existed before its union may omit it.
    named = {str(_kind(kind).default): kind for kind in kinds if dataclasses.is_dataclass(kind)}
    unnamed = next((name for name, kind in named.items() if LATER in _kind(kind).metadata), None)

    def read(value: Any) -> Any:
        if sequence is not None and isinstance(value, list):
            return _decode(sequence, value)
        if not named or not isinstance(value, Mapping):
            return value
        found = value.get("kind", unnamed)
        if found not in named:
            raise ValueError(f"kind: expected one of {', '.join(map(repr, sorted(named)))}; got {found!r}")
        return _decode_record(named[found], value)

    return read


def _decode_record(kind: Any, value: Mapping[str, Any]) -> Any:
    fields, known = _fields(kind)
    if unknown := sorted(set(value) - known):
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)} (known: {', '.join(sorted(known))})")
    if missing := [key for key, (_, required, _) in fields.items() if required and key not in value]:
        raise ValueError(f"{kind.__name__} lacks {', '.join(missing)} (it has: {', '.join(sorted(value))})")
    given = ((name, read, value[key]) for key, (name, _, read) in fields.items() if key in value)
    return kind(**{name: found if read is None else read(found) for name, read, found in given})


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, tuple[str, bool, Callable[[Any], Any] | None]], frozenset[str]]:
    """The fields that a record's constructor takes, by key: name, whether it is required, and what reads it; and all keys."""
    hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    given = {_key(field): (field.name, _is_required(field), _decoder(hints[field.name])) for field in fields if field.init}
    return given, frozenset(map(_key, fields))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _kind(kind: Any) -> dataclasses.Field[Any]:
    return next(field for field in dataclasses.fields(kind) if field.name == "kind")
