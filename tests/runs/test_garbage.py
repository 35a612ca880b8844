"""Stages that are too old, and work after gc: nothing deleted is ever published, and everything can still be done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from almanac.core.canonical import sealed
from almanac.core.garbage import GarbageKind
from almanac.core.receipts import Receipt, RunInfo, publish_order
from almanac.errors import NotAdmitted, Unreachable
from almanac.runs import feature_orders, pin, publish
from almanac.store import garbage
from almanac.store.receipts import Receipts
from tests.support.clock import put_forward
from tests.support.shop import visits
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

DAYS = timedelta(days=8)


def aged(world: World, receipt: Receipt, days: int = 2) -> Receipt:
    """The receipt as it would be if its work had ended some days ago."""
    assert receipt.run_info.ended is not None
    old = replace(receipt, run_info=replace(receipt.run_info, ended=receipt.run_info.ended - timedelta(days=days)))
    world.shop.home.objects.put(world.shop.home.receipts.uri(old), sealed(old))
    return old


# --- stages that are too old ---


def test_a_stage_older_than_a_day_is_not_published_and_is_done_anew(world: World) -> None:
    shop = world.shop
    before = shop.state()
    staged, audited = shop.stage_score("2017-08")
    old = aged(world, staged)
    with pytest.raises(NotAdmitted) as refused:
        publish.predictions(shop.home, old, audited, RunInfo())

    assert str(refused.value) == (
        f"shop predictions.stage 2017-08 was staged at {old.run_info.ended:%Y-%m-%d %H:%M} UTC, expected at most 24 hours ago: "
        "its files may be deleted by now. Clear the run from predictions.stage on to stage it again."
    )
    assert shop.state() == before

    again, checked = shop.stage_score("2017-08")
    assert (again.order, again.content, again.attempt) == (old.order, old.content, 1)
    assert {file.uri for file in again.outputs}.isdisjoint(file.uri for file in old.outputs)
    assert checked.order.digest != audited.order.digest, "the files of the second attempt were checked themselves"
    with pytest.raises(NotAdmitted, match="is for other bytes than the staged ones"):
        publish.predictions(shop.home, again, audited, RunInfo())
    published = publish.predictions(shop.home, again, checked, RunInfo())
    assert published.outputs == again.outputs
    assert [row[0] for row in shop.scores()].count("2017-08") == again.rows


def test_a_stage_that_was_made_visible_in_time_gets_its_receipt_also_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its publisher died between commit and receipt, and was started again days later."""
    shop = world.shop
    staged, audited = shop.stage_score("2017-08")
    keep = Receipts.keep
    monkeypatch.setattr(Receipts, "keep", lost)
    with pytest.raises(Unreachable):
        publish.predictions(shop.home, staged, audited, RunInfo())
    monkeypatch.setattr(Receipts, "keep", keep)
    old, version = aged(world, staged), shop.home.predictions.version()

    receipt = publish.predictions(shop.home, old, audited, RunInfo(run="late"))

    assert (receipt.outputs, receipt.run_info.run) == (staged.outputs, "late")
    assert shop.home.predictions.version() == version


def lost(*_: object, **__: object) -> None:
    raise Unreachable("the store went away")


def test_the_late_receipt_of_a_commit_names_the_files_that_it_made_visible_and_not_those_staged_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = world.shop
    staged, audited = shop.stage_score("2017-08")
    keep = Receipts.keep
    monkeypatch.setattr(Receipts, "keep", lost)
    with pytest.raises(Unreachable):
        publish.predictions(shop.home, staged, audited, RunInfo())
    monkeypatch.setattr(Receipts, "keep", keep)
    aged(world, staged)
    again, checked = shop.stage_score("2017-08")
    assert again.attempt == 1, "nobody had written the receipt of the publish"

    receipt = publish.predictions(shop.home, again, checked, RunInfo())

    assert receipt.outputs == staged.outputs
    assert receipt.links["staged"] == shop.home.receipts.uri(staged)
    assert receipt == shop.home.receipts.done(publish_order(staged.order))


def test_a_training_that_is_too_old_is_refused_and_one_that_is_published_is_found(world: World) -> None:
    shop = world.shop
    manifest = shop.home.versions.read(world.new)
    staged, audited = (shop.home.receipts.read(uri) for uri in (manifest.receipt, manifest.audit))
    old = aged(world, staged)
    assert publish.model(shop.home, old, audited, RunInfo()) == manifest

    shop.home.objects.delete(shop.home.layout.manifest(world.new))
    with pytest.raises(NotAdmitted, match=r"Clear the run from model\.stage on to stage it again\."):
        publish.model(shop.home, old, audited, RunInfo())
    assert shop.home.versions.names() == [world.old]
    assert shop.train("2017-07") == world.new
    assert "-1.json" in shop.home.versions.read(world.new).receipt


# --- work after gc ---


def littered(world: World) -> dict[GarbageKind, set[str]]:
    """Makes what should go: replaced files, a stage that nobody published, a training without a manifest, parts."""
    shop, home = world.shop, world.shop.home
    definition = home.versions.read(world.old).definition
    table = home.features(definition)
    # Features of 2017-08 that nothing was made from, and of 2017-05, which both versions were made from: built again from
    # other visits.
    unused = {f"{table.uri}/{path}" for path in table.visible()["2017-08"].paths}
    for month in (datetime(2017, 4, 1), datetime(2017, 7, 1)):
        shop.put("visits", f"{month:%Y-%m}.parquet", visits(month, seed=1))
    for period in ("2017-05", "2017-08"):
        planned = world.planned(period)
        shop.build(planned, pin.pin(home, planned, RunInfo()))
    first = shop.score("2017-09")
    shop.promote(world.new)
    shop.score("2017-09")
    staged, _ = shop.stage_score("2017-10")
    folder = f"{home.layout.model(world.new, 'lost')}"
    for name in ("model.joblib", "report.json"):
        home.objects.put(f"{folder}/{name}", b"bytes")
    parts = {item.uri for item in home.objects.walk(f"{home.layout.home}/parts/") if item.uri.endswith(".parquet")}
    return {
        GarbageKind.PREDICTIONS: {output.uri for receipt in (first, staged) for output in receipt.outputs},
        GarbageKind.FEATURES: unused,
        GarbageKind.PARTS: parts,
        GarbageKind.MODELS: {f"{folder}/model.joblib", f"{folder}/report.json"},
    }


def test_gc_takes_what_was_replaced_or_orphaned_and_afterwards_everything_can_still_be_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, home = world.shop, world.shop.home
    litter = littered(world)
    scores, state = shop.scores(), shop.state()
    before = {item.uri for item in home.objects.walk(f"{home.layout.root}/")}
    put_forward(monkeypatch, DAYS)
    now = datetime.now(UTC) + DAYS

    found = garbage.collect(home, now=now)
    assert {kind: {item.uri for item in found if item.kind is kind} for kind in GarbageKind} == litter
    assert all(litter.values())
    assert {item.uri for item in home.objects.walk(f"{home.layout.root}/")} == before, "collecting deletes nothing"
    garbage.delete(home, found, now=now)

    after = {item.uri for item in home.objects.walk(f"{home.layout.root}/")}
    assert before - after == set().union(*litter.values())
    assert (shop.scores(), shop.state()) == (scores, state)
    assert shop.score("2017-10").passed, "the stage that is gone was done anew"
    shop.roll_back()
    assert {row[3] for row in shop.scores() if row[0] >= "2017-08"} == {world.old}
    assert shop.retrain("2017-08") in home.versions.names()


def test_features_whose_parts_are_gone_are_built_from_parts_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that combines them is the one of then, and its links lead to the parts of now."""
    shop, home = world.shop, world.shop.home
    planned = world.planned("2017-09")
    pinned = pin.pin(home, planned, RunInfo())
    shop.run(feature_orders.groups(home, planned, pinned))
    (combined,) = feature_orders.combined(home, planned, pinned)
    home.receipts.place(combined)
    put_forward(monkeypatch, DAYS)
    now = datetime.now(UTC) + DAYS
    garbage.delete(home, garbage.collect(home, now=now), now=now)

    built = shop.build(planned, pinned)["2017-09"]

    staged = home.receipts.read(built.links["staged"])
    assert staged.order.digest == combined.order.digest
    assert [staged.links[f"part.{name}"] for name in ("habits", "traits")] == [
        combined.links[f"part.{name}"].replace("-0.json", "-1.json") for name in ("habits", "traits")
    ]
