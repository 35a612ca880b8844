"""A small bucket as a released version wrote it: how it is made, packed and put back.

`python -m tests.formats.bucket` writes the bucket of this version, `tests/formats/VERSION.zip`. Run it when a version is
released, and never again for that version: what it wrote is what later versions must read.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from almanac import Aggregates, Audit, Gate, ParquetDelivery, Scoring
from almanac.core.receipts import RunInfo
from almanac.deliveries import projection
from almanac.runs import feature_orders, pin, plan, publish
from almanac.settings import VERSION
from almanac.store.home import Home
from tests.support import shop as shops
from tests.support.shop import MONTHS, Shop

FOLDER = Path(__file__).parent
ROOT = "s3://almanac/formats"
DELIVERED = "s3://almanac/formats-delivered"
EXPECTED = "expected.json"
CHECKS = '{"features": [gxe.ExpectColumnValuesToBeBetween(column="visits", min_value=1)]}'
AUDITED = (
    '{"sources": {"visits": [gxe.ExpectColumnValuesToBeBetween(column="amount", min_value=0)]},'
    ' "features": [gxe.ExpectColumnValuesToBeBetween(column="visits", min_value=1)]}'
)


def make(root: str, spark: object) -> Shop:
    """A shop that has met everything that is kept: aggregates, rows set aside, a failed order, a rejection, a promotion that
    somebody approved, a group left out, a delivery, a rollback.
    """
    shop = Shop.open(root, spark)
    visits, habits = shop.pipeline.sources["visits"], shop.pipeline.group("habits")
    recent = Aggregates(
        "recent", reads=("visits",), windows=(timedelta(days=30),), events=("count",), columns={"amount": ("sum",)}
    )
    described = {
        "sources": {**shop.pipeline.sources, "visits": replace(visits, audit=Audit(quarantine=0.2))},
        "features": (habits, shop.pipeline.group("traits"), recent),
        "scoring": Scoring(degrade=0.5),
        "deliveries": (ParquetDelivery("lake", uri=DELIVERED),),
        "gate": Gate(metric="roc_auc", min_gain=-0.9, floor=0.1),
    }
    shop.describe(**described)
    shop.code(**{CHECKS: AUDITED})
    wrong = pa.table({"customer": [1], "at": [MONTHS[4]], "amount": [-5]}, schema=shops.visits(MONTHS[4]).schema)
    shop.put("visits", "2017-05.parquet", pa.concat_tables([shops.visits(MONTHS[4]), wrong]))

    shop.retrain("2017-06")
    shop.score("2017-07")
    whole = shop.module
    shop.code(**{CHECKS: AUDITED, 'F.sum("amount")': 'F.sum("no_such_column")'})
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module)
    shop.attempt(feature_orders.groups(shop.home, planned, shop.pin(planned), "habits")[0])
    shop.module = whole
    shop.describe(**{**described, "gate": Gate(metric="roc_auc", min_gain=-0.2, floor=0.999999)})
    shop.retrain("2017-07")
    shop.describe(**described)
    newer = shop.train("2017-08")
    publish.champion(shop.home, shop.pipeline, shop.gate("2017-08", newer), RunInfo(dag="shop_retrain", run="r8"), "ann")
    shop.score("2017-09")
    shop.home.objects.delete(f"{shop.landing}/people/all.parquet")
    shop.score("2017-10", degrade=0.5)
    shop.put("people", "all.parquet", shops.people())
    projection.deliver(shop.home, shop.pipeline, shop.pipeline.deliveries[0], "", RunInfo(dag="shop_score", run="s1"))
    return shop


def go_on(shop: Shop) -> dict[str, Any]:
    """What must come out the same, whichever version does it: a period scored, one more model staged, a rollback."""
    scored = shop.score("2017-11")
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-08"), shop.module)
    pinned = pin.pin(shop.home, planned, RunInfo())
    version = shop.train("2017-09")
    shop.roll_back(reason="fixture")
    return {
        "pin": shop.home.receipts.read(pinned).order.digest,
        "scored": [scored.order.digest, scored.content],
        "version": [version, shop.home.versions.read(version).content],
        "predictions": {period: [seen.order, seen.rows] for period, seen in shop.home.predictions.visible().items()},
        "scores": [[period, customer, round(score, 6), by] for period, customer, score, by in shop.scores()],
    }


def standing(shop: Shop) -> dict[str, Any]:
    """What a reader sees."""
    return json.loads(json.dumps(shop.state()))


def pack(home: Home, expected: Any) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for item in (found for prefix in (ROOT, DELIVERED) for found in home.objects.walk(f"{prefix}/")):
            archive.writestr(item.uri.removeprefix("s3://"), home.objects.get(item.uri))
        archive.writestr(EXPECTED, json.dumps(expected, indent=1))
    return packed.getvalue()


def unpack(version: str, spark: object) -> tuple[Shop, dict[str, Any]]:
    """The shop of a released version, as it left it; and what is expected of it."""
    home = Home.of(ROOT, "shop")
    for prefix in (ROOT, DELIVERED):
        for item in list(home.objects.walk(f"{prefix}/")):
            home.objects.delete(item.uri)
    with zipfile.ZipFile(FOLDER / f"{version}.zip") as archive:
        expected = json.loads(archive.read(EXPECTED))
        for name in archive.namelist():
            if name != EXPECTED:
                home.objects.put(f"s3://{name}", archive.read(name))
    module, description = (expected.pop(key) for key in ("module", "description"))
    pipeline = home.receipts.description(description)
    return Shop(home, f"{ROOT}/landing", pipeline, shops.SparkJob("test", spark), home.receipts.module(module)), expected


def main() -> None:
    import os
    import sys

    from almanac.local import java, seaweed

    with tempfile.TemporaryDirectory() as folder:
        store = seaweed.start(Path(folder) / "store")
        os.environ.update(store.environment())
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ["JAVA_HOME"] = str(java.java_home(Path(folder)))
        from pyspark.sql import SparkSession

        session = SparkSession.builder.master("local[2]").config("spark.sql.shuffle.partitions", "2").getOrCreate()
        shop = make(ROOT, session)
        description, module = shop.home.receipts.describe(shop.pipeline, shop.module)
        packed = pack(shop.home, {})
        before = standing(shop)
        expected = {"module": module, "description": description, "standing": before, "after": go_on(shop)}
        with (
            zipfile.ZipFile(io.BytesIO(packed)) as whole,
            zipfile.ZipFile(FOLDER / f"{VERSION}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        ):
            for name in whole.namelist():
                if name != EXPECTED:
                    archive.writestr(name, whole.read(name))
            archive.writestr(EXPECTED, json.dumps(expected, indent=1))
        session.stop()
        store.stop()


if __name__ == "__main__":
    main()
