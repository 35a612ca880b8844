"""One way to write a record down: canonical JSON, its digest, and frozen dataclasses to and from it.

Two records are equal exactly when their canonical bytes are equal, so a digest of the bytes is an identity.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

Record = TypeVar("Record")
Value = TypeVar("Value")

SEAL = "seal"
LATER = "later"


def later(default: Value) -> Value:
    """The default of a field that a record got after records of its kind were kept. While the field has it, it is left out of
    the JSON: what was kept before keeps its digest.
    """
    return dataclasses.field(default=default, metadata={LATER: True})


def dumps(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8, no NaN. Dataclasses, enums and times are encoded first."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes, 64 hex digits."""
    return sha256(dumps(value))


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def sealed(value: object) -> bytes:
    """A record's canonical JSON with its own digest beside its fields: an altered byte is seen whenever it is read."""
    return dumps({**encode(value), SEAL: digest(value)})


def opened(kind: type[Record], body: bytes) -> Record:
    """The record of sealed bytes.

    Raises:
        ValueError: they are no such record, or the seal does not fit what stands beside it.
    """
    found = json.loads(body)
    if not isinstance(found, dict) or SEAL not in found:
        raise ValueError("it has no seal")
    seal = found.pop(SEAL)
    if digest(found) != seal:
        raise ValueError("its seal does not fit what stands beside it")
    return decode(kind, found)


def encode(value: Any) -> Any:
    """Plain JSON values. A dataclass is the object of its fields; a timedelta is seconds; a datetime is ISO 8601."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: encode(item) for field, item in fields if LATER not in field.metadata or item != field.default}
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


def decode(kind: type[Record], value: Any) -> Record:
    """The inverse of `encode`, for a dataclass whose fields are annotated. Fields that are absent take their default.

    Raises:
        ValueError: a field is missing or unknown, or the value is no such record; one of a newer schema is not read by
            guesswork.
    """
    try:
        return typing.cast(Record, _decode(kind, value))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{kind.__name__} cannot be read: {error!r}") from error


def _decode(kind: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value)
    if origin is tuple:
        return tuple(_decode(arguments[0], item) for item in value)
    if origin is list:
        return [_decode(arguments[0], item) for item in value]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _decode(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is timedelta:
        return timedelta(seconds=value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    return value


def _decode_union(arguments: tuple[Any, ...], value: Any) -> Any:
    if value is None:
        return None
    kinds = [argument for argument in arguments if argument is not types.NoneType]
    if len(kinds) == 1:
        return _decode(kinds[0], value)
    records = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
    if isinstance(value, Mapping) and records:
        # Each record of a union carries a `kind` that no other one has. One that was there before its union may leave it out.
        named = {str(_kind(kind).default): kind for kind in records}
        found = value.get("kind", next((name for name, kind in named.items() if LATER in _kind(kind).metadata), None))
        if found not in named:
            raise ValueError(f"found a record of kind {found!r} (known are: {', '.join(sorted(named))})")
        return _decode_record(named[found], value)
    return value


def _decode_record(kind: Any, value: Mapping[str, Any]) -> Any:
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)} (it has: {', '.join(sorted(known))})")
    if missing := [name for name, field in fields.items() if name not in value and _is_required(field)]:
        raise ValueError(f"{kind.__name__} misses {', '.join(missing)} (found: {', '.join(sorted(value))})")
    return kind(**{name: _decode(hints[name], value[name]) for name in fields if name in value})


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _kind(kind: Any) -> dataclasses.Field[Any]:
    return next(field for field in dataclasses.fields(kind) if field.name == "kind")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
