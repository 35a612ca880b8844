"""Sources: tables outside Almanac, and how they are cut in time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from almanac.core.audits import Audit
from almanac.core.canonical import later
from almanac.core.late import Late
from almanac.core.timezone import check_timezone
from almanac.errors import DescriptionError

SCHEMES = ("s3://",)
Fill = Mapping[str, str | int | float | bool | None] | None


@dataclass(frozen=True, slots=True)
class EventSource:
    """A table of events in Parquet files below `uri`. User code gets it cut by event time, and by knowledge time.

    Args:
        uri: the folder, `s3://bucket/folder/`.
        event_time: the column that says when an event happened; a timestamp.
        timezone: how to read naive timestamps, such as `UTC` or `America/New_York`. Required if they are naive. When periods
            begin is another question, which `Pipeline.timezone` answers.
        knowledge_time: the column that says when a row became known, if there is one.
        lag: how late the source is known to arrive; events newer than as_of - lag are not used.
        columns: the columns to read; all when empty.
        late: what a run does if the newest events may be missing.
        audit: whether it is checked, and what happens to rows that fail.
        versioned: the bucket keeps the versions of its objects, so a retrain with `known_at` reads them as they were then.
        fill: column to the value of every row of a file without the column, such as `{"channel": None}`.

    Raises:
        DescriptionError: a field is invalid.
    """

    uri: str
    _: KW_ONLY
    event_time: str
    timezone: str | None = None
    knowledge_time: str | None = None
    lag: timedelta = timedelta(0)
    columns: tuple[str, ...] = ()
    late: Late = later(Late())
    audit: Audit | None = later(None)
    versioned: bool = later(False)
    kind: Literal["events"] = "events"
    fill: Fill = later(None)

    def __post_init__(self) -> None:
        _check_uri("EventSource", self.uri)
        _check_listed("EventSource", self.columns, self.times)
        object.__setattr__(self, "fill", _checked_fill("EventSource", self.fill, self.columns, self.times))
        if not self.event_time:
            raise DescriptionError("EventSource.event_time: expected the column that says when an event happened, got nothing.")
        if self.lag < timedelta(0):
            raise DescriptionError(f"EventSource.lag: expected zero or more, got {self.lag}.")
        if self.timezone is not None:
            check_timezone("EventSource.timezone", self.timezone)
        if not isinstance(self.late, Late):
            raise DescriptionError(f"EventSource.late: expected Late(...), such as Late('fail', rows=1); got {self.late!r}.")
        _check_audit("EventSource", self.audit)

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
    def needed(self) -> tuple[str, ...]:
        """The columns to read; all when empty."""
        return tuple(dict.fromkeys((*self.columns, *self.times))) if self.columns else ()


@dataclass(frozen=True, slots=True)
class ReferenceSource:
    """A table without a time of its own, read as it stands now: its past is unknown, unless its bucket keeps it.

    Args:
        uri: the folder, `s3://bucket/folder/`.
        columns: the columns to read; all when empty.
        audit: whether it is checked. Its rows are not set aside: lookups would silently drop them.
        versioned: the bucket keeps the versions of its objects, so a retrain with `known_at` reads them as they were then.
        fill: column to the value of every row of a file without the column, such as `{"channel": None}`.
    """

    uri: str
    _: KW_ONLY
    columns: tuple[str, ...] = ()
    audit: Audit | None = later(None)
    versioned: bool = later(False)
    kind: Literal["reference"] = "reference"
    fill: Fill = later(None)

    def __post_init__(self) -> None:
        _check_uri("ReferenceSource", self.uri)
        _check_listed("ReferenceSource", self.columns)
        object.__setattr__(self, "fill", _checked_fill("ReferenceSource", self.fill, self.columns))
        _check_audit("ReferenceSource", self.audit)
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
        """The columns by which the source is cut: none."""
        return ()

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns to read; all when empty."""
        return self.columns


Source = EventSource | ReferenceSource


def _check_uri(noun: str, uri: str) -> None:
    if uri.startswith(("s3a://", "hdfs://")):
        raise DescriptionError(
            f"{noun}.uri: expected s3://, got {uri!r}. Sources are read with pyarrow inside the Spark tasks, without Hadoop's "
            "s3a jars. Write it with s3://."
        )
    if not uri.startswith(SCHEMES) or not uri.endswith("/"):
        raise DescriptionError(f"{noun}.uri: expected a folder such as 's3://bucket/folder/', with its slash; got {uri!r}.")


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
    """The part of a source that user code may see: events in `[low, high)`, known before `known`. None means no bound."""

    low: datetime | None = None
    high: datetime | None = None
    known: datetime | None = None


def cut_for_features(source: Source, as_of: datetime, lookback: timedelta | None, until: datetime | None = None) -> Cut:
    """Features of a snapshot see events in `[as_of - lag - lookback, as_of - lag)`, known before as_of. A shifted
    source's view ends earlier by its shift.

    The view of a consistent source ends at `until`, if that is earlier; its lookback then begins earlier by as much.
    """
    if isinstance(source, ReferenceSource):
        return Cut()
    high = as_of - source.behind
    if until is not None and source.late.does.cuts:
        high = min(high, until)
    return Cut(low=None if lookback is None else high - lookback, high=high, known=as_of if source.knowledge_time else None)


def cut_for_label(source: Source, as_of: datetime, horizon: timedelta, known: datetime) -> Cut:
    """The label of a snapshot sees events in `[as_of, as_of + horizon)`, known before `known`."""
    if isinstance(source, ReferenceSource):
        return Cut()
    return Cut(low=as_of, high=as_of + horizon, known=known if source.knowledge_time else None)
