"""Deliveries to Parquet folders, on S3 or on a local disk."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime

from almanac.core.canonical import sealed
from almanac.core.deliveries import ParquetDelivery
from almanac.deliveries import notes
from almanac.deliveries.folders import folder_at
from almanac.deliveries.notes import MANIFEST, Applied, DeliveryAction, DeliveryFile, DeliveryManifest, DeliveryNote
from almanac.deliveries.places import Change, fetched
from almanac.errors import IntegrityError, StoreError
from almanac.store.objects import Objects, record

READERS = 16
ROUNDS = 8


class ParquetPlace:
    """A folder with a subfolder per period, on S3 or on a local disk. The manifest of a period is written last."""

    def __init__(self, objects: Objects, delivery: ParquetDelivery) -> None:
        self._uri = delivery.uri.rstrip("/")
        self._folder = folder_at(objects, self._uri)

    def notes(self) -> dict[str, DeliveryNote]:
        return {period: found.note for period, found in self._manifests(self._folder.names()).items()}

    def apply(self, change: Change) -> tuple[DeliveryAction, Applied | None]:
        with self._folder.held():
            files: tuple[DeliveryFile, ...] | None = None
            for _ in range(ROUNDS):
                standing, tag = self._manifest(change.period)
                note = standing.note if standing else None
                action = notes.action(note, change.position)
                if action is not DeliveryAction.APPLY:
                    if note and files is not None:
                        self._sweep(change.period, note)  # our own files, if another run was faster
                    return action, None
                files = files if files is not None else self._upload(change)
                ours = _manifest_of(change, files)
                if self._folder.put_over(_name(change.period, MANIFEST), sealed(ours), tag):
                    self._sweep(change.period, ours.note)
                    return action, change.applied(note)
        raise StoreError(
            f"{self._uri}/{notes.folder(change.period)}/: other runs wrote its manifest {ROUNDS} times in a row. Nothing "
            "was delivered. Try again when fewer runs deliver at a time."
        )

    def tidy(self) -> None:
        names = self._folder.names()
        for period, manifest in self._manifests(names).items():
            self._delete_left(period, names, manifest.note)

    def _manifests(self, names: Sequence[str]) -> dict[str, DeliveryManifest]:
        wanted = notes.folder("")
        periods = [
            name.split("/")[0].removeprefix(wanted)
            for name in names
            if name.startswith(wanted) and name.count("/") == 1 and name.endswith(f"/{MANIFEST}")
        ]
        with ThreadPoolExecutor(READERS) as pool:
            found = zip(periods, pool.map(self._manifest, periods), strict=True)
            return {period: manifest for period, (manifest, _) in found if manifest is not None}

    def _manifest(self, period: str) -> tuple[DeliveryManifest | None, str | None]:
        name = _name(period, MANIFEST)
        found = self._folder.read(name)
        if found is None:
            return None, None
        try:
            return record(DeliveryManifest, found[0], f"{self._uri}/{name}"), found[1]
        except IntegrityError:
            raise IntegrityError(
                f"{self._uri}/{name}: expected a manifest as Almanac wrote it, got other bytes, so the files beside it are "
                "unknown. Delete it; the next run delivers the period again."
            ) from None

    def _upload(self, change: Change) -> tuple[DeliveryFile, ...]:
        files = []
        with ExitStack() as fetching:
            # All files are checked against their digests before one is written.
            local = [fetching.enter_context(fetched(output)) for output in change.files]
            change.check_rows(sum(one.rows for one in local))
            for number, one in enumerate(local):
                name = notes.data_file(change.position, number)
                self._folder.upload(_name(change.period, name), one.path)
                files.append(DeliveryFile(name=name, rows=one.rows, bytes=one.bytes, sha256=one.sha256))
        return tuple(files)

    def _sweep(self, period: str, standing: DeliveryNote) -> None:
        self._delete_left(period, self._folder.names(notes.folder(period) + "/"), standing)

    def _delete_left(self, period: str, names: Sequence[str], standing: DeliveryNote) -> None:
        folder = notes.folder(period) + "/"
        inside = [name.removeprefix(folder) for name in names if name.startswith(folder)]
        for name in notes.left_over(inside, standing):
            self._folder.delete(folder + name)


def _name(period: str, name: str) -> str:
    return f"{notes.folder(period)}/{name}"


def _manifest_of(change: Change, files: tuple[DeliveryFile, ...]) -> DeliveryManifest:
    return DeliveryManifest(
        source=change.source,
        period=change.period,
        order=change.position.order,
        fence=change.position.fence,
        files=files,
        run=change.run,
        delivered_at=datetime.now(UTC),
    )
