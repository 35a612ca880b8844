"""What receipts and plans prove on a real S3 server: what is taken away, exchanged or put there is named, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from almanac.core.canonical import sealed
from almanac.core.receipts import Artifact, Receipt, RunInfo, Step, publish_order
from almanac.lineage.verify import verify
from almanac.runs import promotions, rollback
from almanac.store import notes
from almanac.store.home import Home
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

AUGUST = "2017-08"


def findings(home: Home) -> list[str]:
    return [finding.uri for finding in verify(home).findings]


def flip(home: Home, uri: str) -> None:
    body = bytearray(home.objects.get(uri))
    body[len(body) // 2] ^= 1
    home.objects.put(uri, bytes(body))


def published(home: Home, version: str) -> str:
    """The URI of the receipt of a version's publish."""
    receipt = home.receipts.find(publish_order(home.receipts.placed(home.versions.read(version).order).order))
    assert receipt is not None
    return home.receipts.uri(receipt)


def rolled_back(world: World, **asked: object) -> None:
    world.shop.promote(world.new)
    world.shop.score(AUGUST)
    world.shop.roll_back(**asked)


# --- the log ---


def test_a_rollbacks_entry_that_is_gone_is_named_though_the_withdrawn_version_is_in_force_again(world: World) -> None:
    home = world.shop.home
    rolled_back(world)
    assert findings(home) == []
    home.objects.delete(home.layout.promotion(3))

    (finding,) = verify(home).findings
    assert home.log().in_force(AUGUST) == world.new
    assert finding.uri == home.layout.promotion(3)
    assert finding.expected.startswith("entry 3 of the promotion log, which ")


def test_a_rollback_that_scored_nothing_again_is_proven_by_its_plan(world: World) -> None:
    home, shop = world.shop.home, world.shop
    shop.promote(world.new)
    shop.roll_back()
    assert findings(home) == []
    home.objects.delete(home.layout.promotion(3))

    (finding,) = verify(home).findings
    assert finding.uri == home.layout.promotion(3)
    assert "/rollbacks/" in finding.expected and "clear that run" in finding.advice


def test_all_entries_that_are_gone_from_the_end_are_named(world: World) -> None:
    home = world.shop.home
    rolled_back(world)
    for number in (2, 3):
        home.objects.delete(home.layout.promotion(number))

    assert findings(home) == [home.layout.promotion(2), home.layout.promotion(3)]


def test_a_log_that_was_cut_and_written_on_is_not_the_one_that_publishes_saw(world: World) -> None:
    home = world.shop.home
    rolled_back(world)
    home.objects.delete(home.layout.promotion(3))
    log = home.log()
    home.promotions.append(replace(log.entries[1], sequence=3, before=log.head, nonce="other"))

    assert home.layout.promotion(3) in findings(home)


def test_a_promotion_that_is_gone_is_proven_by_the_next_gate(world: World) -> None:
    home = world.shop.home
    world.shop.gate("2017-07", world.new)
    home.objects.delete(home.receipts.uri(world.scored))  # which had seen the entry as well
    home.objects.delete(home.layout.promotion(1))

    assert home.layout.promotion(1) in findings(home)


def test_a_rollback_that_was_refused_because_the_log_had_moved_proves_nothing(world: World) -> None:
    shop, home = world.shop, world.shop.home
    shop.promote(world.new)
    rollback.planned(home, shop.pipeline, reason="bad", run="refused")
    assert findings(home) == [home.layout.promotion(3)], "it was planned and not done"
    promotions.withdraw(home, shop.train("2017-08"), reason="bad feed", run_info=RunInfo())

    assert findings(home) == []


# --- manifests ---


def test_a_manifest_that_was_sealed_anew_is_not_the_one_that_was_published(world: World) -> None:
    home = world.shop.home
    manifest = home.versions.read(world.new)
    home.objects.put(home.layout.manifest(world.new), sealed(replace(manifest, estimator="another")))

    (finding,) = verify(home).findings
    assert finding.uri == home.layout.manifest(world.new)
    assert finding.expected == f"digest {manifest.digest}, as {published(home, world.new)} recorded"


def test_manifests_that_were_exchanged_are_both_named(world: World) -> None:
    home = world.shop.home
    first, second = (home.layout.manifest(version) for version in (world.old, world.new))
    bodies = home.objects.get(first), home.objects.get(second)
    home.objects.put(first, bodies[1])
    home.objects.put(second, bodies[0])

    assert sorted({*findings(home)}) == sorted([first, second])


def test_a_version_that_nobody_published_is_named(world: World) -> None:
    home = world.shop.home
    manifest = home.versions.read(world.new)
    strange = replace(manifest, version="2017-07-00000000", order="0" * 64)
    home.objects.put(home.layout.manifest(strange.version), sealed(strange))

    (finding,) = verify(home).findings
    assert finding.uri == home.layout.manifest(strange.version)
    assert finding.expected == "a publish receipt, or an entry of the log"


def test_the_receipt_of_a_publish_that_is_gone_leaves_a_version_that_nobody_published(world: World) -> None:
    home = world.shop.home
    home.objects.delete(published(home, world.new))

    assert findings(home) == [home.layout.manifest(world.new)]


# --- what nothing visible leads to ---

BESIDE: dict[str, Callable[[World], str]] = {
    "a note": lambda world: one(world.shop.home, Artifact.MODEL, Step.NOTE),
    "the gate of a rejected version": lambda world: world.shop.home.receipts.uri(world.shop.gate("2017-07", world.new)),
    "the comparison of a rejected version": lambda world: world.shop.home.receipts.uri(
        world.shop.home.receipts.read(world.shop.gate("2017-07", world.new).links["staged"])
    ),
    "the publish of a version that is not promoted": lambda world: published(world.shop.home, world.new),
    "a rollback's plan": lambda world: plan_of(world),
}


def one(home: Home, artifact: Artifact, step: Step) -> str:
    notes.annotate(home, home.versions.names()[-1], "trained on the sales week", ["campaign"], RunInfo(actor="ann"))
    (found,) = home.objects.walk(home.layout.receipts(artifact.value, step.value))
    return found.uri


def plan_of(world: World) -> str:
    world.shop.promote(world.new)
    world.shop.roll_back()
    (found,) = world.shop.home.objects.walk(world.shop.home.layout.rollbacks)
    return found.uri


@pytest.mark.parametrize("kind", BESIDE)
def test_one_altered_byte_of_what_nothing_visible_leads_to_is_named(world: World, kind: str) -> None:
    uri = BESIDE[kind](world)
    assert findings(world.shop.home) == []
    flip(world.shop.home, uri)

    assert findings(world.shop.home) == [uri]


# --- tables ---


@pytest.mark.parametrize("artifact", [Artifact.FEATURES, Artifact.PREDICTIONS])
def test_a_commit_that_is_gone_from_a_tables_end_is_named(world: World, artifact: Artifact) -> None:
    home = world.shop.home
    definition = home.versions.read(world.old).definition
    table = home.predictions if artifact is Artifact.PREDICTIONS else home.features(definition)
    log = [item.uri for item in home.objects.walk(f"{table.uri}/_delta_log/") if item.uri.endswith(".json")]
    home.objects.delete(log[-1])

    (finding,) = verify(home).findings
    assert finding.uri == f"{table.uri}/_delta_log/"
    assert finding.found.startswith("0 commits of 2017-") and "/publish/" in finding.expected


def test_a_table_that_is_gone_whole_is_named(world: World) -> None:
    home = world.shop.home
    for item in list(home.objects.walk(f"{home.predictions.uri}/")):
        home.objects.delete(item.uri)

    assert findings(home) == [f"{home.predictions.uri}/_delta_log/"]


# --- what is damaged stops nobody ---


@pytest.mark.parametrize("kind", ["a note", "the gate of a rejected version", "the comparison of a rejected version"])
def test_one_damaged_receipt_is_left_out_and_named_and_the_rest_is_answered(
    world: World, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    from almanac.store import overview

    home, shop = world.shop.home, world.shop
    uri = BESIDE[kind](world)
    flip(home, uri)

    assert [row.version for row in overview.versions(home)] == [world.old, world.new]
    assert {one.version for one in overview.candidates(home)} == {world.old, world.new}
    shop.promote(world.new)
    assert rollback.planned(home, shop.pipeline, reason="bad").to == world.old
    if "comparison" not in kind:
        assert uri in caplog.text and "Left out: " in caplog.text


def test_a_decision_of_the_gate_whose_facts_cannot_be_read_is_left_out_and_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    from almanac.store import overview

    home, gate = world.shop.home, world.shop.gate("2017-07", world.new)
    assert world.new in overview.decisions(home)
    uri = home.receipts.uri(gate)
    home.objects.put(uri, sealed(replace(gate, facts={"comparison": "gone"})))

    assert world.new not in overview.decisions(home)
    assert f"Left out: {uri}" in caplog.text


def test_a_damaged_manifest_is_left_out_and_named_and_the_rest_is_answered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    from almanac.store import overview

    home = world.shop.home
    flip(home, home.layout.manifest(world.new))

    assert [row.version for row in overview.versions(home)] == [world.old]
    assert [one.version for one in overview.candidates(home)] == [world.old]
    assert overview.newest_description(home).name == "shop"
    assert home.layout.manifest(world.new) in caplog.text


def test_a_damaged_plan_of_a_rollback_stops_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    home, shop = world.shop.home, world.shop
    uri = plan_of(world)
    flip(home, uri)
    promotions.reinstate(home, world.new, reason="right after all", run_info=RunInfo())
    shop.promote(world.new)

    assert rollback.planned(home, shop.pipeline, reason="bad").bad == world.new
    assert uri in caplog.text


def test_a_receipt_keeps_the_mark_of_the_log_that_its_publish_saw(world: World) -> None:
    receipt: Receipt = world.scored

    assert receipt.facts["log"] == f"1 {world.shop.home.log().head}"
