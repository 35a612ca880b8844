"""A shop that has been at work: what most tests of runs and jobs begin with, made once and restored after each of them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

from almanac.core.plan import RunPlan
from almanac.core.receipts import PlacedOrder, Receipt, RunInfo
from almanac.runs import feature_orders, pin, plan
from tests.support.shop import Memory, Shop


@dataclass(frozen=True)
class World:
    """A shop at work.

    Args:
        old: promoted by the gate; in force from 2017-07. Trained on 2017-03 and 2017-04, judged on 2017-05.
        new: trained for 2017-07, not promoted. Trained on 2017-04 and 2017-05, judged on 2017-06.
        scored: the publish of 2017-07, scored by `old`.
        memory: the bucket as it then was.

    Features of 2017-03 to 2017-08 are published, of one definition.
    """

    shop: Shop
    old: str
    new: str
    scored: Receipt
    memory: Memory

    @classmethod
    def make(cls, root: str, spark: object) -> World:
        shop = Shop.open(root, spark)
        old = shop.retrain("2017-06")
        scored = shop.score("2017-07")
        new = shop.train("2017-07")
        planned = plan.score(shop.home, shop.pipeline.period("2017-08"))
        shop.build(planned, pin.pin(shop.home, planned, RunInfo()))
        return cls(shop, old, new, scored, shop.remember())

    def packed(self) -> bytes:
        """The world for another process, whose store is another one."""
        bodies = {uri: body for uri, (_, body) in self.memory.items()}
        return pickle.dumps((self.shop.home.layout.root, self.old, self.new, self.scored, bodies))

    @classmethod
    def unpacked(cls, packed: bytes, spark: object) -> World:
        root, old, new, scored, bodies = pickle.loads(packed)
        shop = Shop.open(root, spark)
        for uri, body in bodies.items():
            shop.home.objects.put(uri, body)
        return cls(shop, old, new, scored, shop.remember())

    def restored(self) -> World:
        """The world as it was made, with a shop that can be described and coded anew."""
        self.shop.restore(self.memory)
        return replace(self, shop=replace(self.shop))

    def changed(self) -> list[str]:
        """The objects that were written since the world was made, or deleted."""
        now = {item.uri: item.etag for item in self.shop.home.objects.walk(self.shop.home.layout.root + "/")}
        then = {uri: etag for uri, (etag, _) in self.memory.items()}
        return sorted(uri for uri in now.keys() | then.keys() if now.get(uri) != then.get(uri))

    def planned(self, period: str) -> RunPlan:
        """The plan of a retrain, by the shop's description and code, that builds one period and no other."""
        shop = self.shop
        return replace(plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module), build=(period,))

    def pin(self, planned: RunPlan) -> str:
        return pin.pin(self.shop.home, planned, RunInfo())

    def group(self, name: str, period: str = "2017-05") -> PlacedOrder:
        """The order of one feature group for a period."""
        planned = self.planned(period)
        return feature_orders.groups(self.shop.home, planned, self.pin(planned), name)[0]

    def standing(self, period: str = "2017-05") -> PlacedOrder:
        """The order that staged a period's visible features."""
        table = self.shop.home.features(self.shop.home.versions.read(self.old).definition)
        return self.shop.home.receipts.placed(table.visible()[period].order)

    def standing_receipt(self, period: str = "2017-05") -> str:
        """The URI of the receipt of that."""
        receipt = self.shop.home.receipts.done(self.standing(period).order)
        assert receipt is not None
        return self.shop.home.receipts.uri(receipt)

    def coded(self, placed: PlacedOrder) -> PlacedOrder:
        """An order with the shop's code instead of its own: the next door alone is tried, with what the ones before it made."""
        _, module = self.shop.home.receipts.describe(self.shop.pipeline, self.shop.module)
        return replace(placed, order=replace(placed.order, module=module))
