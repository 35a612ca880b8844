"""Provenance: what a period of predictions is made from, told as a tree. It only reads receipts: nothing is kept beside them.

Every receipt links the receipts of its inputs, so the way upwards is there already: a visible period leads to the order
of its files, that to its receipt, that to features and version, these to their pins, and a pin to source files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from almanac.core.degrade import left_out
from almanac.core.pipeline import Group, Pipeline, Population
from almanac.core.promotions import Action, Entry, Log
from almanac.core.receipts import PART, Door, Order, Receipt, Thing
from almanac.core.sources import KNOWN_AT, UNTIL, Cut, Pin, PinnedFile, cut_for_features, cut_for_label

ENTRIES = {"promote": "promotion", "roll_back": "rollback", "withdraw": "withdrawal", "reinstate": "reinstatement"}
Seen = Mapping[str, tuple[PinnedFile, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing of a tree, and below it what it is made from.

    Args:
        kind: predictions, row, features, part, version, file, run, publish, checks, gate,
            promotion, rollback, replacement, withdrawal, reinstatement, code.
        name: what it is called.
        uri: where it, or the record that tells of it, is kept.
        facts: what is known of it; plain values.
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
        head: the URI of the receipt to begin with: of the publish, or of the stage where its publisher died too soon.
        receipts: URI to receipt; every one that can be reached from the head and from the version.
        pins: URI of a pin's receipt to its pins, by source.
        pipelines: an order's `description` to the pipeline that it is of, for orders that read sources.
        version: the id of the version that scored, and the URIs of its receipts.
        manifest: where the version's manifest is kept.
        entity: the column that names what is predicted for.
        log: the promotion log.
    """

    head: str
    receipts: Mapping[str, Receipt]
    pins: Mapping[str, Mapping[str, Pin]]
    pipelines: Mapping[str, Pipeline]
    version: str
    trained: tuple[str, ...]
    manifest: str
    entity: str
    log: Log

    def staged(self, uri: str) -> tuple[str, Receipt]:
        """The stage receipt that a receipt of the same thing comes from, with its URI."""
        receipt = self.receipts[uri]
        return self.staged(receipt.links["staged"]) if receipt.order.door is not Door.STAGE else (uri, receipt)


def feature_cuts(pipeline: Pipeline, part: Group | Population, period: str, until: datetime | None = None) -> dict[str, Cut]:
    """What a feature group or the population may see of each source that it reads. `until`: as `cut_for_features` has it."""
    as_of = pipeline.period(period).as_of
    return {name: cut_for_features(pipeline.sources[name], as_of, part.lookback, until) for name in part.reads}


def reach(order: Order, pipeline: Pipeline) -> list[tuple[str, Cut]]:
    """The cuts of sources that an order reads: source and cut. Nothing for an order that reads no source itself."""
    if order.door is not Door.STAGE or order.thing not in (Thing.FEATURES, Thing.MODEL):
        return []
    if order.thing is Thing.FEATURES:
        part = pipeline.group(order.part) if order.part else pipeline.population
        until = order.parameters.get(UNTIL)
        return list(feature_cuts(pipeline, part, order.period, datetime.fromisoformat(until) if until else None).items())
    snapshots = [*order.parameters["training"], order.parameters["holdout"]]
    return [cut for period in snapshots for cut in label_cuts(pipeline, period, known_by(order, pipeline)).items()]


def known_by(order: Order, pipeline: Pipeline) -> datetime:
    """Until when what became known about labels counts, for the order of a version."""
    told = order.parameters.get(KNOWN_AT)
    return datetime.fromisoformat(told) if told else pipeline.period(order.period).as_of


def label_cuts(pipeline: Pipeline, snapshot: str, known: datetime) -> dict[str, Cut]:
    """What the label of a snapshot may see of each source that it reads."""
    label, as_of = pipeline.label, pipeline.period(snapshot).as_of
    return {name: cut_for_label(pipeline.sources[name], as_of, label.horizon, known) for name in label.reads}


def seen(order: Order, pipeline: Pipeline, pins: Mapping[str, Pin]) -> Seen:
    """The pinned files that an order could see, by source: a pin holds many, an order only saw those within its cuts."""
    found: dict[str, dict[str, PinnedFile]] = {}
    for name, cut in reach(order, pipeline):
        found.setdefault(name, {}).update((file.uri, file) for file in pins[name].within(cut))
    return {name: tuple(files[uri] for uri in sorted(files)) for name, files in found.items()}


def explain(evidence: Evidence, row: Mapping[str, Any] | None = None) -> Node:
    """The tree of a visible period of predictions; with the row of one entity, when that was asked for."""
    uri, staged = evidence.staged(evidence.head)
    order = staged.order
    in_sample = bool(order.parameters.get("in_sample", False))
    children = [
        *([_row(row, evidence.entity, in_sample)] if row is not None else []),
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


def _row(row: Mapping[str, Any], entity: str, in_sample: bool) -> Node:
    return Node(kind="row", name=f"{entity} {row[entity]}", facts={**row, "in_sample": in_sample})


def _made(evidence: Evidence, head: str, staged: Receipt) -> list[Node]:
    """How a thing was made and by what code, checked and published."""
    published = evidence.receipts[head]
    nodes = [_run("run", staged, head if published is staged else published.links["staged"])]
    if "audit" in published.links:
        nodes.append(_checks(published.links["audit"], evidence.receipts[published.links["audit"]]))
    if published.order.door is Door.PUBLISH:
        nodes.append(_run("publish", published, head))
    return [*nodes, _code(staged)]


def _run(kind: str, receipt: Receipt, uri: str) -> Node:
    witness = receipt.witness
    facts = {
        "dag": witness.dag,
        "run": witness.run,
        "task": witness.task,
        "try": witness.attempt,
        "actor": witness.actor,
        "spark_application": witness.spark_application,
        "began": _moment(witness.began),
        "ended": _moment(witness.ended),
        "order": receipt.order.digest,
    }
    return Node(kind=kind, name=witness.run or witness.actor or "not told", uri=uri, facts=facts)


def _moment(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


def _checks(uri: str, audited: Receipt) -> Node:
    count = audited.facts.get("checks", audited.facts.get("golden_rows", 0))
    what = "checks" if "checks" in audited.facts else "golden rows"
    reports = {output.name: output.uri for output in audited.outputs}
    facts = {"passed": audited.passed, what.replace(" ", "_"): count, "findings": list(audited.findings), "reports": reports}
    return Node(kind="checks", name=f"{count} {what} {'passed' if audited.passed else 'did not pass'}", uri=uri, facts=facts)


def _code(staged: Receipt) -> Node:
    order, witness = staged.order, staged.witness
    facts = {
        "commit": witness.commit,
        "module": order.module,
        "definition": staged.facts.get("definition", order.description),
        "almanac": order.almanac,
        "environment": witness.environment,
        "libraries": dict(staged.facts.get("environment", {})),
    }
    return Node(kind="code", name=witness.commit or "no commit told", facts=facts)


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
    """The entries of the log that concern the version, and what its gate said."""
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
    return Node(kind=_told(entry, version), name=f"entry {entry.sequence}", facts=facts)


def _told(entry: Entry, version: str) -> str:
    """What an entry means for a version."""
    if entry.version == version:
        return ENTRIES.get(entry.action.value, entry.action.value)
    return "withdrawal" if entry.withdraw else "replacement"


def _features(evidence: Evidence, head: str, *, holdout: bool = False) -> Node:
    """A partition of features, the groups that it was combined from, and the source files of each."""
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
    """What an order read of sources: one node with a child for each file. None where it read no source."""
    pin = receipt.links.get("pin")
    if pin is None:
        return []
    order = receipt.order
    found = seen(order, evidence.pipelines[order.description], evidence.pins[pin])
    files = tuple(_file(source, file) for source, files in sorted(found.items()) for file in files)
    facts = {"order": order.digest, "rows": receipt.rows, "content": receipt.content, "pin": pin, "files": len(files)}
    audited = evidence.receipts[pin]
    checked = (_checks(pin, audited),) if audited.order.door is Door.AUDIT else ()
    return [Node(kind="part", name=name, uri=uri, facts=facts, children=(*checked, *files))]


def _file(source: str, file: PinnedFile) -> Node:
    facts = {"source": source, "size": file.size, "etag": file.etag, "rows": file.rows}
    if file.aside:
        facts["aside"] = len(file.aside)
    if file.version:
        facts["version"] = file.version
    return Node(kind="file", name=file.uri.rsplit("/", 1)[-1], uri=file.uri, facts=facts)


def walk(node: Node) -> Iterable[Node]:
    """A node and all below it."""
    yield node
    for child in node.children:
        yield from walk(child)
