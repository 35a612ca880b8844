"""Versions that are withdrawn and reinstated, and manifests that somebody exchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from almanac.core.canonical import sealed
from almanac.core.receipts import RunInfo
from almanac.core.rollback import RollbackPlan
from almanac.errors import IllegalTransition, IntegrityError, PromotionError
from almanac.runs import promotions, publish, rollback
from tests.support.shop import Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def planned_rollback(shop: Shop) -> RollbackPlan:
    return rollback.planned(shop.home, shop.pipeline, reason="bad")


def test_a_version_of_the_history_is_withdrawn_and_reinstated_and_then_promoted(world: World) -> None:
    shop = world.shop
    promotions.withdraw(shop.home, world.new, reason="broken feed", run_info=RunInfo(actor="ann"))
    with pytest.raises(IllegalTransition):
        shop.promote(world.new)
    promotions.reinstate(shop.home, world.new, reason="it was right", run_info=RunInfo(actor="bob"))
    shop.promote(world.new)

    entries = shop.home.log().entries
    assert [(entry.action.value, entry.actor) for entry in entries[1:]] == [
        ("withdraw", "ann"),
        ("reinstate", "bob"),
        ("promote", "ann"),
    ]
    assert shop.home.log().champion == world.new


def test_a_withdrawal_that_would_leave_predictions_standing_or_has_no_reason_is_refused(world: World) -> None:
    shop = world.shop
    shop.score("2017-08", version=world.new)
    before = shop.state()

    with pytest.raises(PromotionError) as refused:
        promotions.withdraw(shop.home, world.new, reason="bad", run_info=RunInfo())
    assert f"Version {world.new} was not withdrawn: it wrote the visible predictions of 2017-08, which would stay visible. " in (
        str(refused.value)
    )
    with pytest.raises(IllegalTransition, match=f"Cannot withdraw {world.old}: .* got one that is in force"):
        promotions.withdraw(shop.home, world.old, reason="bad", run_info=RunInfo())
    with pytest.raises(PromotionError, match="A withdrawal needs a reason, got none"):
        promotions.withdraw(shop.home, world.new, reason=" ", run_info=RunInfo())
    with pytest.raises(PromotionError, match="A reinstatement needs a reason, got none"):
        promotions.reinstate(shop.home, world.new, reason="", run_info=RunInfo())
    with pytest.raises(PromotionError, match="Version '2016-01-00000000' is unknown"):
        promotions.withdraw(shop.home, "2016-01-00000000", reason="bad", run_info=RunInfo())
    assert shop.state() == before


def test_a_version_that_becomes_visible_while_it_is_withdrawn_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is read once more after the entry: a run that published in between is seen."""
    shop = world.shop
    staged, audited = shop.stage_score("2017-08", version=world.new)
    append = type(shop.home.promotions).append

    def slow(self: object, entry: object) -> None:
        publish.predictions(shop.home, staged, audited, RunInfo())
        append(self, entry)

    monkeypatch.setattr(type(shop.home.promotions), "append", slow)
    with pytest.raises(PromotionError) as refused:
        promotions.withdraw(shop.home, world.new, reason="bad", run_info=RunInfo())

    text = str(refused.value)
    assert f"Version {world.new} is withdrawn now, but it wrote the visible predictions of 2017-08" in text
    assert "Start the score DAG for these periods" in text


def test_a_rollback_leaves_alone_what_a_reinstated_and_promoted_version_wrote(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    planned = planned_rollback(shop)
    promotions.rollback(shop.home, planned, RunInfo())
    promotions.reinstate(shop.home, world.new, reason="it was right", run_info=RunInfo())
    shop.promote(world.new)
    shop.score("2017-08")

    assert rollback.left(shop.home, planned) == []


# --- a manifest that somebody exchanged ---


@pytest.mark.parametrize("action", ["promote", "roll back", "withdraw"])
def test_a_manifest_that_was_exchanged_gets_into_the_log_by_no_action(world: World, action: str) -> None:
    """An entry would vouch for it, and its pickle would be loaded."""
    shop = world.shop
    bad = world.old if action == "roll back" else world.new
    if action == "roll back":
        shop.promote(world.new)
    planned = planned_rollback(shop) if action == "roll back" else None
    manifest = shop.home.versions.read(bad)
    planted = replace(manifest, files={**manifest.files, "model.joblib": manifest.files["golden.parquet"]})
    shop.home.objects.put(shop.home.layout.manifest(bad), sealed(planted))
    before = shop.home.log().position

    with pytest.raises(IntegrityError, match=f"Version {bad}: the manifest is not the one that was published"):
        if planned is not None:
            promotions.rollback(shop.home, planned, RunInfo())
        elif action == "promote":
            shop.promote(bad)
        else:
            promotions.withdraw(shop.home, bad, reason="bad", run_info=RunInfo())
    assert shop.home.log().position == before
