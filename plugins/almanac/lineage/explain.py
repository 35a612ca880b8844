"""Provenance: what a period of predictions is made from, as a tree. It is read from receipts alone; nothing else is stored.

Every receipt links the receipts of its inputs. So a visible period leads to the order of its files, the order to its
receipt, the receipt to features and version, these to their pins, and a pin to source files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from almanac.core.cuts import seen
from almanac.core.entity import labelled
from almanac.core.facts import left_out
from almanac.core.pins import Pin, PinnedFile
from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Action, Entry, Log
from almanac.core.receipts import PART, Order, Receipt, Step

ENTRIES = {"promote": "promotion", "roll_back": "rollback", "withdraw": "withdrawal", "reinstate": "reinstatement"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of the tree, with what it is made from as its children.

    Args:
        kind: predictions, row, features, part, version, file, run, publish, checks, gate,
            promotion, rollback, replacement, withdrawal, reinstatement, code.
        name: its display name.
        uri: where it, or the record about it, is stored.
        facts: what is known about it; plain values.
    """

    kind: str
    name: str
    uri: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was read to explain one visible period.

    Args:
        head: the URI of the first receipt: of the publish, or of the stage if the publisher died before writing it.
        receipts: URI to receipt, for every receipt reachable from the head and from the version.
        pins: URI of a pin's receipt to its pins, by source.
        pipelines: an order's `description` to its pipeline, for orders that read sources.
        version: the id of the version that scored.
        trained: the URIs of the version's receipts.
        manifest: the URI of the version's manifest.
        keys: the columns that name an entity.
        log: the promotion log.
    """

    head: str
    receipts: Mapping[str, Receipt]
    pins: Mapping[str, Mapping[str, Pin]]
    pipelines: Mapping[str, Pipeline]
    version: str
    trained: tuple[str, ...]
    manifest: str
    keys: tuple[str, ...]
    log: Log

    def staged(self, uri: str) -> tuple[str, Receipt]:
        """The stage receipt of the same artifact, with its URI."""
        receipt = self.receipts[uri]
        return self.staged(receipt.links["staged"]) if receipt.order.step is not Step.STAGE else (uri, receipt)


def explain(evidence: Evidence, row: Mapping[str, Any] | None = None) -> Node:
    """The tree of a visible period of predictions; with the row of one entity, if given."""
    uri, staged = evidence.staged(evidence.head)
    order = staged.order
    in_sample = bool(order.parameters.get("in_sample", False))
    children = [
        *([_row(row, evidence.keys, in_sample)] if row is not None else []),
        *_made(evidence, evidence.head, staged),
        _version(evidence, order),
        *(_features(evidence, staged.links[name]) for name in ("features",) if name in staged.links),
    ]
    facts = {
        "period": order.period,
        "rows": staged.rows,
        "version": evidence.version,
        "in_sample": in_sample,
        "left_out": list(left_out(staged)),
        "order": order.digest,
        "content": staged.content,
        "replaces": order.replaces,
    }
    name = f"{order.pipeline} predictions {order.period}"
    return Node(kind="predictions", name=name, uri=uri, facts=facts, children=tuple(children))


def _row(row: Mapping[str, Any], keys: Sequence[str], in_sample: bool) -> Node:
    return Node(kind="row", name=labelled(keys, [row[key] for key in keys]), facts={**row, "in_sample": in_sample})


def _made(evidence: Evidence, head: str, staged: Receipt) -> list[Node]:
    """How an artifact was made, by what code, and how it was checked and published."""
    published = evidence.receipts[head]
    nodes = [_run("run", staged, head if published is staged else published.links["staged"])]
    if "audit" in published.links:
        nodes.append(_checks(published.links["audit"], evidence.receipts[published.links["audit"]]))
    if published.order.step is Step.PUBLISH:
        nodes.append(_run("publish", published, head))
    return [*nodes, _code(staged)]


def _run(kind: str, receipt: Receipt, uri: str) -> Node:
    run_info = receipt.run_info
    facts = {
        "dag": run_info.dag,
        "run": run_info.run,
        "task": run_info.task,
        "try": run_info.attempt,
        "actor": run_info.actor,
        "spark_application": run_info.spark_application,
        "began": _moment(run_info.began),
        "ended": _moment(run_info.ended),
        "order": receipt.order.digest,
    }
    return Node(kind=kind, name=run_info.run or run_info.actor or "unknown", uri=uri, facts=facts)


def _moment(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


def _checks(uri: str, audited: Receipt) -> Node:
    count = audited.facts.get("checks", audited.facts.get("golden_rows", 0))
    what = "checks" if "checks" in audited.facts else "golden rows"
    reports = {output.name: output.uri for output in audited.outputs}
    facts = {"passed": audited.passed, what.replace(" ", "_"): count, "findings": list(audited.findings), "reports": reports}
    return Node(kind="checks", name=f"{count} {what} {'passed' if audited.passed else 'did not pass'}", uri=uri, facts=facts)


def _code(staged: Receipt) -> Node:
    order, run_info = staged.order, staged.run_info
    facts = {
        "commit": run_info.commit,
        "module": order.module,
        "definition": staged.facts.get("definition", order.description),
        "almanac": order.almanac,
        "environment": run_info.environment,
        "libraries": dict(staged.facts.get("environment", {})),
    }
    return Node(kind="code", name=run_info.commit or "no commit recorded", facts=facts)


def _version(evidence: Evidence, order: Order) -> Node:
    head = evidence.trained[0]
    uri, staged = evidence.staged(head)
    facts = {
        "version": evidence.version,
        "manifest": order.inputs.get("version", ""),
        "order": staged.order.digest,
        **{name: staged.facts.get(name) for name in ("estimator", "training", "holdout", "metrics", "definition")},
    }
    children = [
        _run("run", staged, uri),
        *(_checks(checked, evidence.receipts[checked]) for checked in evidence.trained[1:]),
        *_promotions(evidence),
        _code(staged),
        *(
            _features(evidence, linked, holdout=name == f"features.{facts['holdout']}")
            for name, linked in sorted(staged.links.items())
            if name.startswith("features.")
        ),
        *_part(evidence, staged, "labels", uri),
    ]
    return Node(kind="version", name=evidence.version, uri=evidence.manifest, facts=facts, children=tuple(children))


def _promotions(evidence: Evidence) -> list[Node]:
    """The entries of the log that concern the version, and its gate decisions."""
    entries = [entry for entry in evidence.log.entries if evidence.version in (entry.version, entry.replaces)]
    return [node for entry in entries for node in (*_gate(evidence, entry), _entry(entry, evidence.version))]


def _gate(evidence: Evidence, entry: Entry) -> list[Node]:
    gate = evidence.receipts.get(entry.gate) if entry.action is Action.PROMOTE and entry.version == evidence.version else None
    if gate is None:
        return []
    facts = {"verdict": entry.verdict, "reasons": list(gate.findings), "comparison": gate.facts.get("comparison", {})}
    return [Node(kind="gate", name=entry.verdict, uri=entry.gate, facts=facts)]


def _entry(entry: Entry, version: str) -> Node:
    facts = {
        "sequence": entry.sequence,
        "action": entry.action.value,
        "version": entry.version,
        "effective": entry.effective,
        "over_a_rejection": entry.over_a_rejection,
        "withdraw": entry.withdraw,
        "reason": entry.reason,
        "actor": entry.actor,
        "approver": entry.approver,
        "run": entry.run,
        "at": entry.at.isoformat(),
    }
    return Node(kind=_meaning(entry, version), name=f"entry {entry.sequence}", facts=facts)


def _meaning(entry: Entry, version: str) -> str:
    """What an entry means for a version."""
    if entry.version == version:
        return ENTRIES.get(entry.action.value, entry.action.value)
    return "withdrawal" if entry.withdraw else "replacement"


def _features(evidence: Evidence, head: str, *, holdout: bool = False) -> Node:
    """A partition of features, the groups that it combines, and the source files of each."""
    uri, staged = evidence.staged(head)
    order = staged.order
    parts = [
        node
        for name, linked in sorted(staged.links.items())
        if name.startswith(PART)
        for node in _part(evidence, evidence.receipts[linked], evidence.receipts[linked].order.part, linked)
    ]
    facts = {
        "period": order.period,
        "definition": order.description,
        "rows": staged.rows,
        "content": staged.content,
        "order": order.digest,
        "holdout": holdout,
        "left_out": list(left_out(staged)),
    }
    children = (*_made(evidence, head, staged), *parts, *_part(evidence, staged, "population", uri))
    return Node(kind="features", name=f"features {order.period}", uri=uri, facts=facts, children=children)


def _part(evidence: Evidence, receipt: Receipt, name: str, uri: str) -> list[Node]:
    """What an order read from sources: one node with a child per file; empty if it read no source."""
    pin = receipt.links.get("pin")
    if pin is None:
        return []
    order = receipt.order
    found = seen(order, evidence.pipelines[order.description], evidence.pins[pin])
    files = tuple(_file(source, file) for source, files in sorted(found.items()) for file in files)
    facts = {"order": order.digest, "rows": receipt.rows, "content": receipt.content, "pin": pin, "files": len(files)}
    audited = evidence.receipts[pin]
    checked = (_checks(pin, audited),) if audited.order.step is Step.AUDIT else ()
    return [Node(kind="part", name=name, uri=uri, facts=facts, children=(*checked, *files))]


def _file(source: str, file: PinnedFile) -> Node:
    facts = {"source": source, "size": file.size, "etag": file.etag, "rows": file.rows}
    if file.aside:
        facts["aside"] = len(file.aside)
    if file.version:
        facts["version"] = file.version
    if file.deleted:
        facts["deleted"] = file.deleted.rows
    if file.made and file.made.uri != file.uri:
        facts["copy"] = file.made.uri
    return Node(kind="file", name=file.uri.rsplit("/", 1)[-1], uri=file.uri, facts=facts)


def walk(node: Node) -> Iterable[Node]:
    """A node and all below it."""
    yield node
    for child in node.children:
        yield from walk(child)
