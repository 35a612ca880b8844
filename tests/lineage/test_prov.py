"""PROV-JSON of a real period, read back by the package that validates it."""

from __future__ import annotations

import pytest
from prov.model import ProvActivity, ProvAgent, ProvDerivation, ProvDocument, ProvEntity, ProvGeneration, ProvUsage

from almanac.lineage import prov, trail
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


@pytest.fixture
def told(world: World) -> ProvDocument:
    home = world.shop.home
    body = prov.document(trail.evidence(home, trail.shown(home, "2017-07")))
    return ProvDocument.deserialize(content=body, format="json")


def derived(told: ProvDocument, start: str) -> set[str]:
    """Everything that an entity is derived from, directly or not."""
    above: dict[str, set[str]] = {}
    for one in told.get_records(ProvDerivation):
        made, source = (str(value) for _, value in one.formal_attributes[:2])
        above.setdefault(made, set()).add(source)
    found, left = set(), [start]
    while left:
        new = above.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


def test_predictions_are_derived_from_files_features_and_the_model(world: World, told: ProvDocument):
    staged = world.shop.home.receipts.read(world.scored.links["staged"])
    found = derived(told, f"almanac:predictions/{staged.order.digest}")

    order = world.shop.home.versions.read(world.old).order
    assert f"almanac:model/{order}" in found
    assert f"almanac:features/{world.standing('2017-07').order.digest}" in found
    assert f"almanac:features/{world.standing('2017-03').order.digest}" in found
    assert f"almanac:features/{world.standing('2017-08').order.digest}" not in found
    files = {name.rsplit("/", 1)[-1] for name in found if name.startswith("almanac:file/")}
    assert files == {"all.parquet", *(f"2017-{number:02}.parquet" for number in range(1, 8))}


def test_every_file_tells_where_it_lies_and_what_it_held(world: World, told: ProvDocument):
    (file,) = [one for one in told.get_records(ProvEntity) if str(one.identifier).endswith("/visits/2017-07.parquet")]
    (listed,) = world.shop.home.objects.walk(f"{world.shop.landing}/visits/2017-07.parquet")
    facts = {str(name): str(value) for name, value in file.attributes}

    assert facts["prov:location"] == listed.uri
    assert (facts["almanac:etag"], facts["almanac:bytes"], facts["almanac:source"]) == (listed.etag, str(listed.size), "visits")


def test_orders_are_activities_with_their_run_and_times_and_almanac_answers_for_them(world: World, told: ProvDocument):
    staged = world.shop.home.receipts.read(world.scored.links["staged"])
    (activity,) = [one for one in told.get_records(ProvActivity) if str(one.identifier) == f"almanac:order/{staged.order.digest}"]

    assert (activity.get_startTime(), activity.get_endTime()) == (staged.run_info.began, staged.run_info.ended)
    assert {str(value) for value in activity.get_attribute("almanac:run")} == {"test"}
    assert "almanac:almanac-0.1.0" in {str(one.identifier) for one in told.get_records(ProvAgent)}


def test_every_relation_leads_to_something_that_is_told(told: ProvDocument):
    known = {str(one.identifier) for one in told.get_records((ProvEntity, ProvActivity, ProvAgent))}
    relations = [*told.get_records(ProvUsage), *told.get_records(ProvGeneration), *told.get_records(ProvDerivation)]

    assert relations
    assert {str(value) for one in relations for _, value in one.formal_attributes[:2]} <= known
