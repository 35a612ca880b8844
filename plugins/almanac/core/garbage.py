"""What may be deleted: data files that nothing in use names, and none younger than a week.

Only four kinds of objects are ever considered. Receipts, orders, entries of the log, manifests, descriptions, modules,
reports, pins and a table's own log are never candidates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from almanac.core.layout import Layout

# Garbage collection spares files younger than RETENTION. A stage older than FRESH is not published, so files still unpublished
# after RETENTION can be deleted while jobs run. A feature group's rows are used until a day before they may be deleted, which
# leaves that day to combine them.
RETENTION = timedelta(days=7)
FRESH = RETENTION / 7
GROUP_FRESH = RETENTION - FRESH


class GarbageKind(Enum):
    """What a data file belongs to."""

    PREDICTIONS = "predictions"
    FEATURES = "features"
    PARTS = "parts"
    MODELS = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One data file. `modified` is by the store's clock."""

    kind: GarbageKind
    uri: str
    bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The items of one kind. `oldest` is None when there are none."""

    kind: GarbageKind
    files: int
    bytes: int
    oldest: datetime | None


def kind_of(layout: Layout, uri: str) -> GarbageKind | None:
    """The kind of data file that an object is; None for everything that is never deleted.

    A group's part lies in a folder of its own below its order; a pin lies beside these folders. A model's file lies in its
    training's folder; manifest and signature lie beside these folders.
    """
    match uri.removeprefix(f"{layout.home}/").split("/"):
        case ["predictions", partition, name] if _is_staged(partition, name):
            return GarbageKind.PREDICTIONS
        case ["features", _, partition, name] if _is_staged(partition, name):
            return GarbageKind.FEATURES
        case ["parts", _, _, _]:
            return GarbageKind.PARTS
        case ["models", _, _, _]:
            return GarbageKind.MODELS
    return None


def _is_staged(partition: str, name: str) -> bool:
    return partition.startswith("period=") and name.endswith(".parquet")


def check_age(older: timedelta) -> timedelta:
    """The age above which files may be deleted.

    Raises:
        ValueError: it is less than a week.
    """
    if older < RETENTION:
        raise ValueError(
            f"expected an age of {RETENTION.days} days or more, got {older.total_seconds() / 86400:g} days: running jobs, and "
            f"readers of an earlier state of a table, still need younger files. Use {RETENTION.days}d or more."
        )
    return older


def garbage(listed: Iterable[Item], kept: Collection[str], now: datetime, older: timedelta = RETENTION) -> tuple[Item, ...]:
    """The listed files that are older than `older` and not in `kept`. `now`: by the store's clock.

    Raises:
        ValueError: see `check_age`.
    """
    check_age(older)
    return tuple(item for item in listed if item.uri not in kept and now - item.modified > older)


def totals(items: Iterable[Item]) -> tuple[Total, ...]:
    """Files, bytes and oldest file of each kind; a kind without items has zeros."""
    found: Mapping[GarbageKind, list[Item]] = {kind: [] for kind in GarbageKind}
    for item in items:
        found[item.kind].append(item)
    return tuple(
        Total(
            kind=kind,
            files=len(those),
            bytes=sum(item.bytes for item in those),
            oldest=min((item.modified for item in those), default=None),
        )
        for kind, those in found.items()
    )
