"""What tests of bad input look at: a failed attempt leaves its receipt, and nothing that a reader sees."""

from __future__ import annotations

from almanac.core.receipts import PlacedOrder, Receipt
from tests.support.world import World


def refusal(world: World, placed: PlacedOrder) -> Receipt:
    """The receipt of an order that cannot be run: it is kept, and changes nothing that a reader sees."""
    before = world.shop.state()
    receipt = world.shop.attempt(placed)
    assert not receipt.passed and not receipt.answered
    assert world.shop.home.receipts.find(placed.order) == receipt
    assert (receipt.content, receipt.outputs) == ("", ())
    assert world.shop.state() == before
    return receipt


def told(receipt: Receipt, kind: str) -> str:
    """The one finding of a failed attempt."""
    assert receipt.error == kind
    (text,) = receipt.findings
    assert len(text) <= 2000
    assert "Traceback" not in text
    return text
