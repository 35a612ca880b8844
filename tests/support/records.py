"""Small records for tests: an order, a receipt, entries of a promotion log. Each field can be given otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from almanac.core.promotions import Action, Entry, Log
from almanac.core.receipts import Artifact, Order, Output, Receipt, RunInfo, Step

NOON = datetime(2017, 9, 1, 12, tzinfo=UTC)


def order(**changes: Any) -> Order:
    """The staging of the shop's features of 2017-06."""
    described: dict[str, Any] = {
        "pipeline": "shop",
        "artifact": Artifact.FEATURES,
        "step": Step.STAGE,
        "period": "2017-06",
        "description": "d1",
        "module": "m1",
        "almanac": "0.1.0",
        "inputs": {"visits": "c1"},
    }
    return Order(**{**described, **changes})


def receipt(asked: Order | None = None, **changes: Any) -> Receipt:
    """The passed receipt of an order."""
    described: dict[str, Any] = {"order": asked or order(), "passed": True, "run_info": RunInfo(run="run-1"), "content": "c2"}
    return Receipt(**{**described, **changes})


def output(name: str, **changes: Any) -> Output:
    described: dict[str, Any] = {"name": name, "uri": f"s3://almanac/{name}", "bytes": 1, "sha256": "0" * 64}
    return Output(**{**described, **changes})


def promote(log: Log, version: str, effective: str, **changes: Any) -> Log:
    """The log with a promotion behind it."""
    return _appended(log, action=Action.PROMOTE, version=version, effective=effective, **changes)


def roll_back(log: Log, to: str, effective: str, *, withdraw: bool = True, **changes: Any) -> Log:
    """The log with a rollback of its champion behind it."""
    bad = log.champion
    assert bad is not None
    described: dict[str, Any] = {"replaces": bad, "previous": bad, "withdraw": withdraw}
    return _appended(log, action=Action.ROLL_BACK, version=to, effective=effective, **{**described, **changes})


def promoted(versions: Iterable[tuple[str, str]]) -> Log:
    """A log of promotions: (version, the period from which it is in force)."""
    log = Log()
    for version, effective in versions:
        log = promote(log, version, effective)
    return log


def _appended(log: Log, **changes: Any) -> Log:
    described: dict[str, Any] = {
        "sequence": log.position + 1,
        "before": log.head,
        "manifest": f"manifest of {changes['version']}",
        "reason": "better",
        "at": NOON,
        "nonce": f"nonce {log.position + 1}",
        "previous": log.in_force(changes["effective"]) or "",
    }
    return Log((*log.entries, Entry(**{**described, **changes})))


def altered(log: Log, sequence: int, **changes: Any) -> tuple[Entry, ...]:
    """The entries of a log with one of them changed, as somebody's hand would."""
    return tuple(replace(entry, **changes) if entry.sequence == sequence else entry for entry in log.entries)
