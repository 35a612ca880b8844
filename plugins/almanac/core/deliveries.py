"""Deliveries: copies of predictions in other systems.

The predictions table is the truth. A delivery is a projection of it: for every visible period it holds exactly that period's
rows, and a note that says which publish they come from. To deliver is to update every period whose note differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from almanac.errors import DescriptionError, examples

NAME = re.compile(r"[a-z][a-z0-9_]*")
TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?")
NOTES = "almanac_deliveries"


@dataclass(frozen=True, slots=True)
class ParquetDelivery:
    """Plain Parquet files in a folder for each period, and a manifest beside them that is written last.

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
                f"ParquetDelivery({self.name!r}).uri: expected a folder on S3 such as s3://bucket/scores, or an absolute path "
                f"such as /data/scores; got {self.uri!r}."
            )


@dataclass(frozen=True, slots=True)
class PostgresDelivery:
    """A table in a PostgreSQL database, with the period and the columns of the entity as its primary key.

    Args:
        name: the delivery's name among those of its pipeline.
        table: the table, such as `scores` or `marketing.scores`. It is created if it is missing; a schema is not.
        connection: the Airflow connection to the database.
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
                f"PostgresDelivery({self.name!r}).table: expected lower-case letters, digits and _, optionally after a schema "
                f"and a dot, such as marketing.scores; got {self.table!r}. {NOTES} is reserved."
            )
        if not isinstance(self.connection, str) or not self.connection.strip():
            raise DescriptionError(
                f"PostgresDelivery({self.name!r}).connection: expected the name of an Airflow connection, got "
                f"{self.connection!r}."
            )


Delivery = ParquetDelivery | PostgresDelivery


def _check_name(noun: str, name: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DescriptionError(f"{noun}.name: expected lower-case letters, digits and _, got {name!r}.")


def check_deliveries(deliveries: object) -> None:
    """Checks that they are a tuple of deliveries of different names and destinations. Raises: DescriptionError."""
    if not isinstance(deliveries, tuple) or any(not isinstance(one, Delivery) for one in deliveries):
        raise DescriptionError(
            f"Pipeline.deliveries: expected a tuple of ParquetDelivery and PostgresDelivery, got {deliveries!r}. A single one "
            "needs its comma."
        )
    for noun, found in (("name", [one.name for one in deliveries]), ("destination", [place(one) for one in deliveries])):
        if doubled := sorted({one for one in found if found.count(one) > 1}):
            raise DescriptionError(
                f"Pipeline.deliveries: expected a different {noun} for each delivery, got {', '.join(map(repr, doubled))} twice."
            )


def place(delivery: Delivery) -> str:
    """A delivery's destination: no two deliveries share one."""
    if isinstance(delivery, ParquetDelivery):
        return delivery.uri.rstrip("/")
    return f"{delivery.table} of {delivery.connection}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The digest of the description of the last run that delivered, for deliveries without Airflow."""

    description: str


def named(deliveries: Iterable[Delivery], name: str | None) -> tuple[Delivery, ...]:
    """The delivery of that name; all of them if no name is given. Raises: DescriptionError."""
    listed = tuple(deliveries)
    found = tuple(one for one in listed if name is None or one.name == name)
    if name is not None and not found:
        raise DescriptionError(f"Delivery {name!r} is unknown (there are: {examples(one.name for one in listed)}). Name one.")
    return found
