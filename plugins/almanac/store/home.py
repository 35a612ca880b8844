"""A pipeline's home: everything stored for it, opened once per process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from almanac.core import facts, layout
from almanac.core.facts import PublishedModel
from almanac.core.layout import Layout
from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Log
from almanac.core.receipts import Artifact, Order, Receipt, publish_order
from almanac.core.rollback import WrittenPeriod
from almanac.errors import IntegrityError, NotAdmitted
from almanac.settings import connection_address
from almanac.store.objects import Objects
from almanac.store.promotions import Promotions
from almanac.store.receipts import Receipts
from almanac.store.tables import Table
from almanac.store.versions import Manifest, Versions


@dataclass(frozen=True, slots=True)
class Home:
    """The receipts, versions, promotion log and tables of one pipeline.

    Args:
        addresses: gives the address of a database that a source reads, from the ids of the connection and of the source.
    """

    objects: Objects
    layout: Layout
    addresses: Callable[[str, str], str] = connection_address

    @classmethod
    def of(cls, root: str, pipeline: str, objects: Objects | None = None) -> Home:
        return cls(objects or Objects(), Layout(root, pipeline))

    @property
    def name(self) -> str:
        return self.layout.pipeline

    @property
    def receipts(self) -> Receipts:
        return Receipts(self.objects, self.layout)

    @property
    def versions(self) -> Versions:
        return Versions(self.objects, self.layout)

    @property
    def promotions(self) -> Promotions:
        return Promotions(self.objects, self.layout)

    @property
    def predictions(self) -> Table:
        return Table(self.layout.predictions)

    def features(self, definition: str) -> Table:
        return Table(self.layout.features(definition))

    def table_of(self, order: Order) -> Table:
        """The table that an order for features or predictions writes to."""
        return self.predictions if order.artifact is Artifact.PREDICTIONS else self.features(order.description)

    def log(self) -> Log:
        return self.promotions.read()

    def newest_description(self) -> Pipeline | None:
        """The description of the newest version whose manifest can be read."""
        for name in reversed(self.versions.names()):
            with contextlib.suppress(IntegrityError):  # `versions` and `verify` report an altered manifest
                return self.receipts.description(self.versions.read(name).description)
        return None

    def vouched(self, version: str, expected: str | None = None, log: Log | None = None) -> Manifest:
        """The manifest of a version to promote, compare or score with. It must be the one recorded by the version's publish and
        by every log entry that names the version. `log`: pass it if it was read already.

        Raises:
            PromotionError: there is no such version.
            NotAdmitted: nothing vouches for it.
            IntegrityError: the manifest is not the recorded or the expected one. Unsigned: as for `Versions.trusted`.
        """
        manifest = self.versions.trusted(version, expected)
        written = {entry.manifest for entry in (log or self.log()).entries if entry.version == version}
        published = self.receipts.find(publish_order(self.receipts.placed(manifest.order).order))
        if published is not None:
            written.add(facts.read(PublishedModel, published).manifest)
        if not written:
            raise NotAdmitted(
                f"Version {version} has neither an entry in the promotion log nor a publish receipt, so nothing vouches for it "
                "and it is not loaded. Clear the task model.publish of its retrain to write the receipt."
            )
        if written != {manifest.digest}:
            raise IntegrityError(
                f"Version {version}: the manifest is not the one that was published, so the version is not loaded. "
                "Restore it from the bucket's versions."
            )
        return manifest

    def written(self) -> list[WrittenPeriod]:
        """The visible prediction periods and the version that wrote each."""
        return [
            WrittenPeriod(period=item.period, version=str(item.stats["model_version"]), order=item.order, rows=item.rows)
            for item in self.predictions.visible().values()
        ]

    def published(self, table: Table, periods: Iterable[str]) -> dict[str, Receipt]:
        """The publish receipts of the given periods that are visible in a table."""
        visible = table.visible()
        found: dict[str, Receipt] = {}
        for period in periods:
            if period in visible:
                staged = self.receipts.placed(visible[period].order).order
                receipt = self.receipts.done(publish_order(staged))
                if receipt is not None:
                    found[period] = receipt
        return found


def pipelines(objects: Objects, root: str) -> list[str]:
    """The names of the pipelines that have anything stored."""
    return [name for name in objects.folders(layout.pipelines(root)) if not name.startswith(".")]
