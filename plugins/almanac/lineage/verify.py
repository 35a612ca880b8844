"""Integrity: reads everything that readers can reach again and checks it against its digests.

It starts at the promotion log, the versions and the visible partitions, and follows the links of receipts up to the pins. An
altered object is a finding, and the reading continues. Sources are outside Almanac: a source file that no longer matches its
pin is reported, but is not a finding.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from almanac.core.canonical import decode, opened, sha256
from almanac.core.layout import Layout
from almanac.core.pins import Pin, PinnedFile
from almanac.core.promotions import GENESIS, Entry
from almanac.core.receipts import Artifact, Order, Output, PlacedOrder, Receipt, Step, publish_order
from almanac.core.relations import is_database
from almanac.core.rollback import RollbackPlan
from almanac.errors import NotFound, StoreError, Unsigned
from almanac.lineage import proofs
from almanac.lineage.findings import RESTORE, Finding, Verified, absent, misquoted
from almanac.lineage.trail import READERS, standing_tables
from almanac.settings import verifying_key
from almanac.store.home import Home
from almanac.store.pinned_files import etags
from almanac.store.tables import Table, Visible
from almanac.store.versions import Manifest

Record = TypeVar("Record")
Progress = Callable[[str, int, int], None]


def verify(home: Home, progress: Progress | None = None) -> Verified:
    """Reads everything reachable again. Raises: StoreError, if the store cannot be read at all."""
    with ThreadPoolExecutor(READERS) as pool:
        found = _Inspection(home, pool, progress)
        head = found.log()
        found.versions()
        visible = found.tables()
        found.receipts()
        published = found.publishes(visible)
        found.promised()
        found.proven(published)
        found.partitions(published)
        found.files()
        changed = found.sources()
    return Verified(
        pipeline=home.name,
        head=head,
        checked=dict(sorted(found.checked.items())),
        bytes=found.volume,
        findings=tuple(sorted(found.findings, key=lambda finding: finding.uri)),
        gone=found.gone,
        changed=changed,
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """A visible period of a table, and the URI of the receipt that staged it, if there is one."""

    table: Table
    artifact: Artifact
    seen: Visible
    staged: str


@dataclass
class _Reading:
    """What was read so far. Many threads read objects; one thread records the findings."""

    home: Home
    pool: ThreadPoolExecutor
    progress: Progress | None
    findings: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    volume: int = 0
    named_before: set[str] = field(default_factory=set)

    def bodies(self, kind: str, uris: Iterable[str]) -> Iterable[tuple[str, bytes | None]]:
        """Objects and their bytes, read lazily; None for a missing object."""
        listed = list(dict.fromkeys(uris))
        for number, (uri, body) in enumerate(zip(listed, self.pool.map(self.home.objects.find, listed), strict=True), start=1):
            self.checked[kind] += 1
            self.volume += len(body or b"")
            self.tell(kind, number, len(listed))
            yield uri, body

    def tell(self, kind: str, number: int, of: int) -> None:
        if self.progress is not None:
            self.progress(kind, number, of)

    def missing(self, uri: str, expected: str, advice: str = RESTORE) -> None:
        self.findings.append(absent(uri, expected, advice))

    def records(self, what: str, kind: type[Record], uris: Iterable[str]) -> dict[str, Record]:
        """Sealed records by URI; an altered or missing one is a finding."""
        found: dict[str, Record] = {}
        for uri, body in self.bodies(what, uris):
            if body is None:
                self.missing(uri, f"the {kind.__name__} that another record names")
                continue
            try:
                found[uri] = opened(kind, body)
            except ValueError as error:
                message = f"bytes that are not a valid {kind.__name__}: {error}"
                self.findings.append(Finding(uri=uri, found=message, expected="the record as it was written, with a valid seal"))
        return found

    def named(self, what: str, digests: Mapping[str, str]) -> None:
        """Checks objects whose name is their digest. `digests`: URI to SHA-256."""
        new = [uri for uri in digests if uri not in self.named_before]
        self.named_before.update(new)
        for uri, body in self.bodies(what, new):
            if body is None:
                self.missing(uri, f"the {what[:-1]} that orders name by its digest")
            elif sha256(body) != digests[uri]:
                self.findings.append(
                    Finding(uri=uri, found=f"SHA-256 {sha256(body)}", expected=f"SHA-256 {digests[uri]}, as in its name")
                )


@dataclass
class _Inspection(_Reading):
    """The state of a verification."""

    gone: int = 0
    entries: list[Entry] = field(default_factory=list)
    plans: dict[str, RollbackPlan] = field(default_factory=dict)
    fences: dict[tuple[Artifact, str], dict[str, int] | None] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    read: dict[str, Receipt | None] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    outputs: dict[str, tuple[Output, bool]] = field(default_factory=dict)
    pins: list[Output] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        return self.home.layout

    def log(self) -> str:
        """Checks the promotion log: the seal and number of each entry, and the digest that the next entry holds of it."""
        uris = [item.uri for item in self.home.objects.walk(self.layout.promotions)]
        found = self.records("entries", Entry, uris)
        self.entries = [found[uri] for uri in sorted(found)]
        expected = [self.layout.promotion(number) for number in range(1, len(uris) + 1)]
        for uri in sorted(set(expected) - set(uris)):
            self.missing(uri, "an entry of the promotion log: later entries exist")
        for uri, entry in found.items():
            if self.layout.promotion(entry.sequence) != uri:
                message = f"entry {entry.sequence} of the promotion log"
                self.findings.append(Finding(uri=uri, found=message, expected="the entry with the number in its name"))
            before = found.get(self.layout.promotion(entry.sequence - 1))
            digest = GENESIS if entry.sequence == 1 else before.digest if before else entry.before
            if digest != entry.before:
                altered = uri if entry.sequence == 1 else self.layout.promotion(entry.sequence - 1)
                held = f"digest {entry.before}, as entry {entry.sequence} recorded"
                self.findings.append(Finding(uri=altered, found=f"digest {digest}", expected=held))
        kept = [item.uri for item in self.home.objects.walk(self.layout.rollbacks)]
        self.plans = self.records("plans", RollbackPlan, [*kept, *(entry.plan for entry in self.entries if entry.plan)])
        self.left += [entry.gate for entry in self.entries if entry.gate]
        return self.entries[-1].digest if self.entries else GENESIS

    def versions(self) -> None:
        """Checks the manifests that are visible or that the log names by digest; and collects their files."""
        names = {*self.home.versions.names(), *(entry.version for entry in self.entries)}
        found = self.records("manifests", Manifest, sorted(map(self.layout.manifest, names)))
        for uri, manifest in found.items():
            if (self.layout.manifest(manifest.version), manifest.pipeline) != (uri, self.home.name):
                message = f"the manifest of {manifest.pipeline} {manifest.version}"
                self.findings.append(Finding(uri=uri, found=message, expected="the manifest that belongs under this name"))
                continue
            self.manifests[manifest.version] = manifest
            self.left += [manifest.receipt, manifest.audit]
            for output in manifest.files.values():
                self.outputs[output.uri] = (output, True)
            for entry in self.entries:
                if entry.version == manifest.version:
                    self._same_manifest(uri, manifest, entry.manifest, f"entry {entry.sequence} of the promotion log")
            if verifying_key() is not None:
                self._signed(uri, manifest.version)

    def _signed(self, uri: str, version: str) -> None:
        try:
            self.home.versions.trusted(version)
        except Unsigned as error:
            self.findings.append(Finding(uri=uri, found=str(error), expected="a valid signature"))

    def _same_manifest(self, uri: str, manifest: Manifest, digest: str, holder: str) -> None:
        if manifest.digest != digest:
            expected = f"digest {digest}, as {holder} recorded"
            self.findings.append(Finding(uri=uri, found=f"digest {manifest.digest}", expected=expected))

    def tables(self) -> list[_Shown]:
        """The visible periods of all tables."""
        found, newest = [], self.home.receipts.newest
        for artifact, definition in standing_tables(self.home):
            table = self.home.predictions if artifact is Artifact.PREDICTIONS else self.home.features(definition)
            try:
                visible, self.fences[artifact, definition] = table.standing()
            except StoreError as error:
                self.fences[artifact, definition] = None
                self.findings.append(Finding(uri=table.uri, found=str(error), expected="a readable Delta table"))
                continue
            staged = self.pool.map(lambda seen, kind=artifact.value: newest(kind, Step.STAGE.value, seen.order), visible.values())
            found += [_Shown(table, artifact, seen, uri) for seen, uri in zip(visible.values(), staged, strict=True)]
        self.left += [shown.staged for shown in found if shown.staged]
        self.left += [item.uri for folder in self._proving() for item in self.home.objects.walk(folder)]
        return found

    def _proving(self) -> Iterable[str]:
        """The folders of receipts that are read even if nothing visible leads to them: of every publish, gate and note."""
        for artifact, step in proofs.PROVING:
            yield self.layout.receipts(artifact.value, step.value)

    def receipts(self) -> None:
        """Checks receipts and all that they link, their orders, and what the orders name by digest."""
        read: dict[str, Receipt] = {}
        while left := sorted(set(self.left) - self.read.keys()):
            self.left = []
            self.read.update(dict.fromkeys(left))
            for uri, receipt in self.records("receipts", Receipt, left).items():
                if self.home.receipts.uri(receipt) == uri:
                    self.read[uri] = read[uri] = receipt
                    self.left += receipt.links.values()
                    self._promise(receipt)
                else:
                    message, expected = f"the receipt of {receipt.order}", "the receipt that belongs under this name"
                    self.findings.append(Finding(uri=uri, found=message, expected=expected))
        self._orders(receipt.order for receipt in read.values() if _is_placed(receipt.order))

    def _promise(self, receipt: Receipt) -> None:
        """Collects what a receipt says was written. Groups and staged files may be deleted once nothing visible needs them."""
        order = receipt.order
        needed = order.step is Step.AUDIT or order.artifact is Artifact.SOURCES
        for output in receipt.outputs:
            if order.artifact is not Artifact.MODEL or order.step is Step.AUDIT:
                self.outputs[output.uri] = (output, needed or self.outputs.get(output.uri, (output, False))[1])
            if order.artifact is Artifact.SOURCES and output.name in order.inputs:
                self.pins.append(output)

    def _orders(self, orders: Iterable[Order]) -> None:
        listed = list(orders)
        placed = self.records("orders", PlacedOrder, (self.layout.order(order.digest) for order in listed))
        for uri, one in placed.items():
            if self.layout.order(one.order.digest) != uri:
                self.findings.append(
                    Finding(uri=uri, found=f"the order of {one.order}", expected="the order that belongs under this name")
                )
        descriptions = {one.description for one in placed.values() if one.description}
        self.named("descriptions", {self.layout.description(digest): digest for digest in sorted(descriptions)})
        self.named("modules", {self.layout.module(digest): digest for digest in sorted({order.module for order in listed})})

    def publishes(self, visible: Sequence[_Shown]) -> list[_Shown]:
        """Checks the receipts that published what is visible, and all they link. They name the stage of the visible files."""
        heads = {}
        for shown in visible:
            receipt = self.read.get(shown.staged)
            if receipt is None:
                continue
            order = publish_order(receipt.order).digest
            if uri := self.home.receipts.newest(shown.artifact.value, Step.PUBLISH.value, order):
                heads[shown.staged] = uri
            else:
                uri = self.layout.receipt(shown.artifact.value, Step.PUBLISH.value, order, 0)
                advice = f"Start the run for {shown.seen.period} again to write the receipt from the table's commit"
                self.missing(uri, f"the publish receipt of {shown.seen.period}, which is visible", advice)
        self.left += heads.values()
        self.receipts()
        staged = {uri: receipt.links["staged"] for uri in heads.values() if (receipt := self.read[uri]) is not None}
        return [replace(shown, staged=staged.get(heads.get(shown.staged, ""), shown.staged)) for shown in visible]

    def promised(self) -> None:
        """Checks that the manifests are those that predictions were scored with."""
        held: dict[tuple[str, str], str] = {}
        for receipt in self.read.values():
            if receipt is not None and (receipt.order.artifact, receipt.order.step) == (Artifact.PREDICTIONS, Step.STAGE):
                version = str(receipt.order.parameters["version"])
                held.setdefault((version, receipt.order.inputs["version"]), str(receipt.order))
        by_log = {(entry.version, entry.manifest) for entry in self.entries}
        for (version, digest), holder in held.items():
            uri = self.layout.manifest(version)
            if version in self.manifests and (version, digest) not in by_log:
                self._same_manifest(uri, self.manifests[version], digest, f"the order of {holder}")

    def proven(self, visible: Iterable[_Shown]) -> None:
        """Checks that what receipts and plans prove exists, and nothing else."""
        scored = {
            f"{shown.table.uri}/period={shown.seen.period}/": receipt.order
            for shown in visible
            if shown.artifact is Artifact.PREDICTIONS and (receipt := self.read.get(shown.staged)) is not None
        }
        known = proofs.Known(
            receipts={uri: receipt for uri, receipt in self.read.items() if receipt is not None},
            plans=self.plans,
            entries=self.entries,
            manifests=self.manifests,
            fences=self.fences,
            scored=scored,
            altered=frozenset(finding.uri for finding in self.findings),
        )
        self.findings += proofs.missing(self.home, known)

    def partitions(self, visible: Iterable[_Shown]) -> None:
        """Checks that a visible period consists of exactly the files that were staged for it."""
        for shown in visible:
            self.checked["partitions"] += 1
            uri = f"{shown.table.uri}/period={shown.seen.period}/"
            receipt = self.read.get(shown.staged)
            if not shown.staged:
                expected = f"{self.layout.receipts(shown.artifact.value, Step.STAGE.value)}{shown.seen.order}-0.json"
                if all(finding.uri != expected for finding in self.findings):  # its publish receipt may have named it already
                    self.missing(expected, f"the receipt of what is visible in {uri}")
            if receipt is None:
                continue
            staged = {output.name: output for output in receipt.outputs}
            for path in sorted(set(shown.seen.paths) ^ staged.keys()):
                message = (
                    "a visible file that was not staged" if path in shown.seen.paths else "a staged file that is not visible"
                )
                expected = f"exactly the {len(staged)} files of the receipt {shown.staged}"
                advice = "Stage the period again: its publish replaces the files"
                self.findings.append(Finding(uri=f"{shown.table.uri}/{path}", found=message, expected=expected, advice=advice))
            seen = shown.seen
            self.findings += misquoted(receipt, uri, seen.paths, seen.rows, seen.bytes, seen.stats.get("model_version"))
            self.outputs.update({staged[path].uri: (staged[path], True) for path in seen.paths if path in staged})
        for uri in [*(manifest.receipt for manifest in self.manifests.values()), *(shown.staged for shown in visible)]:
            self._need_features(self.read.get(uri))

    def _need_features(self, receipt: Receipt | None) -> None:
        """The features that a version or visible predictions were made from must exist, even if others are visible by now."""
        for name, linked in (receipt.links if receipt else {}).items():
            source = self.read.get(linked) if name.startswith("features") else None
            for output in source.outputs if source else ():
                self.outputs[output.uri] = (output, True)

    def files(self) -> None:
        """Checks the SHA-256 of every file that a receipt or a manifest names. Each thread holds one file at a time."""
        self._check_files([self.outputs[uri] for uri in sorted(self.outputs)])

    def _check_files(self, listed: Sequence[tuple[Output, bool]]) -> None:
        """Checks files; of those that are not needed any more, one that is gone is only counted."""
        looked = self.pool.map(lambda promised: self._hashed(promised[0].uri), listed)
        for number, ((output, needed), (size, digest)) in enumerate(zip(listed, looked, strict=True), start=1):
            self.checked["files"] += 1
            self.volume += size
            self.tell("files", number, len(listed))
            if not digest and needed:
                self.missing(output.uri, f"a file of {output.bytes} bytes", f"{RESTORE}, or build it again")
            elif not digest:
                self.gone += 1
            elif digest != output.sha256:
                message, expected = f"{size} bytes with SHA-256 {digest}", f"{output.bytes} bytes with SHA-256 {output.sha256}"
                advice = f"{RESTORE}, or build it again"
                self.findings.append(Finding(uri=output.uri, found=message, expected=expected, advice=advice))

    def _hashed(self, uri: str) -> tuple[int, str]:
        try:
            body = self.home.objects.get(uri)
        except NotFound:
            return 0, ""
        return len(body), sha256(body)

    def sources(self) -> tuple[str, ...]:
        """Source files that no longer match their pin, in words. Copies that a pin made must be what they were."""
        altered = {finding.uri for finding in self.findings}
        pinned: dict[str, dict[tuple[str, str], PinnedFile]] = {}
        copies: dict[str, Output] = {}
        for _, body in self.bodies("pins", sorted({output.uri for output in self.pins} - altered)):
            pin = decode(Pin, json.loads(body)) if body else None
            if pin is None:
                continue
            copies |= {file.made.uri: file.made for file in pin.files if file.made}
            if not is_database(pin.uri):
                files = pinned.setdefault(pin.uri, {})
                files.update({(file.uri, file.etag): file for file in pin.files if not file.version})
        self._check_files([(copies[uri], True) for uri in sorted(copies)])
        changed = []
        for folder, files in sorted(pinned.items()):
            now = self._listing(folder, files.values())
            self.checked["source files"] += len(files)
            changed += [_changed(uri, etag, now.get(uri, "")) for uri, etag in sorted(files) if now.get(uri) != etag]
        return tuple(changed)

    def _listing(self, folder: str, files: Iterable[PinnedFile]) -> dict[str, str]:
        try:
            return etags(self.home.objects, folder, files)
        except NotFound:
            return {}


def _is_placed(order: Order) -> bool:
    """Whether an order is stored beside its receipt. The order of a model's publish is not: it follows from the stage order."""
    return (order.artifact, order.step) != (Artifact.MODEL, Step.PUBLISH)


def _changed(uri: str, pinned: str, now: str) -> str:
    return f"{uri}: changed since it was pinned as {pinned} ({f'now {now}' if now else 'now deleted'})"
