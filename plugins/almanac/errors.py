"""What can go wrong, as one tree. Every message says what was found, what is allowed and what to do next.

AlmanacError
├── DescriptionError      a pipeline's description, or its user module, does not hold together
├── PeriodError           a run has no period, two of them, or one that cannot be used
├── SourceError           a source is unreachable, misses a column, is not complete, or changed while it was read
│   └── SourceMissing     it has no files
├── DataError             rows are not as they must be: empty, duplicated, of one class, too few periods
├── CheckFailed           an audit found something that blocks; carries the findings
├── NotAdmitted           a receipt was shown at a door that it does not open
├── PromotionError        a version is unknown, withdrawn, or nothing older is there to roll back to
│   ├── IllegalTransition an action of the promotion log that a version's standing does not allow
│   └── Overtaken         a version was withdrawn, or replaced, while a run was still scoring with it
├── StoreError            the object store refused, or cannot be trusted
│   ├── Unreachable       it does not answer
│   ├── AccessRefused     it does not know the key, or does not let it in
│   ├── NotFound          nothing is kept under that name
│   └── Unfit             it does not hold conditional writes
├── DeliveryError         a delivery's place does not fit, or what it holds is not of this pipeline
├── Conflict              somebody else published first; nothing of ours became visible
│   └── LogMoved          the promotion log has an entry that its reader had not seen; carries it
└── IntegrityError        bytes are not those that their digest promises
    ├── Unsigned          a version's manifest has no valid signature, where one is asked for
    └── Drifted           a model does not score here as it did where it was trained
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHOWN_EXAMPLES = 5
SHOWN_FINDINGS = 10


class AlmanacError(Exception):
    """The root of everything that Almanac raises on purpose."""


class DescriptionError(AlmanacError):
    """A pipeline's description, or its user module, does not hold together."""


class PeriodError(AlmanacError):
    """A run has no period, two of them, or one that cannot be used."""


class SourceError(AlmanacError):
    """A source is unreachable, misses a column, is not complete where it must be, or changed while it was read."""


class SourceMissing(SourceError):
    """A source has no files."""


class DataError(AlmanacError):
    """Rows are not as they must be."""


class CheckFailed(AlmanacError):
    """An audit found something that blocks. `findings` holds all of them; the text is bounded."""

    def __init__(self, what: str, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        super().__init__(f"{what} did not pass its audit, nothing was published:\n{bounded(findings)}")


class NotAdmitted(AlmanacError):
    """A receipt was shown at a door that it does not open."""


class PromotionError(AlmanacError):
    """A version is unknown, withdrawn, or nothing older is there to roll back to."""


class IllegalTransition(PromotionError):
    """An action of the promotion log that a version's standing does not allow."""


class Overtaken(PromotionError):
    """A version was withdrawn, or another one came in force, while a run was still scoring with it. `published`: its predictions
    became visible first.
    """

    def __init__(self, message: str, *, published: bool = False) -> None:
        self.published = published
        super().__init__(message)


class StoreError(AlmanacError):
    """The object store refused, or cannot be trusted."""


class Unreachable(StoreError):
    """The object store does not answer."""


class AccessRefused(StoreError):
    """The object store does not know the key, or does not let it in."""


class NotFound(StoreError):
    """Nothing is kept under that name."""


class Unfit(StoreError):
    """The object store does not hold conditional writes."""


class DeliveryError(AlmanacError):
    """A delivery's place does not fit, or what it holds is not of this pipeline. What is published is not touched."""


class Conflict(AlmanacError):
    """Somebody else published first; nothing of ours became visible."""


class LogMoved(Conflict):
    """The promotion log has an entry that its reader had not seen; `entry` is it. Nothing of ours was appended."""

    def __init__(self, message: str, entry: object) -> None:
        self.entry = entry
        super().__init__(message)


class IntegrityError(AlmanacError):
    """Bytes are not those that their digest promises."""


class Unsigned(IntegrityError):
    """A version's manifest has no valid signature, where one is asked for."""


class Drifted(IntegrityError):
    """A model does not score here as it did where it was trained: a library is another one, or the machine."""


def examples(items: Iterable[object], limit: int = SHOWN_EXAMPLES) -> str:
    """Names the first `limit` items and counts the rest: `a, b, c (and 7 more)`; `none` when there are none."""
    listed = [str(item) for item in items]
    if not listed:
        return "none"
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" (and {rest} more)" if rest > 0 else "")


def bounded(findings: Sequence[str], limit: int = SHOWN_FINDINGS) -> str:
    """The first `limit` findings, a line each, and a count of the rest."""
    lines = [f"- {finding}" for finding in findings[:limit]]
    if len(findings) > limit:
        lines.append(f"- and {len(findings) - limit} more: the full report is kept with the receipt")
    return "\n".join(lines)
