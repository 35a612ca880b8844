"""Notes on S3: kept as receipts beside those of the doors, so that the first of two equal ones stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from almanac.core.notes import Note, note_of, note_order
from almanac.core.receipts import Door, Placed, Receipt, Thing, Witness
from almanac.store.home import Home


def annotate(home: Home, version: str, text: str, tags: Iterable[str], witness: Witness) -> Note:
    """Keeps a note about a version. The same text and tags by the same person are one note, that of the first time.

    Raises:
        ValueError: there is no text, or a tag is not one word.
        PromotionError: there is no such version.
    """
    manifest = home.versions.read(version)
    order = note_order(
        text,
        tags,
        witness.actor,
        pipeline=home.name,
        period=manifest.period,
        manifest=manifest.digest,
        description=manifest.description,
        module=manifest.module,
    )
    at = datetime.now(UTC)
    links = {"staged": manifest.receipt}
    home.receipts.place(Placed(order=order, links=links))
    signed = replace(witness, began=at, ended=at)
    return note_of(home.receipts.keep(Receipt(order=order, passed=True, witness=signed, links=links, facts={"version": version})))


def notes(home: Home) -> dict[str, tuple[Note, ...]]:
    """Version to what was said of it, the oldest first. A note that was altered is left out, and named in a warning."""
    receipts = sorted(home.receipts.listed(Thing.MODEL, Door.NOTE), key=lambda receipt: str(receipt.witness.ended))
    found: dict[str, tuple[Note, ...]] = {}
    for receipt in receipts:
        version = str(receipt.facts["version"])
        found[version] = (*found.get(version, ()), note_of(receipt))
    return found
