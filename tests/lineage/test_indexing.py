"""The index of receipts on a real S3 server: kept fresh by its anchors, built again when it is lost."""

from __future__ import annotations

import logging
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from almanac.core.canonical import sealed
from almanac.errors import IntegrityError, NotFound
from almanac.lineage import impact, indexing
from almanac.lineage.impact import Impact, of_features, of_run, of_source, of_version
from almanac.lineage.index import Index, Shown
from almanac.lineage.trail import reading
from almanac.store.home import Home
from almanac.store.objects import Objects, record
from tests.support.s3_clients import Client
from tests.support.shop import MONTHS, visits
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def ask(world: World, question: Any, *given: Any, home: Home | None = None) -> Impact:
    def asked(found: Index, shown: Shown) -> Impact:
        return question(found, shown, *given)  # type: ignore[no-any-return]

    return impact.ask(home or world.shop.home, asked)


def month(world: World, number: int) -> str:
    return f"{world.shop.landing}/visits/2017-{number:02}.parquet"


def kept(world: World) -> Index:
    uri = world.shop.home.layout.index
    return record(Index, world.shop.home.objects.get(uri), uri)


class Counting:
    """Counts the requests of a client, by verb and folder."""

    def __init__(self) -> None:
        self.real = boto3.client("s3")
        self.lists: list[str] = []
        self.gets: list[str] = []

    def client(self) -> Client:
        return Client(self.real, list_objects_v2=self.list, get_object=self.get)

    def list(self, **given: Any) -> Any:
        self.lists.append(given["Prefix"])
        return self.real.list_objects_v2(**given)

    def get(self, **given: Any) -> Any:
        self.gets.append(given["Key"])
        return self.real.get_object(**given)


def test_a_source_file_touches_exactly_the_periods_whose_cut_reaches_it(world: World):
    touched = {number: ask(world, of_source, month(world, number)) for number in range(1, 9)}

    # The groups look back 90 days. 2017-01 begins before those of March, and April's begin on 2017-01-31.
    assert {number: [one.period for one in found.features] for number, found in touched.items()} == {
        1: ["2017-03"],
        2: ["2017-03", "2017-04"],
        3: ["2017-03", "2017-04", "2017-05"],
        4: ["2017-04", "2017-05", "2017-06"],
        5: ["2017-05", "2017-06", "2017-07"],
        6: ["2017-06", "2017-07", "2017-08"],
        7: ["2017-07", "2017-08"],
        8: ["2017-08"],
    }
    assert {number: [one.version for one in found.versions] for number, found in touched.items()} == {
        # `new` was trained on April and May, with labels of May and June, and judged on June with labels of July.
        1: [world.old],
        2: sorted([world.old, world.new]),
        3: sorted([world.old, world.new]),
        4: sorted([world.old, world.new]),
        5: sorted([world.old, world.new]),
        6: sorted([world.old, world.new]),
        7: [world.new],
        8: [],
    }
    assert [one.period for one in touched[8].predictions] == []
    assert [one.period for one in touched[7].predictions] == ["2017-07"]


def test_the_reference_source_touches_everything(world: World):
    found = ask(world, of_source, f"{world.shop.landing}/people/all.parquet")

    assert [one.period for one in found.features] == [f"2017-{number:02}" for number in range(3, 9)]
    assert [one.version for one in found.versions] == sorted([world.old, world.new])


def test_a_warm_index_answers_without_listing_or_reading_receipts(world: World):
    first = ask(world, of_version, world.old)
    requests = Counting()
    home = Home.of(world.shop.home.layout.root, "shop", Objects(requests.client()))

    assert ask(world, of_version, world.old, home=home) == first
    assert not [key for key in (*requests.lists, *requests.gets) if "/receipts/" in key or "/orders/" in key]
    assert [key for key in requests.gets if key.endswith("/index.json")] == ["/".join(home.layout.index.split("/")[3:])]


def test_what_was_published_since_is_in_the_next_answer(world: World):
    assert [one.period for one in ask(world, of_version, world.old).predictions] == ["2017-07"]
    world.shop.score("2017-08")
    requests = Counting()
    home = Home.of(world.shop.home.layout.root, "shop", Objects(requests.client()))

    assert [one.period for one in ask(world, of_version, world.old, home=home).predictions] == ["2017-07", "2017-08"]
    assert not [prefix for prefix in requests.lists if prefix.endswith(("/stage/", "/audit/", "/publish/", "/pin/"))]
    assert kept(world).published >= {("predictions", order) for order in (seen.order for seen in world.shop.home.written())}


def test_predictions_that_were_replaced_are_told_of_also_where_the_index_was_not_asked_between(world: World):
    ask(world, of_version, world.old)
    world.shop.promote(world.new)
    world.shop.score("2017-08")
    world.shop.roll_back()
    found = ask(world, of_version, world.new)

    assert [(one.version, one.state) for one in found.versions] == [(world.new, "withdrawn")]
    assert [(one.period, one.version, one.state) for one in found.predictions] == [("2017-08", world.new, "replaced")]
    assert [(one.period, one.state) for one in ask(world, of_version, world.old).predictions] == [
        ("2017-07", "visible"),
        ("2017-08", "visible"),
    ]


def test_a_file_that_was_delivered_again_is_two_deliveries(world: World):
    world.shop.put("visits", "2017-09.parquet", visits(MONTHS[8], seed=3))
    world.shop.score("2017-09")
    before = ask(world, of_source, month(world, 9)).deliveries
    world.shop.put("visits", "2017-09.parquet", visits(MONTHS[8], seed=4))
    world.shop.score("2017-10")
    found = ask(world, of_source, month(world, 9))

    assert (len(before), len(found.deliveries)) == (1, 2)
    assert [one.periods for one in found.deliveries] == [("2017-09",), ("2017-10",)]
    assert len({one.etag for one in found.deliveries}) == 2


@pytest.mark.parametrize("spoil", ["lost", "altered", "of another schema"])
def test_an_index_that_is_lost_altered_or_of_another_schema_is_built_again(
    world: World, spoil: str, caplog: pytest.LogCaptureFixture
):
    objects, uri = world.shop.home.objects, world.shop.home.layout.index
    first = ask(world, of_features, "2017-05")
    whole = kept(world)
    if spoil == "lost":
        objects.delete(uri)
    else:
        body = objects.get(uri)
        objects.put(uri, body.replace(b"2017-05", b"2017-04", 1) if spoil == "altered" else b'{"schema":9,"seal":""}')

    with caplog.at_level(logging.WARNING):
        assert ask(world, of_features, "2017-05") == first
    assert {step.key for step in kept(world).receipts} == {step.key for step in whole.receipts}
    assert ("The index is rebuilt from the receipts" in caplog.text) == (spoil != "lost")


def test_an_index_built_from_all_receipts_answers_as_one_that_grew_by_its_anchors(world: World):
    objects, uri = world.shop.home.objects, world.shop.home.layout.index
    grown = Index()
    with reading(world.shop.home) as trail:
        anchors, _ = indexing.anchors_of(trail)
        grown = indexing.anchored(trail, grown, anchors)
    objects.put(uri, sealed(grown))
    first = [ask(world, of_source, month(world, number)) for number in range(1, 9)]
    objects.delete(uri)

    assert [ask(world, of_source, month(world, number)) for number in range(1, 9)] == first


def test_what_was_staged_and_never_published_is_looked_for_before_it_is_refused(world: World):
    ask(world, of_version, world.old)
    staged = world.shop.attempt(world.group("habits", "2017-08"), lambda work: work.receipt(content="c"))
    assert staged.passed
    with pytest.raises(NotFound, match="Run 'never' is in no receipt"):
        ask(world, of_run, "never")

    key = "/".join(world.shop.home.receipts.uri(staged).rsplit("/", 3)[1:]).removesuffix(".json")
    assert key in {step.key for step in kept(world).receipts}


def test_a_reader_that_may_not_write_goes_on_with_a_warning(world: World, caplog: pytest.LogCaptureFixture):
    real = boto3.client("s3")

    def refused(**_: Any) -> Any:
        answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "PutObject")  # type: ignore[arg-type]

    home = Home.of(world.shop.home.layout.root, "shop", Objects(Client(real, put_object=refused)))
    with caplog.at_level(logging.WARNING):
        found = ask(world, of_version, world.old, home=home)

    assert [one.period for one in found.predictions] == ["2017-07"]
    assert "The index could not be saved" in caplog.text
    assert world.shop.home.objects.find(home.layout.index) is None


def test_an_altered_receipt_is_an_error_and_never_an_answer(world: World):
    uri = world.shop.home.receipts.uri(world.scored)
    world.shop.home.objects.put(uri, world.shop.home.objects.get(uri).replace(b'"rows":', b'"rowz":', 1))

    with pytest.raises(IntegrityError, match="expected a valid Receipt, got other bytes"):
        ask(world, of_version, world.old)
