"""Provenance as W3C PROV-JSON: artifacts are entities, orders that ran are activities, requesters are agents.

https://www.w3.org/submissions/prov-json/
"""

from __future__ import annotations

from typing import Any

from prov.model import ProvDocument

from almanac.core.cuts import seen
from almanac.core.facts import version_of
from almanac.core.pins import PinnedFile
from almanac.core.receipts import Artifact, Receipt, Step
from almanac.lineage.explain import Evidence

NAMESPACE = "urn:almanac:"


def document(evidence: Evidence) -> str:
    """What a visible period of predictions was made from, as PROV-JSON.

    Entities: source files, feature groups and partitions, the model, the period of predictions, gate decisions. Activities:
    the orders, each with its run. Agents: Almanac, and the people who requested the work.
    """
    graph = ProvDocument()
    graph.add_namespace("almanac", NAMESPACE)
    versions = {receipt.order.almanac for receipt in evidence.receipts.values()}
    for version in sorted(versions):
        graph.agent(_software(version), {"prov:type": "prov:SoftwareAgent"})
    for uri, receipt in sorted(evidence.receipts.items()):
        _activity(graph, uri, receipt)
    for _, receipt in sorted(evidence.receipts.items()):
        _links(graph, evidence, receipt)
    return str(graph.serialize(format="json", indent=2))


def _software(version: str) -> str:
    return f"almanac:almanac-{version}"


def _made(receipt: Receipt) -> str:
    """The entity that an order made: one per stage, whatever steps followed."""
    return f"almanac:{receipt.order.artifact.value}/{receipt.order.digest}"


def _activity(graph: ProvDocument, uri: str, receipt: Receipt) -> None:
    order, run_info = receipt.order, receipt.run_info
    activity = f"almanac:order/{order.digest}"
    facts = {
        "prov:location": uri,
        "almanac:thing": order.artifact.value,
        "almanac:door": order.step.value,
        "almanac:period": order.period,
        "almanac:module": order.module,
        "almanac:commit": run_info.commit,
        "almanac:dag": run_info.dag,
        "almanac:run": run_info.run,
        "almanac:passed": receipt.passed,
    }
    graph.activity(activity, run_info.began, run_info.ended, {key: value for key, value in facts.items() if value != ""})
    graph.wasAssociatedWith(activity, _software(order.almanac))
    if run_info.actor:
        agent = f"almanac:actor/{run_info.actor}"
        graph.agent(agent, {"prov:type": "prov:Person"})
        graph.wasAssociatedWith(activity, agent)
    if order.step is Step.STAGE or order.artifact is Artifact.SOURCES:
        graph.entity(_made(receipt), _about(receipt))
        graph.wasGeneratedBy(_made(receipt), activity, run_info.ended)
        graph.wasAttributedTo(_made(receipt), _software(order.almanac))


def _about(receipt: Receipt) -> dict[str, Any]:
    order = receipt.order
    facts: dict[str, Any] = {
        "prov:type": f"almanac:{order.artifact.value}",
        "almanac:period": order.period,
        "almanac:content": receipt.content,
        "almanac:part": order.part,
        "almanac:definition": order.description,
        "almanac:version": version_of(receipt),
        "almanac:rows": receipt.rows or "",
    }
    return {key: value for key, value in facts.items() if value != ""}


def _links(graph: ProvDocument, evidence: Evidence, receipt: Receipt) -> None:
    """What an order used: what it links, the source files that it could read, and the version that scored."""
    activity = f"almanac:order/{receipt.order.digest}"
    for name, linked in sorted(receipt.links.items()):
        source = evidence.receipts[linked]
        if name in ("staged", "audit"):
            graph.wasInformedBy(activity, f"almanac:order/{source.order.digest}")
            continue
        _used(graph, receipt, _made(source if source.order.artifact is Artifact.SOURCES else evidence.staged(linked)[1]))
    if receipt.order.step is not Step.STAGE:
        return
    if receipt.order.artifact is Artifact.PREDICTIONS:
        _used(graph, receipt, _made(evidence.receipts[evidence.trained[0]]))
    if "pin" in receipt.links:
        found = seen(receipt.order, evidence.pipelines[receipt.order.description], evidence.pins[receipt.links["pin"]])
        for name, files in sorted(found.items()):
            for file in files:
                _used(graph, receipt, _file(graph, name, file))


def _used(graph: ProvDocument, receipt: Receipt, entity: str) -> None:
    graph.used(f"almanac:order/{receipt.order.digest}", entity)
    if receipt.order.step is Step.STAGE:
        graph.wasDerivedFrom(_made(receipt), entity, f"almanac:order/{receipt.order.digest}")


def _file(graph: ProvDocument, source: str, file: PinnedFile) -> str:
    name = f"almanac:file/{file.etag}/{file.uri.removeprefix('s3://')}"
    if not graph.get_record(name):
        facts = {"prov:type": "almanac:file", "prov:location": file.uri, "almanac:source": source, "almanac:etag": file.etag}
        graph.entity(name, facts | {"almanac:bytes": str(file.size)})
    return name
