"""Footers of source files: what a pin records of a file, and the columns that it gives to the source."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from almanac import columns
from almanac.columns import AS_WRITTEN, CASTS, leaves, plain
from almanac.core.formats import EPOCHS
from almanac.core.pins import Constant, PinnedFile
from almanac.core.sources import EventSource, ReferenceSource, Source
from almanac.core.timezone import as_utc
from almanac.errors import SourceError, Unreachable
from almanac.files import locate

STORE_ERROR = "AWS Error"
FIELD_ID = b"PARQUET:field_id"  # metadata of a field, as pyarrow gives it
STEPS = {"s": timedelta(seconds=1), "ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a file's footer tells.

    Args:
        file: complete, with its row groups and the bounds of its times.
        schema: the source's columns that it gives, with plain types: renamed and cast as described.
        infinite: columns whose statistics show infinite values.
        null: columns that the statistics show to be null in every row.
        latest: the newest time in each column that holds times, for a reference without a time.
    """

    file: PinnedFile
    schema: pa.Schema
    infinite: frozenset[str]
    null: frozenset[str]
    latest: Mapping[str, datetime]


def read(
    name: str,
    source: Source,
    file: PinnedFile,
    table: pa.Schema | None = None,
    ids: Mapping[int, str] | None = None,
    unnumbered: Mapping[str, str] | None = None,
    asked: Collection[str] = (),
) -> Footer:
    """What a file's footer tells.

    Args:
        file: without row groups and bounds.
        table: the stored columns of the file's table, if it has a log.
        ids: of the table's columns, if files name their columns by these: id to name.
        unnumbered: for a file without ids, name in the file to the table's name; empty for a column that the table has not.
        asked: the columns that are read; all when empty.

    Raises:
        SourceError: the file cannot be read as Parquet, its columns do not fit `rename` and `cast`, or a nested column that is
            read has parts that its table knows by other names.
        Unreachable: the store cannot be read.
    """
    try:
        system, path = locate(file.place)
        with system.open_input_file(path) as opened:
            parquet = pq.ParquetFile(opened, **AS_WRITTEN)
            own, footer = parquet.schema_arrow, parquet.metadata
    except (OSError, pa.ArrowException) as error:
        check_reached(file.uri, error)
        raise SourceError(f"Source {name!r}: {file.uri} cannot be read as Parquet ({error}). Deliver it again.") from error
    if ids is not None:
        file = replace(file, names=_named_by(name, own, file, ids, unnumbered) or None)
    _check_parts(name, source, own, file, table, asked)
    places = dict(leaves(own))
    names = {stored: physical for physical, stored in (file.names or {}).items()}
    stored = pa.schema([(field.name, plain(field.type)) for field in _table_fields(own, file)])
    given = described(name, source, file.uri, stored)
    physical = {target: names.get(column, column) for column, target in zip(stored.names, given.names, strict=True)}
    rename = source.rename or {}
    instants = {rename.get(field.name, field.name) for field in table or () if columns.has_zone(field.type)}
    stats = _Stats(footer, {column: places[there] for column, there in physical.items() if there in places}, source, instants)
    low, high, known = _times(source, stats, file)
    complete = replace(
        file,
        groups=tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups)),
        low=low,
        high=high,
        known=known,
        undated=isinstance(source, EventSource) and stats.is_null(source.event_time),
    )
    floats = [field.name for field in given if pa.types.is_floating(field.type) and field.name in stats.places]
    null = frozenset(filter(stats.is_null, given.names))
    latest = {}
    if isinstance(source, ReferenceSource) and not source.times:
        timed = [field.name for field in given if pa.types.is_temporal(field.type)]
        latest = {column: top for column in timed if (top := stats.bounds(column, file)[1])}
    return Footer(file=complete, schema=given, infinite=stats.infinite(floats), null=null, latest=latest)


def _table_fields(own: pa.Schema, file: PinnedFile) -> Iterator[pa.Field]:
    """The columns that a file gives to its table, by the table's names."""
    names, given = file.names or {}, {one.name for one in file.constants}
    for field in own:
        name = names.get(field.name, field.name)
        if name and name not in given and (field.name in names or name not in names.values()):
            yield field.with_name(name)
    for one in file.constants:
        yield pa.field(one.name, columns.named(one.type))


def _named_by(
    name: str, own: pa.Schema, file: PinnedFile, ids: Mapping[int, str], unnumbered: Mapping[str, str] | None
) -> dict[str, str]:
    """Name in the file to the table's name for the column with its id, where they differ. Raises: SourceError."""
    if unnumbered is not None and all(_id(field) is None for field in own):
        return {field.name: given for field in own if (given := unnumbered.get(field.name, "")) != field.name}
    found = {}
    for field in own:
        told = _id(field)
        if told is None:
            raise SourceError(
                f"Source {name!r}: {file.uri} does not tell the id of its column {field.name!r}, by which the table's metadata "
                "names columns. It is not read: columns could be mixed up. Rewrite the file with the table's own tools."
            )
        if (given := ids.get(told, "")) != field.name:
            found[field.name] = given
    return found


def _id(field: pa.Field) -> int | None:
    """The id by which tables know a column, or a part of one, in a Parquet file; None if it has none."""
    told = (field.metadata or {}).get(FIELD_ID)
    return None if told is None else int(told)


def _check_parts(
    name: str, source: Source, own: pa.Schema, file: PinnedFile, table: pa.Schema | None, asked: Collection[str]
) -> None:
    """Checks that the parts of nested columns that are read have the names that the table knows them by. Parts that a file lacks
    are null. Raises: SourceError.
    """
    if table is None:
        return
    names, rename = file.names or {}, source.rename or {}
    for field in own:
        stored = names.get(field.name, field.name)
        given = rename.get(stored, stored)
        if stored not in table.names or (asked and given not in asked):
            continue
        if part := _renamed_part(field.type, table.field(stored).type):
            raise SourceError(
                f"Source {name!r}: column {given!r} has a part {part!r} that {file.uri} knows by another name: it was renamed, "
                "or dropped and added again. That is not read. Rewrite the table's older files with its own tools, or leave the "
                "column out with columns=(...)."
            )


def _renamed_part(own: pa.DataType, table: pa.DataType) -> str:
    """A part of a nested type that has another name, or another id, in the table than in the file; empty if there is none."""
    if pa.types.is_struct(own) and pa.types.is_struct(table):
        by_name, by_id = {part.name: part for part in own.fields}, {_id(part): part.name for part in own.fields}
        for part in table.fields:
            number, there, name = _id(part), by_name.get(part.name), str(part.name)
            if number is not None and by_id.get(number, name) != name:
                return name
            if there is None:
                # A file without ids may hold the part under the name that it had before.
                if number is not None and set(by_id) == {None} and by_name.keys() - {one.name for one in table.fields}:
                    return name
                continue
            if None not in (number, _id(there)) and number != _id(there):
                return name
            if found := _renamed_part(there.type, part.type):
                return f"{name}.{found}"
        return ""
    if columns.is_list(own) and columns.is_list(table):
        return _renamed_part(own.value_type, table.value_type)
    if pa.types.is_map(own) and pa.types.is_map(table):
        return _renamed_part(own.key_type, table.key_type) or _renamed_part(own.item_type, table.item_type)
    return ""


def described(name: str, source: Source, uri: str, stored: pa.Schema) -> pa.Schema:
    """Stored columns by the names and types that the description gives them. Raises: SourceError."""
    rename, there = source.rename or {}, stored.names
    for column, target in rename.items():
        if target in there and target not in rename:
            raise SourceError(
                f"Source {name!r}: rename gives column {column!r} the name {target!r}, but {uri} has a column of that name "
                "already. Choose another name, or rename that one as well."
            )
    named = [(rename.get(field.name, field.name), field.type) for field in stored]
    return pa.schema([(column, cast(name, source, uri, column, kind)) for column, kind in named])


def cast(name: str, source: Source, uri: str, column: str, kind: pa.DataType) -> pa.DataType:
    """The plain type that a described column has after `cast`. Raises: SourceError, if it cannot be cast."""
    wanted = (source.cast or {}).get(column)
    if wanted is None:
        return kind
    found = columns.cast_to(kind, wanted)
    if found is None:
        fits = ("whole numbers",) if wanted in EPOCHS else CASTS.get(wanted, CASTS["decimal"])
        raise SourceError(
            f"Source {name!r}: {uri} has {column} as {kind}, which cannot be cast to {wanted} (expected: {', '.join(fits)}). "
            "Correct cast=, or deliver the column as another type."
        )
    return found


def _times(source: Source, stats: _Stats, file: PinnedFile) -> tuple[datetime | None, datetime | None, datetime | None]:
    """The oldest and newest time by which rows are cut, and the oldest knowledge time, as far as the statistics show them."""
    if isinstance(source, EventSource):
        low, high = stats.bounds(source.event_time, file)
        return low, high, stats.bounds(source.knowledge_time, file)[0] if source.knowledge_time else None
    if source.snapshots:
        return *stats.bounds(source.snapshots, file), None
    if source.valid_from:
        low, high = stats.bounds(source.valid_from, file)
        return None if stats.has_nulls(source.valid_from, file) else low, high, None
    return None, None, None


class _Stats:
    """The statistics of a file's row groups, by described column."""

    def __init__(self, footer: pq.FileMetaData, places: Mapping[str, int], source: Source, instants: Collection[str]) -> None:
        self.footer, self.places, self.source, self.instants = footer, places, source, instants

    def zone(self, column: str) -> str | None:
        """How a column's naive timestamps are read."""
        return "UTC" if column in self.instants else self.source.zone

    def of(self, column: str) -> Iterator[tuple[Any, Any]]:
        """The smallest and largest value in each row group; None twice for a group without statistics."""
        for number in range(self.footer.num_row_groups):
            stats = self.footer.row_group(number).column(self.places[column]).statistics
            try:
                yield (stats.min, stats.max) if stats is not None and stats.has_min_max else (None, None)
            except (OverflowError, ValueError):  # a time outside the range of Python
                yield None, None

    def infinite(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset(
            name for name in names if any(bound in (math.inf, -math.inf) for pair in self.of(name) for bound in pair)
        )

    def has_nulls(self, column: str, file: PinnedFile) -> bool:
        """Whether a column may hold nulls."""
        if (one := self._of_folder(column, file)) is not None:
            return one.value is None
        if column not in self.places:
            return True
        groups = (self.footer.row_group(number).column(self.places[column]) for number in range(self.footer.num_row_groups))
        return any(one.statistics is None or not one.statistics.has_null_count or one.statistics.null_count for one in groups)

    def is_null(self, column: str) -> bool:
        """Whether the statistics show that a column is null in every row, of which there are some."""
        if column not in self.places or not self.footer.num_rows:
            return False
        groups = [self.footer.row_group(number) for number in range(self.footer.num_row_groups)]
        found = [(one.num_rows, one.column(self.places[column]).statistics) for one in groups]
        return all(stats is not None and stats.has_null_count and stats.null_count == rows for rows, stats in found)

    def bounds(self, column: str, file: PinnedFile | None = None) -> tuple[datetime | None, datetime | None]:
        """The oldest and newest time in a column, or None where the statistics do not show it."""
        if file is not None and self._of_folder(column, file) is not None:
            one = self._constant(column, file)
            return one, one
        pairs = list(self.of(column)) if column in self.places else []
        unit = EPOCHS.get((self.source.cast or {}).get(column, ""))
        try:
            sides = (
                [[_moment(one, unit, self.zone(column)) for one in side] for side in zip(*pairs, strict=True)]
                if pairs
                else [[], []]
            )
        except OverflowError:
            return None, None
        lows, highs = ([one for one in side if one is not None] for side in sides)
        if len(lows) < len(pairs) or len(highs) < len(pairs):
            return None, None
        return min(lows, default=None), max(highs, default=None)

    def _of_folder(self, column: str, file: PinnedFile) -> Constant | None:
        rename = self.source.rename or {}
        return next((one for one in file.constants if rename.get(one.name, one.name) == column), None)

    def _constant(self, column: str, file: PinnedFile) -> datetime | None:
        """The time that a column has in all rows, if it is not in the file."""
        one, cast = self._of_folder(column, file), (self.source.cast or {}).get(column, "")
        if one is None or one.value is None:
            return None
        value = columns.constant(one.type, one.value, 1)
        zone = self.zone(column)
        found = columns.moments(columns.converted(value, cast, zone) if cast else value, zone)
        moment: datetime = found[0].as_py()
        return moment


def _moment(value: Any, unit: str | None, timezone: str | None) -> datetime | None:
    """A value of the statistics as a time in UTC; None if it is none. `unit`: of an epoch."""
    if isinstance(value, datetime):
        return as_utc(value, timezone)
    if isinstance(value, date):
        return as_utc(datetime(value.year, value.month, value.day), timezone)
    if unit is not None and isinstance(value, int) and not isinstance(value, bool):
        return datetime(1970, 1, 1, tzinfo=UTC) + value * STEPS[unit]
    return None


def check_reached(uri: str, error: Exception) -> None:
    """Checks that a read error concerns the file and not the connection to the store. Raises: Unreachable."""
    if STORE_ERROR in str(error):  # how pyarrow marks errors of the store and of the connection
        raise Unreachable(f"{uri}: the file cannot be read ({error}). Check the store and its credentials.") from error
