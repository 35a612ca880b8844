"""Feature groups that cannot be built: a period is scored with nulls in their place, as far as its version can do without."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import EventSource, FeatureGroup, Late, Scoring
from almanac.core.canonical import decode, encode, sealed
from almanac.core.degrade import check
from almanac.core.provenance import explain
from almanac.core.receipts import Receipt
from almanac.doors import audit, building, orders, plan, redo, rollback, stage
from almanac.errors import DataError, NotAdmitted, SourceError
from almanac.store import provenance
from almanac.store.versions import Versions
from tests.refusals import refusal, told
from tests.shop import Shop, people, visits
from tests.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

HALF = 0.5
SEPTEMBER = "2017-09"
MISSING = "Source 'people' is missing"


def without_people(shop: Shop) -> None:
    shop.home.objects.delete(f"{shop.landing}/people/all.parquet")


def twice(shop: Shop) -> None:
    """People that stand twice: the group that reads them fails."""
    shop.put("people", "all.parquet", pa.concat_tables([people(), people()]))


def features(shop: Shop, published: Receipt) -> Any:
    bodies = (shop.home.objects.get(output.uri) for output in published.outputs)
    return pa.concat_tables([pq.read_table(io.BytesIO(body)) for body in bodies]).to_pandas().set_index("customer").sort_index()


def of_period(shop: Shop, version: str, period: str) -> Receipt:
    definition = shop.home.versions.read(version).definition
    return shop.home.published(shop.home.features(definition), [period])[period]


def planned(shop: Shop, period: str = SEPTEMBER, **asked: Any) -> Any:
    return plan.score(shop.home, shop.pipeline.period(period), **{"degrade": HALF, **asked})


def test_a_version_tells_what_each_group_is_worth_to_it(world: World) -> None:
    versions = world.shop.home.versions
    shares = versions.importance(versions.read(world.old))

    assert set(shares) == {"habits", "traits"}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["habits"] > 2 * shares["traits"], "how often somebody comes says whether they come again"


def test_a_version_that_does_not_tell_it_can_do_without_nothing(world: World) -> None:
    with pytest.raises(DataError, match=r"they hold 1, .* allows 0\.5\. .* A group of importance 1 is never left out: the model"):
        check(replace(planned(world.shop), importance={}), {"traits": "it failed"})


def test_a_group_whose_source_is_not_there_is_left_out_and_the_model_imputes(world: World) -> None:
    shop = world.shop
    without_people(shop)

    published = shop.score(SEPTEMBER, degrade=HALF)

    built = of_period(shop, world.old, SEPTEMBER)
    rows = features(shop, built)
    assert rows.band.isna().all()
    assert rows.band.dtype == np.float32
    assert (rows.visits > 0).all(), "the other group is as ever"
    assert built.facts["left_out"] == ["traits"]
    assert "part.traits" not in built.order.inputs
    staged = shop.home.receipts.read(built.links["staged"])
    assert staged.findings == ("Feature groups traits were left out: band are null.",)
    assert staged.order.parameters["left_out"] == ["traits"]

    from almanac.spark import models

    manifest = shop.home.vouched(world.old)
    model = models.open_model(manifest.bundle).model
    expected = model.predict_proba(rows[list(manifest.features)])[:, 1]
    found = {row[1]: row[2] for row in shop.scores() if row[0] == SEPTEMBER}
    assert [found[customer] for customer in rows.index] == pytest.approx(expected, abs=1e-5)
    scored = shop.home.receipts.read(published.links["staged"])
    assert scored.findings == ("Scored without the feature groups traits: their features were null.",)
    assert scored.order.parameters["left_out"] == ["traits"]


def test_the_pin_says_what_is_left_out_and_why(world: World) -> None:
    shop = world.shop
    without_people(shop)

    receipt = shop.home.receipts.read(world.pin(planned(shop)))

    assert receipt.facts["people"] == {"files": 0, "freshness": None, "late": "degrade"}
    assert receipt.facts["visits"]["late"] == "latest"
    assert receipt.order.parameters["lacking"] == ["people"]
    (finding,) = (text for text in receipt.findings if "left out" in text)
    assert finding.startswith("What reads source 'people' is left out: ")
    with pytest.raises(
        NotAdmitted, match="'traits' reads source 'people', which was not as it must be when the sources were pinned"
    ):
        building.groups(shop.home, planned(shop), shop.home.receipts.uri(receipt), "traits")


def test_a_source_that_is_not_complete_is_left_out_and_one_that_the_population_reads_is_not(world: World) -> None:
    shop = world.shop
    whole = Late("fail", within=timedelta(days=5))
    clicks = EventSource(f"{shop.landing}/clicks/", event_time="at", timezone="UTC", late=whole)
    shop.put("clicks", "old.parquet", visits(datetime(2017, 3, 1)))
    shop.describe(
        sources={**shop.pipeline.sources, "clicks": clicks},
        features=(*shop.pipeline.features, FeatureGroup("pages", reads=("clicks",))),
    )
    description, _ = shop.home.receipts.describe(shop.pipeline, shop.module)
    asked = replace(planned(shop), description=description, importance={"habits": 0.8, "traits": 0.1, "pages": 0.1})

    receipt = shop.home.receipts.read(world.pin(asked))

    assert receipt.order.parameters["lacking"] == ["clicks"]
    (finding,) = (text for text in receipt.findings if "left out" in text)
    assert "Source 'clicks' is not complete: for the features of 2017-09 its newest event before 2017-10-01 is of" in finding
    shop.describe(sources={**shop.pipeline.sources, "visits": replace(shop.pipeline.sources["visits"], late=whole)})
    for month in ("2017-08", "2017-09"):
        shop.home.objects.delete(f"{shop.landing}/visits/{month}.parquet")
    description, _ = shop.home.receipts.describe(shop.pipeline, shop.module)
    with pytest.raises(SourceError, match="Source 'visits' is not complete"):
        world.pin(replace(asked, description=description))


def test_a_group_whose_job_fails_is_left_out_with_the_reason(world: World) -> None:
    shop = world.shop
    twice(shop)
    asked = planned(shop)
    pinned = world.pin(asked)
    with pytest.raises(DataError, match="more than once"):
        shop.carry(building.groups(shop.home, asked, pinned, "traits"), stage.features)
    shop.carry(building.groups(shop.home, asked, pinned, "habits"), stage.features)

    (combined,) = building.combined(shop.home, asked, pinned)

    assert combined.order.parameters["left_out"] == ["traits"]
    with pytest.raises(DataError) as refused:
        building.combined(shop.home, replace(asked, importance={"habits": 0.4, "traits": 0.6}), pinned)
    text = str(refused.value)
    assert text.startswith(
        f"2017-09 cannot be scored without the feature groups traits: of the importance of version {world.old} they hold 0.6, "
        "Scoring.degrade allows 0.5. Mend what kept them from being built and start the run again. Or raise Scoring.degrade.\n"
        "traits (0.6): - Feature group 'traits' has 40 entities more than once"
    )
    with pytest.raises(NotAdmitted) as strict:
        building.combined(shop.home, replace(asked, degrade=0.0), pinned)
    assert str(strict.value).startswith("Feature groups traits of 2017-09 were not built, so nothing is combined. Look at their ")


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"degrade": 0.0}, SourceError, MISSING),
        ({"degrade": 1e-9}, DataError, "2017-09 cannot be scored without the feature groups traits"),
    ],
    ids=["none may be left out", "it weighs too much"],
)
def test_a_run_that_cannot_do_without_a_source_ends_at_its_pin(
    world: World, asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    shop = world.shop
    without_people(shop)
    before = shop.state()
    found = planned(shop, **asked)
    found = replace(found, importance={"habits": 0.9, "traits": 0.1} if found.importance else {})

    with pytest.raises(error, match=said):
        world.pin(found)

    assert shop.state() == before


def test_a_population_is_never_left_out(world: World) -> None:
    shop = world.shop
    for item in shop.home.objects.walk(f"{shop.landing}/visits/"):
        shop.home.objects.delete(item.uri)

    with pytest.raises(SourceError, match="Source 'visits' is missing"):
        world.pin(planned(shop))


def test_a_retrain_leaves_nothing_out(world: World) -> None:
    shop = world.shop
    shop.describe(scoring=Scoring(degrade=HALF))
    without_people(shop)

    with pytest.raises(SourceError, match=MISSING):
        world.pin(world.planned(SEPTEMBER))


def test_the_next_score_builds_them_whole_as_if_nothing_had_been(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    without = of_period(shop, world.old, SEPTEMBER)
    assert planned(shop).build == (SEPTEMBER,), "it is tried again"
    shop.put("people", "all.parquet", people())

    scored = shop.score(SEPTEMBER, degrade=HALF)

    whole = of_period(shop, world.old, SEPTEMBER)
    assert "left_out" not in whole.facts
    assert planned(shop).build == ()
    other = world.restored().shop
    assert other.score(SEPTEMBER).content == scored.content
    assert of_period(other, world.old, SEPTEMBER).content == whole.content != without.content


def test_while_they_cannot_be_built_a_second_run_changes_nothing(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    before = shop.state()

    shop.score(SEPTEMBER, degrade=HALF)

    assert shop.state() == before


def test_nothing_is_trained_on_features_without_a_group(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    shop.put("people", "all.parquet", people())

    found = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period(SEPTEMBER), shop.module)
    assert (found.holdout, SEPTEMBER in found.build) == ("2017-08", False)
    found = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-10"), shop.module)
    assert (found.holdout, SEPTEMBER in found.build) == (SEPTEMBER, True)
    with pytest.raises(NotAdmitted) as refused:
        orders.model(shop.home, replace(found, build=()), world.pin(found))

    assert str(refused.value) == (
        "Features of 2017-09 (without traits) are not whole, and nothing is trained on such. Clear the run from its plan on: it "
        "builds them whole."
    )


def test_what_is_published_whole_is_used_and_not_replaced(world: World) -> None:
    """Also where its publisher died before the receipt: the order of what is visible tells that it is whole."""
    shop = world.shop
    shop.score("2017-08")
    twice(shop)
    before = shop.state()
    assert planned(shop, "2017-08", refresh=True).build == ("2017-08",)

    shop.score("2017-08", degrade=HALF, refresh=True)

    assert shop.state() == before
    asked = planned(shop, "2017-08", refresh=True)
    pinned = world.pin(asked)
    shop.home.objects.delete(shop.home.receipts.uri(of_period(shop, world.old, "2017-08")))
    shop.carry(building.groups(shop.home, asked, pinned, "habits"), stage.features)
    (placed,) = building.combined(shop.home, asked, pinned)
    assert placed == world.standing("2017-08")


def test_what_lacks_less_is_not_replaced_by_what_lacks_more(world: World) -> None:
    """And what lacks as much is, where the sources changed."""
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    asked = replace(planned(shop), degrade=0.99, importance={"habits": 0.5, "traits": 0.4})
    pinned = world.pin(asked)
    standing = shop.home.receipts.placed(shop.home.features(asked.definition).visible()[SEPTEMBER].order)
    assert building.combined(shop.home, asked, pinned) == [standing]
    shop.put("visits", f"{SEPTEMBER}.parquet", visits(datetime(2017, 9, 1), seed=4))
    pinned = world.pin(asked)

    assert building.combined(shop.home, asked, pinned) == [standing], "habits were not built of the new file"

    shop.carry(building.groups(shop.home, asked, pinned, "habits"), stage.features)
    (placed,) = building.combined(shop.home, asked, pinned)
    assert (placed.order.replaces, placed.order.parameters["left_out"]) == (standing.order.digest, ["traits"])


def test_a_part_that_is_not_kept_any_more_is_no_group_that_could_not_be_built(world: World) -> None:
    shop = world.shop
    asked = planned(shop)
    pinned = world.pin(asked)
    built = shop.carry(building.every_group(shop.home, asked, pinned), stage.features)
    traits = building.groups(shop.home, asked, pinned, "traits")[0]
    receipt = shop.home.receipts.find(traits.order)
    assert built and receipt is not None
    old = replace(receipt, attempt=1, witness=replace(receipt.witness, ended=datetime.now(UTC) - timedelta(days=8)))
    shop.home.objects.put(shop.home.receipts.uri(old), sealed(old))

    with pytest.raises(NotAdmitted) as refused:
        building.combined(shop.home, asked, pinned)

    assert str(refused.value) == (
        "Feature group 'traits' of 2017-09 was built, and its rows are not kept any more. Clear the task features.stage.traits: "
        "it builds them again."
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions can do without traits, whatever 80 customers say of it."""
    monkeypatch.setattr(Versions, "importance", lambda *_: {"habits": 0.8, "traits": 0.2})


@pytest.mark.usefixtures("measured")
def test_a_rollback_takes_features_as_they_are_where_its_version_can_do_without_the_groups(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    scored_by = {row[3] for row in shop.scores() if row[0] == SEPTEMBER}
    assert scored_by == {world.new}

    shop.describe(scoring=Scoring(degrade=HALF))
    shop.roll_back()

    assert {row[3] for row in shop.scores() if row[0] == SEPTEMBER} == {world.old}
    assert of_period(shop, world.old, SEPTEMBER).facts["left_out"] == ["traits"]


@pytest.mark.usefixtures("measured")
def test_a_rollback_to_a_version_that_cannot_do_without_them_builds_them(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)

    kept = rollback.planned(shop.home, shop.pipeline, reason="bad")
    found = planned(shop, version=kept.to, as_is=True, degrade=0.1)

    assert (found.build, found.degrade) == ((SEPTEMBER,), 0.0)
    assert planned(shop, version=kept.to, as_is=True, degrade=0.2).build == ()
    with pytest.raises(DataError, match="it was left out of the features"):
        orders.predictions(shop.home, replace(found, build=()))


def test_what_was_left_out_is_named_as_stale_and_explained(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)

    definition = shop.home.versions.read(world.old).definition
    assert redo.stale(shop.home, definition, [SEPTEMBER]) == [SEPTEMBER], "also while nobody can look at the source"
    shop.put("people", "all.parquet", people())
    found = redo.found(shop.home)
    ((features,), (predictions,)) = found.features, found.predictions
    tree = explain(provenance.evidence(shop.home, provenance.shown(shop.home, SEPTEMBER)))

    assert (features.period, features.sources, features.left_out) == (SEPTEMBER, (), ("traits",))
    assert (predictions.period, predictions.reasons) == (SEPTEMBER, ("its features change",))
    assert tree.facts["left_out"] == ["traits"]
    (below,) = [node for node in tree.children if node.kind == "features"]
    assert below.facts["left_out"] == ["traits"]
    assert [node.name for node in below.children if node.kind == "part"] == ["habits", "population"]


def test_predictions_of_features_that_a_retrain_built_whole_are_named_too(world: World) -> None:
    shop = world.shop
    without_people(shop)
    shop.score(SEPTEMBER, degrade=HALF)
    shop.put("people", "all.parquet", people())
    found = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-10"), shop.module)
    shop.build(found, shop.pin(found))

    left = redo.found(shop.home)

    assert left.features == ()
    assert [(one.period, one.reasons) for one in left.predictions] == [(SEPTEMBER, ("its features were built again since",))]
    shop.score(SEPTEMBER)
    assert redo.found(shop.home).nothing


def test_where_nothing_was_ever_built_nobody_knows_which_columns_are_left_out(world: World) -> None:
    """As for a version of features that were built as known at a time: those of its own definition are yet to come."""
    shop = world.shop
    without_people(shop)
    asked = replace(planned(shop), definition="0123456789abcdef")
    pinned = world.pin(asked)
    shop.carry(building.groups(shop.home, asked, pinned, "habits"), stage.features)
    (placed,) = building.combined(shop.home, asked, pinned)

    text = told(refusal(world, placed, stage.features), "DataError")

    assert text == (
        "Feature groups traits cannot be left out: no features of this definition were built yet, so nobody knows which columns "
        "they would have. Build a period whole first."
    )


def test_checks_of_features_that_are_null_are_not_asked(world: World) -> None:
    shop = world.shop
    without_people(shop)
    asked = planned(shop)
    pinned = world.pin(asked)
    shop.carry(building.groups(shop.home, asked, pinned, "habits"), stage.features)
    staged = shop.carry(building.combined(shop.home, asked, pinned), stage.features)
    shop.code(**{"[gxe.": '[gxe.ExpectColumnValuesToNotBeNull(column="band"), gxe.'})

    receipt = shop.attempt(world.coded(orders.audits(shop.home, staged)[0]), audit.features)

    assert receipt.passed, receipt.findings
    assert receipt.findings == ("warning: the groups traits were left out, so nothing was asked of band",)
    assert receipt.facts["checks"] == 4
    assert [output.name for output in receipt.outputs] == ["checks.html", "checks.json"], "no checks are drafted from it"


def test_several_periods_leave_out_what_all_of_their_versions_can_do_without(world: World) -> None:
    shop = world.shop
    one, other = (planned(shop, period) for period in (SEPTEMBER, "2017-10"))
    other = replace(other, importance={"habits": 0.2, "traits": 0.8})

    joined = plan.joined([replace(one, importance={"habits": 0.9, "traits": 0.1}), other])

    assert joined.importance == {"habits": 0.9, "traits": 0.8}
    assert joined.degrade == HALF
    nothing = plan.joined([replace(one, build=()), replace(other, build=())])
    assert (nothing.build, nothing.importance) == ((), {"habits": 0.2, "traits": 0.8})
    assert decode(type(joined), encode(joined)) == joined
