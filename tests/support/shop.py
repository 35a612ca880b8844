"""A small pipeline with its data in the bucket, and its steps run one after the other, as the DAGs run them."""

from __future__ import annotations

import contextlib
import io
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from almanac import EventSource, FeatureGroup, Gate, Label, MovingWindow, Pipeline, Population, ReferenceSource
from almanac.core import canonical
from almanac.core.plan import RunPlan
from almanac.core.receipts import PlacedOrder, Receipt, RunInfo
from almanac.errors import AlmanacError, CheckFailed, DataError
from almanac.jobs import run
from almanac.jobs.context import JobContext, SparkJob
from almanac.runs import feature_orders, orders, pin, plan, promotions, publish, rollback
from almanac.store.home import Home
from almanac.user_module import module_zip

MODULE = Path(__file__).parent / "modules" / "shop.py"
QUARTER = timedelta(days=90)
Memory = dict[str, tuple[str, bytes]]
Answer = Callable[[JobContext], Receipt]
MONTHS = [datetime(2017, month, 1) for month in range(1, 13)]


def pipeline(landing: str, **changes: Any) -> Pipeline:
    """The shop's description; its sources lie below `landing`."""
    described: dict[str, Any] = {
        "name": "shop",
        "entity": "customer",
        "first_period": "2017-03",
        "sources": {
            "visits": EventSource(f"{landing}/visits/", event_time="at", timezone="UTC", columns=("customer", "at", "amount")),
            "people": ReferenceSource(f"{landing}/people/"),
        },
        "population": Population("customers", reads=("visits",), lookback=QUARTER),
        "features": (
            FeatureGroup("habits", reads=("visits",), lookback=QUARTER),
            FeatureGroup("traits", reads=("people",)),
        ),
        "label": Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=0),
        "window": MovingWindow(2),
        "gate": Gate(metric="roc_auc", min_gain=-0.2, floor=0.5),
    }
    return Pipeline(**{**described, **changes})


def visits(month: datetime, seed: int = 0) -> pa.Table:
    """A month of visits of 80 customers: those with a high number come often, those with a low one hardly."""
    dice = random.Random(seed * 100 + month.month)
    rows = [
        (customer, month + timedelta(days=dice.randrange(28), hours=dice.randrange(24)), dice.randrange(100, 5000))
        for customer in range(80)
        for _ in range(dice.randrange(1 + customer // 16))
    ]
    return pa.table({
        "customer": pa.array([row[0] for row in rows], pa.int64()),
        "at": pa.array([row[1] for row in rows], pa.timestamp("us")),
        "amount": pa.array([row[2] for row in rows], pa.int64()),
    })  # fmt: skip


def people() -> pa.Table:
    return pa.table({"customer": list(range(0, 80, 2)), "band": [number % 5 for number in range(40)]})


def parquet(rows: pa.Table) -> bytes:
    body = io.BytesIO()
    pq.write_table(rows, body)
    return body.getvalue()


@dataclass
class Shop:
    """The pipeline at work: what the DAGs do, called in order in this process, with the real store and the real Spark."""

    home: Home
    landing: str
    pipeline: Pipeline
    application: SparkJob
    module: bytes

    @property
    def spark(self) -> Any:
        return self.application.spark

    @property
    def job(self) -> SparkJob:
        """The job of the next order. What a job read once, the next job reads again."""
        self.application.pins.clear()
        return self.application

    @classmethod
    def open(cls, root: str, spark: Any) -> Shop:
        landing = f"{root}/landing"
        described = pipeline(landing)
        home = Home.of(root, described.name)
        shop = cls(home, landing, described, SparkJob("test", spark), module_zip(MODULE.parent, "shop"))
        shop.keep()
        shop.deliver()
        return shop

    def deliver(self) -> None:
        for month in MONTHS:
            self.put("visits", f"{month:%Y-%m}.parquet", visits(month))
        self.put("people", "all.parquet", people())

    def put(self, source: str, name: str, rows: pa.Table) -> None:
        self.home.objects.put(f"{self.landing}/{source}/{name}", parquet(rows))

    def describe(self, **changes: Any) -> None:
        self.pipeline = pipeline(self.landing, **changes)
        self.keep()

    def code(self, **replaced: str) -> None:
        """Another user module: some text replaced by other text."""
        text = MODULE.read_text()
        for old, new in replaced.items():
            text = text.replace(old, new)
        self.module = zipped(text)
        self.keep()

    def keep(self) -> None:
        """Keeps description and module, as the task that plans does."""
        self.home.receipts.describe(self.pipeline, self.module)

    def run(self, placed: list[PlacedOrder], function: Answer | None = None) -> dict[str, str]:
        """Runs orders as a Spark job does; period to receipt's URI. `function`: what answers them instead of their step's own."""
        uris = {}
        for one in placed:
            self.home.receipts.place(one)
            receipt = self._answer(one, function)
            if not receipt.passed:
                raise DataError(receipt.findings[0]) if receipt.error else CheckFailed(str(one.order), receipt.findings)
            uris[one.order.period] = self.home.receipts.uri(receipt)
        return uris

    def _answer(self, placed: PlacedOrder, function: Answer | None) -> Receipt:
        with patch.object(run, "function_for", lambda _: function) if function else contextlib.nullcontext():
            return run.run_order(self.home, placed, self.job, RunInfo(run="test"))

    def attempt(self, placed: PlacedOrder, function: Answer | None = None) -> Receipt:
        """The receipt of one order, placed and run; of a failure as well."""
        self.home.receipts.place(placed)
        return self._answer(placed, function)

    def together(self, placed: list[PlacedOrder]) -> list[Receipt]:
        """The receipts of orders, placed and run by one job that knows them all; of failures as well."""
        job = SparkJob("test", self.spark, placed)
        for one in placed:
            self.home.receipts.place(one)
        return [run.run_order(self.home, one, job, RunInfo(run="test")) for one in placed]

    def build(self, planned: RunPlan, pinned: str) -> dict[str, Receipt]:
        """The features that a plan misses, staged, audited and published. Where the plan may leave groups out, each may fail."""
        for group in self.home.receipts.description(planned.description).features:
            with contextlib.suppress(*((AlmanacError,) if planned.degrade else ())):
                self.run(feature_orders.groups(self.home, planned, pinned, group.name))
        staged = self.run(feature_orders.combined(self.home, planned, pinned))
        audited = self.run(orders.audits(self.home, staged))
        read = self.home.receipts.read
        return {period: publish.features(self.home, read(staged[period]), read(audited[period]), RunInfo()) for period in staged}

    def pin(self, planned: RunPlan) -> str:
        """What a run builds from: its sources pinned, and checked where the description asks."""
        self.keep()
        pinned = pin.pin(self.home, planned, RunInfo())
        return orders.built_from(pinned, self.run(orders.source_audits(self.home, planned, pinned)))

    def train(self, period: str, **asked: Any) -> str:
        """A version, published but not promoted."""
        planned = plan.retrain(self.home, self.pipeline, self.pipeline.period(period), self.module, **asked)
        pinned = self.pin(planned)
        self.build(planned, pinned)
        staged = self.run([orders.model(self.home, planned, pinned)])
        audited = self.run(orders.audits(self.home, staged))
        read = self.home.receipts.read
        return publish.model(self.home, read(staged[period]), read(audited[period]), RunInfo()).version

    def gate(self, period: str, version: str) -> Receipt:
        planned = plan.retrain(self.home, self.pipeline, self.pipeline.period(period), self.module)
        compared = self.run([orders.comparison(self.home, self.pipeline, planned, version)])
        placed = orders.audits(self.home, compared)[0]
        self.home.receipts.place(placed)
        return run.run_order(self.home, placed, self.job, RunInfo())

    def retrain(self, period: str, **asked: Any) -> str:
        """A version, promoted if the gate lets it through."""
        version = self.train(period, **asked)
        decided = self.gate(period, version)
        if decided.passed:
            publish.champion(self.home, self.pipeline, decided, RunInfo())
        return version

    def promote(self, version: str, reason: str = "by hand") -> None:
        promotions.promote(
            self.home, self.pipeline, self.home.log(), version, reason=reason, gate=None, run_info=RunInfo(actor="ann")
        )

    def stage_score(self, period: str, **asked: Any) -> tuple[Receipt, Receipt]:
        """A scored and audited period, not published."""
        planned = plan.score(self.home, self.pipeline.period(period), **asked)
        if planned.build:
            self.build(planned, self.pin(planned))
        placed = orders.predictions(self.home, planned)
        staged = self.run([placed])
        audited = self.run(orders.audits(self.home, staged))
        return self.home.receipts.read(staged[period]), self.home.receipts.read(audited[period])

    def score(self, period: str, **asked: Any) -> Receipt:
        staged, audited = self.stage_score(period, **asked)
        return publish.predictions(self.home, staged, audited, RunInfo())

    def roll_back(self, **asked: Any) -> None:
        run = f"rollback {uuid.uuid4().hex}"
        planned = rollback.planned(self.home, self.pipeline, run=run, **{"reason": "bad", **asked})
        promotions.rollback(self.home, planned, RunInfo(), rollback.address(self.home, run))
        for one in rollback.runs(self.home, self.pipeline, planned):
            self.score(one.period, degrade=one.degrade, as_is=True)

    def state(self) -> dict[str, Any]:
        """What a reader can see: tables, versions, promotion log. An empty table shows nothing."""
        definitions = {uri.split("/features/")[1].split("/")[0] for uri in self._keys("/features/")}
        visible = {name: canonical.encode(self.home.features(name).visible()) for name in definitions}
        return {
            "predictions": canonical.encode(self.home.predictions.visible()),
            "features": {name: periods for name, periods in visible.items() if periods},
            "versions": self.home.versions.names(),
            "log": canonical.encode(self.home.log().entries),
        }

    def _keys(self, part: str) -> list[str]:
        return [item.uri for item in self.home.objects.walk(self.home.layout.home + part)]

    def remember(self) -> Memory:
        """Every object below the shop's root, for `restore`."""
        objects = self.home.objects
        return {item.uri: (item.etag, objects.get(item.uri)) for item in objects.walk(self.home.layout.root + "/")}

    def restore(self, memory: Memory) -> None:
        """Makes the bucket what it was: so that tests can share a world and still each do as they like with it."""
        objects = self.home.objects
        now = {item.uri: item.etag for item in objects.walk(self.home.layout.root + "/")}
        for uri in now.keys() - memory.keys():
            objects.delete(uri)
        for uri, (etag, body) in memory.items():
            if now.get(uri) != etag:
                objects.put(uri, body)
                # That of a file that was written in several parts is another one now.
                memory[uri] = next(objects.walk(uri)).etag, body

    def scores(self) -> list[tuple[Any, ...]]:
        """Every visible prediction: period, customer, score, version; sorted."""
        found = []
        for period, seen in self.home.predictions.visible().items():
            for path in seen.paths:
                rows = pq.read_table(io.BytesIO(self.home.objects.get(f"{self.home.predictions.uri}/{path}"))).to_pylist()
                found += [(period, row["customer"], row["score"], row["model_version"]) for row in rows]
        return sorted(found)


def renamed(receipt: Receipt, **changes: Any) -> Receipt:
    return replace(receipt, **changes)


def zipped(text: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shop.py").write_text(text)
        return module_zip(Path(folder), "shop")
