"""Pins: the exact files of a source that a run may read, and what may be built on a pin's receipt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from almanac.core.canonical import digest, later
from almanac.core.degrade import LACKING
from almanac.core.pipeline import Group, Pipeline, Population
from almanac.core.receipts import Receipt, Step
from almanac.core.sources import UNTIL, Cut
from almanac.errors import NotAdmitted

# Parameters of the order that audits sources: source to the span of it that a run may read, from the earliest low to the latest
# high; and source to how it is audited.
SPANS, AUDITS = "spans", "audits"


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

    @property
    def place(self) -> str:
        """The URI that its bytes are read from."""
        return self.copy or self.uri

    @property
    def rows(self) -> int:
        return sum(self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The exact files of one source that a run may read, and the columns that they have (name to Arrow type).

    Args:
        schema: these columns' types, exact, as `columns.packed` writes them.
        notes: what a person should know about the folder, in plain words.
    """

    source: str
    uri: str
    files: tuple[PinnedFile, ...]
    columns: Mapping[str, str]
    schema: str = later("")
    notes: tuple[str, ...] = later(())

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
        return tuple(
            file
            for file in self.files
            if not (cut.high and file.low and file.low >= cut.high)
            and not (cut.low and file.high and file.high < cut.low)
            and not (cut.known and file.known and file.known >= cut.known)
        )


def content_of(files: tuple[PinnedFile, ...]) -> str:
    """A digest of what files hold, whatever their names: two deliveries of the same bytes are the same."""
    return digest(sorted([file.etag, file.size] for file in files))


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
