"""Sources: tables outside Almanac, and how they are cut in time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from almanac.core import relations, where
from almanac.core.audits import Audit
from almanac.core.canonical import later
from almanac.core.formats import Format, Iceberg, Log, Parquet, Text, checked_types
from almanac.core.late import Late
from almanac.core.timezone import check_timezone
from almanac.errors import DescriptionError

S3, CATALOG = "s3://", "iceberg://"
Fill = Mapping[str, str | int | float | bool | None] | None
Names = Mapping[str, str] | None
PARQUET = Parquet()


@dataclass(frozen=True, slots=True)
class Stored:
    """What every source declares: where its rows are, in which format, and how its columns are read.

    Columns are declared step by step: `rename` takes the names that are stored; `cast`, `where`, `columns`, `fill` and the time
    columns take the names that `rename` gives.

    Args:
        uri: the folder, `s3://bucket/folder/`; `postgres://CONNECTION/schema.table`, where CONNECTION is the id of an Airflow
            connection, or `postgres://CONNECTION/` with a `query`; or `iceberg://CATALOG/namespace.table`.
        columns: the columns to read; all when empty.
        audit: whether it is checked, and what happens to rows that fail.
        versioned: the bucket keeps the versions of its objects, so a retrain with `known_at` reads them as they were then.
        fill: column to the value of every row of a file without the column, such as `{"channel": None}`.
        format: of the files in a folder: `Parquet()`, `Csv(...)`, `JsonLines(...)`, `Delta()` or `Iceberg()`.
        partitions: column to type, for columns that only the names of folders have, such as `dt=2017-06-01/`.
        rename: stored name to the name that it is read by, such as `{"Customer ID": "customer_id"}`.
        cast: column to the type that it is read as, such as `{"customer_id": "long"}`.
        where: which rows are read, such as `"status <> 'cancelled'"`; all when empty. `core.where` has the grammar.
        query: for a database, the SELECT that gives the rows, instead of a table in `uri`.

    Raises:
        DescriptionError: a field is invalid.
    """

    uri: str
    _: KW_ONLY
    columns: tuple[str, ...] = ()
    audit: Audit | None = later(None)
    versioned: bool = later(False)
    fill: Fill = later(None)
    format: Format = later(PARQUET)
    partitions: Names = later(None)
    rename: Names = later(None)
    cast: Names = later(None)
    where: str = later("")
    query: str = later("")

    def __post_init__(self) -> None:
        noun = type(self).__name__
        if not isinstance(self.format, Format):
            raise DescriptionError(
                f"{noun}.format: expected Parquet(), Csv(...), JsonLines(...), Delta() or Iceberg(); got {self.format!r}."
            )
        _check_uri(noun, self)
        _check_listed(noun, self.columns, self.times)
        object.__setattr__(self, "fill", _checked_fill(noun, self.fill, self.columns, self.times))
        for name, epochs in (("partitions", False), ("cast", True)):
            given = getattr(self, name)
            object.__setattr__(self, name, checked_types(f"{noun}.{name}", given, epochs) or None if given else None)
        object.__setattr__(self, "rename", _checked_rename(noun, self.rename))
        if not isinstance(self.where, str):
            raise DescriptionError(f"{noun}.where: expected a text such as {where.EXAMPLE}, got {self.where!r}.")
        _check_place(noun, self)
        _check_audit(noun, self.audit)
        if self.where:
            where.parsed(self.where)

    @property
    def times(self) -> tuple[str, ...]:
        """The columns by which the source is cut."""
        return ()

    @property
    def zone(self) -> str | None:
        """How naive timestamps are read; None if that is not declared."""
        return None

    @property
    def stored(self) -> dict[str, str]:
        """Column to its stored name, where they differ."""
        return {given: stored for stored, given in (self.rename or {}).items()}

    @property
    def tested(self) -> tuple[str, ...]:
        """The columns that `where` reads."""
        return where.columns(self.where)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns to read; all when empty."""
        return tuple(dict.fromkeys((*self.columns, *self.times))) if self.columns else ()

    @property
    def has_log(self) -> bool:
        """Whether it is a table whose log tells which files are current, and were at an earlier time."""
        return isinstance(self.format, Log)

    @property
    def is_copied(self) -> bool:
        """Whether its rows are copied when it is pinned, because they are in a database."""
        return relations.is_database(self.uri)

    @property
    def tells_its_past(self) -> bool:
        """Whether it can be read as it was at an earlier time."""
        return self.versioned or self.has_log


@dataclass(frozen=True, slots=True)
class EventSource(Stored):
    """A table of events. User code gets it cut by event time, and by knowledge time.

    Args:
        event_time: the column that says when an event happened; a timestamp.
        timezone: how to read naive timestamps, such as `UTC` or `America/New_York`. Required if they are naive. When periods
            begin is another question, which `Pipeline.timezone` answers.
        knowledge_time: the column that says when a row became known, if there is one.
        lag: how late the source is known to arrive; events newer than as_of - lag are not used.
        late: what a run does if the newest events may be missing.
        uri, columns, audit, versioned, fill, format, partitions, rename, cast, where, query: as `Stored` has them.

    Raises:
        DescriptionError: a field is invalid.
    """

    _: KW_ONLY
    event_time: str
    timezone: str | None = None
    knowledge_time: str | None = None
    lag: timedelta = timedelta(0)
    late: Late = later(Late())
    kind: Literal["events"] = "events"

    def __post_init__(self) -> None:
        Stored.__post_init__(self)
        if not self.event_time:
            raise DescriptionError("EventSource.event_time: expected the column that says when an event happened, got nothing.")
        if self.lag < timedelta(0):
            raise DescriptionError(f"EventSource.lag: expected zero or more, got {self.lag}.")
        if self.timezone is not None:
            check_timezone("EventSource.timezone", self.timezone)
        if not isinstance(self.late, Late):
            raise DescriptionError(f"EventSource.late: expected Late(...), such as Late('fail', rows=1); got {self.late!r}.")
        if self.late.marker is not None and not self.uri.startswith(S3):
            raise DescriptionError(
                f"EventSource.late: Late.marker is a file below the uri, and {self.uri!r} is no folder. Use within= or rows=."
            )

    @property
    def shape(self) -> EventSource:
        """The part of the description that shapes the rows that user code sees: waiting for them, or a check that blocks, does
        not change them.
        """
        late, audit = self.late, Audit(1) if self.sets_aside else None
        if not late.does.cuts:
            late = Late(late.policy, by=late.by) if late.does.shifts else Late()
        return replace(self, late=late, audit=audit, versioned=False)

    @property
    def sets_aside(self) -> bool:
        """Whether rows may be set aside; only its audit knows which."""
        return self.audit is not None and self.audit.sets_aside

    @property
    def behind(self) -> timedelta:
        """How long before as_of the features' view of it ends."""
        return self.lag + self.late.by

    @property
    def times(self) -> tuple[str, ...]:
        """The columns by which the source is cut."""
        return (self.event_time, *((self.knowledge_time,) if self.knowledge_time else ()))

    @property
    def zone(self) -> str | None:
        return self.timezone

    @property
    def tells_what_was_known(self) -> bool:
        """Whether it can be read with what was known at an earlier time."""
        return bool(self.knowledge_time) or self.tells_its_past


@dataclass(frozen=True, slots=True)
class ReferenceSource(Stored):
    """A table to look things up in, such as customers or products.

    Without a time of its own it is read as it is today, and that can leak: features of the past then see what became known
    later. With `valid_from` or `snapshots` each snapshot sees it as it was just before as_of.

    Args:
        valid_from: the column that says since when a row holds; a row without a value holds from the beginning.
        valid_to: the column that says until when, exclusive; a row without a value holds until further notice. Functions get it
            as null: in the rows that they see, it lies in the future.
        snapshots: the column that says of which moment's copy of the table a row is, such as `dt`. The newest copy before as_of
            is seen, and no other.
        timezone: how to read naive timestamps; in UTC if it is not given. Required if `valid_from` or `snapshots` is one.
        uri, columns, audit, versioned, fill, format, partitions, rename, cast, where, query: as `Stored` has them. Rows of a
            reference are not set aside: lookups would silently drop them.

    Raises:
        DescriptionError: a field is invalid.
    """

    _: KW_ONLY
    valid_from: str = later("")
    valid_to: str = later("")
    snapshots: str = later("")
    timezone: str | None = later(None)
    kind: Literal["reference"] = "reference"

    def __post_init__(self) -> None:
        Stored.__post_init__(self)
        if self.snapshots and (self.valid_from or self.valid_to):
            raise DescriptionError(
                "ReferenceSource: expected valid_from or snapshots, got both. A copy holds as of its own time."
            )
        if self.valid_to and not self.valid_from:
            raise DescriptionError(
                f"ReferenceSource.valid_from: expected the column that says since when a row holds, beside valid_to="
                f"{self.valid_to!r}; got nothing."
            )
        if self.valid_to and self.valid_to in self.tested:
            raise DescriptionError(
                f"ReferenceSource.where: expected columns other than valid_to={self.valid_to!r}, which lies in the future of the "
                "rows that are seen. Leave it out of where."
            )
        if self.timezone is not None:
            check_timezone("ReferenceSource.timezone", self.timezone)
        if self.audit is not None and self.audit.sets_aside:
            raise DescriptionError(
                f"ReferenceSource.audit: expected Audit(), which blocks; got quarantine={self.audit.quarantine}. Rows of a "
                "reference are not set aside: lookups would silently drop them."
            )

    @property
    def shape(self) -> ReferenceSource:
        """The part of the description that shapes the rows that user code sees: a check that blocks does not change them."""
        return replace(self, audit=None, versioned=False)

    @property
    def sets_aside(self) -> bool:
        return False

    @property
    def times(self) -> tuple[str, ...]:
        """The columns by which the source is cut; none if it has no time."""
        return tuple(name for name in (self.valid_from, self.valid_to, self.snapshots) if name)

    @property
    def zone(self) -> str | None:
        return self.timezone

    @property
    def tells_what_was_known(self) -> bool:
        """Whether it can be read with what was known at an earlier time."""
        return bool(self.snapshots) or self.tells_its_past


Source = EventSource | ReferenceSource


def _check_uri(noun: str, source: Stored) -> None:
    uri = source.uri
    if uri.startswith(("s3a://", "hdfs://")):
        raise DescriptionError(
            f"{noun}.uri: expected s3://, got {uri!r}. Sources are read with pyarrow inside the Spark tasks, without Hadoop's "
            "s3a jars. Write it with s3://."
        )
    if source.is_copied:
        try:
            relations.relation_of(uri, source.query or None)
        except DescriptionError as error:
            raise DescriptionError(f"{noun}.{str(error).replace('Query.text: ', 'query: ', 1)}") from None
        return
    if uri.startswith(CATALOG):
        if not re.fullmatch(r"[\w-]+/[^/.\s]+(\.[^/.\s]+)+", uri.removeprefix(CATALOG)):
            raise DescriptionError(f"{noun}.uri: expected iceberg://CATALOG/namespace.table, got {uri!r}.")
        if source.format == PARQUET:
            object.__setattr__(source, "format", Iceberg())
        return
    if not uri.startswith(S3) or not uri.endswith("/"):
        raise DescriptionError(
            f"{noun}.uri: expected a folder such as 's3://bucket/folder/', with its slash, or a table such as "
            f"'postgres://CONNECTION/schema.table' or 'iceberg://CATALOG/namespace.table'; got {uri!r}."
        )


def _check_place(noun: str, source: Stored) -> None:
    """Checks that the fields fit the place and the format."""
    is_table, is_folder = source.has_log, source.uri.startswith(S3)
    if source.query and not source.is_copied:
        raise DescriptionError(
            f"{noun}.query: expected a uri such as 'postgres://CONNECTION/', got {source.uri!r}. Leave query out."
        )
    if source.uri.startswith(CATALOG) and not isinstance(source.format, Iceberg):
        raise DescriptionError(f"{noun}.format: expected Iceberg() for {source.uri!r}, got {source.format!r}. Leave it out.")
    if source.is_copied and source.format != PARQUET:
        raise DescriptionError(f"{noun}.format: expected none for {source.uri!r}, got {source.format!r}. Leave it out.")
    if source.versioned and (is_table or not is_folder):
        what = "whose log tells its past" if is_table else "whose past cannot be read"
        raise DescriptionError(f"{noun}.versioned: expected files in a bucket, got a table {what}. Leave it out.")
    if source.partitions and (is_table or not is_folder):
        raise DescriptionError(
            f"{noun}.partitions: expected files in folders, got a table, which has its partitions itself. Leave it out."
        )
    if isinstance(source.format, Text):
        unread = [name for name in source.partitions or () if name in source.format.columns]
        if unread:
            raise DescriptionError(
                f"{noun}.partitions: {unread[0]!r} is among the columns of {type(source.format).__name__} as well. Leave one out."
            )


def _check_audit(noun: str, audit: Audit | None) -> None:
    if audit is not None and not isinstance(audit, Audit):
        raise DescriptionError(f"{noun}.audit: expected Audit(), or Audit(quarantine=0.01); got {audit!r}.")


def _check_listed(noun: str, columns: tuple[str, ...], times: tuple[str, ...] = ()) -> None:
    if isinstance(columns, str):
        raise DescriptionError(
            f"{noun}.columns: expected a tuple, got the text {columns!r}. Write ({columns!r},) with its comma."
        )
    if doubled := alike(dict.fromkeys((*columns, *times))):
        raise DescriptionError(
            f"{noun}.columns: expected names that differ in more than case, got {' and '.join(doubled[0])}. Leave one out."
        )


def _checked_fill(noun: str, fill: Fill, columns: tuple[str, ...], times: tuple[str, ...] = ()) -> Fill:
    if fill is None:
        return None
    if not isinstance(fill, Mapping) or any(not isinstance(value, str | int | float | None) for value in fill.values()):
        raise DescriptionError(
            f"{noun}.fill: expected column to text, number, True, False or None, such as {{'channel': None}}; got {fill!r}."
        )
    if unread := [name for name in fill if name in times or (columns and name not in columns)]:
        what = "a time column, which every row needs" if unread[0] in times else "not among columns="
        raise DescriptionError(f"{noun}.fill: {unread[0]!r} is {what}. Leave it out of fill.")
    return MappingProxyType(dict(fill)) or None


def _checked_rename(noun: str, rename: Names) -> Names:
    if rename is None:
        return None
    if not isinstance(rename, Mapping) or any(not isinstance(one, str) or not one for pair in rename.items() for one in pair):
        raise DescriptionError(
            f"{noun}.rename: expected stored name to the name to read it by, such as {{'Customer ID': 'customer_id'}}; got "
            f"{rename!r}."
        )
    if doubled := alike(rename.values()):
        raise DescriptionError(
            f"{noun}.rename: expected different names, got {' and '.join(map(repr, doubled[0]))} for several columns. Rename "
            "one of them."
        )
    return MappingProxyType(dict(rename)) or None


def alike(names: Iterable[str]) -> list[list[str]]:
    """Names that differ only in case, which Spark reads as one: each group of several."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.casefold(), []).append(name)
    return [group for group in found.values() if len(group) > 1]


# Parameters of orders: where consistent sources are cut, if one of them is behind; and until when corrections of labels count,
# if that is not the end of the version's period.
UNTIL, KNOWN_AT = "until", "known_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The part of a source that user code may see: events in `[low, high)`, known before `known`; of a reference that has a time,
    what held just before `at`. None means no bound.
    """

    low: datetime | None = None
    high: datetime | None = None
    known: datetime | None = None
    at: datetime | None = later(None)


def cut_for_features(source: Source, as_of: datetime, lookback: timedelta | None, until: datetime | None = None) -> Cut:
    """Features of a snapshot see events in `[as_of - lag - lookback, as_of - lag)`, known before as_of. A shifted
    source's view ends earlier by its shift.

    The view of a consistent source ends at `until`, if that is earlier; its lookback then begins earlier by as much.
    """
    if isinstance(source, ReferenceSource):
        return Cut(at=as_of) if source.times else Cut()
    high = as_of - source.behind
    if until is not None and source.late.does.cuts:
        high = min(high, until)
    return Cut(low=None if lookback is None else high - lookback, high=high, known=as_of if source.knowledge_time else None)


def cut_for_label(source: Source, as_of: datetime, horizon: timedelta, known: datetime) -> Cut:
    """The label of a snapshot sees events in `[as_of, as_of + horizon)`, known before `known`, and a reference as it was at the
    end of the horizon.
    """
    if isinstance(source, ReferenceSource):
        return Cut(at=as_of + horizon) if source.times else Cut()
    return Cut(low=as_of, high=as_of + horizon, known=known if source.knowledge_time else None)
