"""A version's life through all steps: trained, gated, promoted, scored with, and rolled back from."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest

from almanac import FeatureGroup, Gate
from almanac.core.gate import Verdict
from almanac.core.receipts import Artifact, RunInfo, Step, admit
from almanac.errors import DescriptionError, NotAdmitted
from almanac.model import loading, training
from almanac.runs import plan, publish
from tests.support import shop as shops
from tests.support.shop import Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def published(shop: Shop, table_uri: str, paths: tuple[str, ...]) -> pd.DataFrame:
    """The rows of a visible period, as any reader of Parquet sees them."""
    files = [pq.read_table(io.BytesIO(shop.home.objects.get(f"{table_uri}/{path}"))).to_pandas() for path in paths]
    return pd.concat(files).sort_values("customer", ignore_index=True)


def features_of(world: World, period: str) -> pd.DataFrame:
    table = world.shop.home.features(world.shop.home.versions.read(world.old).definition)
    return published(world.shop, table.uri, table.visible()[period].paths)


def predictions_of(world: World, period: str) -> pd.DataFrame:
    table = world.shop.home.predictions
    return published(world.shop, table.uri, table.visible()[period].paths)


def visits_before(as_of: datetime, days: int) -> pd.DataFrame:
    rows = pd.concat(shops.visits(month).to_pandas() for month in shops.MONTHS)
    return rows[(rows["at"] >= as_of - timedelta(days=days)) & (rows["at"] < as_of)]


def test_published_features_are_those_that_pandas_computes_from_the_ninety_days_before_as_of(world: World) -> None:
    as_of = datetime(2017, 7, 1)
    seen = visits_before(as_of, 90)
    wanted = seen.groupby("customer").agg(visits=("at", "size"), amount=("amount", "sum"), last=("at", "max")).reset_index()
    wanted["days_since_visit"] = (as_of - wanted["last"].dt.normalize()).dt.days
    wanted = wanted.merge(shops.people().to_pandas(), on="customer", how="left").drop(columns="last")

    found = features_of(world, "2017-06")

    assert {str(found[name].dtype) for name in found.columns if name != "customer"} == {"float32"}
    pd.testing.assert_frame_equal(found[wanted.columns], wanted, check_dtype=False)


def test_a_retrain_promotes_its_version_for_the_period_after_its_own(world: World) -> None:
    home = world.shop.home
    (entry,) = home.log().entries
    manifest = home.versions.read(world.old)

    assert (entry.version, entry.effective, entry.previous, entry.verdict) == (world.old, "2017-07", "", "promote")
    assert entry.manifest == manifest.digest
    assert (home.log().in_force("2017-06"), home.log().in_force("2017-07")) == (None, world.old)
    assert (manifest.training, manifest.holdout) == (("2017-03", "2017-04"), "2017-05")


def test_a_promotion_leads_back_to_the_pinned_files_by_receipts_that_all_passed(world: World) -> None:
    home = world.shop.home
    gate = admit(home.receipts.read(home.log().entries[0].gate), Artifact.CHAMPION, Step.AUDIT, pipeline="shop", period="2017-06")
    manifest = home.versions.read(world.old)
    staged = admit(home.receipts.read(manifest.receipt), Artifact.MODEL, Step.STAGE, pipeline="shop", period="2017-06")
    features = home.receipts.read(staged.links["features.2017-04"])
    combined = home.receipts.read(features.links["staged"])
    pinned = home.receipts.read(combined.links["pin"])

    assert gate.facts["comparison"]["candidate_version"] == world.old
    assert features.order.step is Step.PUBLISH and combined.order.step is Step.STAGE
    assert features.content == combined.content == staged.order.inputs["features.2017-04"]
    assert sorted(combined.links) == ["part.habits", "part.traits", "pin"]
    assert {output.name for output in pinned.outputs} == {"visits", "people"}


def test_scores_are_the_promoted_models_probabilities_of_the_published_features(world: World) -> None:
    features, found = features_of(world, "2017-07"), predictions_of(world, "2017-07")
    manifest = world.shop.home.versions.read(world.old)
    model = loading.open_model(manifest.bundle).model

    assert list(found.columns) == ["customer", "as_of", "score", "model_version", "order"]
    assert list(found["customer"]) == list(features["customer"])
    assert manifest.engine.name == "numpy", manifest.engine.reason
    assert found["score"].tolist() == pytest.approx(model.predict_proba(features[list(manifest.features)])[:, 1], abs=1e-6)
    assert found["score"].nunique() > 1
    assert set(found["model_version"]) == {world.old}
    assert set(found["as_of"]) == {datetime(2017, 8, 1, tzinfo=UTC)}
    assert set(found["order"]) == {world.shop.home.predictions.visible()["2017-07"].order}


def test_the_second_start_of_a_retrain_looks_at_the_sources_and_makes_nothing(world: World) -> None:
    before = world.shop.state()

    assert world.shop.retrain("2017-06") == world.old
    assert world.shop.state() == before
    assert {uri.split("/receipts/")[1].split("/")[0] for uri in world.changed() if "/receipts/" in uri} <= {"sources"}
    assert not [uri for uri in world.changed() if "/models/" in uri or "/features/" in uri or "/promotions/" in uri]


def test_the_second_start_of_a_retrain_keeps_the_gates_verdict_although_nothing_gains_on_itself(world: World) -> None:
    world.shop.describe(gate=Gate(metric="roc_auc", min_gain=0.01))

    decided = world.shop.gate("2017-06", world.old)

    assert decided.passed
    assert world.shop.home.receipts.uri(decided) == world.shop.home.log().entries[0].gate


def test_the_second_start_of_a_score_gives_the_same_receipt_and_writes_nothing_at_all(world: World) -> None:
    before = world.shop.home.predictions.version()

    assert world.shop.score("2017-07") == world.scored
    assert world.shop.home.predictions.version() == before
    assert world.changed() == []


def test_a_second_version_meets_the_one_in_force_on_its_own_holdout_and_follows_it(world: World) -> None:
    shop = world.shop
    decided = shop.gate("2017-07", world.new)
    compared = decided.facts["comparison"]
    holdout = pq.read_table(
        io.BytesIO(shop.home.versions.file(shop.home.versions.read(world.new).files["holdout.parquet"]))
    ).to_pandas()
    old = shop.home.versions.read(world.old)
    scores = training.predict(loading.open_model(old.bundle).model, holdout[list(old.features)], old.target)

    assert (compared["champion_version"], compared["holdout"], compared["obstacle"]) == (world.old, "2017-06", "")
    assert compared["champion"] == pytest.approx(training.metrics(holdout["label"], scores))
    assert compared["candidate"] == pytest.approx(dict(shop.home.versions.read(world.new).metrics))

    entry = publish.champion(shop.home, shop.pipeline, decided, RunInfo())

    assert entry is not None and (entry.previous, entry.effective) == (world.old, "2017-08")
    log = shop.home.log()
    assert (log.in_force("2017-07"), log.in_force("2017-08"), log.champion) == (world.old, world.new, world.new)


def test_a_version_that_the_gate_rejects_is_kept_and_not_promoted(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    shop.describe(gate=Gate(metric="roc_auc", min_gain=0.9))
    decided = shop.gate("2017-07", world.new)

    with pytest.raises(NotAdmitted) as refused:
        publish.champion(shop.home, shop.pipeline, decided, RunInfo())

    text = str(refused.value)
    assert decided.answered and not decided.passed
    assert decided.facts["decision"]["verdict"] == Verdict.REJECT.value
    assert "did not pass, so nothing is built on it" in text
    assert f"{world.old} in force has " in text and "needed is +0.9000" in text
    assert shop.state() == before


def test_a_candidate_below_the_floor_is_rejected_although_it_gains(world: World) -> None:
    world.shop.describe(gate=Gate(metric="roc_auc", min_gain=-1.0, floor=0.999))
    decided = world.shop.gate("2017-07", world.new)

    assert not decided.passed
    assert "is below the floor 0.9990" in decided.findings[0]


def test_a_gate_that_looked_before_somebody_else_promoted_is_not_used(world: World) -> None:
    shop = world.shop
    decided = shop.gate("2017-07", world.new)
    shop.train("2017-08")
    shop.promote(shop.train("2017-08"))
    before = shop.state()

    with pytest.raises(Exception, match="moved from entry 1 to 2") as refused:
        publish.champion(shop.home, shop.pipeline, decided, RunInfo())

    assert type(refused.value).__name__ == "LogMoved"
    assert "Nothing was promoted. Clear the task champion.stage" in str(refused.value)
    assert shop.state() == before


def test_a_version_named_by_hand_scores_although_another_one_is_in_force(world: World) -> None:
    shop = world.shop
    log = shop.home.log()

    receipt = shop.score("2017-07", version=world.new)

    visible = shop.home.predictions.visible()["2017-07"]
    assert receipt.facts["version"] == world.new
    assert receipt.order.replaces == world.scored.order.inputs["staged"]
    assert {score[3] for score in shop.scores()} == {world.new}
    assert (visible.order, visible.rows) == (receipt.order.inputs["staged"], world.scored.rows)
    assert shop.home.log() == log


def test_a_version_that_wants_feature_groups_of_another_time_is_not_scored_with(world: World) -> None:
    shop = world.shop
    shop.describe(features=(FeatureGroup("habits", reads=("visits",), lookback=shops.QUARTER),))
    before = shop.state()

    planned = plan.score(shop.home, shop.pipeline.period("2017-09"))
    with pytest.raises(DescriptionError) as refused:
        plan.check_buildable(shop.home, shop.pipeline, planned)

    text = str(refused.value)
    assert f"Version {world.old} needs the feature groups habits, traits" in text
    assert "today's description has habits. Restore the groups" in text
    assert shop.state() == before
