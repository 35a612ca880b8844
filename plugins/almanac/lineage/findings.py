"""What a verification found: which objects are not what they should be, and what was read to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from almanac.core.facts import version_of
from almanac.core.layout import Layout
from almanac.core.plan import ASKED
from almanac.core.promotions import LOG, Entry, Log
from almanac.core.receipts import Artifact, Order, Receipt, Step
from almanac.core.rollback import RollbackPlan

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


def absent(uri: str, expected: str, advice: str = RESTORE) -> Finding:
    return Finding(uri=uri, found="nothing is kept there", expected=expected, advice=advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSighting:
    """What a record says of the promotion log: how many entries it has seen, and the digest of the last where it tells."""

    holder: str
    position: int
    head: str = ""


def seen_of_log(
    receipts: Mapping[str, Receipt], plans: Mapping[str, RollbackPlan], entries: Iterable[Entry]
) -> list[LogSighting]:
    """What published predictions, gates and rollbacks' plans say of the promotion log. All by their URI."""
    found = []
    for uri, receipt in receipts.items():
        if mark := str(receipt.facts.get(LOG, "")):
            position, head = mark.split()
            found.append(LogSighting(holder=uri, position=int(position), head=head))
        elif receipt.order.artifact is Artifact.CHAMPION and "position" in receipt.order.parameters:
            found.append(LogSighting(holder=uri, position=int(receipt.order.parameters["position"])))
    carried_out, last = {entry.plan for entry in entries}, max((entry.sequence for entry in entries), default=0)
    for uri, plan in plans.items():
        # A plan is kept before its entry is appended; with other entries behind it, it was refused.
        appended = not plan.finishes and uri not in carried_out and plan.position >= last
        found.append(LogSighting(holder=uri, position=plan.position + appended))
    return found


def gone_entries(layout: Layout, top: int, known: Mapping[int, Entry], seen: Iterable[LogSighting]) -> Iterable[Finding]:
    """Entries that are gone from the log's end, and those that are others than were seen. `top`: the last number that is kept."""
    told: dict[int, LogSighting] = {}
    for one in sorted(seen, key=lambda one: (-one.position, one.holder)):
        for number in range(top + 1, one.position + 1):
            told.setdefault(number, one)
        entry = known.get(one.position)
        if one.head and entry is not None and entry.digest != one.head and one.position not in told:
            told[one.position] = one
            yield Finding(
                uri=layout.promotion(one.position),
                found=f"digest {entry.digest}",
                expected=f"digest {one.head}, which {one.holder} holds of it",
            )
    advice = f"{RESTORE}. Where a rollback's run died before it appended its entry, clear that run"
    for number in sorted(number for number in told if number > top):
        yield absent(
            layout.promotion(number), f"entry {number} of the promotion log, of which {told[number].holder} tells", advice
        )


def published_often(receipts: Mapping[str, Receipt]) -> dict[tuple[Artifact, str, str], tuple[int, str]]:
    """How often each period of each table was published, and the receipt that says so: thing, definition and period to both."""
    found: dict[tuple[Artifact, str, str], tuple[int, str]] = {}
    for uri, receipt in receipts.items():
        order = receipt.order
        if order.step is Step.PUBLISH and order.artifact in (Artifact.FEATURES, Artifact.PREDICTIONS):
            key = (order.artifact, order.description if order.artifact is Artifact.FEATURES else "", order.period)
            found[key] = max(found.get(key, (0, "")), (order.fence + 1, uri))
    return found


def out_of_force(log: Log, order: Order, uri: str) -> tuple[Finding, ...]:
    """A visible period of predictions by a version that is not in force for it, nor was asked for by name; or is withdrawn."""
    version = str(order.parameters["version"])
    if not (why := log.overtaken(order.period, version, asked=bool(order.parameters.get(ASKED)))):
        return ()
    advice = f"Start the score DAG for {order.period}, or let almanac plan --run do it"
    return (Finding(uri=uri, found=f"predictions by version {version}", expected=f"those in force: {why}", advice=advice),)


def misquoted(receipt: Receipt, uri: str, paths: Iterable[str], rows: int, size: int, version: Any) -> tuple[Finding, ...]:
    """What a table's own log tells readers of a period, held against the receipt that staged it: a rollback finds its periods
    by these figures. Where the files are others, that is told elsewhere.
    """
    told: dict[str, Any] = {"rows": rows, "bytes": size}
    expected: dict[str, Any] = {"rows": receipt.rows, "bytes": sum(output.bytes for output in receipt.outputs)}
    if receipt.order.artifact is Artifact.PREDICTIONS and receipt.outputs:
        told["version"], expected["version"] = version, version_of(receipt)
    if told == expected or set(paths) != {output.name for output in receipt.outputs}:
        return ()
    advice = "Stage the period again: its publish writes the table's log anew"
    return (Finding(uri=uri, found=str(told), expected=f"{expected}, as staged", advice=advice),)
