"""Published predictions without Spark, and what readers of a delivery of them see."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from almanac.core.canonical import sha256
from almanac.core.deliveries import Delivery, ParquetDelivery, PostgresDelivery
from almanac.core.layout import staged_file
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Artifact, Output, PlacedOrder, Receipt, RunInfo, Step, publish_order
from almanac.deliveries import projection
from almanac.store.home import Home
from almanac.store.objects import Objects
from tests.support import records
from tests.support.shop import parquet, pipeline

AS_OF = datetime(2017, 8, 1, tzinfo=UTC)
COLUMNS = pa.schema(
    [
        ("customer", pa.int64()),
        ("as_of", pa.timestamp("us", tz="UTC")),
        ("score", pa.float64()),
        ("model_version", pa.string()),
        ("order", pa.string()),
    ]
)
WITNESS = RunInfo(dag="shop_score", run="run-1", task="predictions.deliver")
Seen = list[tuple[str, Any, str]]
Ask = Callable[..., list[Any]]  # a query and its values in, rows out


@dataclass
class Scores:
    """The predictions of the shop, published by hand."""

    home: Home
    count: int = 0

    @property
    def described(self) -> Pipeline:
        return pipeline(f"{self.home.layout.root}/landing")

    def rows(self, order: str, customers: int, version: str = "v1", first: int = 0) -> pa.Table:
        """A row a customer, from a first one on."""
        listed = list(range(first, first + customers))
        columns = [listed, [AS_OF] * customers, [0.5 + number / 1000 for number in listed], [version] * customers]
        return pa.Table.from_arrays(
            [pa.array(column, kind.type) for column, kind in zip([*columns, [order] * customers], COLUMNS, strict=True)],
            schema=COLUMNS,
        )

    def stage(self, period: str, *files: pa.Table, customers: int = 4, version: str = "v1") -> Receipt:
        """An order staged, not visible: two files, or those that are given."""
        self.count += 1
        self.home.predictions.create(COLUMNS)
        order = records.order(
            artifact=Artifact.PREDICTIONS,
            step=Step.STAGE,
            period=period,
            parameters={"version": version, "count": self.count},
            fence=self.home.predictions.fence(period),
        )
        half = customers // 2
        tables = files or (
            self.rows(order.digest, half, version),
            self.rows(order.digest, customers - half, version, half),
        )
        outputs = tuple(self._file(period, order.digest, number, table) for number, table in enumerate(tables))
        self.home.receipts.place(PlacedOrder(order=order))
        facts = {"version": version}
        return self.home.receipts.keep(Receipt(order=order, passed=True, run_info=WITNESS, outputs=outputs, facts=facts))

    def _file(self, period: str, order: str, number: int, table: pa.Table) -> Output:
        body = parquet(table)
        name = staged_file(period, order, f"{number}")
        uri = f"{self.home.predictions.uri}/{name}"
        self.home.objects.put(uri, body)
        stats = {"model_version": ["v1", "v1"]}
        return Output(name=name, uri=uri, bytes=len(body), sha256=sha256(body), rows=table.num_rows, stats=stats)

    def publish(self, period: str, *files: pa.Table, receipt: bool = True, **more: Any) -> str:
        """Makes a period visible; gives the order. Without the receipt of a publish, if asked for."""
        staged = self.stage(period, *files, **more)
        order = publish_order(staged.order)
        table = self.home.predictions
        table.publish(period, staged.outputs, fence=table.fence(period), metadata={"order": order.digest})
        if receipt:
            made = {"outputs": staged.outputs, "facts": staged.facts}
            self.home.receipts.keep(Receipt(order=order, passed=True, run_info=WITNESS, **made))
        return staged.order.digest

    def remove(self, period: str) -> None:
        """Makes a period visible no more."""
        table = self.home.predictions
        table.publish(period, [], fence=table.fence(period), metadata={"order": "removed"})

    def seen(self) -> Seen:
        """What the predictions table shows: period, customer, order."""
        found = []
        for period, seen in self.home.predictions.visible().items():
            for path in seen.paths:
                body = self.home.objects.get(f"{self.home.predictions.uri}/{unquote(path)}")
                found += [(period, row["customer"], row["order"]) for row in pq.read_table(io.BytesIO(body)).to_pylist()]
        return sorted(found)

    def file(self, period: str) -> str:
        """The URI of a visible file."""
        return f"{self.home.predictions.uri}/{unquote(self.home.predictions.visible()[period].paths[0])}"


@dataclass
class Target:
    """A delivery and its readers."""

    delivery: Delivery
    address: str
    objects: Objects
    told: list[str] = field(default_factory=list)

    def deliver(self, scores: Scores, told: Callable[[Any], None] = lambda _: None) -> dict[str, tuple[str, int, str]]:
        """Delivers; gives what was done: period to order, rows and what it replaced."""
        done = projection.deliver(scores.home, scores.described, self.delivery, self.address, WITNESS, told)
        return {one.period: (one.order, one.rows, one.replaced) for one in done.applied}

    def outstanding(self, scores: Scores) -> list[str]:
        return projection.outstanding(scores.home, self.delivery, self.address)

    def seen(self) -> Seen:
        """What a reader sees who keeps to the rules: the files of the manifests, or the table."""
        if isinstance(self.delivery, PostgresDelivery):
            with psycopg.connect(self.address) as connection:
                if connection.execute("SELECT to_regclass(%s)", [self.delivery.table]).fetchone() == (None,):
                    return []
                table = sql.Identifier(*self.delivery.table.split("."))
                query = sql.SQL('SELECT period, customer, "order" FROM {} ORDER BY 1, 2').format(table)
                return connection.execute(query).fetchall()
        found = []
        for name, body in self.files():
            if name.endswith("/_manifest.json"):
                manifest = json.loads(body)
                files = dict(self.files())
                for file in manifest["files"]:
                    data = files[f"period={manifest['period']}/{file['name']}"]
                    assert (len(data), sha256(data)) == (file["bytes"], file["sha256"])
                    found += _rows(manifest["period"], data)
        return sorted(found)

    def globbed(self) -> Seen:
        """What a reader of a Parquet delivery sees who takes every data file that is there."""
        data = [(name.split("/")[0].removeprefix("period="), body) for name, body in self.files() if name.endswith(".parquet")]
        return sorted(row for period, body in data for row in _rows(period, body))

    def files(self) -> Iterator[tuple[str, bytes]]:
        assert isinstance(self.delivery, ParquetDelivery)
        if self.delivery.uri.startswith("s3://"):
            prefix = f"{self.delivery.uri.rstrip('/')}/"
            for item in self.objects.walk(prefix):
                yield item.uri.removeprefix(prefix), self.objects.get(item.uri)
            return
        folder = Path(self.delivery.uri)
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                yield file.relative_to(folder).as_posix(), file.read_bytes()

    def state(self) -> list[Any]:
        """Everything that a write would change, were its content the same or not."""
        if isinstance(self.delivery, PostgresDelivery):
            with psycopg.connect(self.address) as connection:
                notes = connection.execute("SELECT xmin::text, * FROM almanac_deliveries ORDER BY period").fetchall()
                table = sql.Identifier(*self.delivery.table.split("."))
                query = sql.SQL("SELECT xmin::text, ctid::text, period, customer FROM {} ORDER BY 3, 4").format(table)
                return [*notes, *connection.execute(query).fetchall()]
        if self.delivery.uri.startswith("s3://"):
            return list(self.objects.walk(f"{self.delivery.uri}/"))
        return [(file, file.stat().st_mtime_ns, file.stat().st_ino) for file in sorted(Path(self.delivery.uri).rglob("*"))]


def _rows(period: str, body: bytes) -> Seen:
    return [(period, row["customer"], row["order"]) for row in pq.read_table(io.BytesIO(body)).to_pylist()]
