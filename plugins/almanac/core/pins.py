"""Pins: the exact files of a source that a run may read, and what may be built on a pin's receipt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from almanac.core.canonical import digest, dumps, encode, later
from almanac.core.degrade import LACKING
from almanac.core.late import STEP
from almanac.core.pipeline import Group, Pipeline, Population
from almanac.core.receipts import Output, Receipt, Step
from almanac.core.sources import UNTIL, Cut
from almanac.errors import NotAdmitted

# Parameters of the order that audits sources: source to the span of it that a run may read, from the earliest low to the latest
# high; and source to how it is audited.
SPANS, AUDITS = "spans", "audits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A column that a file does not hold because it has one value in all rows, such as one that a folder is named for.

    Args:
        type: as `core.formats` names types.
        value: as text; None for null.
    """

    name: str
    type: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """Rows that a table's log marks as deleted.

    Args:
        rows: how many.
        places: their positions in the file, as `chunks.packed` writes them.
    """

    rows: int
    places: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """One source file as it was when it was pinned.

    Args:
        size: bytes.
        etag: the store's own digest of the bytes.
        groups: rows of each row group.
        low, high: the oldest and newest event time inside, if the file's statistics have them.
        known: the oldest knowledge time inside, if the source has one and the statistics have it.
        aside: rows that an audit set aside, counted from 0, in order: no reader sees them.
        version: the store's id of the object's version, if that is not the newest one.
        copy: the URI of the copy of such a version, which is read instead.
        made: the Parquet file that Almanac made from it and that is read instead, such as from text or from rows of a database.
        constants: columns that the file does not hold.
        names: name in the file to the table's name for the column, where they differ; empty for a column that the table has not.
        deleted: rows that no reader sees, by the table's log.
        undated: no row has an event time, so that it holds no event.
    """

    uri: str
    size: int
    etag: str
    groups: tuple[int, ...] = ()
    low: datetime | None = None
    high: datetime | None = None
    known: datetime | None = None
    aside: tuple[int, ...] = later(())
    version: str = later("")
    copy: str = later("")
    made: Output | None = later(None)
    constants: tuple[Constant, ...] = later(())
    names: Mapping[str, str] | None = later(None)
    deleted: Deleted | None = later(None)
    undated: bool = later(False)

    @property
    def place(self) -> str:
        """The URI that its bytes are read from."""
        return self.made.uri if self.made else self.copy or self.uri

    @property
    def is_kept(self) -> bool:
        """Whether Almanac keeps the bytes that are read, so that nobody replaces them."""
        return bool(self.copy or self.made)

    @property
    def rows(self) -> int:
        """Its rows, without those that are deleted."""
        return sum(self.groups) - (self.deleted.rows if self.deleted else 0)

    @property
    def content(self) -> list[Any]:
        """What its rows depend on, besides its row groups: its bytes, and how a table's log has them read."""
        read = [encode(self.constants), encode(self.names), encode(self.deleted)]
        return [self.etag, self.size, *(read if self.constants or self.names or self.deleted else ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The exact files of one source that a run may read, and the columns that they have (name to Arrow type).

    Args:
        schema: these columns' types, exact, as `columns.packed` writes them.
        notes: what a person should know about the folder, in plain words.
        version: of a table with a log, what was read: a version of Delta's, a snapshot's id of Iceberg's.
        seen_at: of a database, when the transaction saw its rows.
        snapshots: of a reference with snapshots, the moments of those that it holds, in order; None for any other source.
        latest: of a reference without a time, the newest time in each column that holds times, by the files' statistics.
    """

    source: str
    uri: str
    files: tuple[PinnedFile, ...]
    columns: Mapping[str, str]
    schema: str = later("")
    notes: tuple[str, ...] = later(())
    version: str = later("")
    seen_at: datetime | None = later(None)
    snapshots: tuple[datetime, ...] | None = later(None)
    latest: Mapping[str, datetime] | None = later(None)

    @property
    def content(self) -> str:
        """A digest of what the files hold, whatever their names."""
        return content_of(self.files)

    @property
    def freshness(self) -> datetime | None:
        """The newest event time that the source holds."""
        return max((file.high for file in self.files if file.high), default=None)

    def within(self, cut: Cut) -> tuple[PinnedFile, ...]:
        """The files that can hold a row of the cut. A file without statistics is kept."""
        if cut.at is not None:
            cut = self.held_at(cut.at)
        return tuple(
            file
            for file in self.files
            if not (cut.high and file.low and file.low >= cut.high)
            and not (cut.low and file.high and file.high < cut.low)
            and not (cut.known and file.known and file.known >= cut.known)
        )

    def held_at(self, moment: datetime) -> Cut:
        """The cut of a reference's time that holds what a snapshot sees: the newest copy before a moment, or the rows that begin
        before it. Where there is no copy yet, it holds nothing.
        """
        if self.snapshots is None:
            return Cut(high=moment)
        before = self.snapshots[: bisect_left(self.snapshots, moment)]
        return Cut(low=before[-1], high=before[-1] + STEP) if before else Cut(low=moment, high=moment)


def content_of(files: tuple[PinnedFile, ...]) -> str:
    """A digest of what files hold, whatever their names: two deliveries of the same bytes are the same."""
    return digest(sorted((file.content for file in files), key=lambda one: (one[0], one[1], dumps(one[2:]))))


def cut_until(receipt: Receipt, period: str) -> datetime | None:
    """Where the consistent sources of a period are cut, by the receipt of a pin; None if none was behind."""
    found = receipt.order.parameters.get(UNTIL, {}).get(period)
    return datetime.fromisoformat(found) if found else None


def check_pinned(receipt: Receipt, part: Group | Population) -> None:
    """Checks that what a feature group or the population reads was pinned. Raises: NotAdmitted."""
    if absent := [name for name in part.reads if name in receipt.order.parameters.get(LACKING, ())]:
        raise NotAdmitted(
            f"{part.name!r} reads source {absent[0]!r}, which was left out when the sources were pinned. The findings of "
            "sources.pin say why."
        )


def check_audited(receipt: Receipt, pipeline: Pipeline, names: Iterable[str]) -> None:
    """Checks that sources whose description requires an audit were audited. Raises: NotAdmitted."""
    required = [name for name in names if name in pipeline.audited]
    if required and receipt.order.step is not Step.AUDIT:
        raise NotAdmitted(
            f"Source {required[0]!r} was pinned but not audited, and its description requires an audit. Run the task "
            "sources.audit first."
        )
