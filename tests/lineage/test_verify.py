"""Integrity on a real S3 server: one byte is flipped in each kind of object, and exactly that object is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from almanac.core.canonical import sealed
from almanac.core.receipts import Receipt, RunInfo, publish_order
from almanac.lineage.findings import Finding, Verified
from almanac.lineage.verify import verify
from almanac.store.home import Home
from almanac.store.versions import Manifest
from tests.support.shop import MONTHS, visits
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def receipt_of(world: World, step: str) -> Receipt:
    """A receipt of the visible predictions."""
    home = world.shop.home
    return world.scored if step == "publish" else home.receipts.read(world.scored.links[step])


def manifest(world: World) -> Manifest:
    return world.shop.home.versions.read(world.old)


def features(world: World) -> Receipt:
    """The publish of a period that the version in force was trained on."""
    staged = world.standing("2017-03").order
    found = world.shop.home.receipts.find(publish_order(staged))
    assert found is not None
    return found


def pin(world: World) -> Receipt:
    home = world.shop.home
    return home.receipts.read(home.receipts.read(manifest(world).receipt).links["pin"])


KINDS: dict[str, Callable[[World], str]] = {
    "an entry of the log": lambda world: world.shop.home.layout.promotion(1),
    "the manifest of a promoted version": lambda world: world.shop.home.layout.manifest(world.old),
    "the manifest of a version that is not promoted": lambda world: world.shop.home.layout.manifest(world.new),
    "a version's model": lambda world: manifest(world).files["model.joblib"].uri,
    "a version's report": lambda world: manifest(world).files["report.json"].uri,
    "the receipt of a training": lambda world: manifest(world).receipt,
    "the receipt of a publish": lambda world: world.shop.home.receipts.uri(receipt_of(world, "publish")),
    "the receipt of a stage": lambda world: world.shop.home.receipts.uri(receipt_of(world, "staged")),
    "the receipt of an audit": lambda world: world.shop.home.receipts.uri(receipt_of(world, "audit")),
    "the receipt of a gate": lambda world: world.shop.home.log().entries[0].gate,
    "an order": lambda world: world.shop.home.layout.order(receipt_of(world, "staged").order.digest),
    "a description": lambda world: world.shop.home.layout.description(manifest(world).description),
    "a user's module": lambda world: world.shop.home.layout.module(manifest(world).module),
    "a report of checks": lambda world: receipt_of(world, "audit").output("checks.html").uri,
    "a file of visible predictions": lambda world: world.scored.outputs[0].uri,
    "a file of visible features": lambda world: features(world).outputs[0].uri,
    "the receipt of a pin": lambda world: world.shop.home.receipts.uri(pin(world)),
    "a pin": lambda world: pin(world).outputs[0].uri,
    "a group's part": lambda world: world.shop.home.receipts.read(
        world.shop.home.receipts.read(features(world).links["staged"]).links["part.habits"]
    ).outputs[0].uri,
}  # fmt: skip


def flip(home: Home, uri: str) -> None:
    body = bytearray(home.objects.get(uri))
    body[len(body) // 2] ^= 1
    home.objects.put(uri, bytes(body))


def findings(found: Verified) -> list[str]:
    return [finding.uri for finding in found.findings]


def test_nothing_is_found_where_nothing_was_altered(world: World):
    told: list[tuple[str, int, int]] = []
    found = verify(world.shop.home, lambda *step: told.append(step))

    assert (found.findings, found.changed, found.gone) == ((), (), 0)
    assert found.head == world.shop.home.log().head
    pins = [uri for uri in world.memory if "/parts/" in uri and uri.endswith(".json")]
    counted = [found.checked[kind] for kind in ("entries", "manifests", "partitions", "pins")]
    assert counted == [1, 2, 7, len(pins)]
    files = [uri for uri in world.memory if any(part in uri for part in ("/period=", "/models/", "/reports/", "/parts/"))]
    assert found.checked["files"] == len([uri for uri in files if not uri.endswith("/manifest.json")])
    assert {kind for kind, _, _ in told} == found.checked.keys() - {"partitions", "source files"}
    assert all(done <= of for _, done, of in told)


@pytest.mark.parametrize("kind", KINDS)
def test_one_altered_byte_is_found_and_exactly_its_object_is_named(world: World, kind: str):
    uri = KINDS[kind](world)
    flip(world.shop.home, uri)

    assert findings(verify(world.shop.home)) == [uri]


def test_a_table_that_tells_readers_another_version_than_was_staged_is_named(world: World):
    """A rollback finds the periods that a version wrote by what the table's own log tells."""
    home = world.shop.home
    commit = next(
        item.uri
        for item in home.objects.walk(f"{home.layout.predictions}/_delta_log/")
        if item.uri.endswith(".json") and world.scored.outputs[0].name.encode() in home.objects.get(item.uri)
    )
    home.objects.put(commit, home.objects.get(commit).replace(world.old.encode(), world.new.encode()))

    (finding,) = verify(home).findings
    assert finding.uri == f"{home.layout.predictions}/period=2017-07/"
    assert f"'version': '{world.new}'" in finding.found
    assert f"'version': '{world.old}'" in finding.expected and finding.expected.endswith(", as staged")


def test_a_finding_says_what_was_found_what_was_expected_and_what_to_do(world: World):
    home = world.shop.home
    output = world.scored.outputs[0]
    home.objects.put(output.uri, b"other")
    uri = home.receipts.uri(receipt_of(world, "audit"))
    flip(home, uri)
    first, second = verify(home).findings

    assert {first, second} == {
        Finding(
            uri=output.uri,
            found="5 bytes with SHA-256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa",
            expected=f"{output.bytes} bytes with SHA-256 {output.sha256}",
            advice="Restore it from the bucket's versions, or build it again",
        ),
        Finding(
            uri=uri,
            found=next(one.found for one in (first, second) if one.uri == uri),
            expected="the record as it was written, with a valid seal",
            advice="Restore it from the bucket's versions",
        ),
    }
    assert next(one.found for one in (first, second) if one.uri == uri).startswith("bytes that are not a valid Receipt: ")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a group's part"])
def test_an_object_that_is_gone_is_found(world: World, kind: str):
    uri = KINDS[kind](world)
    world.shop.home.objects.delete(uri)
    found = verify(world.shop.home)

    assert findings(found) == [uri]


def test_a_part_that_nobody_needs_any_more_may_be_gone(world: World):
    world.shop.home.objects.delete(KINDS["a group's part"](world))
    found = verify(world.shop.home)

    assert (found.findings, found.gone) == ((), 1)


def test_an_entry_that_was_sealed_anew_breaks_the_chain_and_is_named(world: World):
    home = world.shop.home
    world.shop.promote(world.new)
    entry = home.log().entries[0]
    home.objects.put(home.layout.promotion(1), sealed(replace(entry, reason="another reason")))
    (finding,) = verify(home).findings

    assert finding.uri == home.layout.promotion(1)
    assert finding.expected == f"digest {entry.digest}, as entry 2 recorded"


def test_a_missing_number_in_the_log_is_named(world: World):
    home = world.shop.home
    world.shop.promote(world.new)
    home.objects.delete(home.layout.promotion(1))

    assert findings(verify(home)) == [home.layout.promotion(1)]


def test_a_manifest_that_was_sealed_anew_is_not_the_one_that_the_log_names(world: World):
    home = world.shop.home
    uri, before = home.layout.manifest(world.old), manifest(world)
    home.objects.put(uri, sealed(replace(before, estimator="another")))
    (finding,) = verify(home).findings

    assert (finding.uri, finding.expected) == (uri, f"digest {before.digest}, as entry 1 of the promotion log recorded")


def test_a_receipt_in_another_ones_place_is_named(world: World):
    home = world.shop.home
    uri = home.receipts.uri(receipt_of(world, "audit"))
    home.objects.put(uri, home.objects.get(manifest(world).audit))
    (finding,) = verify(home).findings

    assert (finding.uri, finding.expected) == (uri, "the receipt that belongs under this name")


def test_a_visible_file_that_nobody_staged_is_named(world: World):
    home, staged = world.shop.home, receipt_of(world, "staged")
    stray = replace(staged.outputs[0], name=f"period=2017-07/{staged.order.digest}-stray.parquet")
    fence = home.predictions.fence("2017-07")
    home.predictions.publish("2017-07", [*staged.outputs, stray], fence=fence, metadata={"order": "by hand"})
    (finding,) = verify(home).findings

    assert finding.uri == f"{home.predictions.uri}/{stray.name}"
    assert finding.found == "a visible file that was not staged"


def test_a_visible_period_without_its_publishs_receipt_says_how_to_get_it(world: World):
    home = world.shop.home
    uri = home.receipts.uri(world.scored)
    home.objects.delete(uri)
    (finding,) = verify(home).findings

    assert finding.uri == uri
    assert finding.expected == "the publish receipt of 2017-07, which is visible"
    assert finding.advice == "Start the run for 2017-07 again to write the receipt from the table's commit"


def test_a_table_that_cannot_be_read_is_a_finding_and_the_rest_is_read(world: World):
    home = world.shop.home
    log = [uri for uri in world.memory if uri.startswith(f"{home.predictions.uri}/_delta_log/")]
    for uri in log:
        home.objects.put(uri, b"{")
    found = verify(home)

    assert findings(found) == [home.predictions.uri]
    assert found.checked["partitions"] == 6


def test_a_source_file_that_is_not_what_was_pinned_any_more_is_told_and_is_no_finding(world: World):
    shop = world.shop
    shop.put("visits", "2017-03.parquet", visits(MONTHS[2], seed=9))
    shop.home.objects.delete(f"{shop.landing}/visits/2017-04.parquet")
    found = verify(shop.home)

    assert found.findings == ()
    assert [text.split(" ")[0] for text in found.changed] == [
        f"{shop.landing}/visits/2017-03.parquet:",
        f"{shop.landing}/visits/2017-04.parquet:",
    ]
    assert "changed since it was pinned as" in found.changed[0] and "(now " in found.changed[0]
    assert found.changed[1].endswith("(now deleted)")


def test_a_receipt_by_another_witness_is_another_receipt(world: World):
    """The seal covers who did the work as well."""
    home = world.shop.home
    uri, receipt = home.receipts.uri(world.scored), world.scored
    body = sealed(receipt).replace(b'"actor":""', b'"actor":"eve"', 1)
    assert body != sealed(receipt) and receipt.run_info == RunInfo()
    home.objects.put(uri, body)

    assert findings(verify(home)) == [uri]
