"""OpenLineage of real receipts: what a task read and wrote, as data sets of the client's own kind."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.serde import Serde

from almanac.lineage import openlineage
from almanac.store.objects import split
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def names(found: list[Any]) -> list[str]:
    return [f"{one.namespace}/{one.name}" for one in found]


def test_a_score_read_features_and_a_version_and_wrote_a_partition(world: World):
    home = world.shop.home
    inputs, outputs = openlineage.datasets(home, [world.scored.links["staged"]])

    definition = home.versions.read(world.old).definition
    assert names(inputs) == [f"{home.layout.features(definition)}/period=2017-07", f"{home.layout.models}{world.old}"]
    (output,) = outputs
    assert f"{output.namespace}/{output.name}" == f"{home.predictions.uri}/period=2017-07"
    assert output.namespace == f"s3://{split(home.predictions.uri)[0]}"
    statistics = output.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.fileCount) == (world.scored.rows, len(world.scored.outputs))
    assert statistics.size == sum(one.bytes for one in world.scored.outputs)
    assert output.facets["version"].datasetVersion == world.scored.content


def test_a_group_read_the_source_files_within_its_cut(world: World):
    home = world.shop.home
    staged = home.receipts.read(world.standing_receipt("2017-05"))
    inputs, outputs = openlineage.datasets(home, [staged.links["part.habits"]])

    assert names(inputs) == [f"{world.shop.landing}/visits/2017-0{month}.parquet" for month in (3, 4, 5)]
    (listed,) = home.objects.walk(f"{world.shop.landing}/visits/2017-03.parquet")
    assert inputs[0].facets["version"].datasetVersion == f"{listed.etag} {listed.size}"
    part = home.receipts.read(staged.links["part.habits"])
    assert names(outputs) == [home.layout.part(part.order.digest, "habits")]


def test_an_audit_wrote_no_data_set(world: World):
    inputs, outputs = openlineage.datasets(world.shop.home, [world.scored.links["audit"]])

    assert outputs == []
    assert f"{world.shop.home.predictions.uri}/period=2017-07" in names(inputs)


def test_the_data_sets_are_an_event_that_the_client_can_send(world: World):
    inputs, outputs = openlineage.datasets(world.shop.home, [world.scored.links["staged"]])
    event = RunEvent(
        eventTime="2017-09-01T12:00:00+00:00",
        producer=openlineage.PRODUCER,
        run=Run(runId="01234567-0123-4123-8123-0123456789ab"),
        job=Job(namespace="almanac", name="shop_score"),
        eventType=RunState.COMPLETE,
        inputs=inputs,
        outputs=outputs,
    )

    assert all(isinstance(one, InputDataset) for one in inputs) and all(isinstance(one, OutputDataset) for one in outputs)
    assert world.scored.content in Serde.to_json(event)


@pytest.fixture
def asked_anew() -> Iterator[None]:
    openlineage.has_provider.cache_clear()
    yield
    openlineage.has_provider.cache_clear()


class Told(logging.Handler):
    """What a logger says. Airflow, once imported, has its own ideas of the root logger, where caplog listens."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def told() -> Iterator[list[str]]:
    handler = Told()
    openlineage.log.addHandler(handler)
    yield handler.texts
    openlineage.log.removeHandler(handler)


def test_without_the_provider_there_is_no_lineage_and_one_warning(
    world: World, asked_anew: None, monkeypatch: pytest.MonkeyPatch, told: list[str]
):
    # None in place of a module is how Python says that there is none.
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", None)
    found = [openlineage.on_complete(world.shop.home, [world.scored.links["staged"]]) for _ in range(2)]

    assert found == [None, None]
    assert told == [
        "No OpenLineage events: the package apache-airflow-providers-openlineage is not installed. Install it with Airflow to "
        "get lineage events. Receipts hold the same lineage in any case."
    ]


def test_an_error_is_a_warning_and_never_fails_a_task(world: World, monkeypatch: pytest.MonkeyPatch, told: list[str]):
    monkeypatch.setattr(openlineage, "has_provider", lambda: True)
    gone = f"{world.scored.links['staged']}.gone"

    assert openlineage.on_complete(world.shop.home, [gone]) is None
    assert told == [f"No OpenLineage event for this task: NotFound: {gone}: the object does not exist."]
