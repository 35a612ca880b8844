"""Plans that were overtaken: what becomes visible is by what is in force at that moment, and an older plan replaces nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from almanac.core.plan import RunPlan
from almanac.core.receipts import Receipt, RunInfo
from almanac.core.rollback import RollbackPlan
from almanac.errors import AlmanacError, Conflict, DataError, Overtaken, PeriodError
from almanac.lineage.verify import verify
from almanac.runs import feature_orders, orders, plan, promotions, publish, redo, rollback
from almanac.store.objects import Objects
from tests.support.shop import MONTHS, Shop, people, visits
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

AUGUST = "2017-08"


def planned(shop: Shop, period: str = AUGUST, **asked: object) -> RunPlan:
    return plan.score(shop.home, shop.pipeline.period(period), **asked)  # type: ignore[arg-type]


def staged(shop: Shop, one: RunPlan) -> tuple[Receipt, Receipt]:
    uris = shop.run([orders.predictions(shop.home, one)])
    audited = shop.run(orders.audits(shop.home, uris))
    return shop.home.receipts.read(uris[one.period]), shop.home.receipts.read(audited[one.period])


def versions(shop: Shop) -> dict[str, str]:
    return {one.period: one.version for one in shop.home.written()}


def reasons(shop: Shop) -> dict[str, tuple[str, ...]]:
    return {one.period: one.reasons for one in redo.found(shop.home).predictions}


# --- predictions ---


def test_a_plan_made_before_a_promotion_and_another_runs_publish_replaces_nothing(world: World) -> None:
    shop = world.shop
    stale = planned(shop)
    shop.promote(world.new)
    shop.score(AUGUST)
    before = shop.state()

    with pytest.raises(Overtaken) as refused:
        publish.predictions(shop.home, *staged(shop, stale), RunInfo())

    assert not refused.value.published
    assert str(refused.value).startswith(
        f"While {AUGUST} was scored with version {world.old}, the log changed: version {world.new} is in force for it. "
        "Nothing was published. "
    )
    assert shop.state() == before and versions(shop)[AUGUST] == world.new


def test_a_plan_made_before_another_runs_publish_by_the_same_version_gets_a_conflict(world: World) -> None:
    """Features were built again meanwhile: what was scored from the older ones would stand over the newer."""
    shop = world.shop
    stale = planned(shop)
    old = staged(shop, stale)
    shop.put("visits", "2017-08.parquet", visits(MONTHS[7], seed=9))
    newer = shop.score(AUGUST, refresh=True)
    before = shop.state()

    with pytest.raises(Conflict, match=f"another run published {AUGUST}"):
        publish.predictions(shop.home, *old, RunInfo())

    assert shop.state() == before
    assert shop.home.predictions.visible()[AUGUST].order in newer.links["staged"]
    again = orders.predictions(shop.home, stale)
    assert again.order.digest in newer.links["staged"], "the stale plan finds that its work is done, on the newer features"


def test_a_promotion_while_a_score_runs_leaves_no_period_to_the_version_before(world: World) -> None:
    shop = world.shop
    by_old = shop.stage_score(AUGUST)
    shop.promote(world.new)

    with pytest.raises(Overtaken, match="Nothing was published"):
        publish.predictions(shop.home, *by_old, RunInfo())

    shop.score(AUGUST)
    assert versions(shop)[AUGUST] == world.new


def test_a_promotion_between_the_look_and_the_commit_is_seen_after_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = world.shop
    by_old = shop.stage_score(AUGUST)
    real = publish._period

    def beside(*given: object) -> Receipt:
        shop.promote(world.new)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(publish, "_period", beside)
    with pytest.raises(Overtaken, match="Its predictions became visible before that was noticed") as refused:
        publish.predictions(shop.home, *by_old, RunInfo())
    assert refused.value.published


def test_a_version_that_was_asked_for_by_name_is_published_whatever_is_in_force_and_named_by_nobody(world: World) -> None:
    shop = world.shop
    by_new = shop.stage_score(AUGUST, version=world.new)
    publish.predictions(shop.home, *by_new, RunInfo())

    assert by_new[0].order.parameters["asked"] is True
    assert versions(shop)[AUGUST] == world.new
    assert reasons(shop) == {} and verify(shop.home).findings == ()


def test_a_period_that_is_not_by_the_version_in_force_is_named_by_the_plan_and_by_verify(world: World) -> None:
    shop = world.shop
    shop.score(AUGUST)
    shop.promote(world.new)

    assert reasons(shop) == {AUGUST: (f"version {world.new} is in force for it",)}
    (finding,) = verify(shop.home).findings
    assert finding.uri == f"{shop.home.predictions.uri}/period={AUGUST}/"
    assert finding.found == f"predictions by version {world.old}"
    assert AUGUST in finding.advice

    shop.score(AUGUST)
    assert reasons(shop) == {} and verify(shop.home).findings == ()


def test_visible_predictions_of_a_withdrawn_version_are_named_also_where_it_was_asked_for(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score(AUGUST, version=world.new)
    promotions.rollback(shop.home, withdrawing(shop), RunInfo())

    assert reasons(shop) == {AUGUST: (f"version {world.new} is withdrawn",)}
    (finding,) = verify(shop.home).findings
    assert finding.expected == f"predictions by the version in force: version {world.new} is withdrawn"


def withdrawing(shop: Shop, **asked: object) -> RollbackPlan:
    return rollback.planned(shop.home, shop.pipeline, reason="bad", **asked)  # type: ignore[arg-type]


# --- a rollback's runs ---


def test_the_runs_of_a_rollback_are_overtaken_as_others_are(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score(AUGUST)
    going = withdrawing(shop)
    promotions.rollback(shop.home, going, RunInfo())
    (run,) = rollback.runs(shop.home, shop.pipeline, going)
    scored = staged(shop, run)
    promotions.reinstate(shop.home, world.new, reason="it was right", run_info=RunInfo())
    shop.promote(world.new)

    with pytest.raises(Overtaken, match=f"version {world.new} is in force for it"):
        publish.predictions(shop.home, *scored, RunInfo())
    assert versions(shop)[AUGUST] == world.new


def test_periods_that_a_rollback_left_out_are_rolled_back_later(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    for period in (AUGUST, "2017-09", "2017-10"):
        shop.score(period)
    shop.roll_back(periods=["2017-09"])
    assert versions(shop) == {"2017-07": world.old, AUGUST: world.new, "2017-09": world.old, "2017-10": world.new}

    shop.roll_back(bad=world.new, periods=["2017-10"])
    assert versions(shop)["2017-10"] == world.old and versions(shop)[AUGUST] == world.new
    shop.roll_back(bad=world.new)

    assert set(versions(shop).values()) == {world.old}
    assert shop.home.log().position == 3, "the version was withdrawn once"


# --- features ---


def test_features_from_an_older_pin_do_not_replace_newer_ones(world: World) -> None:
    shop, table = world.shop, world.shop.home.features(world.shop.home.versions.read(world.old).definition)
    shop.put("visits", "2017-07.parquet", visits(MONTHS[6], seed=5))
    stale = planned(shop, refresh=True)
    pinned = shop.pin(stale)
    for group in ("habits", "traits"):
        shop.run(feature_orders.groups(shop.home, stale, pinned, group))
    shop.put("people", "all.parquet", people().slice(10))
    newer = planned(shop, refresh=True)
    shop.build(newer, shop.pin(newer))
    order = table.visible()[AUGUST].order

    with pytest.raises(Conflict, match=f"another run published {AUGUST}"):
        shop.build(stale, pinned)  # what is combined is asked for only now

    assert (stale.build, stale.fences) == ((AUGUST,), {AUGUST: 1})
    assert table.visible()[AUGUST].order == order


def test_a_plan_of_several_keeps_the_fences_of_all_periods_that_it_builds(world: World) -> None:
    shop = world.shop
    plans = [planned(shop, period) for period in ("2017-09", "2017-10")]

    joined = plan.joined(plans)

    assert joined.fences == {"2017-09": 0, "2017-10": 0}
    placed = feature_orders.combined(shop.home, replace(joined, build=()), shop.pin(joined))
    assert placed == []


# --- a period that is still running ---


@pytest.mark.parametrize("asked", ["score", "several", "retrain"])
@pytest.mark.parametrize("before", [timedelta(microseconds=1), timedelta(days=3), timedelta(days=400)])
def test_a_period_that_has_not_ended_is_refused_by_the_stores_clock(
    world: World, monkeypatch: pytest.MonkeyPatch, asked: str, before: timedelta
) -> None:
    shop, period = world.shop, world.shop.pipeline.period("2017-09")
    monkeypatch.setattr(Objects, "now", lambda *_: period.end - before)

    with pytest.raises(PeriodError) as refused:
        if asked == "retrain":
            plan.retrain(shop.home, shop.pipeline, period, shop.module)
        elif asked == "several":
            plan.score_all(shop.home, [period])
        else:
            plan.score(shop.home, period)

    assert str(refused.value).startswith("Period 2017-09 of shop ends at 2017-10-01 00:00 UTC, and the store's clock says ")
    assert "expected a period that has ended" in str(refused.value)
    assert world.changed() == []
    monkeypatch.setattr(Objects, "now", lambda *_: period.end)
    assert plan.score(shop.home, period).period == "2017-09"


def test_a_label_is_not_read_before_its_source_can_hold_it(world: World) -> None:
    """A horizon of 30 days from the end of June ends on 31 July; a source that is two days late holds it on 2 August."""
    shop = world.shop
    late = replace(shop.pipeline.sources["visits"], lag=timedelta(days=2))
    asked = shop.pipeline.period("2017-07")
    before = plan.retrain(shop.home, shop.pipeline, asked, shop.module)
    shop.describe(sources={**shop.pipeline.sources, "visits": late})

    assert before.holdout == "2017-06"
    assert plan.retrain(shop.home, shop.pipeline, asked, shop.module).holdout == "2017-05"


# --- a version that knows the period ---


@pytest.mark.parametrize("period", ["2017-03", "2017-04", "2017-05", "2017-06"])
def test_a_version_is_refused_for_its_window_its_holdout_and_what_is_older_or_recorded(world: World, period: str) -> None:
    """The new version is trained on 2017-04 and 2017-05, and judged on 2017-06."""
    shop = world.shop

    with pytest.raises(DataError) as refused:
        planned(shop, period, version=world.new)

    how = "was trained on" if period in ("2017-04", "2017-05") else "knows"
    assert str(refused.value) == (
        f"Version {world.new} {how} {period} (its window: 2017-04, 2017-05), so its scores would look better than they "
        "are: expected a period after its holdout 2017-06. Name an older version, or set allow_in_sample."
    )
    assert planned(shop, period, version=world.new, allow_in_sample=True).in_sample
    assert not planned(shop, "2017-07", version=world.new).in_sample


# --- any order of events ---


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_order_of_plans_promotions_and_publishes_the_newest_in_force_stands(world: World, seed: int) -> None:
    shop, dice = world.shop, random.Random(seed)
    runs: list[tuple[Receipt, Receipt]] = []
    steps = ["plan", "plan", "promote", "publish", "publish"]
    dice.shuffle(steps)
    for step in steps:
        if step == "plan":
            runs.append(staged(shop, planned(shop)))
        elif step == "promote":
            shop.promote(world.new)
        elif runs:
            try:
                publish.predictions(shop.home, *runs.pop(dice.randrange(len(runs))), RunInfo())
            except AlmanacError as refused:
                assert isinstance(refused, Conflict | Overtaken)
            else:
                assert versions(shop)[AUGUST] == shop.home.log().in_force(AUGUST)
    for run in runs:
        try:
            publish.predictions(shop.home, *run, RunInfo())
        except (Conflict, Overtaken):
            continue
        assert versions(shop)[AUGUST] == world.new
