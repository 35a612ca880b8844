"""Proofs: receipts and plans show what must exist. With them a verification also finds what is missing or does not belong:
entries at the end of the log, the last commits of a table, a manifest that was replaced or never published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from almanac.core import facts
from almanac.core.facts import PublishedModel
from almanac.core.promotions import Entry, Log
from almanac.core.receipts import Artifact, Order, Receipt, Step, publish_order
from almanac.core.rollback import RollbackPlan
from almanac.errors import IntegrityError
from almanac.lineage.findings import RESTORE, Finding, absent, gone_entries, out_of_force, published_often, seen_of_log
from almanac.store.home import Home
from almanac.store.versions import Manifest

# The receipts that are read even if nothing visible leads to them.
PROVING = (
    (Artifact.FEATURES, Step.PUBLISH),
    (Artifact.PREDICTIONS, Step.PUBLISH),
    (Artifact.MODEL, Step.PUBLISH),
    (Artifact.MODEL, Step.NOTE),
    (Artifact.CHAMPION, Step.STAGE),
    (Artifact.CHAMPION, Step.AUDIT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a verification has read.

    Args:
        receipts, plans: the readable ones, by URI.
        entries, manifests: the readable ones; manifests by version.
        fences: artifact and definition of a table to the fences of its visible periods; None if the table cannot be read.
        scored: URI of a visible period of predictions to the order that staged it.
        altered: the URIs that already have a finding.
    """

    receipts: Mapping[str, Receipt]
    plans: Mapping[str, RollbackPlan]
    entries: Sequence[Entry]
    manifests: Mapping[str, Manifest]
    fences: Mapping[tuple[Artifact, str], Mapping[str, int] | None]
    scored: Mapping[str, Order]
    altered: Collection[str]


def missing(home: Home, known: Known) -> list[Finding]:
    """Findings for objects that provably existed and are missing or replaced; objects that already have a finding are skipped."""
    log = list(_log(home, known))
    found = [*log, *_commits(home, known), *_versions(home, known)]
    if not any(uri.startswith(home.layout.promotions) for uri in (*known.altered, *(finding.uri for finding in log))):
        whole = Log(tuple(known.entries))
        found += [finding for uri, order in known.scored.items() for finding in out_of_force(whole, order, uri)]
    return [finding for finding in found if finding.uri not in known.altered]


def _log(home: Home, known: Known) -> Iterator[Finding]:
    kept = [item.uri.rsplit("/", 1)[-1].removesuffix(".json") for item in home.objects.walk(home.layout.promotions)]
    top = max((int(name) for name in kept if name.isdigit()), default=0)
    seen = seen_of_log(known.receipts, known.plans, known.entries)
    yield from gone_entries(home.layout, top, {entry.sequence: entry for entry in known.entries}, seen)


def _commits(home: Home, known: Known) -> Iterator[Finding]:
    """Checks that each period was published as often as its publish receipts say."""
    for (artifact, definition, period), (often, holder) in published_often(known.receipts).items():
        table = home.predictions if artifact is Artifact.PREDICTIONS else home.features(definition)
        fences = known.fences.get((artifact, definition), {})
        if fences is None:
            continue  # the table cannot be read, which is a finding already
        found = fences[period] if period in fences else table.fence(period)
        if found < often:
            advice = f"{RESTORE}, or start the run for {period} again to publish it again"
            expected = f"{often} commits of {period}, as {holder} shows"
            yield Finding(uri=f"{table.uri}/_delta_log/", found=f"{found} commits of {period}", expected=expected, advice=advice)


def _versions(home: Home, known: Known) -> Iterator[Finding]:
    """Checks that every version was published, by a receipt or the log, and that every published version exists."""
    vouched = {entry.version for entry in known.entries}
    for uri, receipt in known.receipts.items():
        if (receipt.order.artifact, receipt.order.step) == (Artifact.MODEL, Step.PUBLISH):
            try:
                published = facts.read(PublishedModel, receipt)
            except IntegrityError as error:
                yield Finding(uri=uri, found=str(error), expected="the facts of a published version")
                continue
            version, digest = published.version, published.manifest
            vouched.add(version)
            manifest, place = known.manifests.get(version), home.layout.manifest(version)
            if manifest is None:
                yield absent(place, f"the manifest that {uri} names")
            elif manifest.digest != digest:
                yield Finding(uri=place, found=f"digest {manifest.digest}", expected=f"digest {digest}, as {uri} recorded")
    for version, manifest in sorted(known.manifests.items()):
        staged = known.receipts.get(manifest.receipt)
        receipt_of = publish_order(staged.order).digest if staged else ""
        if version not in vouched and not any(receipt_of and receipt_of in uri for uri in known.altered):
            advice = "Clear the task model.publish of its retrain to write the receipt. If no retrain made it, delete it"
            yield absent(home.layout.manifest(version), "a publish receipt, or an entry of the log", advice)
