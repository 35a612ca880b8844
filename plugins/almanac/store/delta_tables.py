"""Delta tables as sources: the files that a version of the table holds, by its log, with the rows that it marks as deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from almanac import chunks
from almanac.core.pins import Constant, Deleted, PinnedFile
from almanac.core.sources import Source
from almanac.errors import SourceError, SourceMissing, Unreachable, examples
from almanac.store.contents import Contents, PointInTime
from almanac.store.objects import Listed, Objects

PHYSICAL, ID = b"delta.columnMapping.physicalName", b"delta.columnMapping.id"
COMMIT = re.compile(r"\d{20}\.json")
MODE = "delta.columnMapping.mode"
VECTORS = "deletionVectors"
MOST_DELETED = 5_000_000  # rows in a version: a pin holds the position of each
VACUUMED = "its history was vacuumed away"


def contents(objects: Objects, name: str, source: Source, then: PointInTime | None, asked: Sequence[str]) -> Contents:
    """The files of a Delta table as it is now, or as it was at a given time.

    Raises:
        SourceMissing: there is no table, or there was none at that time.
        SourceError: the log cannot be read, or files that it names are gone.
    """
    table = _opened(name, source.uri)
    try:
        if then is not None:
            table = _opened(name, source.uri, _version_at(objects, name, source.uri, table, then.moment))
        schema = pa.schema(table.schema())
        mode = table.metadata().configuration.get(MODE, "none")
        added = pa.table(table.get_add_actions()).to_pylist()
        deleted = _deleted(name, table) if VECTORS in (table.protocol().reader_features or ()) else {}
    except (DeltaError, OSError, ValueError) as error:
        raise _unreadable(name, source.uri, error) from error
    _check_nested(name, source, schema, asked)
    names = {_told(field, PHYSICAL): field.name for field in schema if _told(field, PHYSICAL) not in ("", field.name)}
    there = {item.uri: item for item in objects.walk(source.uri)}
    files, gone = list[PinnedFile](), list[str]()
    for one in sorted(added, key=lambda one: str(one["path"])):
        item = _listed(objects, source.uri, str(one["path"]), there)
        if item is None:
            gone.append(str(one["path"]))
            continue
        constants = tuple(_constants(name, source.uri, schema, one.get("partition") or {}))
        files.append(
            PinnedFile(
                uri=item.uri,
                size=item.size,
                etag=item.etag,
                constants=constants,
                names=names if names and mode == "name" else None,
                deleted=deleted.pop(_place(source.uri, str(one["path"])), None),
            )
        )
    if deleted:
        raise SourceError(
            f"Source {name!r}: the Delta table {source.uri} marks rows as deleted in files that it does not name "
            f"({examples(sorted(deleted))}). Its log is not read. Compact it first: REORG TABLE ... APPLY (PURGE)."
        )
    if gone:
        advice = "Name a later known_at, or keep more history (delta.deletedFileRetentionDuration)." if then else "Restore them."
        raise SourceError(
            f"Source {name!r}: version {table.version()} of the Delta table {source.uri} names files that are gone "
            f"({len(gone)}): {examples(gone)}; {VACUUMED}. {advice}"
        )
    ids = {int(_told(field, ID)): field.name for field in schema if _told(field, ID)} if mode == "id" else None
    plain = pa.schema([pa.field(field.name, field.type) for field in schema])
    return Contents(uri=source.uri, files=tuple(files), schema=plain, ids=ids, version=str(table.version()))


def _opened(name: str, uri: str, version: int | None = None) -> DeltaTable:
    try:
        return DeltaTable(uri, version=version)
    except TableNotFoundError as error:
        raise SourceMissing(
            f"Source {name!r} is missing: {uri} is no Delta table (it has no _delta_log/). Deliver it, or correct the source's "
            "uri or format."
        ) from error
    except (DeltaError, OSError, ValueError) as error:
        raise _unreadable(name, uri, error) from error


def _unreadable(name: str, uri: str, error: Exception) -> SourceError | Unreachable:
    why = " ".join(str(error).split())[:300]
    if isinstance(error, OSError):
        return Unreachable(f"{uri}: the table's log cannot be read ({why}). Check the store and its credentials.")
    return SourceError(
        f"Source {name!r}: the Delta table {uri} cannot be read ({why}). If it uses a feature that deltalake does not know, "
        "deliver a copy without it."
    )


def _told(field: pa.Field, key: bytes) -> str:
    return (field.metadata or {}).get(key, b"").decode()  # type: ignore[no-any-return]


def _version_at(objects: Objects, name: str, uri: str, table: DeltaTable, moment: datetime) -> int:
    """The newest version committed at or before a moment, by the commits' own times. Raises: SourceError, SourceMissing."""
    kept = {item.uri.rsplit("/", 1)[-1]: item.modified for item in objects.walk(f"{uri}_delta_log/")}
    newest = datetime.min.replace(tzinfo=UTC)
    found, first = None, None
    for version, at in _commits(table, {int(name[:20]): at for name, at in kept.items() if COMMIT.fullmatch(name)}):
        newest = max(newest, at)  # a commit is never before the one that it follows
        first = first or (version, newest)
        if newest <= moment:
            found = version
    if found is not None:
        return found
    if first is None or first[0] > 0:
        raise SourceError(
            f"Source {name!r}: the Delta table {uri} does not tell what it was at {moment.isoformat()}: its log begins with "
            "version "
            f"{first[0] if first else table.version()}{f' of {first[1].isoformat()}' if first else ''}; {VACUUMED}. Name a later "
            "known_at, or keep more history (delta.logRetentionDuration)."
        )
    raise SourceMissing(
        f"Source {name!r} is missing: the Delta table {uri} was created at {first[1].isoformat()}, after {moment.isoformat()}. "
        "Name a later known_at."
    )


def _commits(table: DeltaTable, kept: Mapping[int, datetime]) -> list[tuple[int, datetime]]:
    """The versions in a table's log, in order, and when they were committed. `kept`: version to when its file was written."""
    told = [commit.get("inCommitTimestamp") or commit.get("timestamp") for commit in reversed(table.history())]
    versions = sorted(version for version in kept if version <= table.version())
    if len(told) == len(versions) and None not in told:
        return [(version, datetime.fromtimestamp(int(at) / 1000, UTC)) for version, at in zip(versions, told, strict=True)]
    # A commit need not tell its time, and `history` passes over one that does not: then the files' times count. A store tells
    # whole seconds, so a commit counts from the next one on.
    return [(version, kept[version] + timedelta(seconds=1)) for version in versions]


def _deleted(name: str, table: DeltaTable) -> dict[str, Deleted]:
    """File to its deleted rows. Raises: SourceError, if they are too many."""
    found, rows = {}, 0
    for batch in table.deletion_vectors():
        batch = pa.record_batch(batch)
        for uri, kept in zip(batch.column("filepath").to_pylist(), batch.column("selection_vector"), strict=True):
            places = np.flatnonzero(~kept.values.to_numpy(zero_copy_only=False)).astype(np.int64)
            rows += len(places)
            if rows > MOST_DELETED:
                raise SourceError(
                    f"Source {name!r}: the Delta table {table.table_uri} marks more than {MOST_DELETED} rows as deleted. "
                    "Compact it first: REORG TABLE ... APPLY (PURGE)."
                )
            if len(places):
                found[uri] = chunks.packed(places)
    return found


def _place(uri: str, path: str) -> str:
    """A file as a log names it, encoded as it is there."""
    return path if "://" in path else f"{uri}{path}"


def _listed(objects: Objects, uri: str, path: str, there: Mapping[str, Listed]) -> Listed | None:
    """A file that a log names. A log encodes the special characters of a path."""
    for one in (path, unquote(path)):
        place = _place(uri, one)
        if place in there:
            return there[place]
        if not place.startswith(uri) and place.startswith("s3://"):  # of a table that was cloned
            found = next(iter(objects.walk(place)), None)
            if found is not None and found.uri == place:
                return found
    return None


def _constants(name: str, uri: str, schema: pa.Schema, values: Mapping[str, Any]) -> Iterator[Constant]:
    for column, value in values.items():
        kind = schema.field(column).type
        yield Constant(name=column, type=_type_name(name, uri, column, kind), value=None if value is None else _text(value))


def _type_name(name: str, uri: str, column: str, kind: pa.DataType) -> str:
    """The name in `core.formats` of a partition column's type. Raises: SourceError."""
    kinds = pa.types
    if kinds.is_timestamp(kind):
        return "timestamp_micros" if kind.tz else "timestamp"
    if kinds.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    names = {"int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(), "date": pa.date32()}
    if kinds.is_integer(kind):
        return "long" if kind.bit_width == 64 else "int"
    if kinds.is_boolean(kind):
        return "boolean"
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return "string"
    found = next((one for one, other in names.items() if other == kind), None)
    if found is None:
        raise SourceError(f"Source {name!r}: {uri} is partitioned by {column}, whose type {kind} cannot be read from a log.")
    return found


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            return str((value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
        return value.isoformat(sep=" ")
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)


def _check_nested(name: str, source: Source, schema: pa.Schema, asked: Sequence[str]) -> None:
    """Checks that no struct that is read has parts under other names in the files. Raises: SourceError."""
    rename = source.rename or {}
    for field in schema:
        given = rename.get(field.name, field.name)
        if (not asked or given in asked) and _is_renamed_inside(field.type):
            raise SourceError(
                f"Source {name!r}: column {given!r} of the Delta table {source.uri} is {field.type}, whose parts have other "
                "names in the files (column mapping). That is not read. Leave the column out with columns=(...)."
            )


def _is_renamed_inside(kind: pa.DataType) -> bool:
    if not pa.types.is_nested(kind):
        return False
    fields = [kind.field(number) for number in range(kind.num_fields)]
    return any(_told(one, PHYSICAL) not in ("", one.name) or _is_renamed_inside(one.type) for one in fields)
