"""What a verification found: which objects are not what they should be, and what was read to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from almanac.core.receipts import Receipt, Thing

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


def misquoted(receipt: Receipt, uri: str, paths: Iterable[str], rows: int, size: int, version: Any) -> tuple[Finding, ...]:
    """What a table's own log tells readers of a period, held against the receipt that staged it: a rollback finds its periods
    by these figures. Where the files are others, that is told elsewhere.
    """
    told: dict[str, Any] = {"rows": rows, "bytes": size}
    expected: dict[str, Any] = {"rows": receipt.rows, "bytes": sum(output.bytes for output in receipt.outputs)}
    if receipt.order.thing is Thing.PREDICTIONS and receipt.outputs:
        told["version"], expected["version"] = version, receipt.facts["version"]
    if told == expected or set(paths) != {output.name for output in receipt.outputs}:
        return ()
    advice = "Stage the period again: its publish writes the table's log anew"
    return (Finding(uri=uri, found=str(told), expected=f"{expected}, as staged", advice=advice),)
