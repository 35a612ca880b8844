"""A large pipeline's records, written at once as its steps would have left them: for what must stay quick with many."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, cached_property
from typing import Any

import botocore.session
import pyarrow as pa
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.transaction import AddAction

from almanac import EventSource, FeatureGroup, Label, MovingWindow, Pipeline, Population
from almanac.core.canonical import digest, dumps, sealed, sha256
from almanac.core.layout import staged_file, version_id
from almanac.core.period import Period
from almanac.core.pins import Pin, PinnedFile
from almanac.core.receipts import Artifact, Order, Output, PlacedOrder, Receipt, RunInfo, Step, publish_order
from almanac.lineage import indexing
from almanac.lineage.index import Index
from almanac.lineage.trail import reading
from almanac.store.home import Home
from almanac.store.tables import Table
from almanac.store.versions import Manifest
from tests.support.records import NOON

DAY = timedelta(days=1)
MILLISECONDS = int(NOON.timestamp() * 1000)
MODULE = b"the user's module, zipped"
GROUPS = tuple(f"group_{number}" for number in range(8))


def pipeline(landing: str) -> Pipeline:
    """Daily periods, eight groups that look back for thirty days."""
    return Pipeline(
        name="forest",
        entity="customer",
        every="day",
        first_period="2016-01-01",
        sources={"visits": EventSource(f"{landing}/visits/", event_time="at", timezone="UTC")},
        population=Population("customers", reads=("visits",), lookback=30 * DAY),
        features=tuple(FeatureGroup(name, reads=("visits",), lookback=30 * DAY) for name in GROUPS),
        label=Label("returns", reads=("visits",), horizon=7 * DAY, absent=0),
        window=MovingWindow(3),
    )


@dataclass
class Forest:
    """Records of a daily pipeline: each period pinned, built by groups, combined, audited, published and scored; a version
    each twenty periods. They are kept in memory until `write`."""

    home: Home
    landing: str
    days: int
    records: dict[str, bytes] = field(default_factory=dict)
    visible: dict[Artifact, dict[str, Receipt]] = field(default_factory=lambda: {Artifact.FEATURES: {}, Artifact.PREDICTIONS: {}})
    receipts: dict[str, Receipt] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @cached_property
    def pipeline(self) -> Pipeline:
        return pipeline(self.landing)

    @cached_property
    def module(self) -> str:
        return sha256(MODULE)

    @cached_property
    def definition(self) -> str:
        return self.pipeline.definition(self.module)

    @property
    def periods(self) -> list[Period]:
        return [self.pipeline.first.plus(number) for number in range(self.days)]

    def file(self, period: Period) -> PinnedFile:
        """The source's file of a day."""
        uri = f"{self.landing}/visits/{period.key}.parquet"
        return PinnedFile(
            uri=uri, size=1000, etag=digest(uri)[:32], groups=(10,), low=period.start, high=period.end - timedelta(seconds=1)
        )

    def grow(self) -> Forest:
        described = dumps(self.pipeline)
        self.records[self.home.layout.description(sha256(described))] = described
        self.records[self.home.layout.module(self.module)] = MODULE
        version: Manifest | None = None
        for number, period in enumerate(self.periods):
            pin = self._pin(period)
            self._build(period, pin)
            if number % 20 == 15:
                version = self._train(period, pin)
            elif version is not None:
                self._score(period, version)
        return self

    def _order(self, artifact: Artifact, period: Period, **given: Any) -> Order:
        described = {"step": Step.STAGE, "description": self.definition, "inputs": {}, **given}
        return Order(
            pipeline=self.home.name, artifact=artifact, period=period.key, module=self.module, almanac="0.1.0", **described
        )

    def _keep(self, order: Order, links: Mapping[str, str], **given: Any) -> str:
        """Keeps an order and its receipt; gives the receipt's URI."""
        home = self.home
        others = {"description": self.pipeline.digest, "definition": self.definition}
        run_info = RunInfo(
            dag="forest", run=f"run of {order.period}", task=f"{order.artifact.value}.{order.step.value}", ended=NOON
        )
        name = order.digest
        receipt = Receipt(order=order, passed=True, run_info=run_info, links=links, content=name, **given)
        uri = home.layout.receipt(order.artifact.value, order.step.value, name, 0)
        if order.step is Step.STAGE:
            self.records[home.layout.order(name)] = sealed(PlacedOrder(order=order, links={**links, **others}))
        self.records[uri] = sealed(receipt)
        self.receipts[uri] = receipt
        return uri

    def _pin(self, period: Period) -> str:
        first = max(self.pipeline.first.start, period.start - 60 * DAY)
        days = Period.holding(first, period.calendar).until(period)
        body = dumps(Pin(source="visits", uri=f"{self.landing}/visits/", files=tuple(map(self.file, days)), columns={"at": "ts"}))
        order = self._order(Artifact.SOURCES, period, step=Step.PIN, inputs={"visits": sha256(body)})
        uri = self.home.layout.part(order.digest, "visits.json")
        self.records[uri] = body
        return self._keep(order, {}, outputs=(Output(name="visits", uri=uri, bytes=len(body), sha256=sha256(body)),))

    def _build(self, period: Period, pin: str) -> None:
        parts = {
            f"part.{name}": self._keep(self._order(Artifact.FEATURES, period, part=name, inputs={"visits": pin}), {"pin": pin})
            for name in GROUPS
        }
        self._publish(self._order(Artifact.FEATURES, period, inputs=parts), {**parts, "pin": pin})

    def _publish(self, order: Order, links: Mapping[str, str], **facts: Any) -> None:
        """An order staged, audited and published."""
        home = self.home
        path = staged_file(order.period, order.digest, "u")
        uri = f"{home.table_of(order).uri}/{path}"
        output = Output(name=path, uri=uri, bytes=1, sha256="0" * 64, rows=1, stats={"model_version": facts.get("version")})
        staged = self._keep(order, links, outputs=(output,), facts=facts)
        audited = self._keep(order.next(Step.AUDIT, {"order": order.digest}), {**links, "staged": staged}, facts={"checks": 3})
        self._keep(publish_order(order), {"staged": staged, "audit": audited}, outputs=(output,), facts=facts)
        self.visible[order.artifact][order.period] = Receipt(order=order, passed=True, run_info=RunInfo(), outputs=(output,))

    def _published(self, period: Period) -> str:
        staged = self.visible[Artifact.FEATURES][period.key].order
        return self.home.layout.receipt("features", "publish", publish_order(staged).digest, 0)

    def _train(self, period: Period, pin: str) -> Manifest:
        holdout, *training = [period.plus(-number) for number in (8, 9, 10, 11)]
        links = {f"features.{one.key}": self._published(one) for one in (*training, holdout)}
        described = digest({"features": self.definition, "label": period.key})
        parameters = {"training": [one.key for one in training], "holdout": holdout.key}
        order = self._order(Artifact.MODEL, period, description=described, parameters=parameters, inputs=links)
        version = version_id(period.key, order.digest)
        facts = {"version": version, "definition": self.definition, "estimator": "tree", **parameters}
        staged = self._keep(order, {**links, "pin": pin}, facts=facts)
        audited = self._keep(order.next(Step.AUDIT, {"order": order.digest}), {"staged": staged}, facts={"golden_rows": 3})
        manifest = Manifest(
            pipeline=self.home.name,
            version=version,
            period=period.key,
            order=order.digest,
            receipt=staged,
            audit=audited,
            description=self.pipeline.digest,
            module=self.module,
            definition=self.definition,
            entity="customer",
            features=("visits",),
            training=tuple(parameters["training"]),
            holdout=holdout.key,
            estimator="tree",
            metrics={},
            files={},
            content="c",
        )
        self.records[self.home.layout.manifest(version)] = sealed(manifest)
        self.versions[version] = staged
        return manifest

    def _score(self, period: Period, version: Manifest) -> None:
        parameters = {"version": version.version, "in_sample": False}
        links = {"features": self._published(period)}
        order = self._order(Artifact.PREDICTIONS, period, parameters=parameters, inputs={"version": version.digest})
        self._publish(order, links, version=version.version)

    def write(self) -> None:
        """Puts the records, and makes the partitions visible: a hundred commits a table, the last ones with many periods."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(_put, self.records.keys(), self.records.values()))
        self._commit(self.home.predictions, self.visible[Artifact.PREDICTIONS])
        self._commit(self.home.features(self.definition), self.visible[Artifact.FEATURES])

    def index(self) -> None:
        """Puts the index, as questions before would have left it."""
        with reading(self.home) as trail:
            trail.receipts.update(self.receipts)
            found = indexing.added(trail, Index(), self.receipts, self.versions)
        self.home.objects.put(self.home.layout.index, sealed(found))

    def _commit(self, table: Table, staged: Mapping[str, Receipt]) -> None:
        table.create(pa.schema([("customer", pa.int64()), ("model_version", pa.string())]))
        for batch in _batches(list(staged.items()), 40):
            opened = DeltaTable(table.uri)
            actions = [_action(period, receipt.outputs[0]) for period, receipt in batch]
            opened.create_write_transaction(
                actions,
                "append",
                opened.schema(),
                ["period"],
                commit_properties=CommitProperties(),
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            )


@cache
def _pool() -> tuple[urllib3.PoolManager, S3SigV4Auth]:
    credentials = botocore.session.get_session().get_credentials()
    return urllib3.PoolManager(maxsize=16), S3SigV4Auth(credentials, "s3", os.environ["AWS_REGION"])


def _put(uri: str, body: bytes) -> None:
    """A signed PUT, without all else that boto3 does for one: that takes most of the time of a small object."""
    pool, signer = _pool()
    asked = AWSRequest("PUT", f"{os.environ['AWS_ENDPOINT_URL']}/{uri.removeprefix('s3://')}", data=body)
    signer.add_auth(asked)
    answer = pool.request("PUT", asked.url, body=body, headers=dict(asked.headers.items()))
    assert answer.status == 200, answer.data


def _batches(items: list[Any], count: int) -> Iterator[list[Any]]:
    size = -(-len(items) // count)
    yield from (items[start : start + size] for start in range(0, len(items), size))


def _action(period: str, output: Output) -> AddAction:
    version = output.stats["model_version"]
    bounds = f'{{"model_version": "{version}"}}' if version else "{}"
    stats = f'{{"numRecords": 1, "minValues": {bounds}, "maxValues": {bounds}}}'
    return AddAction(output.name, output.bytes, {"period": period}, MILLISECONDS, True, stats)
