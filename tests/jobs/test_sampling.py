"""A version of sampled rows: made again the same, described as what it is, and judged on the whole holdout."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq
import pytest

from almanac import MovingWindow, Sampling
from almanac.core.receipts import RunInfo
from almanac.runs import orders, pin, plan
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def report(world: World, version: str) -> dict:
    manifest = world.shop.home.versions.read(version)
    return json.loads(world.shop.home.versions.file(manifest.files["report.json"]))


def test_a_version_is_trained_on_the_rows_that_were_drawn_and_judged_on_all_of_the_holdout(world: World) -> None:
    shop = world.shop
    shop.describe(window=MovingWindow(2, sampling=Sampling(60, half_life=6)))

    version = shop.train("2017-06")

    told, before = report(world, version), report(world, world.old)
    assert told["training"]["rows"] == 60 < before["training"]["rows"]
    assert told["holdout"]["rows"] == before["holdout"]["rows"]
    assert told["training"]["positive"] == pytest.approx(before["training"]["positive"], abs=0.06)
    manifest = shop.home.versions.read(version)
    assert version != world.old and manifest.definition == shop.home.versions.read(world.old).definition
    trained = pq.read_table(io.BytesIO(shop.home.versions.file(manifest.files["trained.parquet"])))
    assert trained.num_rows == 60 and trained["@weight"].null_count == 0
    assert f"60 of {before['training']['rows']} training rows were drawn." in shop.home.receipts.read(manifest.receipt).findings
    assert shop.train("2017-06") == version


def test_a_stratum_that_is_no_feature_is_refused_with_the_features_that_there_are(world: World) -> None:
    shop = world.shop
    shop.describe(window=MovingWindow(2, sampling=Sampling(60, by=("colour",))))
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module)
    receipt = shop.attempt(orders.model(shop.home, planned, pin.pin(shop.home, planned, RunInfo())))
    assert not receipt.passed
    assert receipt.findings[0].startswith("Sampling.by: expected features (visits, amount, days_since_visit, band), got colour.")
