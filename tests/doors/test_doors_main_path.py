"""A version's life through all doors: trained, gated, promoted, scored with, and rolled back from."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest

from almanac import FeatureGroup, Gate
from almanac.core.gate import Verdict
from almanac.core.receipts import Door, Thing, Witness, admit
from almanac.core.rollback import Plan
from almanac.doors import plan, publish
from almanac.errors import DataError, DescriptionError, NotAdmitted, PromotionError
from almanac.spark import training
from tests import shop as shops
from tests.shop import Shop
from tests.world import World

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


def planned_rollback(shop: Shop, **asked: object) -> Plan:
    return plan.rollback(shop.home, shop.pipeline, **{"reason": "bad", **asked})  # type: ignore[arg-type]


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
    gate = admit(home.receipts.read(home.log().entries[0].gate), Thing.CHAMPION, Door.AUDIT, pipeline="shop", period="2017-06")
    manifest = home.versions.read(world.old)
    staged = admit(home.receipts.read(manifest.receipt), Thing.MODEL, Door.STAGE, pipeline="shop", period="2017-06")
    features = home.receipts.read(staged.links["features.2017-04"])
    combined = home.receipts.read(features.links["staged"])
    pinned = home.receipts.read(combined.links["pin"])

    assert gate.facts["comparison"]["candidate_version"] == world.old
    assert features.order.door is Door.PUBLISH and combined.order.door is Door.STAGE
    assert features.content == combined.content == staged.order.inputs["features.2017-04"]
    assert sorted(combined.links) == ["part.habits", "part.traits", "pin"]
    assert {output.name for output in pinned.outputs} == {"visits", "people"}


def test_scores_are_the_promoted_models_probabilities_of_the_published_features(world: World) -> None:
    features, found = features_of(world, "2017-07"), predictions_of(world, "2017-07")
    manifest = world.shop.home.versions.read(world.old)
    model = world.shop.home.versions.model(manifest.files)

    assert list(found.columns) == ["customer", "as_of", "score", "model_version", "order"]
    assert list(found["customer"]) == list(features["customer"])
    assert found["score"].tolist() == pytest.approx(model.predict_proba(features[list(manifest.features)])[:, 1], abs=1e-12)
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
    scores = training.probability(shop.home.versions.model(old.files), holdout[list(old.features)])

    assert (compared["champion_version"], compared["holdout"], compared["obstacle"]) == (world.old, "2017-06", "")
    assert compared["champion"] == pytest.approx(training.metrics(holdout["label"], scores))
    assert compared["candidate"] == pytest.approx(dict(shop.home.versions.read(world.new).metrics))

    entry = publish.champion(shop.home, shop.pipeline, decided, Witness())

    assert entry is not None and (entry.previous, entry.effective) == (world.old, "2017-08")
    log = shop.home.log()
    assert (log.in_force("2017-07"), log.in_force("2017-08"), log.champion) == (world.old, world.new, world.new)


def test_a_version_that_the_gate_rejects_is_kept_and_not_promoted(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    shop.describe(gate=Gate(metric="roc_auc", min_gain=0.9))
    decided = shop.gate("2017-07", world.new)

    with pytest.raises(NotAdmitted) as refused:
        publish.champion(shop.home, shop.pipeline, decided, Witness())

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


def test_a_version_in_force_that_has_seen_the_holdout_is_not_comparable(world: World) -> None:
    world.shop.roll_back(to=world.new)  # now in force from 2017-07, and trained on 2017-05
    decided = world.shop.gate("2017-06", world.old)

    assert decided.facts["decision"]["verdict"] == Verdict.NOT_COMPARABLE.value
    assert f"{world.new} in force was trained on the holdout 2017-05 (its window: 2017-04, 2017-05)" in decided.findings[0]


def test_a_gate_that_looked_before_somebody_else_promoted_is_not_used(world: World) -> None:
    shop = world.shop
    decided = shop.gate("2017-07", world.new)
    shop.train("2017-08")
    shop.promote(shop.train("2017-08"))
    before = shop.state()

    with pytest.raises(Exception, match="moved from entry 1 to 2") as refused:
        publish.champion(shop.home, shop.pipeline, decided, Witness())

    assert type(refused.value).__name__ == "Conflict"
    assert "Nothing was promoted; clear the task champion.stage" in str(refused.value)
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


def test_after_a_rollback_the_predictions_are_those_of_a_world_where_the_bad_version_was_never_promoted(world: World) -> None:
    shop = world.shop
    shop.score("2017-08")
    untouched = shop.scores()
    shop.restore(world.memory)

    shop.promote(world.new)
    shop.score("2017-08")
    bad = shop.scores()
    first = shop.home.predictions.visible()["2017-07"]
    shop.roll_back()

    assert {score[3] for score in bad} == {world.old, world.new}
    assert [score[2] for score in bad] != [score[2] for score in untouched]
    assert shop.scores() == untouched
    assert shop.home.predictions.visible()["2017-07"] == first, "a period that the bad version did not write is left alone"
    entry = shop.home.log().entries[-1]
    assert (entry.version, entry.replaces, entry.withdraw, entry.reason) == (world.old, world.new, True, "bad")


def test_a_second_rollback_finds_nothing_older_and_is_refused(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.roll_back()
    before = shop.state()

    with pytest.raises(PromotionError) as refused:
        shop.roll_back()

    text = str(refused.value)
    assert f"nothing older than {world.old} is in force or was" in text
    assert f"(the log has: {world.old}, {world.new})" in text
    assert "Promote a version first, and then roll back to it by name." in text
    assert shop.state() == before


def test_a_rollback_that_is_started_again_with_its_plan_appends_nothing(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    planned = planned_rollback(shop)
    first = publish.rollback(shop.home, planned, Witness())
    before = shop.state()

    assert publish.rollback(shop.home, planned, Witness(run="again")) == first
    assert shop.state() == before


def test_a_rollback_that_was_planned_before_another_promotion_is_refused(world: World) -> None:
    shop = world.shop
    planned = planned_rollback(shop, to=world.new)
    shop.promote(world.new)
    before = shop.state()

    with pytest.raises(Exception, match="moved from entry 1 to 2 since this rollback was planned") as refused:
        publish.rollback(shop.home, planned, Witness())

    assert type(refused.value).__name__ == "Conflict"
    assert "start a new rollback" in str(refused.value)
    assert shop.state() == before


def test_a_withdrawn_version_neither_scores_nor_is_promoted_nor_is_rolled_back_to(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.roll_back()
    before = shop.state()

    with pytest.raises(PromotionError, match=f"Version {world.new} was withdrawn; nothing is scored with it"):
        shop.score("2017-08", version=world.new)
    with pytest.raises(PromotionError, match=f"Version {world.new} was withdrawn and is not promoted again"):
        shop.promote(world.new)
    with pytest.raises(PromotionError, match=rf"Version {world.new} was withdrawn. Name another one: {world.old}"):
        shop.roll_back(to=world.new)
    assert shop.state() == before


def test_rolling_back_to_an_unknown_version_names_those_that_are_there(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(PromotionError) as refused:
        world.shop.roll_back(to="2016-01-00000000")

    assert f"Version '2016-01-00000000' is unknown (there are: {world.old}, {world.new}). Name one of them." in str(refused.value)
    assert world.shop.state() == before


def test_a_rollback_to_the_version_itself_or_without_a_reason_is_refused(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(PromotionError, match=f"Version {world.old} is the one to be rolled back from. Name an older one."):
        world.shop.roll_back(to=world.old)
    with pytest.raises(PromotionError, match="A rollback needs a reason, found none"):
        planned_rollback(world.shop, to=world.new, reason=" ")
    assert world.shop.state() == before


def test_a_rollback_without_withdrawal_moves_only_periods_to_come(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score("2017-08")
    visible = shop.home.predictions.visible()

    shop.roll_back(withdraw=False)

    log = shop.home.log()
    assert (log.in_force("2017-08"), log.in_force("2017-09")) == (world.new, world.old)
    assert shop.home.predictions.visible() == visible
    assert log.withdrawn == frozenset()


def test_a_rollback_of_periods_that_the_version_did_not_write_is_refused(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(PromotionError) as refused:
        world.shop.roll_back(to=world.new, periods=["2017-07", "2017-08"])

    assert f"Version {world.old} did not write 2017-08 (it wrote: 2017-07)." in str(refused.value)
    assert world.shop.state() == before


def test_a_rollback_to_a_version_that_was_trained_on_an_affected_period_is_refused_before_anything_changes(world: World) -> None:
    shop = world.shop
    trained_on_it = shop.train("2017-09")
    before = shop.state()
    assert "2017-07" in shop.home.versions.read(trained_on_it).training

    with pytest.raises(DataError) as refused:
        shop.roll_back(to=trained_on_it)

    text = str(refused.value)
    assert f"Version {trained_on_it} was trained on 2017-07" in text
    assert "older version" in text
    assert shop.state() == before


def test_a_rollback_to_a_version_whose_features_are_not_published_is_refused_naming_its_definition(world: World) -> None:
    shop = world.shop
    other = replace(shop.home.versions.read(world.old), version="2017-05-0123abcd", definition="0123456789abcdef")
    shop.home.versions.publish(other)
    before = shop.state()

    with pytest.raises(DescriptionError) as refused:
        shop.roll_back(to="2017-05-0123abcd")

    text = str(refused.value)
    assert "wants features of definition 0123456789abcdef, which are not published for 2017-07" in text
    assert "Score these periods with version=2017-05-0123abcd first, or roll back to another version." in text
    assert shop.state() == before


def test_a_version_that_wants_feature_groups_of_another_time_is_not_scored_with(world: World) -> None:
    shop = world.shop
    shop.describe(features=(FeatureGroup("habits", reads=("visits",), lookback=shops.QUARTER),))
    before = shop.state()

    with pytest.raises(DescriptionError) as refused:
        plan.score(shop.home, shop.pipeline, shop.pipeline.period("2017-09"))

    text = str(refused.value)
    assert f"Version {world.old} wants features of the groups habits, traits" in text
    assert "today's description has habits. Bring the groups back" in text
    assert shop.state() == before
