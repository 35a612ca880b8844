"""The result of a verification: the objects that are not what they should be, and what was read."""

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
    """One object that is not what it should be, and how to fix it."""

    uri: str
    found: str
    expected: str
    advice: str = RESTORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was read again, and the result.

    Args:
        head: the digest of the last entry of the promotion log.
        checked: kind of object to the number read.
        bytes: the number of bytes read.
        gone: the number of staged files that are deleted and that no reader needs any more; not findings.
        changed: source files that no longer match their pin; not findings.
    """

    pipeline: str
    head: str
    checked: Mapping[str, int]
    bytes: int
    findings: tuple[Finding, ...]
    gone: int
    changed: tuple[str, ...]


def absent(uri: str, expected: str, advice: str = RESTORE) -> Finding:
    return Finding(uri=uri, found="no object", expected=expected, advice=advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSighting:
    """What a record says about the promotion log: how many entries it saw, and the digest of the last one, if recorded."""

    holder: str
    position: int
    head: str = ""


def seen_of_log(
    receipts: Mapping[str, Receipt], plans: Mapping[str, RollbackPlan], entries: Iterable[Entry]
) -> list[LogSighting]:
    """What published predictions, gates and rollback plans, given by URI, say about the promotion log."""
    found = []
    for uri, receipt in receipts.items():
        if mark := str(receipt.facts.get(LOG, "")):
            position, head = mark.split()
            found.append(LogSighting(holder=uri, position=int(position), head=head))
        elif receipt.order.artifact is Artifact.CHAMPION and "position" in receipt.order.parameters:
            found.append(LogSighting(holder=uri, position=int(receipt.order.parameters["position"])))
    executed, last = {entry.plan for entry in entries}, max((entry.sequence for entry in entries), default=0)
    for uri, plan in plans.items():
        # A plan is stored before its entry is appended. If other entries follow instead, its append was refused.
        appended = not plan.finishes and uri not in executed and plan.position >= last
        found.append(LogSighting(holder=uri, position=plan.position + appended))
    return found


def gone_entries(layout: Layout, top: int, known: Mapping[int, Entry], seen: Iterable[LogSighting]) -> Iterable[Finding]:
    """Entries missing from the end of the log, and entries that differ from what was seen. `top`: the last number in the log."""
    sightings: dict[int, LogSighting] = {}
    for one in sorted(seen, key=lambda one: (-one.position, one.holder)):
        for number in range(top + 1, one.position + 1):
            sightings.setdefault(number, one)
        entry = known.get(one.position)
        if one.head and entry is not None and entry.digest != one.head and one.position not in sightings:
            sightings[one.position] = one
            yield Finding(
                uri=layout.promotion(one.position),
                found=f"digest {entry.digest}",
                expected=f"digest {one.head}, as {one.holder} recorded",
            )
    advice = f"{RESTORE}. If a rollback run died before it appended its entry, clear that run"
    for number in sorted(number for number in sightings if number > top):
        yield absent(
            layout.promotion(number), f"entry {number} of the promotion log, which {sightings[number].holder} names", advice
        )


def published_often(receipts: Mapping[str, Receipt]) -> dict[tuple[Artifact, str, str], tuple[int, str]]:
    """(artifact, definition, period) to how often it was published, and the receipt that says so."""
    found: dict[tuple[Artifact, str, str], tuple[int, str]] = {}
    for uri, receipt in receipts.items():
        order = receipt.order
        if order.step is Step.PUBLISH and order.artifact in (Artifact.FEATURES, Artifact.PREDICTIONS):
            key = (order.artifact, order.description if order.artifact is Artifact.FEATURES else "", order.period)
            found[key] = max(found.get(key, (0, "")), (order.fence + 1, uri))
    return found


def out_of_force(log: Log, order: Order, uri: str) -> tuple[Finding, ...]:
    """A visible period of predictions by a version that is withdrawn, or neither in force for it nor requested by name."""
    version = str(order.parameters["version"])
    if not (why := log.overtaken(order.period, version, asked=bool(order.parameters.get(ASKED)))):
        return ()
    advice = f"Start the score DAG for {order.period}, or run `almanac plan --run`"
    return (
        Finding(
            uri=uri,
            found=f"predictions by version {version}",
            expected=f"predictions by the version in force: {why}",
            advice=advice,
        ),
    )


def misquoted(receipt: Receipt, uri: str, paths: Iterable[str], rows: int, size: int, version: Any) -> tuple[Finding, ...]:
    """Compares what a table's own log says about a period with the receipt that staged it: a rollback finds its periods by these
    figures. If the files differ, another finding reports that.
    """
    found: dict[str, Any] = {"rows": rows, "bytes": size}
    expected: dict[str, Any] = {"rows": receipt.rows, "bytes": sum(output.bytes for output in receipt.outputs)}
    if receipt.order.artifact is Artifact.PREDICTIONS and receipt.outputs:
        found["version"], expected["version"] = version, version_of(receipt)
    if found == expected or set(paths) != {output.name for output in receipt.outputs}:
        return ()
    advice = "Stage the period again: its publish rewrites the table's log"
    return (Finding(uri=uri, found=str(found), expected=f"{expected}, as staged", advice=advice),)
