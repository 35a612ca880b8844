"""Almanac's exceptions, as one tree. Every message says what was found, what was expected and what to do next.

AlmanacError
├── DescriptionError      a pipeline's description or its user module is invalid
├── PeriodError           a run has no period, two of them, or an invalid one
├── SourceError           a source is unreachable, lacks a column, is incomplete, or changed while it was read
│   ├── SourceMissing     it has no files
│   └── DataEnded         its newest event is older than all that a run looks back to
├── DataError             rows are invalid: empty, duplicated, of one class, too few periods
├── CheckFailed           an audit found something that blocks; carries the findings
├── NotAdmitted           a step has no receipt that it may build on
├── PromotionError        a version is unknown or withdrawn, or there is no older one to roll back to
│   ├── IllegalTransition a version's standing does not allow an action of the promotion log
│   └── Overtaken         a version was withdrawn or replaced while a run was still scoring with it
├── StoreError            the object store refused a request, or cannot be trusted
│   ├── Unreachable       it does not answer
│   ├── AccessRefused     it does not know the access key, or denies it access
│   ├── NotFound          no object has that name
│   └── Unfit             it lacks conditional writes, or object versions where a source needs them
├── DeliveryError         a delivery's destination does not fit, or holds data that is not this pipeline's
├── Conflict              another writer published first; nothing of ours became visible
│   └── LogMoved          the promotion log has an entry that its reader had not seen; carries it
└── IntegrityError        bytes do not match their digest
    ├── Unsigned          a version's manifest has no valid signature where one is required
    └── Drifted           a model does not score here as it did where it was trained
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHOWN_EXAMPLES = 5
SHOWN_FINDINGS = 10


class AlmanacError(Exception):
    """The root of everything that Almanac raises on purpose."""


class DescriptionError(AlmanacError):
    """A pipeline's description or its user module is invalid."""


class PeriodError(AlmanacError):
    """A run has no period, two of them, or an invalid one."""


class SourceError(AlmanacError):
    """A source is unreachable, lacks a column, is incomplete where it must be complete, or changed while it was read."""


class SourceMissing(SourceError):
    """A source has no files."""


class DataEnded(SourceError):
    """A source's newest event is older than all that a run looks back to."""


class DataError(AlmanacError):
    """Rows are invalid: empty, duplicated, of one class, too few periods."""


class CheckFailed(AlmanacError):
    """An audit found something that blocks. `findings` holds all of them; the text is bounded."""

    def __init__(self, what: str, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        super().__init__(f"{what} did not pass its audit; nothing was published:\n{bounded(findings)}")


class NotAdmitted(AlmanacError):
    """A step has no receipt that it may build on."""


class PromotionError(AlmanacError):
    """A version is unknown or withdrawn, or there is no older one to roll back to."""


class IllegalTransition(PromotionError):
    """A version's standing does not allow an action of the promotion log."""


class Overtaken(PromotionError):
    """A version was withdrawn, or another one came into force, while a run was still scoring with it. `published`: whether its
    predictions became visible first.
    """

    def __init__(self, message: str, *, published: bool = False) -> None:
        self.published = published
        super().__init__(message)


class StoreError(AlmanacError):
    """The object store refused a request, or cannot be trusted."""


class Unreachable(StoreError):
    """The object store does not answer."""


class AccessRefused(StoreError):
    """The object store does not know the access key, or denies it access."""


class NotFound(StoreError):
    """No object has that name."""


class Unfit(StoreError):
    """The object store lacks conditional writes, or object versions where a source needs them."""


class DeliveryError(AlmanacError):
    """A delivery's destination does not fit, or holds data that is not this pipeline's. What is published is not touched."""


class Conflict(AlmanacError):
    """Another writer published first; nothing of ours became visible."""


class LogMoved(Conflict):
    """The promotion log has an entry that its reader had not seen: `entry`. Nothing of ours was appended."""

    def __init__(self, message: str, entry: object) -> None:
        self.entry = entry
        super().__init__(message)


class IntegrityError(AlmanacError):
    """Bytes do not match their digest."""


class Unsigned(IntegrityError):
    """A version's manifest has no valid signature where one is required."""


class Drifted(IntegrityError):
    """A model does not score here as it did where it was trained: a library or the machine differs."""


def examples(items: Iterable[object], limit: int = SHOWN_EXAMPLES) -> str:
    """The first `limit` items and a count of the rest: `a, b, c (and 7 more)`; `none` when there are none."""
    listed = [str(item) for item in items]
    if not listed:
        return "none"
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" (and {rest} more)" if rest > 0 else "")


def bounded(findings: Sequence[str], limit: int = SHOWN_FINDINGS) -> str:
    """The first `limit` findings, one per line, and a count of the rest."""
    lines = [f"- {finding}" for finding in findings[:limit]]
    if len(findings) > limit:
        lines.append(f"- and {len(findings) - limit} more: the full report is kept with the receipt")
    return "\n".join(lines)
