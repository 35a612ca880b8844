"""Follows receipts upwards on S3, each read once and independent ones in parallel; and collects the evidence for one period."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa

from almanac.core.cuts import Seen, seen
from almanac.core.entity import labelled
from almanac.core.pins import Pin
from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Log
from almanac.core.receipts import Artifact, Receipt, Step, publish_order
from almanac.errors import DataError, IntegrityError, NotFound, StoreError, examples
from almanac.files import locate
from almanac.lineage.explain import Evidence
from almanac.store.home import Home
from almanac.store.pins import read_pins
from almanac.store.tables import Visible
from almanac.store.versions import Manifest

READERS = 16
Item = TypeVar("Item")
Answer = TypeVar("Answer")
Progress = Callable[[int, int], None]


class Trail:
    """The receipts of a pipeline that were read so far, and the threads that read more."""

    def __init__(self, home: Home, pool: ThreadPoolExecutor) -> None:
        self.home, self.pool = home, pool
        self.receipts: dict[str, Receipt] = {}
        self.pins: dict[str, Mapping[str, Pin]] = {}
        self.pipelines: dict[str, Pipeline] = {}

    def each(self, work: Callable[[Item], Answer], items: Iterable[Item], progress: Progress | None = None) -> list[Answer]:
        """Does work for each item, in parallel in the pool."""
        listed = list(items)
        found = []
        for number, answer in enumerate(self.pool.map(work, listed), start=1):
            found.append(answer)
            if progress is not None and (number % 50 == 0 or number == len(listed)):
                progress(number, len(listed))
        return found

    def follow(self, uris: Iterable[str], known: Container[str] = (), progress: Progress | None = None) -> dict[str, Receipt]:
        """Reads receipts and all that they link, except known ones; returns the new ones.

        Raises:
            NotFound: a receipt is missing.
            IntegrityError: a receipt was altered.
        """
        new: dict[str, Receipt] = {}
        left = self._unread(uris, known)
        while left:
            read = self.read(left, progress)
            new.update(read)
            left = self._unread((uri for receipt in read.values() for uri in receipt.links.values()), known)
        return new

    def read(self, uris: Iterable[str], progress: Progress | None = None) -> dict[str, Receipt]:
        """Reads receipts that were not read yet, without following their links. Raises: NotFound, IntegrityError."""
        left = self._unread(uris)
        found = dict(zip(left, self.each(self.home.receipts.read, left, progress), strict=True))
        self.receipts.update(found)
        return found

    def _unread(self, uris: Iterable[str], known: Container[str] = ()) -> list[str]:
        return [uri for uri in dict.fromkeys(uris) if uri not in self.receipts and uri not in known]

    def look_into(self, receipts: Mapping[str, Receipt]) -> None:
        """Reads what shows which files the receipts' orders could read: their pins, and one description per kind of order."""
        reading = [receipt for receipt in receipts.values() if receipt.order.step is Step.STAGE and "pin" in receipt.links]
        pins = {receipt.links["pin"] for receipt in reading} - self.pins.keys()
        self.follow(pins)
        self.pins.update(zip(pins, self.each(lambda uri: read_pins(self.home, self.receipts[uri]), pins), strict=True))
        # Orders with the same `description` digest read sources in the same way.
        orders = {receipt.order.description: receipt.order.digest for receipt in reading}
        kinds = [kind for kind in orders if kind not in self.pipelines]
        self.pipelines.update(zip(kinds, self.each(lambda kind: self._pipeline(orders[kind]), kinds), strict=True))

    def _pipeline(self, order: str) -> Pipeline:
        return self.home.receipts.description(self.home.receipts.placed(order).description)


@contextlib.contextmanager
def reading(home: Home) -> Iterator[Trail]:
    """A trail with its own thread pool."""
    with ThreadPoolExecutor(READERS) as pool:
        yield Trail(home, pool)


def seen_by(trail: Trail, receipt: Receipt) -> Seen:
    """The source files that a receipt's order could read. Call `Trail.look_into` first."""
    pins = trail.pins.get(receipt.links.get("pin", ""))
    pipeline = trail.pipelines.get(receipt.order.description)
    return {} if pins is None or pipeline is None else seen(receipt.order, pipeline, pins)


def head_of(home: Home, order: str) -> str:
    """The URI of the receipt that published what an order staged; of the stage receipt, if the publisher died before writing it.

    Raises:
        NotFound: there is neither receipt.
    """
    staged = home.receipts.placed(order).order
    for asked in (publish_order(staged), staged):
        if (receipt := home.receipts.find(asked)) is not None:
            return home.receipts.uri(receipt)
    raise NotFound(f"{staged} has no receipt, although its files are visible. Run `almanac verify {home.name}`.")


def shown(home: Home, period: str) -> Visible:
    """A visible period of predictions.

    Raises:
        NotFound: the period is not visible; the message names those that are.
    """
    visible = home.predictions.visible()
    if period not in visible:
        raise NotFound(
            f"Pipeline {home.name} has no predictions of {period!r} (visible: {examples(visible, 24)}). Name one of them."
        )
    return visible[period]


def evidence(home: Home, partition: Visible) -> Evidence:
    """Everything that a visible period of predictions was made from, read upwards from its files.

    Raises:
        NotFound, IntegrityError: a part of it is missing or was altered.
    """
    with reading(home) as trail:
        log: Future[Log] = trail.pool.submit(home.log)
        version = str(partition.stats["model_version"])
        manifest: Future[Manifest] = trail.pool.submit(home.versions.read, version)
        head = head_of(home, partition.order)
        trained = manifest.result()
        entries = log.result()
        gates = [entry.gate for entry in entries.entries if entry.version == version and entry.gate]
        trail.follow([head, trained.receipt, trained.audit, *gates])
        trail.look_into(trail.receipts)
    found = Evidence(
        head=head,
        receipts=trail.receipts,
        pins=trail.pins,
        pipelines=trail.pipelines,
        version=version,
        trained=(trained.receipt, trained.audit),
        manifest=home.layout.manifest(version),
        keys=trained.keys,
        log=entries,
    )
    _, staged = found.staged(head)
    if staged.order.inputs["version"] != trained.digest:
        raise IntegrityError(
            f"{found.manifest}: the manifest is not the one that {partition.period} was scored with. Restore it."
        )
    return found


def row_of(home: Home, partition: Visible, entity: Mapping[str, str]) -> dict[str, Any]:
    """The row of one entity in a visible period: the columns of the predictions table. `entity`: key to its value, as text.

    Raises:
        DataError: the period has no such entity.
        StoreError: its files cannot be read.
    """
    import pyarrow.dataset as ds  # imports pandas, which most of what uses this module does not need

    system, folder = locate(home.predictions.uri)
    paths = [f"{folder}/{path}" for path in partition.paths]
    found: list[dict[str, Any]] = []
    why = ""
    try:
        rows = ds.dataset(paths, filesystem=system, format="parquet")
        matches = []
        for key, value in entity.items():
            kind = rows.schema.field(key).type
            try:
                matches.append(ds.field(key) == pa.scalar(value).cast(kind))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                why += f"; {key} is {kind}, and {value!r} is not"
        if not why:
            found = rows.to_table(filter=functools.reduce(operator.and_, matches)).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"{home.predictions.uri}: the files of {partition.period} cannot be read: {error}. "
            f"Run `almanac verify {home.name}` to see what is wrong with them."
        ) from error
    if not found:
        named = labelled(list(entity), [repr(value) for value in entity.values()])
        raise DataError(
            f"Predictions of {partition.period} have no {named} ({partition.rows} rows{why}). Name one that the table "
            "holds; the pipeline's population decides which these are."
        )
    return found[0]


def standing_tables(home: Home) -> list[tuple[Artifact, str]]:
    """The tables of a pipeline, as artifact and definition; predictions have no definition."""
    found = [(Artifact.FEATURES, name) for name in home.objects.folders(home.layout.definitions)]
    return [(Artifact.PREDICTIONS, ""), *found]
