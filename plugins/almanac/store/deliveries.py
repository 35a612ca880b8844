"""Deliveries as they are kept: the files that they are filled from, and the places that are Parquet folders."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from almanac.core import deliveries
from almanac.core.canonical import dumps, sealed
from almanac.core.deliveries import MANIFEST, Applied, Delivery, Described, File, Manifest, Note, ParquetDelivery, Position, Step
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Output
from almanac.errors import IntegrityError, StoreError, Unreachable
from almanac.files import locate
from almanac.store.folders import PIECE, folder_at
from almanac.store.home import Home
from almanac.store.objects import Objects, record

READERS = 16
ROUNDS = 8


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

    def applied(self, before: Note | None) -> Applied:
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

    def notes(self) -> dict[str, Note]:
        """What it holds, by period."""

    def apply(self, change: Change) -> tuple[Step, Applied | None]:
        """Brings one period up to date, unless it is already or holds a newer publish: the step says so.

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


class ParquetPlace:
    """A folder with a folder for each period, on S3 or on this machine's disk. Each period's manifest is put last."""

    def __init__(self, objects: Objects, delivery: ParquetDelivery) -> None:
        self._uri = delivery.uri.rstrip("/")
        self._folder = folder_at(objects, self._uri)

    def notes(self) -> dict[str, Note]:
        return {period: found.note for period, found in self._manifests(self._folder.names()).items()}

    def apply(self, change: Change) -> tuple[Step, Applied | None]:
        with self._folder.held():
            files: tuple[File, ...] | None = None
            for _ in range(ROUNDS):
                standing, tag = self._manifest(change.period)
                note = standing.note if standing else None
                step = deliveries.step(note, change.position)
                if step is not Step.APPLY:
                    if note and files is not None:
                        self._sweep(change.period, note)  # ours, if we were overtaken
                    return step, None
                files = files if files is not None else self._upload(change)
                ours = _manifest_of(change, files)
                if self._folder.put_over(_name(change.period, MANIFEST), sealed(ours), tag):
                    self._sweep(change.period, ours.note)
                    return step, change.applied(note)
        raise StoreError(
            f"{self._uri}/{deliveries.folder(change.period)}/: its manifest was written by others {ROUNDS} times in a row. "
            "Nothing of ours is shown; try again when fewer runs deliver at a time."
        )

    def tidy(self) -> None:
        names = self._folder.names()
        for period, manifest in self._manifests(names).items():
            self._delete_left(period, names, manifest.note)

    def _manifests(self, names: Sequence[str]) -> dict[str, Manifest]:
        wanted = deliveries.folder("")
        periods = [
            name.split("/")[0].removeprefix(wanted)
            for name in names
            if name.startswith(wanted) and name.count("/") == 1 and name.endswith(f"/{MANIFEST}")
        ]
        with ThreadPoolExecutor(READERS) as pool:
            found = zip(periods, pool.map(self._manifest, periods), strict=True)
            return {period: manifest for period, (manifest, _) in found if manifest is not None}

    def _manifest(self, period: str) -> tuple[Manifest | None, str | None]:
        name = _name(period, MANIFEST)
        found = self._folder.read(name)
        if found is None:
            return None, None
        try:
            return record(Manifest, found[0], f"{self._uri}/{name}"), found[1]
        except IntegrityError:
            raise IntegrityError(
                f"{self._uri}/{name}: found bytes that are no manifest as Almanac wrote it, so nobody can say what lies "
                "beside it. Delete it, and the next run delivers the period again."
            ) from None

    def _upload(self, change: Change) -> tuple[File, ...]:
        files = []
        with ExitStack() as fetching:
            # All are held against their digests before one is written.
            local = [fetching.enter_context(fetched(output)) for output in change.files]
            change.check_rows(sum(one.rows for one in local))
            for number, one in enumerate(local):
                name = deliveries.data_file(change.position, number)
                self._folder.upload(_name(change.period, name), one.path)
                files.append(File(name=name, rows=one.rows, bytes=one.bytes, sha256=one.sha256))
        return tuple(files)

    def _sweep(self, period: str, standing: Note) -> None:
        self._delete_left(period, self._folder.names(deliveries.folder(period) + "/"), standing)

    def _delete_left(self, period: str, names: Sequence[str], standing: Note) -> None:
        folder = deliveries.folder(period) + "/"
        inside = [name.removeprefix(folder) for name in names if name.startswith(folder)]
        for name in deliveries.left_over(inside, standing):
            self._folder.delete(folder + name)


def _name(period: str, name: str) -> str:
    return f"{deliveries.folder(period)}/{name}"


def _manifest_of(change: Change, files: tuple[File, ...]) -> Manifest:
    return Manifest(
        source=change.source,
        period=change.period,
        order=change.position.order,
        fence=change.position.fence,
        files=files,
        run=change.run,
        delivered_at=datetime.now(UTC),
    )


@contextmanager
def opened(objects: Objects, delivery: Delivery, address: str) -> Iterator[Place]:
    """A delivery's place. `address`: of the database, for one in PostgreSQL.

    Raises:
        Unreachable, AccessRefused: it does not answer, or does not let us in.
        DescriptionError: the address is none.
    """
    if isinstance(delivery, ParquetDelivery):
        yield ParquetPlace(objects, delivery)
        return
    from almanac.store import postgres  # psycopg is loaded where it is used

    with postgres.opened(delivery, address) as place:
        yield place
