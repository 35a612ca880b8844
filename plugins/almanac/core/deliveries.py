"""Deliveries: predictions brought to where others read them.

The predictions table is the truth. A delivery is a projection of it: for every visible period it holds exactly that period's
rows, and a note of which publish they are from. To deliver is to bring every period up to date whose note differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from enum import Enum
from typing import Literal

from almanac.errors import DeliveryError, DescriptionError, examples

NAME = re.compile(r"[a-z][a-z0-9_]*")
TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?")
NOTES = "almanac_deliveries"
MANIFEST = "_manifest.json"
DATA_FILE = re.compile(r"(?P<order>[0-9a-f]{12})-(?P<fence>[0-9]+)-[0-9]{3,}\.parquet")


@dataclass(frozen=True, slots=True)
class ParquetDelivery:
    """Plain Parquet files in a folder for each period, and a manifest beside them that is put last.

    Args:
        name: the delivery's name among those of its pipeline.
        uri: the folder: `s3://bucket/prefix`, or an absolute path on the machine that delivers.
    """

    name: str
    uri: str
    _: KW_ONLY
    kind: Literal["parquet"] = "parquet"

    def __post_init__(self) -> None:
        _check_name("ParquetDelivery", self.name)
        if not isinstance(self.uri, str) or not re.fullmatch(r"(s3:/)?/[^/]+(/.*)?", self.uri):
            raise DescriptionError(
                f"ParquetDelivery({self.name!r}).uri: found {self.uri!r}, allowed is a folder on S3 such as s3://bucket/scores, "
                "or an absolute path such as /data/scores."
            )


@dataclass(frozen=True, slots=True)
class PostgresDelivery:
    """A table in a PostgreSQL database, its primary key period and entity.

    Args:
        name: the delivery's name among those of its pipeline.
        table: the table, such as `scores` or `marketing.scores`. It is created if it is missing; a schema is not.
        connection: the Airflow connection that knows the database.
    """

    name: str
    table: str
    connection: str = NOTES
    _: KW_ONLY
    kind: Literal["postgres"] = "postgres"

    def __post_init__(self) -> None:
        _check_name("PostgresDelivery", self.name)
        if not isinstance(self.table, str) or not TABLE.fullmatch(self.table) or self.table.split(".")[-1] == NOTES:
            raise DescriptionError(
                f"PostgresDelivery({self.name!r}).table: found {self.table!r}, allowed are lower-case letters, digits and _, "
                f"with a schema and a dot before them or without, such as marketing.scores; {NOTES} is taken."
            )
        if not isinstance(self.connection, str) or not self.connection.strip():
            raise DescriptionError(
                f"PostgresDelivery({self.name!r}).connection: found {self.connection!r}, allowed is the name of an Airflow "
                "connection."
            )


Delivery = ParquetDelivery | PostgresDelivery


def _check_name(noun: str, name: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DescriptionError(f"{noun}.name: found {name!r}, allowed are lower-case letters, digits and _.")


def check_deliveries(deliveries: object) -> None:
    """They are a tuple of deliveries of different names. Raises: DescriptionError."""
    if not isinstance(deliveries, tuple) or any(not isinstance(one, Delivery) for one in deliveries):
        raise DescriptionError(
            f"Pipeline.deliveries: found {deliveries!r}, allowed is a tuple of ParquetDelivery and PostgresDelivery: a single "
            "one needs its comma."
        )
    for noun, found in (("name", [one.name for one in deliveries]), ("place", [place(one) for one in deliveries])):
        if doubled := sorted({one for one in found if found.count(one) > 1}):
            raise DescriptionError(
                f"Pipeline.deliveries: found the {noun} {', '.join(doubled)} twice; each delivery has its own {noun}."
            )


def place(delivery: Delivery) -> str:
    """Where a delivery's rows are: no two deliveries write to one place."""
    if isinstance(delivery, ParquetDelivery):
        return delivery.uri.rstrip("/")
    return f"{delivery.table} of {delivery.connection}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The digest of the description that the last delivering run had, for who delivers without Airflow."""

    description: str


def named(deliveries: Iterable[Delivery], name: str | None) -> tuple[Delivery, ...]:
    """The delivery of that name; all of them for no name. Raises: DescriptionError."""
    listed = tuple(deliveries)
    found = tuple(one for one in listed if name is None or one.name == name)
    if name is not None and not found:
        raise DescriptionError(f"Delivery {name!r} is unknown (there are: {examples(one.name for one in listed)}). Name one.")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where the predictions table stands for a period.

    Args:
        fence: how often the period has been published.
        order: the order whose rows are visible; empty when none are.
        rows: how many.
    """

    fence: int
    order: str = ""
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a delivery holds of a period: the position that it applied, and the predictions table that it is of."""

    source: str
    position: Position


class Step(Enum):
    """What a deliverer who knows a position of the table does with a period of a delivery."""

    APPLY = "apply"
    KEEP = "keep"
    STALE = "stale"


def step(note: Note | None, wanted: Position) -> Step:
    """Asked where nobody else can write between the answer and the deed. A newer publish is never overwritten by an older."""
    if note is None:
        return Step.APPLY
    if note.position.fence > wanted.fence:
        return Step.STALE
    return Step.KEEP if note.position == wanted else Step.APPLY


def outstanding(table: Mapping[str, Position], notes: Mapping[str, Note]) -> list[str]:
    """The periods whose note is not the table's position. What neither shows is not worth a note."""
    nothing = Position(fence=0)
    shown = {period: note.position for period, note in notes.items()}
    return [
        period
        for period in sorted({*table, *shown})
        if (table.get(period, nothing).order or (period in shown and shown[period].order))
        and shown.get(period) != table.get(period, nothing)
    ]


def check_source(delivery: Delivery, notes: Mapping[str, Note], source: str) -> None:
    """A place is filled from one predictions table alone. Raises: DeliveryError."""
    if others := sorted({note.source for note in notes.values()} - {source}):
        raise DeliveryError(
            f"Delivery {delivery.name!r}: {place(delivery)} is filled from {examples(others)}, this run would fill it from "
            f"{source}. Nothing was written. Give each pipeline and each ALMANAC_ROOT a place of its own; if the predictions "
            "were moved, see docs/deliveries.md."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A period that was brought up to date.

    Args:
        order: whose rows are there now; empty when the period was removed.
        rows: how many.
        replaced: the order whose rows were there before; empty when there were none.
    """

    period: str
    fence: int
    order: str
    rows: int
    replaced: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one delivering did: nothing, where everything was up to date."""

    delivery: str
    applied: tuple[Applied, ...] = ()

    @property
    def in_words(self) -> str:
        listed = examples((f"{one.period} ({f'{one.rows} rows' if one.order else 'removed'})" for one in self.applied), 12)
        return f"delivery {self.delivery}: {listed if self.applied else 'nothing to do'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One data file of a Parquet delivery; its name is that within the period's folder."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a period's folder holds: read it, and then the files that it names and no others.

    Args:
        source: the predictions table.
        order, fence: the order whose rows these are, and the number of its publish; no order when the period was removed.
        run: who delivered.
    """

    source: str
    period: str
    order: str
    fence: int
    files: tuple[File, ...]
    run: str
    delivered_at: datetime
    schema: int = 1

    @property
    def note(self) -> Note:
        rows = sum(file.rows for file in self.files)
        return Note(source=self.source, position=Position(fence=self.fence, order=self.order, rows=rows))


def folder(period: str) -> str:
    """A period's folder within a Parquet delivery."""
    return f"period={period}"


def data_file(position: Position, number: int) -> str:
    """The name of a data file: it begins with the first 12 digits of the order, then the number of its publish."""
    return f"{position.order[:12]}-{position.fence}-{number:03d}.parquet"


def left_over(names: Iterable[str], standing: Note) -> list[str]:
    """Those of the files in a period's folder that no manifest will name any more: of an older publish than the standing one.

    Files of a newer publish are on their way, and files that are not of Almanac are nobody's business.
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
