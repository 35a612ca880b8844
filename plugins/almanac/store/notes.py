"""Notes on S3: stored as receipts beside those of the other steps, so that of two equal notes the first is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from almanac.core.canonical import encode
from almanac.core.facts import NotedModel, version_of
from almanac.core.notes import Note, note_of, note_order
from almanac.core.receipts import Artifact, PlacedOrder, Receipt, RunInfo, Step
from almanac.store.home import Home


def annotate(home: Home, version: str, text: str, tags: Iterable[str], run_info: RunInfo) -> Note:
    """Stores a note about a version. The same text and tags by the same person are one note; the first is kept.

    Raises:
        ValueError: the text is empty, or a tag is not one word.
        PromotionError: there is no such version.
    """
    manifest = home.versions.read(version)
    order = note_order(
        text,
        tags,
        run_info.actor,
        pipeline=home.name,
        period=manifest.period,
        manifest=manifest.digest,
        description=manifest.description,
        module=manifest.module,
    )
    at = datetime.now(UTC)
    links = {"staged": manifest.receipt}
    home.receipts.place(PlacedOrder(order=order, links=links))
    signed = replace(run_info, began=at, ended=at)
    return note_of(
        home.receipts.keep(
            Receipt(order=order, passed=True, run_info=signed, links=links, facts=encode(NotedModel(version=version)))
        )
    )


def notes(home: Home) -> dict[str, tuple[Note, ...]]:
    """Version to its notes, oldest first. An altered note is left out and named in a warning."""
    receipts = sorted(home.receipts.listed(Artifact.MODEL, Step.NOTE), key=lambda receipt: str(receipt.run_info.ended))
    found: dict[str, tuple[Note, ...]] = {}
    for receipt in receipts:
        version = version_of(receipt)
        found[version] = (*found.get(version, ()), note_of(receipt))
    return found
