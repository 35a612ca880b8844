"""Notes: what people write about a version, long after it was made. A note is a receipt, not an entry of the promotion log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from almanac.core.receipts import Artifact, Order, Receipt, Step

TAG = re.compile(r"[\w.:-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What one person wrote about a version."""

    text: str
    tags: tuple[str, ...]
    actor: str
    at: datetime | None


def note_order(
    text: str, tags: Iterable[str], actor: str, *, pipeline: str, period: str, manifest: str, description: str, module: str
) -> Order:
    """The order that a note's receipt is for. The same text by the same person about the same manifest is one order.

    Args:
        manifest: the digest of the version's manifest.
        description, module: the digests of those that the version was made with.

    Raises:
        ValueError: there is no text, or a tag is not a single word.
    """
    if not text.strip():
        raise ValueError("Note: expected a text, got none. Write what others should know about the version.")
    listed = sorted(set(tags))
    if wrong := [tag for tag in listed if not TAG.fullmatch(tag)]:
        raise ValueError(f"Tag: expected letters, digits and _ . : - without spaces, such as campaign-2017; got {wrong[0]!r}.")
    return Order(
        pipeline=pipeline,
        artifact=Artifact.MODEL,
        step=Step.NOTE,
        period=period,
        description=description,
        module=module,
        # A note is about a version, whichever Almanac records it.
        almanac="",
        inputs={"version": manifest},
        parameters={"text": text.strip(), "tags": listed, "actor": actor},
    )


def note_of(receipt: Receipt) -> Note:
    recorded: Mapping[str, object] = receipt.order.parameters
    return Note(
        text=str(recorded["text"]),
        tags=tuple(receipt.order.parameters["tags"]),
        actor=str(recorded["actor"]),
        at=receipt.run_info.ended,
    )


def in_words(note: Note) -> str:
    """`ann, 2017-09-01: sales week [campaign]`."""
    tags = f" [{', '.join(note.tags)}]" if note.tags else ""
    at = f", {note.at:%Y-%m-%d}" if note.at else ""
    return f"{note.actor}{at}: {note.text}{tags}"
