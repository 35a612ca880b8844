"""Late and corrected data: compares what the orders of visible artifacts read with what the sources hold now.

Nothing is pinned or written. What a run would read today is computed by the same functions that place its orders.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from almanac import pinning
from almanac.core.canonical import digest, encode
from almanac.core.cuts import known_by
from almanac.core.degrade import leaves_out
from almanac.core.pins import Pin
from almanac.core.pipeline import Pipeline
from almanac.core.plan import ASKED
from almanac.core.receipts import PART, Order, PlacedOrder
from almanac.core.redo import Redo, StaleFeatures, StalePredictions, StaleVersion, changed
from almanac.core.sources import KNOWN_AT, UNTIL
from almanac.runs import completeness, feature_orders, orders
from almanac.store.copies import BorrowedCopies, LocalCopies, StoredCopies
from almanac.store.home import Home
from almanac.store.pins import admitted_pins
from almanac.store.versions import Manifest

READERS = 16


def found(home: Home) -> Redo:
    """What is visible or in force and would change with today's sources, or with the version in force.

    Checks the visible periods of predictions, the versions in force for them, the champion, and the features of all these.
    Features that none of them reads are left out.

    Raises:
        SourceError: a source is missing or does not match its description, so it cannot be compared.
    """
    log, now = home.log(), _Now(home)
    written = {one.period: one for one in home.written()}
    in_force = {period: log.in_force(period) for period in written}
    names = {name for name in (*in_force.values(), *(one.version for one in written.values()), log.champion) if name}
    manifests = home.versions.read_all(names)
    staged, described = _orders(home, [one.order for one in written.values()]), functools.cache(home.receipts.description)
    read = {(manifests[one.version].definition, period) for period, one in written.items()}
    kept = {name: one for name, one in manifests.items() if name not in log.withdrawn and not _of_then(home, one, described)}
    read |= {(one.definition, period) for one in kept.values() for period in (*one.training, one.holdout)}
    features = tuple(_features(now, home, sorted(read)))
    stale = {(one.definition, one.period) for one in features}
    versions = tuple(
        old for one in kept.values() if (old := _version(now, home, one, stale)) and not _redone(now, home, one, stale)
    )
    redone = {one.version for one in versions}
    definitions = {manifests[one.version].definition for one in written.values()}
    built = {name: home.published(home.features(name), written) for name in definitions}
    predictions = []
    for period, one in sorted(written.items()):
        reasons, order = [], staged[one.order]
        definition = manifests[one.version].definition
        if (definition, period) in stale:
            reasons.append("its features change")
        elif period in built[definition] and built[definition][period].content != order.inputs["features"]:
            reasons.append("its features were rebuilt since")
        if one.version in redone:
            reasons.append(f"version {one.version} changes")
        follower = in_force[period]
        if follower and follower != one.version and manifests[follower].period == manifests[one.version].period:
            reasons.append(f"version {follower} has replaced {one.version}")
        elif why := log.overtaken(period, one.version, asked=bool(order.parameters.get(ASKED))):
            reasons.append(why)
        if reasons:
            in_sample = bool(order.parameters.get("in_sample"))
            predictions.append(StalePredictions(period=period, version=one.version, reasons=tuple(reasons), in_sample=in_sample))
    return Redo(features=features, versions=versions, predictions=tuple(predictions))


def stale(home: Home, definition: str, periods: Iterable[str]) -> list[str]:
    """Those of the periods whose visible features would change with today's sources. Raises: as `found`."""
    listed = [(definition, period) for period in periods]
    return [one.period for one in _features(_Now(home), home, listed)]


def _orders(home: Home, digests: Sequence[str]) -> dict[str, Order]:
    """Digest to order."""
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(digests, pool.map(lambda digest: home.receipts.placed(digest).order, digests), strict=True))


def _of_then(home: Home, manifest: Manifest, described: Callable[[str], Pipeline]) -> bool:
    """Whether a version was trained on sources as of an earlier time, so that later data cannot change it."""
    return (
        bool(described(manifest.description).telling_their_past)
        and KNOWN_AT in home.receipts.placed(manifest.order).order.parameters
    )


@dataclass
class _Now:
    """The sources as they are now, each observed once."""

    home: Home
    seen: dict[tuple[str, str], Pin] = field(default_factory=dict)
    receipts: dict[str, Mapping[str, Pin]] = field(default_factory=dict)
    folder: TemporaryDirectory[str] = field(default_factory=lambda: TemporaryDirectory(prefix="almanac-"))

    @property
    def copies(self) -> BorrowedCopies:
        """Copies that runs made, and new ones in a folder of this process: nothing is stored."""
        return BorrowedCopies(StoredCopies(self.home.objects, self.home.layout), LocalCopies(Path(self.folder.name)))

    def pins(self, pipeline: Pipeline, names: Iterable[str], pinned: str) -> Mapping[str, Pin]:
        """The pins of sources as they are now; of a database, which a look would copy, what was pinned by a receipt."""
        found = {}
        for name in names:
            source = pipeline.sources[name]
            if source.is_copied:
                found[name] = self._pinned(pinned)[name]
                continue
            asked = pipeline.columns_read(name)
            key = (name, digest([encode(source), asked]))
            if key not in self.seen:
                self.seen[key] = pinning.observe(self.home.objects, self.copies, name, source, asked=asked)
            found[name] = self.seen[key]
        return found

    def _pinned(self, uri: str) -> Mapping[str, Pin]:
        if uri not in self.receipts:
            self.receipts[uri] = admitted_pins(self.home, self.home.receipts.read(uri))
        return self.receipts[uri]


def _features(now: _Now, home: Home, listed: list[tuple[str, str]]) -> list[StaleFeatures]:
    found = []
    visible = {definition: home.features(definition).visible() for definition in {one for one, _ in listed}}
    for definition, period in listed:
        if period in visible[definition]:
            combined = home.receipts.placed(visible[definition][period].order)
            absent, names = leaves_out(combined.order), _moved(now, home, combined)
            if absent or names:
                one = StaleFeatures(definition=definition, period=period, sources=tuple(names), left_out=absent)
                found.append(one)
    return found


def _moved(now: _Now, home: Home, combined: PlacedOrder) -> list[str]:
    """The sources from which a period's population or feature groups would read something else now."""
    pipeline = home.receipts.description(combined.description)
    period = combined.order.period
    used = [combined.order]
    used += [home.receipts.read(uri).order for name, uri in combined.links.items() if name.startswith(PART)]
    parts = [pipeline.group(order.part) if order.part else pipeline.population for order in used]
    pins = now.pins(pipeline, sorted({name for part in parts for name in part.reads}), combined.links["pin"])
    until = completeness.consistent(home, pipeline, [period], pins).get(period)
    names: set[str] = set()
    for order, part in zip(used, parts, strict=True):
        inputs, parameters = feature_orders.read_by(pipeline, part, period, pins, until)
        before = {name: content for name, content in order.inputs.items() if not name.startswith(PART)}
        names.update(changed(before, inputs), part.reads if parameters.get(UNTIL) != order.parameters.get(UNTIL) else ())
    return sorted(names)


def _redone(now: _Now, home: Home, manifest: Manifest, stale: set[tuple[str, str]]) -> bool:
    """Whether the period of a stale version has been retrained on today's data, so that the gate has decided."""
    alike = (name for name in home.versions.names() if name.startswith(f"{manifest.period}-") and name != manifest.version)
    return any(_version(now, home, home.versions.read(name), stale) is None for name in alike)


def _version(now: _Now, home: Home, manifest: Manifest, stale: set[tuple[str, str]]) -> StaleVersion | None:
    placed = home.receipts.placed(manifest.order)
    pipeline = home.receipts.description(manifest.description)
    snapshots = (*manifest.training, manifest.holdout)
    pins = now.pins(pipeline, pipeline.label.reads, placed.links["pin"])
    labels = orders.label_inputs(pipeline, snapshots, known_by(placed.order, pipeline), pins)
    before = {name: content for name, content in placed.order.inputs.items() if name.startswith("label.")}
    other = {name.split(".")[1] for name in changed(before, labels)}
    features = tuple(period for period in snapshots if (manifest.definition, period) in stale)
    if not features and not other:
        return None
    return StaleVersion(version=manifest.version, period=manifest.period, features=features, labels=tuple(sorted(other)))
