"""Orders and receipts on S3. Of two receipts for one attempt at an order, the first is kept and the other writer adopts it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from almanac.core.canonical import decode, dumps, sealed, sha256
from almanac.core.facts import version_of
from almanac.core.garbage import FRESH, GROUP_FRESH
from almanac.core.layout import Layout
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Artifact, Order, PlacedOrder, Receipt, Step, admit, publish_order
from almanac.errors import IntegrityError
from almanac.store import packs
from almanac.store.objects import Objects, record

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipts:
    """The orders, receipts, descriptions and user modules of one pipeline."""

    objects: Objects
    layout: Layout

    def place(self, placed: PlacedOrder, now: datetime | None = None) -> str:
        """Stores an order and returns its URI. If it was placed before, the first is kept.

        Exception: if the first is older than a day and led to nothing, it is replaced, because what it links may be deleted.
        """
        uri = self.layout.order(placed.order.digest)
        if not self.objects.put_if_absent(uri, sealed(placed)) and self._forgotten(placed.order, now or datetime.now(UTC)):
            self.objects.put(uri, sealed(placed))
        return uri

    def _forgotten(self, order: Order, now: datetime) -> bool:
        kept = next(self.objects.walk(self.layout.order(order.digest)))
        return now - kept.modified > FRESH and self.done(order, now) is None

    def placed(self, digest: str) -> PlacedOrder:
        """The order of a digest. Raises: NotFound, IntegrityError."""
        return read_order(self.objects, self.layout.order(digest))

    def find(self, order: Order) -> Receipt | None:
        """The receipt of an order: that of its newest attempt, or None if there is none yet."""
        return self.find_digest(order.artifact.value, order.step.value, order.digest)

    def find_digest(self, artifact: str, step: str, digest: str) -> Receipt | None:
        uri = self.newest(artifact, step, digest)
        return self.read(uri) if uri else None

    def newest(self, artifact: str, step: str, digest: str) -> str:
        """The URI of the receipt of an order's newest attempt; empty if there is none yet."""
        prefix = f"{self.layout.receipts(artifact, step)}{digest}-"
        attempts = (item.uri for item in self.objects.walk(prefix))
        return max(attempts, key=lambda uri: int(uri.removeprefix(prefix).removesuffix(".json")), default="")

    def done(self, order: Order, now: datetime | None = None) -> Receipt | None:
        """The receipt of an order, if it was answered; None if the order has yet to run.

        A stage that was not published within a day runs again. `now`: the local clock's time, by default.
        """
        receipt = self.find(order)
        return receipt if receipt is not None and self._stands(receipt, now or datetime.now(UTC)) else None

    def _stands(self, receipt: Receipt, now: datetime) -> bool:
        if not receipt.answered or not receipt.stale(now):
            return receipt.answered
        if receipt.order.part:
            return not receipt.stale(now - (GROUP_FRESH - FRESH)) and all(self.objects.has(item.uri) for item in receipt.outputs)
        # If a commit was lost, its files may be deleted; then they are staged again.
        return self.is_published(receipt) and (
            receipt.order.artifact is Artifact.MODEL or all(self.objects.has(item.uri) for item in receipt.outputs)
        )

    def is_published(self, staged: Receipt) -> bool:
        """Whether a staged artifact is published: a version by its manifest, any other by its publish receipt."""
        if staged.order.artifact is Artifact.MODEL:
            return self.objects.has(self.layout.manifest(version_of(staged)))
        return self.find(publish_order(staged.order)) is not None

    def audit_of(self, uri: str) -> PlacedOrder:
        """The order to audit what a receipt says was staged. Raises: NotFound, IntegrityError, NotAdmitted."""
        receipt = self.read(uri)
        admit(receipt, receipt.order.artifact, Step.STAGE, pipeline=self.layout.pipeline)
        stage = self.placed(receipt.order.digest)
        order = receipt.order.next(Step.AUDIT, receipt.as_audited)
        links = {**stage.links, "staged": uri}
        return PlacedOrder(order=order, links=links, description=stage.description, definition=stage.definition)

    def keep(self, receipt: Receipt, now: datetime | None = None, instead: Receipt | None = None) -> Receipt:
        """Stores a receipt after those of failed attempts, of stages too old to publish, and of a lost commit: `instead`.
        Returns the stored one: ours, or the one that came first.
        """
        while True:
            before = self.find(receipt.order)
            if before is not None and before != instead and self._stands(before, now or datetime.now(UTC)):
                return before
            ours = replace(receipt, attempt=0 if before is None else before.attempt + 1)
            if self.objects.put_if_absent(self.uri(ours), sealed(ours)):
                return ours
            other = self.read(self.uri(ours))
            # Another writer's came first. A success does not adopt a failure: it is stored after it.
            if not receipt.answered or self._stands(other, now or datetime.now(UTC)):
                return other

    def read(self, uri: str) -> Receipt:
        """The receipt at a URI.

        Raises:
            NotFound: there is no receipt.
            IntegrityError: it was altered, or does not belong under its name.
        """
        return self._opened(uri, self.objects.get(uri))

    def _opened(self, uri: str, body: bytes) -> Receipt:
        receipt = record(Receipt, body, uri)
        if self.uri(receipt) != uri:
            raise IntegrityError(f"{uri}: the receipt belongs at {self.uri(receipt)} ({receipt.order}). Restore the right one.")
        return receipt

    def listed(self, artifact: Artifact, step: Step) -> list[Receipt]:
        """Every receipt of a step, sorted by name. An altered one is left out and named in a warning; the others can still
        be read.
        """
        listed = self.objects.walk(self.layout.receipts(artifact.value, step.value))
        bodies = packs.read(self.objects, self.layout.pack(f"{artifact.value}-{step.value}"), listed)
        return [receipt for uri, body in bodies.items() if (receipt := self._readable(uri, body)) is not None]

    def _readable(self, uri: str, body: bytes) -> Receipt | None:
        try:
            return self._opened(uri, body)
        except IntegrityError as error:
            log.warning("Left out: %s", error)
            return None

    def uri(self, receipt: Receipt) -> str:
        order = receipt.order
        return self.layout.receipt(order.artifact.value, order.step.value, order.digest, receipt.attempt)

    def describe(self, pipeline: Pipeline, module: bytes) -> tuple[str, str]:
        """Stores the description and the zipped user module under their digests, and returns both digests."""
        self.objects.put_if_absent(self.layout.description(pipeline.digest), dumps(pipeline))
        digest = sha256(module)
        self.objects.put_if_absent(self.layout.module(digest), module)
        return pipeline.digest, digest

    def description(self, digest: str) -> Pipeline:
        """The pipeline as it was described when an order was placed. Raises: NotFound, IntegrityError."""
        uri = self.layout.description(digest)
        body = self.objects.get(uri)
        if sha256(body) != digest:
            raise IntegrityError(f"{uri}: the description was altered. Restore it from the bucket's versions.")
        return decode(Pipeline, json.loads(body))

    def module(self, digest: str) -> bytes:
        """The zipped user module of a digest. Raises: NotFound, IntegrityError."""
        uri = self.layout.module(digest)
        body = self.objects.get(uri)
        if sha256(body) != digest:
            raise IntegrityError(f"{uri}: the module was altered and is not run. Restore it from the bucket's versions.")
        return body


def read_order(objects: Objects, uri: str) -> PlacedOrder:
    """The order at a URI.

    Raises:
        NotFound: there is no order.
        IntegrityError: it does not belong under its name.
    """
    placed = record(PlacedOrder, objects.get(uri), uri)
    if not uri.endswith(f"/{placed.order.digest}.json"):
        raise IntegrityError(f"{uri}: the order was altered and is not run. Place it again.")
    return placed
