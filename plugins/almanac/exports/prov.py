"""Provenance as W3C PROV-JSON: things are entities, orders that were carried out are activities, who asked is an agent.

https://www.w3.org/submissions/prov-json/
"""

from __future__ import annotations

from typing import Any

from prov.model import ProvDocument

from almanac.core.provenance import Evidence, seen
from almanac.core.receipts import Door, Receipt, Thing
from almanac.core.sources import PinnedFile

NAMESPACE = "urn:almanac:"


def document(evidence: Evidence) -> str:
    """What a visible period of predictions was made from, as PROV-JSON.

    Entities: source files, feature parts and partitions, the model, the period of predictions; gates' decisions. Activities:
    the orders, with the run that carried each out. Agents: Almanac, and the people who asked.
    """
    told = ProvDocument()
    told.add_namespace("almanac", NAMESPACE)
    versions = {receipt.order.almanac for receipt in evidence.receipts.values()}
    for version in sorted(versions):
        told.agent(_software(version), {"prov:type": "prov:SoftwareAgent"})
    for uri, receipt in sorted(evidence.receipts.items()):
        _activity(told, uri, receipt)
    for _, receipt in sorted(evidence.receipts.items()):
        _links(told, evidence, receipt)
    return str(told.serialize(format="json", indent=2))


def _software(version: str) -> str:
    return f"almanac:almanac-{version}"


def _made(receipt: Receipt) -> str:
    """The entity that came of an order: one a stage, whatever doors it went through after."""
    return f"almanac:{receipt.order.thing.value}/{receipt.order.digest}"


def _activity(told: ProvDocument, uri: str, receipt: Receipt) -> None:
    order, witness = receipt.order, receipt.witness
    activity = f"almanac:order/{order.digest}"
    facts = {
        "prov:location": uri,
        "almanac:thing": order.thing.value,
        "almanac:door": order.door.value,
        "almanac:period": order.period,
        "almanac:module": order.module,
        "almanac:commit": witness.commit,
        "almanac:dag": witness.dag,
        "almanac:run": witness.run,
        "almanac:passed": receipt.passed,
    }
    told.activity(activity, witness.began, witness.ended, {key: value for key, value in facts.items() if value != ""})
    told.wasAssociatedWith(activity, _software(order.almanac))
    if witness.actor:
        agent = f"almanac:actor/{witness.actor}"
        told.agent(agent, {"prov:type": "prov:Person"})
        told.wasAssociatedWith(activity, agent)
    if order.door is Door.STAGE or order.thing is Thing.SOURCES:
        told.entity(_made(receipt), _about(receipt))
        told.wasGeneratedBy(_made(receipt), activity, witness.ended)
        told.wasAttributedTo(_made(receipt), _software(order.almanac))


def _about(receipt: Receipt) -> dict[str, Any]:
    order = receipt.order
    facts: dict[str, Any] = {
        "prov:type": f"almanac:{order.thing.value}",
        "almanac:period": order.period,
        "almanac:content": receipt.content,
        "almanac:part": order.part,
        "almanac:definition": order.description,
        "almanac:version": str(receipt.facts.get("version", "")),
        "almanac:rows": receipt.rows or "",
    }
    return {key: value for key, value in facts.items() if value != ""}


def _links(told: ProvDocument, evidence: Evidence, receipt: Receipt) -> None:
    """What an order used: what its links lead to, the source files that it could see, and the version that scored."""
    activity = f"almanac:order/{receipt.order.digest}"
    for name, linked in sorted(receipt.links.items()):
        source = evidence.receipts[linked]
        if name in ("staged", "audit"):
            told.wasInformedBy(activity, f"almanac:order/{source.order.digest}")
            continue
        _used(told, receipt, _made(source if source.order.thing is Thing.SOURCES else evidence.staged(linked)[1]))
    if receipt.order.door is not Door.STAGE:
        return
    if receipt.order.thing is Thing.PREDICTIONS:
        _used(told, receipt, _made(evidence.receipts[evidence.trained[0]]))
    if "pin" in receipt.links:
        found = seen(receipt.order, evidence.pipelines[receipt.order.description], evidence.pins[receipt.links["pin"]])
        for name, files in sorted(found.items()):
            for file in files:
                _used(told, receipt, _file(told, name, file))


def _used(told: ProvDocument, receipt: Receipt, entity: str) -> None:
    told.used(f"almanac:order/{receipt.order.digest}", entity)
    if receipt.order.door is Door.STAGE:
        told.wasDerivedFrom(_made(receipt), entity, f"almanac:order/{receipt.order.digest}")


def _file(told: ProvDocument, source: str, file: PinnedFile) -> str:
    name = f"almanac:file/{file.etag}/{file.uri.removeprefix('s3://')}"
    if not told.get_record(name):
        facts = {"prov:type": "almanac:file", "prov:location": file.uri, "almanac:source": source, "almanac:etag": file.etag}
        told.entity(name, facts | {"almanac:bytes": str(file.size)})
    return name
