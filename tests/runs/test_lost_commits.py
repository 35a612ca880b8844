"""A publish whose receipt stands and whose commit is lost: the period is published again, not called done."""

from __future__ import annotations

from datetime import timedelta

import pytest

from almanac.core.receipts import Receipt, RunInfo
from almanac.errors import IntegrityError, NotAdmitted
from almanac.lineage.verify import verify
from almanac.runs import plan, publish
from almanac.store.tables import Table
from tests.support.clock import put_forward
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

AUGUST = "2017-08"


def lose_last_commit(world: World, table: Table) -> None:
    log = [item.uri for item in world.shop.home.objects.walk(f"{table.uri}/_delta_log/") if item.uri.endswith(".json")]
    world.shop.home.objects.delete(log[-1])


def published(world: World) -> Receipt:
    """August scored; its commit is lost."""
    receipt = world.shop.score(AUGUST)
    lose_last_commit(world, world.shop.home.predictions)
    assert AUGUST not in world.shop.home.predictions.visible()
    return receipt


def test_verify_names_the_table_that_lost_its_last_commit(world: World) -> None:
    home = world.shop.home
    receipt = published(world)

    (finding,) = verify(home).findings

    assert (finding.uri, finding.found) == (f"{home.predictions.uri}/_delta_log/", f"0 commits of {AUGUST}")
    assert finding.expected == f"1 commits of {AUGUST}, as {home.receipts.uri(receipt)} shows"


def test_the_same_publish_commits_again_and_keeps_its_receipt(world: World) -> None:
    shop = world.shop
    before = shop.scores()
    receipt = shop.score(AUGUST)
    after = shop.scores()
    lose_last_commit(world, shop.home.predictions)
    assert shop.scores() == before

    again = shop.score(AUGUST)

    assert shop.scores() == after
    assert (again.order, again.content, again.outputs) == (receipt.order, receipt.content, receipt.outputs)
    assert verify(shop.home).findings == ()
    version = shop.home.predictions.version()
    assert shop.score(AUGUST) == again and shop.home.predictions.version() == version, "once is enough"


def test_features_whose_commit_is_lost_are_published_again(world: World) -> None:
    shop = world.shop
    table = shop.home.features(shop.home.versions.read(world.old).definition)
    seen = table.visible()
    lose_last_commit(world, table)
    (gone,) = seen.keys() - table.visible().keys()

    shop.score(gone if gone > "2017-06" else AUGUST, version=None)
    planned = plan.score(shop.home, shop.pipeline.period(gone), allow_in_sample=True, version=world.old)
    if planned.build:
        shop.build(planned, shop.pin(planned))

    assert {period: one.paths for period, one in table.visible().items()} == {period: one.paths for period, one in seen.items()}


def test_what_another_run_published_since_is_not_replaced_by_a_receipt_of_before(world: World) -> None:
    shop = world.shop
    staged, audited = shop.stage_score(AUGUST)
    publish.predictions(shop.home, staged, audited, RunInfo())
    newer = shop.score(AUGUST, version=world.new)

    publish.predictions(shop.home, staged, audited, RunInfo())

    assert shop.home.predictions.visible()[AUGUST].order in newer.links["staged"]


def test_files_that_were_altered_meanwhile_are_not_committed_again(world: World) -> None:
    shop = world.shop
    staged, audited = shop.stage_score(AUGUST)
    publish.predictions(shop.home, staged, audited, RunInfo())
    lose_last_commit(world, shop.home.predictions)
    body = shop.home.objects.get(staged.outputs[0].uri)
    shop.home.objects.put(staged.outputs[0].uri, body + b"!")

    with pytest.raises(IntegrityError, match="expected SHA-256"):
        publish.predictions(shop.home, staged, audited, RunInfo())
    shop.home.objects.delete(staged.outputs[0].uri)
    with pytest.raises(NotAdmitted, match=r"Clear the run from predictions\.stage on to stage it again"):
        publish.predictions(shop.home, staged, audited, RunInfo())
    assert AUGUST not in shop.home.predictions.visible()


def test_after_a_week_and_a_clean_up_it_is_staged_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = world.shop
    receipt = published(world)
    for output in receipt.outputs:
        shop.home.objects.delete(output.uri)
    put_forward(monkeypatch, timedelta(days=8))

    again = shop.score(AUGUST)

    assert again.content == receipt.content and again.outputs != receipt.outputs
    assert shop.home.published(shop.home.predictions, [AUGUST])[AUGUST] == again
    assert {path.split("/")[-1] for path in shop.home.predictions.visible()[AUGUST].paths} == {
        output.name.split("/")[-1] for output in again.outputs
    }
