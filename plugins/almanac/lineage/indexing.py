"""The index of receipts on S3: kept up to date without listing the receipts, rebuilt if it is lost.

A listing takes one request per thousand receipts. Instead the index starts from few *anchors*: the visible partitions and
the versions. An anchor that is not in the index is followed upwards and added. If two processes write the index, the last
one wins. This is harmless, because the index is derived: the other one's anchors are added again next time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from almanac.core.canonical import sealed
from almanac.core.facts import version_of
from almanac.core.receipts import Artifact, Receipt, Step
from almanac.errors import IntegrityError, StoreError
from almanac.lineage.index import Index, IndexedReceipt, Shown, SourceFile, spans
from almanac.lineage.trail import Progress, Trail, head_of, seen_by, standing_tables
from almanac.store.home import Home
from almanac.store.objects import record

log = logging.getLogger(__name__)


def fresh(trail: Trail, progress: Progress | None = None) -> tuple[Index, Shown]:
    """The index with every current anchor in it, and what readers see now."""
    before = trail.pool.submit(_kept, trail.home)
    anchors, shown = anchors_of(trail)
    kept = before.result()
    found = anchored(trail, complete(trail, Index(), progress) if kept is None else kept, anchors)
    put_back(trail.home, found, kept)
    return found, shown


def anchors_of(trail: Trail) -> tuple[Anchors, Shown]:
    """The current anchors, and what readers see."""
    home = trail.home
    entries = trail.pool.submit(home.log)
    tables = standing_tables(home)
    visible = dict(zip(tables, trail.each(lambda table: _visible(home, *table), tables), strict=True))
    shown = Shown(
        predictions=visible[Artifact.PREDICTIONS, ""],
        features={definition: orders for (artifact, definition), orders in visible.items() if artifact is Artifact.FEATURES},
        log=entries.result(),
    )
    anchors = Anchors(
        orders={(artifact.value, order) for (artifact, _), orders in visible.items() for order in orders.values()},
        # Read after the tables, so that every version that scored a visible period is included.
        versions=set(home.versions.names()),
    )
    return anchors, shown


def _visible(home: Home, artifact: Artifact, definition: str) -> dict[str, str]:
    table = home.predictions if artifact is Artifact.PREDICTIONS else home.features(definition)
    return {period: item.order for period, item in table.visible().items()}


def _kept(home: Home) -> Index | None:
    """The stored index; None if it is lost, altered or has another schema."""
    body = home.objects.find(home.layout.index)
    if body is None:
        return None
    try:
        return record(Index, body, home.layout.index)
    except IntegrityError as error:
        log.warning("The index is rebuilt from the receipts: %s", error)
        return None


def put_back(home: Home, index: Index, before: Index | None) -> None:
    if index == before:
        return
    try:
        home.objects.put(home.layout.index, sealed(index))
    except StoreError as error:
        log.warning("The index could not be saved, so the next query will follow the same receipts again: %s", error)


@dataclass(frozen=True)
class Anchors:
    """The start points of the index: (artifact, order) of visible partitions, and versions."""

    orders: set[tuple[str, str]]
    versions: set[str]

    def unknown_to(self, index: Index) -> Anchors:
        return Anchors(self.orders - index.published, self.versions - index.versions.keys())

    def __bool__(self) -> bool:
        return bool(self.orders or self.versions)


def anchored(trail: Trail, index: Index, anchors: Anchors) -> Index:
    """The index with anchors added, and with everything that their orders replaced, back to the first order."""
    home, tried = trail.home, set[tuple[str, str]]()
    new = anchors.unknown_to(index)
    while new:
        manifests = trail.each(home.versions.read, sorted(new.versions))
        heads = trail.each(lambda anchor: head_of(home, anchor[1]), sorted(new.orders))
        uris = [*heads, *(uri for manifest in manifests for uri in (manifest.receipt, manifest.audit))]
        known = {_uri(home, item.key) for item in index.receipts}
        read = trail.follow(uris, known)
        index = added(trail, index, read, {manifest.version: manifest.receipt for manifest in manifests})
        tried |= new.orders
        replaced = {
            (receipt.order.artifact.value, receipt.order.replaces)
            for receipt in read.values()
            if receipt.order.replaces and receipt.order.step is Step.STAGE
        }
        new = Anchors(replaced - tried, set()).unknown_to(index)
    return index


def complete(trail: Trail, index: Index, progress: Progress | None) -> Index:
    """The index with every existing receipt, from a listing of all of them."""
    home = trail.home
    made = [
        (artifact, step)
        for artifact in Artifact
        if artifact is not Artifact.SOURCES
        for step in (Step.STAGE, Step.AUDIT, Step.PUBLISH)
    ]
    seen = [(Artifact.SOURCES, step) for step in (Step.PIN, Step.AUDIT)]
    folders = [home.layout.receipts(artifact.value, step.value) for artifact, step in (*seen, *made)]
    listed = trail.each(lambda folder: [item.uri for item in home.objects.walk(folder)], folders)
    known = {_uri(home, item.key) for item in index.receipts}
    read = trail.follow([uri for uris in listed for uri in uris], known, progress)
    names = [name for name in home.versions.names() if name not in index.versions]
    manifests = trail.each(home.versions.read, names)
    read.update(trail.follow((manifest.receipt for manifest in manifests), known))
    return added(trail, index, read, {manifest.version: manifest.receipt for manifest in manifests})


def added(trail: Trail, index: Index, read: Mapping[str, Receipt], versions: Mapping[str, str]) -> Index:
    """The index with receipts and versions (version to the receipt that trained it) appended."""
    trail.look_into(read)
    keys = {item.key for item in index.receipts}
    new = {key: receipt for uri, receipt in read.items() if (key := _key(uri)) not in keys}
    numbers = {**index.numbers, **{key: number for number, key in enumerate(new, start=len(index.receipts))}}
    trained = {**index.versions, **{version: numbers[_key(uri)] for version, uri in versions.items()}}
    files = {file: number for number, file in enumerate(index.files)}
    receipts = [_indexed(trail, key, receipt, numbers, trained, files) for key, receipt in new.items()]
    return replace(index, receipts=(*index.receipts, *receipts), files=tuple(files), versions=trained)


def _indexed(
    trail: Trail,
    key: str,
    receipt: Receipt,
    numbers: Mapping[str, int],
    versions: Mapping[str, int],
    files: dict[SourceFile, int],
) -> IndexedReceipt:
    order, run_info = receipt.order, receipt.run_info
    version = version_of(receipt)
    inputs = {numbers[linked] for linked in map(_key, receipt.links.values()) if linked in numbers}
    if _scores(receipt) and version in versions:
        inputs.add(versions[version])
    readable = [SourceFile(file.uri, file.size, file.etag) for listed in seen_by(trail, receipt).values() for file in listed]
    saw = [files.setdefault(file, len(files)) for file in readable]
    return IndexedReceipt(
        key, order.period, order.part, order.description, version, run_info.dag, run_info.run, tuple(sorted(inputs)), spans(saw)
    )


def _scores(receipt: Receipt) -> bool:
    return (receipt.order.artifact, receipt.order.step) == (Artifact.PREDICTIONS, Step.STAGE)


def _key(uri: str) -> str:
    return "/".join(uri.rsplit("/", 3)[1:]).removesuffix(".json")


def _uri(home: Home, key: str) -> str:
    artifact, step, name = key.split("/")
    return f"{home.layout.receipts(artifact, step)}{name}.json"
