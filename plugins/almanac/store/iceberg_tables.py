"""Iceberg tables as sources: the files that a snapshot holds, by its manifests, with the rows that it marks as deleted.

As it is now, a table is read with its current schema; as it was, with the schema of that snapshot, as Iceberg's time travel does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from pyiceberg import types
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestEntry
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.puffin import PuffinFile
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.transforms import IdentityTransform, VoidTransform

from almanac import chunks
from almanac.core.pins import Constant, Deleted, PinnedFile
from almanac.core.sources import Source
from almanac.errors import SourceError, SourceMissing, examples
from almanac.store.contents import Contents, PointInTime
from almanac.store.iceberg_metadata import Opened, opened, reading
from almanac.store.objects import Listed, Objects

MOST_DELETED = 5_000_000  # rows in a snapshot: a pin holds the position of each
READERS = 16
EXPIRED = "its history was expired away"
KEEP = "Name a later known_at, or keep more history (history.expire.max-snapshot-age-ms)."
COMPACT = "Compact the table first (rewrite_data_files in Spark)"
# Where a table's files can lie besides its location.
DATA_PATHS = ("write.data.path", "write.object-storage.path", "write.folder-storage.path")
EPOCH = datetime(1970, 1, 1)
# The names in `core.formats` of the types that a partition's value can have.
NAMES: Mapping[type[types.IcebergType], str] = {
    types.BooleanType: "boolean",
    types.IntegerType: "int",
    types.LongType: "long",
    types.FloatType: "float",
    types.DoubleType: "double",
    types.StringType: "string",
    types.UUIDType: "string",
    types.DateType: "date",
    types.TimestampType: "timestamp",
    types.TimestampNanoType: "timestamp",
    types.TimestamptzType: "timestamp_micros",
    types.TimestamptzNanoType: "timestamp_micros",
}

Places = npt.NDArray[np.int64]


def contents(objects: Objects, name: str, source: Source, then: PointInTime | None, asked: Sequence[str]) -> Contents:
    """The files of an Iceberg table as it is now, or as it was at a given time.

    Raises:
        SourceMissing: there is no table, or it held nothing yet at that time.
        SourceError: the metadata cannot be read; files that it names are gone; its history was expired away; it holds what is
            not read: equality deletes, files that are not Parquet, columns with a default value, too many deleted rows.
        Unreachable, AccessRefused: the catalog or the store cannot be read.
    """
    table = opened(objects, name, source.uri)
    with reading(name, table.text):
        snapshot = _snapshot_at(name, table, then.moment) if then else table.metadata.current_snapshot()
        schema = _schema_of(table.metadata, snapshot if then else None)
        entries = _entries(table.io, snapshot) if snapshot else []
        data = [entry for entry in entries if entry.data_file.content == DataFileContent.DATA]
        equal = [entry for entry in entries if entry.data_file.content == DataFileContent.EQUALITY_DELETES]
        _check_read(name, table, data, equal)
        marks = [entry for entry in entries if entry.data_file.content == DataFileContent.POSITION_DELETES]
        deleted = _deleted(name, table, data, marks)
        mapping = table.metadata.name_mapping()
    _check_defaults(name, source, table.text, schema, asked)
    fields = {field.field_id: field for field in schema.fields}
    root = _on_s3(table.metadata.location.rstrip("/") + "/")
    pinned = list[PinnedFile]()
    for file, item in _listed(objects, name, table, root, [entry.data_file for entry in data], snapshot, bool(then)):
        pinned.append(
            PinnedFile(
                uri=item.uri,
                size=item.size,
                etag=item.etag,
                constants=tuple(_constants(name, table, fields, table.metadata.specs()[file.spec_id], file)),
                deleted=deleted.get(item.uri),
            )
        )
    ids, unnumbered = {number: field.name for number, field in fields.items()}, None
    if mapping is not None:
        unnumbered = {own: ids.get(one.field_id or 0, "") for one in mapping.root for own in one.names}
    return Contents(
        uri=root,
        files=tuple(sorted(pinned, key=lambda file: file.uri)),
        schema=schema_to_pyarrow(schema),
        ids=ids,
        unnumbered=unnumbered,
        notes=table.notes,
        version=str(snapshot.snapshot_id) if snapshot else "",
    )


def _on_s3(location: str) -> str:
    """A location as Hadoop writes it, by the scheme that all readers here know."""
    scheme, sign, path = location.partition("://")
    return f"s3://{path}" if sign and scheme in ("s3a", "s3n") else location


# --- its snapshots ---


def _snapshot_at(name: str, table: Opened, moment: datetime) -> Snapshot:
    """The snapshot that was current at a moment, by the table's snapshot log. Raises: SourceMissing, SourceError."""
    metadata = table.metadata
    log = [(entry.timestamp_ms, entry.snapshot_id) for entry in metadata.snapshot_log]
    if not log:  # it is optional
        log = [(one.timestamp_ms, one.snapshot_id) for one in reversed(list(ancestors_of(metadata.current_snapshot(), metadata)))]
    instant = (moment - EPOCH.replace(tzinfo=UTC)) // timedelta(milliseconds=1)
    until = [snapshot for at, snapshot in log if at <= instant]
    if not log or (not until and _is_first(metadata, log[0][1])):
        when = f"its first snapshot is of {_moment(log[0][0])}" if log else "it has no snapshot"
        raise SourceMissing(
            f"Source {name!r} is missing: {table.text} held nothing yet at {moment.isoformat()}; {when}. Name a later known_at."
        )
    found = metadata.snapshot_by_id(until[-1]) if until else None
    if found is None or _is_gap(metadata, until, log[len(until) :]):
        rest = log[len(until) :] or log
        raise SourceError(
            f"Source {name!r}: {table.text} does not tell what it was at {moment.isoformat()}; {EXPIRED}: it tells of snapshot "
            f"{rest[0][1]} of {_moment(rest[0][0])} and later ones. {KEEP}"
        )
    return found


def _is_first(metadata: TableMetadata, snapshot_id: int) -> bool:
    """Whether a snapshot is the first one that its table ever had, as far as is still known."""
    first = metadata.snapshot_by_id(snapshot_id)
    if first is None or first.parent_snapshot_id is not None or (first.sequence_number or 0) > 1:
        return False
    return all(one.timestamp_ms >= first.timestamp_ms for one in metadata.snapshots)


def _is_gap(metadata: TableMetadata, until: Sequence[int], after: Sequence[tuple[int, int]]) -> bool:
    """Whether snapshots that followed the last of some were expired: then it may not have been current any more. pyiceberg's
    expiry leaves older ones in the log and takes their children's parent away.
    """
    if not after:
        return False
    following = metadata.snapshot_by_id(after[0][1])
    if following is None:
        return True
    if following.snapshot_id in until:  # a rollback
        return False
    parent = following.parent_snapshot_id
    return parent != until[-1] and (parent is None or metadata.snapshot_by_id(parent) is None)


def _moment(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat()


def _schema_of(metadata: TableMetadata, snapshot: Snapshot | None) -> Schema:
    """The schema of a snapshot; without one, the current schema."""
    number = snapshot.schema_id if snapshot else None
    return next((schema for schema in metadata.schemas if schema.schema_id == number), metadata.schema())


def _entries(io: FileIO, snapshot: Snapshot) -> list[ManifestEntry]:
    """The files of a snapshot, with their sequence numbers: data and deletes."""
    manifests = snapshot.manifests(io)
    with ThreadPoolExecutor(READERS) as pool:
        return [entry for some in pool.map(lambda one: one.fetch_manifest_entry(io), manifests) for entry in some]


# --- its files ---


def _check_read(name: str, table: Opened, data: Iterable[ManifestEntry], equal: Iterable[ManifestEntry]) -> None:
    """Checks that a table's files can be read here, with their deletes. Raises: SourceError."""
    for entry in data:
        file = entry.data_file
        if file.file_format != FileFormat.PARQUET:
            raise SourceError(
                f"Source {name!r}: {table.text} holds {file.file_path}, which is {file.file_format.value}; expected Parquet. "
                "Rewrite the table's files as Parquet (write.format.default, then rewrite_data_files)."
            )
        if not _on_s3(file.file_path).startswith("s3://"):
            raise SourceError(
                f"Source {name!r}: {table.text} holds {file.file_path}; expected files on S3. Deliver a copy in a bucket."
            )
        if acting := [one.data_file.file_path for one in equal if _is_meant(table.metadata, one, entry)]:
            raise SourceError(
                f"Source {name!r}: {table.text} deletes rows by their values, with equality deletes ({len(acting)}): "
                f"{examples(acting, 1)}. These are not read. {COMPACT}."
            )


def _is_meant(metadata: TableMetadata, delete: ManifestEntry, entry: ManifestEntry) -> bool:
    """Whether an equality delete can apply to a data file, by the rules of Iceberg's specification ("Scan Planning")."""
    if (entry.sequence_number or 0) >= (delete.sequence_number or 0):
        return False
    one, other = delete.data_file, entry.data_file
    everywhere = all(isinstance(part.transform, VoidTransform) for part in metadata.specs()[one.spec_id].fields)
    return everywhere or (one.spec_id == other.spec_id and _values(one) == _values(other))


def _values(file: DataFile) -> list[str]:
    """A partition's values, so that NaN is equal to itself."""
    return [repr(file.partition[place]) for place in range(len(file.partition))]


def _deleted(name: str, table: Opened, data: Iterable[ManifestEntry], marks: Iterable[ManifestEntry]) -> dict[str, Deleted]:
    """File to its deleted rows. A delete applies to files that are not younger than itself. Raises: SourceError, if they are too
    many.
    """
    born = {_on_s3(entry.data_file.file_path): entry for entry in data}
    found, read = dict[str, Places](), dict[str, list[tuple[str, Places]]]()
    for mark in marks:
        if (file := mark.data_file).file_path not in read:  # several entries can share a Puffin file
            read[file.file_path] = list(_marked(name, table, file))
        meant = getattr(file, "referenced_data_file", None)
        for path, places in read[file.file_path]:
            entry = born.get(uri := _on_s3(path))
            if entry is None or (meant and path != meant) or (entry.sequence_number or 0) > (mark.sequence_number or 0):
                continue
            inside = places[places < entry.data_file.record_count]
            found[uri] = np.unique(np.concatenate([found[uri], inside])) if uri in found else np.unique(inside)
        if sum(map(len, found.values())) > MOST_DELETED:
            raise SourceError(f"Source {name!r}: {table.text} marks more than {MOST_DELETED} rows as deleted. {COMPACT}.")
    return {uri: chunks.packed(places) for uri, places in found.items() if len(places)}


def _marked(name: str, table: Opened, file: DataFile) -> Iterator[tuple[str, Places]]:
    """The positions that a delete file marks, by data file. One can come in parts. Raises: SourceError."""
    with table.io.new_input(file.file_path).open() as body:
        if file.file_format == FileFormat.PUFFIN:
            for vector in deletion_vectors_from_puffin_file(PuffinFile(body.read())):
                yield vector.referenced_data_file, vector.to_vector().to_numpy()
        elif file.file_format == FileFormat.PARQUET:
            for batch in pq.ParquetFile(body, read_dictionary=["file_path"]).iter_batches(columns=["file_path", "pos"]):
                paths, places = batch.column("file_path"), batch.column("pos").to_numpy()
                for number, path in enumerate(paths.dictionary.to_pylist()):
                    yield path, places[paths.indices.to_numpy() == number]
        else:
            raise SourceError(
                f"Source {name!r}: {table.text} marks deleted rows in {file.file_path}, which is {file.file_format.value}; "
                f"expected Parquet or Puffin. {COMPACT}."
            )


def _listed(
    objects: Objects, name: str, table: Opened, root: str, data: Iterable[DataFile], snapshot: Snapshot | None, past: bool
) -> list[tuple[DataFile, Listed]]:
    """The data files as the store lists them. Raises: SourceError, if some are gone."""
    listed = list(data)
    wanted = {_on_s3(file.file_path): file for file in listed}
    if not wanted:
        return []
    if len(wanted) < len(listed):
        raise SourceError(f"Source {name!r}: {table.text} names a data file twice. {COMPACT}.")
    properties = table.metadata.properties
    roots = [root, *(_on_s3(properties[key].rstrip("/") + "/") for key in DATA_PATHS if key in properties)]
    there = dict[str, Listed]()
    for place in roots:
        if any(uri.startswith(place) and uri not in there for uri in wanted):
            there |= {item.uri: item for item in objects.walk(place) if item.uri in wanted}
    outside = [uri for uri in wanted if uri not in there and not uri.startswith(tuple(roots))]
    with ThreadPoolExecutor(READERS) as pool:
        firsts = pool.map(lambda uri: next(iter(objects.walk(uri)), None), outside)
        there |= {item.uri: item for item in firsts if item is not None and item.uri in wanted}
    if gone := sorted(uri for uri in wanted if uri not in there):
        assert snapshot is not None
        advice = f"; {EXPIRED}. {KEEP}" if past else ". Restore them, or roll the table back."
        raise SourceError(
            f"Source {name!r}: snapshot {snapshot.snapshot_id} of {table.text} names files that are gone ({len(gone)}): "
            f"{examples(gone)}{advice}"
        )
    return [(file, there[uri]) for uri, file in wanted.items()]


# --- its columns ---


def _check_defaults(name: str, source: Source, text: str, schema: Schema, asked: Sequence[str]) -> None:
    """Checks that no column that is read has a value for the files that lack it. Raises: SourceError."""
    rename = source.rename or {}
    for field in schema.fields:
        given = rename.get(field.name, field.name)
        if (not asked or given in asked) and _has_default(field):
            raise SourceError(
                f"Source {name!r}: column {given!r} of {text} has a default value for the rows before it (initial-default). That "
                f"is not read. {COMPACT}, with a column that has none, or leave the column out with columns=(...)."
            )


def _has_default(field: types.NestedField) -> bool:
    if field.initial_default is not None:
        return True
    kind = field.field_type
    parts: Iterable[types.NestedField] = ()
    if isinstance(kind, types.StructType):
        parts = kind.fields
    elif isinstance(kind, types.ListType):
        parts = (kind.element_field,)
    elif isinstance(kind, types.MapType):
        parts = (kind.key_field, kind.value_field)
    return any(map(_has_default, parts))


def _constants(
    name: str, table: Opened, fields: Mapping[int, types.NestedField], spec: PartitionSpec, file: DataFile
) -> Iterator[Constant]:
    """The columns that a file is partitioned by as they are: files that were added from elsewhere do not hold them."""
    for place, part in enumerate(spec.fields):
        field = fields.get(part.source_id)
        if field is None or not isinstance(part.transform, IdentityTransform):
            continue
        kind, value = field.field_type, file.partition[place]
        known = f"decimal({kind.precision},{kind.scale})" if isinstance(kind, types.DecimalType) else NAMES.get(type(kind))
        if known is None:
            raise SourceError(
                f"Source {name!r}: {table.text} is partitioned by {field.name}, whose type {kind} cannot be read from its "
                "metadata."
            )
        yield Constant(name=field.name, type=known, value=None if value is None else _text(kind, value))


def _text(kind: types.IcebergType, value: Any) -> str:
    """A partition's value, which is a number for dates and times, as the text of a constant."""
    if isinstance(kind, types.DateType) and isinstance(value, int):
        return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
    if isinstance(kind, (types.TimestampNanoType, types.TimestamptzNanoType)):
        value //= 1000
    if isinstance(kind, (types.TimestampType, types.TimestampNanoType)):
        return (EPOCH + timedelta(microseconds=value)).isoformat(sep=" ")
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
