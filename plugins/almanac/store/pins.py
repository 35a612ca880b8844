"""Pins on S3: one file per source, beside the receipt that vouches for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from almanac.core.canonical import decode, dumps, sha256
from almanac.core.pins import Pin
from almanac.core.receipts import Artifact, Order, Output, Receipt, Step, admit
from almanac.store.home import Home
from almanac.store.objects import verified


def write_pins(home: Home, order: Order, pins: Mapping[str, Pin]) -> Iterator[Output]:
    """Stores the pins of an order, one file each."""
    for name, found in pins.items():
        body = dumps(found)
        uri = home.layout.part(order.digest, f"{name}-{sha256(body)[:16]}.json")
        home.objects.put_if_absent(uri, body)
        yield Output(name=name, uri=uri, bytes=len(body), sha256=sha256(body), rows=sum(file.rows for file in found.files))


def read_pins(home: Home, receipt: Receipt) -> dict[str, Pin]:
    """The pins of a receipt, by source. Raises: NotFound, IntegrityError."""
    return {
        output.name: decode(Pin, json.loads(verified(home.objects.get(output.uri), output.sha256, output.uri)))
        for output in receipt.outputs
        if output.name in receipt.order.inputs  # an audit stores its reports beside them
    }


def admitted_pins(home: Home, receipt: Receipt) -> Mapping[str, Pin]:
    """The pins of a receipt, of either a pin or a source audit. Raises: IntegrityError, if one was altered."""
    step = Step.AUDIT if receipt.order.step is Step.AUDIT else Step.PIN
    admit(receipt, Artifact.SOURCES, step, pipeline=home.name)
    return read_pins(home, receipt)
