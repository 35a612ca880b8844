"""A delivery's notes on the periods that it holds, and what to do if a note differs from the predictions table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from almanac.core.deliveries import Delivery, place
from almanac.errors import DeliveryError, examples

MANIFEST = "_manifest.json"
DATA_FILE = re.compile(r"(?P<order>[0-9a-f]{12})-(?P<fence>[0-9]+)-[0-9]{3,}\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The state of the predictions table for a period.

    Args:
        fence: how often the period has been published.
        order: the order whose rows are visible; empty if none are.
        rows: the number of visible rows.
    """

    fence: int
    order: str = ""
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryNote:
    """What a delivery holds of a period: the position that it applied, and the predictions table that it comes from."""

    source: str
    position: Position


class DeliveryAction(Enum):
    """What a run that knows the table's position does with a period of a delivery."""

    APPLY = "apply"
    KEEP = "keep"
    STALE = "stale"


def action(note: DeliveryNote | None, wanted: Position) -> DeliveryAction:
    """Decides what to do. Call it where no other writer can come in between. An older publish never overwrites a newer one."""
    if note is None:
        return DeliveryAction.APPLY
    if note.position.fence > wanted.fence:
        return DeliveryAction.STALE
    return DeliveryAction.KEEP if note.position == wanted else DeliveryAction.APPLY


def outstanding(table: Mapping[str, Position], notes: Mapping[str, DeliveryNote]) -> list[str]:
    """The periods whose note differs from the table's position, except those that neither shows."""
    nothing = Position(fence=0)
    shown = {period: note.position for period, note in notes.items()}
    return [
        period
        for period in sorted({*table, *shown})
        if (table.get(period, nothing).order or (period in shown and shown[period].order))
        and shown.get(period) != table.get(period, nothing)
    ]


def check_source(delivery: Delivery, notes: Mapping[str, DeliveryNote], source: str) -> None:
    """Checks that a place is filled from one predictions table only. Raises: DeliveryError."""
    if others := sorted({note.source for note in notes.values()} - {source}):
        raise DeliveryError(
            f"Delivery {delivery.name!r}: {place(delivery)} is already filled from {examples(others)}, but this run would fill "
            f"it from {source}. Nothing was written. Give each pipeline and each ALMANAC_ROOT a place of its own. If the "
            "predictions were moved, see docs/deliveries.md."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A period that was brought up to date.

    Args:
        order: the order whose rows are there now; empty if the period was removed.
        rows: the number of rows.
        replaced: the order whose rows were there before; empty if there were none.
    """

    period: str
    fence: int
    order: str
    rows: int
    replaced: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one run of a delivery did; nothing is applied if everything was up to date."""

    delivery: str
    applied: tuple[Applied, ...] = ()

    @property
    def in_words(self) -> str:
        listed = examples((f"{one.period} ({f'{one.rows} rows' if one.order else 'removed'})" for one in self.applied), 12)
        return f"delivery {self.delivery}: {listed if self.applied else 'nothing to do'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFile:
    """One data file of a Parquet delivery; its name is relative to the period's folder."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryManifest:
    """What a period's folder holds. Read it, then only the files that it names.

    Args:
        source: the predictions table.
        order, fence: the order of these rows, and the number of its publish; the order is empty if the period was removed.
        run: the run that delivered it.
    """

    source: str
    period: str
    order: str
    fence: int
    files: tuple[DeliveryFile, ...]
    run: str
    delivered_at: datetime
    schema: int = 1

    @property
    def note(self) -> DeliveryNote:
        rows = sum(file.rows for file in self.files)
        return DeliveryNote(source=self.source, position=Position(fence=self.fence, order=self.order, rows=rows))


def folder(period: str) -> str:
    """A period's folder within a Parquet delivery."""
    return f"period={period}"


def data_file(position: Position, number: int) -> str:
    """The name of a data file: it begins with the first 12 digits of the order, then the number of its publish."""
    return f"{position.order[:12]}-{position.fence}-{number:03d}.parquet"


def left_over(names: Iterable[str], standing: DeliveryNote) -> list[str]:
    """The files in a period's folder that no manifest will name any more: those of an older publish than the current one.

    Files of a newer publish are still being delivered, and files that Almanac did not write are left alone.
    """
    found = []
    for name in names:
        named = DATA_FILE.fullmatch(name)
        if named is None:
            continue
        fence = int(named["fence"])
        other = fence == standing.position.fence and named["order"] != standing.position.order[:12]
        if fence < standing.position.fence or other:
            found.append(name)
    return found
