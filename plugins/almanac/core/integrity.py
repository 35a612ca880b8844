"""What a verification found: which objects are not what they should be, and what was read to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RESTORE = "Restore it from the bucket's versions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One object that is not what it should be, and what to do about it."""

    uri: str
    found: str
    expected: str
    advice: str = RESTORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was read again and what came of it.

    Args:
        head: the digest of the promotion log's last entry.
        checked: kind of object to how many were read.
        bytes: how much was read.
        gone: staged files that no reader needs any more and that are not kept; no findings.
        changed: source files that are not what was pinned any more; no findings.
    """

    pipeline: str
    head: str
    checked: Mapping[str, int]
    bytes: int
    findings: tuple[Finding, ...]
    gone: int
    changed: tuple[str, ...]
