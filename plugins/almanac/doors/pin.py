"""Pins: the exact source files that a run may read, observed once. The receipt that features begin with."""

from __future__ import annotations

from collections.abc import Mapping

from almanac.core.canonical import dumps, sha256
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.receipts import Door, Order, Output, Placed, Receipt, Thing, Witness, admit
from almanac.core.sources import Pin
from almanac.settings import VERSION
from almanac.store import sources
from almanac.store.home import Home
from almanac.store.provenance import read_pins


def needed(pipeline: Pipeline, plan: RunPlan) -> list[str]:
    """The sources that a run reads: those of the features when any are built, those of the label when it retrains."""
    parts = [*((pipeline.population, *pipeline.features) if plan.build else ()), *((pipeline.label,) if plan.retrains else ())]
    return sorted({name for part in parts for name in part.reads})


def pin(home: Home, plan: RunPlan, witness: Witness) -> str:
    """Pins what a run reads, as it is now, and gives the receipt's URI. Equal files give the same receipt.

    Raises:
        SourceError: a source is missing, or not as the description says.
    """
    pipeline = home.receipts.description(plan.description)
    pins = {name: sources.observe(home.objects, name, pipeline.sources[name]) for name in needed(pipeline, plan)}
    order = Order(
        pipeline=home.name,
        thing=Thing.SOURCES,
        door=Door.PIN,
        period=plan.period,
        description=plan.definition,
        module=plan.module,
        almanac=VERSION,
        inputs={name: found.content for name, found in pins.items()},
    )
    outputs = []
    for name, found in pins.items():
        body = dumps(found)
        uri = home.layout.part(order.digest, f"{name}-{sha256(body)[:16]}.json")
        home.objects.put_if_absent(uri, body)
        outputs.append(Output(name=name, uri=uri, bytes=len(body), sha256=sha256(body), rows=sum(f.rows for f in found.files)))
    receipt = Receipt(
        order=order,
        passed=True,
        witness=witness,
        content=order.digest,
        outputs=tuple(outputs),
        facts={
            name: {"files": len(found.files), "freshness": found.freshness.isoformat() if found.freshness else None}
            for name, found in pins.items()
        },
    )
    home.receipts.place(Placed(order=order))
    return home.receipts.uri(home.receipts.keep(receipt))


def pinned(home: Home, receipt: Receipt) -> Mapping[str, Pin]:
    """The pins of a receipt. Raises: IntegrityError when one was altered."""
    admit(receipt, Thing.SOURCES, Door.PIN, pipeline=home.name)
    return read_pins(home, receipt)
