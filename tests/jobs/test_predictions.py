"""Batch scoring, step by step: empty periods, columns that are kept, shifts, many periods in one run, bad input."""

from __future__ import annotations

import io
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import Population, Scoring
from almanac.core.canonical import sealed, sha256
from almanac.core.receipts import RunInfo
from almanac.errors import DataError, DescriptionError
from almanac.runs import orders, pin, plan, publish
from tests.support.shop import MODULE, QUARTER, Shop, parquet, visits, zipped
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def rows_of(shop: Shop, period: str) -> pa.Table:
    seen, table = shop.home.predictions.visible()[period], shop.home.predictions
    return pa.concat_tables(pq.read_table(io.BytesIO(shop.home.objects.get(f"{table.uri}/{path}"))) for path in seen.paths)


# --- what is written ---


@pytest.fixture(scope="module")
def keeping(store: object, spark: object) -> Shop:
    """A shop whose versions keep a feature beside the score, and whose population may be empty."""
    shop = Shop.open(f"s3://almanac/{uuid.uuid4().hex}", spark)
    shop.describe(
        population=Population("customers", reads=("visits",), lookback=QUARTER, may_be_empty=True),
        scoring=Scoring(keep=("visits",)),
    )
    shop.retrain("2017-06")
    return shop


def test_a_feature_that_is_kept_stands_beside_the_score(keeping: Shop) -> None:
    keeping.score("2017-07")

    found = rows_of(keeping, "2017-07")
    assert found.schema.names == ["customer", "as_of", "score", "visits", "model_version", "order"]
    assert found.schema.field("visits").type == pa.float32()
    assert min(found["visits"].to_pylist()) >= 1


def test_an_empty_period_is_published_empty_and_scored_again_changes_nothing(keeping: Shop) -> None:
    receipt = keeping.score("2018-06")

    assert (receipt.passed, receipt.rows) == (True, 0)
    seen = keeping.home.predictions.visible()["2018-06"]
    assert (seen.rows, len(seen.paths)) == (0, 1)
    assert rows_of(keeping, "2018-06").num_rows == 0
    version = keeping.home.predictions.version()
    assert keeping.score("2018-06") == receipt
    assert keeping.home.predictions.version() == version


def test_a_period_without_entities_is_refused_where_nobody_said_that_it_is_right(world: World) -> None:
    # Else the pin would find that the data have ended.
    world.shop.put("visits", "2019-01.parquet", visits(datetime(2019, 1, 1)))
    before = world.shop.state()
    with pytest.raises(DataError) as refused:
        world.shop.score("2018-06")
    assert str(refused.value) == (
        "Population 'customers' has no entity for 2018-06: its sources hold no event in that time. Check that the sources were "
        "delivered for the period, or choose another period. If a period without entities is right, use Population('customers', "
        "may_be_empty=True): an empty period is then published."
    )
    assert world.shop.state() == before


def test_scores_that_are_spread_otherwise_than_in_the_period_before_are_a_warning(world: World) -> None:
    shop = world.shop
    staged, audited = shop.stage_score("2017-08")
    assert not [text for text in audited.findings if "has shifted" in text]
    publish.predictions(shop.home, staged, audited, RunInfo())
    # Everybody comes twenty times a month.
    for month in (datetime(2017, 6, 1), datetime(2017, 7, 1), datetime(2017, 8, 1)):
        often = visits(month, seed=month.month)
        shop.put("visits", f"{month:%Y-%m}.parquet", pa.concat_tables([often.slice(0, 0), *[_everybody(month)] * 20]))

    _, later = shop.stage_score("2017-09")

    (text,) = [text for text in later.findings if "has shifted" in text]
    assert later.passed, "a shift is told, and stops nothing"
    assert text.startswith("warning: score has shifted since 2017-08: population stability index ")


def _everybody(month: datetime) -> pa.Table:
    rows = {"customer": list(range(80)), "at": [month + timedelta(days=27)] * 80, "amount": [4000] * 80}
    return pa.table(rows, schema=visits(month).schema)


# --- many periods in one run ---


def test_many_periods_in_one_run_give_what_single_runs_give(world: World) -> None:
    shop, months = world.shop, ("2017-08", "2017-09", "2017-10")
    single = {period: shop.score(period).content for period in months}
    alone = shop.scores()
    shop = world.restored().shop

    planned = plan.score_all(shop.home, shop.pipeline.range("2017-08", "2017-10"))
    building = plan.joined(planned)
    shop.build(building, pin.pin(shop.home, building, RunInfo()))
    staged = shop.run([orders.predictions(shop.home, one) for one in planned])
    audited = shop.run(orders.audits(shop.home, staged))
    read, before = shop.home.receipts.read, shop.home.predictions.version()
    found = {
        period: publish.predictions(shop.home, read(staged[period]), read(audited[period]), RunInfo()).content
        for period in staged
    }

    assert (found, shop.scores()) == (single, alone)
    assert shop.home.predictions.version() == before + 3, "a commit for each period"


def test_periods_that_need_features_of_two_definitions_are_scored_in_two_runs(world: World) -> None:
    shop = world.shop
    shop.code(**{'F.count("*")': 'F.count("at")'})
    shop.promote(shop.train("2017-09"))  # in force from 2017-10 on

    with pytest.raises(DescriptionError) as refused:
        plan.score_all(shop.home, shop.pipeline.range("2017-09", "2017-10"))
    assert str(refused.value).startswith("Features of 2 definitions are missing (2017-09 by ")
    assert "Score the periods of each definition in a run of their own, or in a backfill." in str(refused.value)


# --- bad input ---


def features_with(world: World, **columns: Any) -> Shop:
    """The published features of 2017-08 exchanged for others, with digests that fit: what a bug in an engine would meet."""
    shop = world.shop
    found = shop.home.features(shop.home.versions.read(world.old).definition)
    (path,) = found.visible()["2017-08"].paths
    uri = f"{found.uri}/{path}"
    rows = pq.read_table(io.BytesIO(shop.home.objects.get(uri)))
    for name, value in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, pa.array([value] * len(rows), pa.float32()))
    body = parquet(rows)
    shop.home.objects.put(uri, body)
    published = shop.home.published(found, ["2017-08"])["2017-08"]
    output = replace(published.outputs[0], bytes=len(body), sha256=sha256(body), footer="")
    shop.home.objects.put(shop.home.receipts.uri(published), sealed(replace(published, outputs=(output,))))
    return shop


def test_a_row_that_gets_no_finite_score_is_refused_with_what_is_wrong_in_it(world: World) -> None:
    shop = features_with(world, amount=float("inf"))
    before = shop.state()
    with pytest.raises(DataError) as refused:
        shop.stage_score("2017-08")
    text = str(refused.value)
    assert text.startswith(f"Version {world.old} ") and "infinity" in text
    assert text.endswith("Nothing was published. Correct the features, or train on such values.")
    assert shop.state() == before


def test_features_that_were_cut_short_are_not_scored(world: World) -> None:
    shop = world.shop
    found = shop.home.features(shop.home.versions.read(world.old).definition)
    (path,) = found.visible()["2017-08"].paths
    body = shop.home.objects.get(f"{found.uri}/{path}")
    shop.home.objects.put(f"{found.uri}/{path}", body[: len(body) // 2])
    before = shop.state()

    with pytest.raises(DataError, match=r"\.parquet: this is not a complete Parquet file \(.+\)\. Deliver or build it again"):
        shop.stage_score("2017-08")
    assert shop.state() == before


FRAGILE = """

from sklearn.linear_model import LogisticRegression


class Fragile(LogisticRegression):
    \"""It kills the Spark worker that asks it while a file is there, once.\"""

    def predict_proba(self, rows):
        import os
        from pathlib import Path

        from pyspark import TaskContext

        if TaskContext.get() is not None and Path({armed!r}).exists():
            Path({armed!r}).unlink(missing_ok=True)
            os._exit(1)
        return super().predict_proba(rows)


def estimators():
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    return {{"fragile": make_pipeline(SimpleImputer(), Fragile())}}
"""


def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_and_the_next_run_is_right(
    store: object, root: str, spark: object, tmp_path: Path
) -> None:
    shop, armed = Shop.open(root, spark), tmp_path / "armed"
    shop.module = zipped(MODULE.read_text() + FRAGILE.format(armed=str(armed)))
    shop.keep()
    version = shop.retrain("2017-06")  # its audit scores in tasks too
    before = shop.state()

    armed.touch()
    with pytest.raises(DataError, match="Python worker exited unexpectedly"):
        shop.score("2017-07")
    left = shop.state()
    assert {**left, "features": {}} == {**before, "features": {}}

    receipt = shop.score("2017-07")
    manifest = shop.home.versions.read(version)
    assert manifest.engine.name == "scikit-learn" and "cannot be exported" in manifest.engine.reason
    assert receipt.rows == len(shop.scores()) == rows_of(shop, "2017-07").num_rows > 0


BOOSTED = """

def estimators():
    from sklearn.ensemble import HistGradientBoostingClassifier

    return {"boosted": HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=5, random_state=0)}
"""


def test_boosted_trees_are_kept_by_the_audit_and_scored_by_numpy_in_the_tasks(store: object, root: str, spark: object) -> None:
    shop = Shop.open(root, spark)
    shop.module = zipped(MODULE.read_text() + BOOSTED)
    shop.keep()
    version = shop.retrain("2017-06")
    receipt = shop.score("2017-07")

    manifest = shop.home.versions.read(version)
    assert manifest.engine.name == "numpy", manifest.engine.reason
    assert manifest.engine.speedup is not None
    assert {"model.onnx", "trees.npz"} <= manifest.files.keys()
    assert receipt.facts["engine"] == "numpy"
    assert len({score for _, _, score, _ in shop.scores()}) > 1
