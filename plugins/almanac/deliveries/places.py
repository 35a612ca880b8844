"""Deliveries as they are kept: the files that they are filled from, and the places that are Parquet folders."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from almanac.core.canonical import dumps, sealed
from almanac.core.deliveries import Delivery, Described, ParquetDelivery
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Output
from almanac.deliveries.folders import PIECE
from almanac.deliveries.notes import Applied, DeliveryAction, DeliveryNote, Position
from almanac.errors import IntegrityError, Unreachable
from almanac.files import locate
from almanac.store.home import Home
from almanac.store.objects import Objects, record


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a period of a delivery is to become.

    Args:
        source: the predictions table.
        files: of the visible rows; none where the period is removed. One without a sha256 is held against nothing.
        entity: the column that names what is predicted for.
        run: who delivers.
    """

    source: str
    period: str
    position: Position
    files: tuple[Output, ...]
    entity: str
    run: str = ""

    def applied(self, before: DeliveryNote | None) -> Applied:
        position, replaced = self.position, before.position.order if before else ""
        return Applied(period=self.period, fence=position.fence, order=position.order, rows=position.rows, replaced=replaced)

    def check_rows(self, found: int) -> None:
        """The files hold as many rows as the table says. Raises: IntegrityError."""
        if found != self.position.rows:
            raise IntegrityError(
                f"{self.source}: the files of {self.period} hold {found} rows, the table says {self.position.rows}. The period "
                "was not delivered. `almanac verify` names what was altered."
            )


class Place(Protocol):
    """Where a delivery's rows are kept."""

    def notes(self) -> dict[str, DeliveryNote]:
        """What it holds, by period."""

    def apply(self, change: Change) -> tuple[DeliveryAction, Applied | None]:
        """Brings one period up to date, unless it is already or holds a newer publish: the action says so.

        Raises:
            IntegrityError: a file was altered. StoreError, DeliveryError: the place does not take it. Nothing was changed.
        """

    def tidy(self) -> None:
        """Removes what deliverers that were killed left behind."""


def keep_described(home: Home, pipeline: Pipeline) -> None:
    """Keeps the pipeline as it is described now, for who delivers without Airflow."""
    ours = sealed(Described(description=pipeline.digest))
    if home.objects.find(home.layout.deliveries) != ours:
        home.objects.put_if_absent(home.layout.description(pipeline.digest), dumps(pipeline))
        home.objects.put(home.layout.deliveries, ours)


def described(home: Home) -> Pipeline | None:
    """The pipeline as the last delivering run had it, else as its newest version was described, if there is one.

    Raises:
        IntegrityError: what was kept was altered.
    """
    body = home.objects.find(home.layout.deliveries)
    if body is not None:
        return home.receipts.description(record(Described, body, home.layout.deliveries).description)
    return home.newest_description()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A prediction file, whole on this machine's disk."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    columns: pa.Schema


@contextmanager
def fetched(output: Output) -> Iterator[Fetched]:
    """A prediction file, fetched in pieces and held against its digest before anybody reads a row of it.

    Raises:
        IntegrityError: it was altered, or is no whole Parquet file.
        Unreachable: it cannot be read.
    """
    with tempfile.NamedTemporaryFile(prefix="almanac-", suffix=".parquet") as spool:
        digest, size = hashlib.sha256(), 0
        try:
            system, path = locate(output.uri)
            with system.open_input_stream(path) as stream:
                while piece := stream.read(PIECE):
                    digest.update(piece)
                    size += spool.write(piece)
            spool.flush()
        except FileNotFoundError:
            raise IntegrityError(
                f"{output.uri}: the predictions table names this file, and it is not there. Score the period again, or restore "
                "it from the bucket's versions."
            ) from None
        except OSError as error:
            raise Unreachable(f"{output.uri}: the file cannot be read ({error}). Check the store and its credentials.") from error
        if output.sha256 and digest.hexdigest() != output.sha256:
            raise IntegrityError(
                f"{output.uri}: found bytes with SHA-256 {digest.hexdigest()[:16]}..., {output.sha256[:16]}... was published. "
                "The file was altered; it is not delivered. Score the period again, or restore it from the bucket's versions."
            )
        try:
            footer = pq.ParquetFile(spool.name)
        except pa.ArrowInvalid as error:
            raise IntegrityError(f"{output.uri}: this is no whole Parquet file ({error}). Score the period again.") from error
        with footer:
            rows, columns = footer.metadata.num_rows, footer.schema_arrow
        yield Fetched(path=Path(spool.name), rows=rows, bytes=size, sha256=digest.hexdigest(), columns=columns)


@contextmanager
def opened(objects: Objects, delivery: Delivery, address: str) -> Iterator[Place]:
    """A delivery's place. `address`: of the database, for one in PostgreSQL.

    Raises:
        Unreachable, AccessRefused: it does not answer, or does not let us in.
        DescriptionError: the address is none.
    """
    # Each imported where it is used: most processes need no psycopg.
    if isinstance(delivery, ParquetDelivery):
        from almanac.deliveries.parquet import ParquetPlace

        yield ParquetPlace(objects, delivery)
        return
    from almanac.deliveries import postgres

    with postgres.opened(delivery, address) as place:
        yield place
