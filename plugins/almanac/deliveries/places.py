"""The places that deliveries fill, and the prediction files that they are filled from."""

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
from almanac.errors import DeliveryError, IntegrityError, Unreachable
from almanac.files import locate
from almanac.store.home import Home
from almanac.store.objects import Objects, record


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a period of a delivery must become.

    Args:
        source: the predictions table.
        files: the files of the visible rows; none if the period is removed. A file without a sha256 is not checked.
        keys: the columns that name an entity.
        run: the run that delivers.
    """

    source: str
    period: str
    position: Position
    files: tuple[Output, ...]
    keys: tuple[str, ...]
    run: str = ""

    def applied(self, before: DeliveryNote | None) -> Applied:
        position, replaced = self.position, before.position.order if before else ""
        return Applied(period=self.period, fence=position.fence, order=position.order, rows=position.rows, replaced=replaced)

    def check_rows(self, found: int) -> None:
        """Checks that the files hold as many rows as the table says. Raises: IntegrityError."""
        if found != self.position.rows:
            raise IntegrityError(
                f"{self.source}: expected {self.position.rows} rows in the files of {self.period}, as the table says; got "
                f"{found}. The period was not delivered. Run `almanac verify` to see what was altered."
            )


class Place(Protocol):
    """Where a delivery's rows are stored."""

    def notes(self) -> dict[str, DeliveryNote]:
        """What the place holds, by period."""

    def apply(self, change: Change) -> tuple[DeliveryAction, Applied | None]:
        """Brings one period up to date. The action says whether it was up to date already, or holds a newer publish.

        Raises:
            IntegrityError: a file was altered. StoreError, DeliveryError: the place refused it. Nothing was changed.
        """

    def tidy(self) -> None:
        """Removes what killed runs left behind."""


def keep_described(home: Home, pipeline: Pipeline) -> None:
    """Stores today's description of the pipeline, for deliveries outside Airflow."""
    ours = sealed(Described(description=pipeline.digest))
    if home.objects.find(home.layout.deliveries) != ours:
        home.objects.put_if_absent(home.layout.description(pipeline.digest), dumps(pipeline))
        home.objects.put(home.layout.deliveries, ours)


def described(home: Home) -> Pipeline | None:
    """The pipeline as the last delivering run described it, else as its newest version did, if there is one.

    Raises:
        IntegrityError: the stored description was altered.
    """
    body = home.objects.find(home.layout.deliveries)
    if body is not None:
        return home.receipts.description(record(Described, body, home.layout.deliveries).description)
    return home.newest_description()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A complete prediction file on the local disk."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    columns: pa.Schema


@contextmanager
def fetched(output: Output) -> Iterator[Fetched]:
    """A prediction file, fetched in pieces and checked against its digest before any row is read.

    Raises:
        IntegrityError: the file was altered, or is not a complete Parquet file.
        Unreachable: the file cannot be read.
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
                f"{output.uri}: the predictions table names this file, but it does not exist. Score the period again, or restore "
                "the file from the bucket's versions."
            ) from None
        except OSError as error:
            raise Unreachable(f"{output.uri}: the file cannot be read ({error}). Check the store and its credentials.") from error
        if output.sha256 and digest.hexdigest() != output.sha256:
            raise IntegrityError(
                f"{output.uri}: expected SHA-256 {output.sha256[:16]}..., got {digest.hexdigest()[:16]}... The file was altered "
                "and is not delivered. Score the period again, or restore the file from the bucket's versions."
            )
        try:
            footer = pq.ParquetFile(spool.name)
        except pa.ArrowInvalid as error:
            raise IntegrityError(f"{output.uri}: expected a complete Parquet file ({error}). Score the period again.") from error
        with footer:
            rows, columns = footer.metadata.num_rows, footer.schema_arrow
        yield Fetched(path=Path(spool.name), rows=rows, bytes=size, sha256=digest.hexdigest(), columns=columns)


@contextmanager
def opened(objects: Objects, delivery: Delivery, address: str) -> Iterator[Place]:
    """A delivery's place. `address`: the URI of the database, for a delivery to PostgreSQL.

    Raises:
        Unreachable, AccessRefused: the place does not answer, or refuses access.
        DescriptionError: the address is not valid.
    """
    # Imported where they are used: most processes do not need psycopg.
    if isinstance(delivery, ParquetDelivery):
        from almanac.deliveries.parquet import ParquetPlace

        yield ParquetPlace(objects, delivery)
        return
    try:
        from almanac.deliveries import postgres
    except ImportError as error:
        raise DeliveryError(
            f"Delivery {delivery.name!r} needs the package psycopg, which cannot be imported ({error}). Install it: "
            "pip install 'psycopg[binary]'"
        ) from error

    with postgres.opened(delivery, address) as place:
        yield place
