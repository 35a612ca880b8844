"""`almanac plan`: what late or corrected data ask for. Runs that do it are in tests/dags/test_running_airflow.py."""

from __future__ import annotations

from datetime import datetime

import pytest

from almanac.cli.plan import runs
from almanac.core.redo import Redo, StalePredictions, StaleVersion
from tests.support import shop as shops
from tests.support.command_line import Asking
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    monkeypatch.delenv("ALMANAC_AIRFLOW_URL", raising=False)
    return Asking(monkeypatch, capsys)


def correct(world: World) -> None:
    world.shop.put("visits", "2017-05.parquet", shops.visits(datetime(2017, 5, 1), seed=1))


def test_where_nothing_changed_there_is_nothing_to_do(ask: Asking) -> None:
    code, output, errors = ask("plan", "shop")

    assert (code, errors) == (0, "")
    assert output.endswith("Nothing to redo: every source still holds what was used.\n")


def test_each_thing_to_do_again_is_a_row_that_says_why(world: World, ask: Asking) -> None:
    correct(world)
    before = world.shop.state()

    code, output, errors = ask("plan", "shop")

    assert (code, errors) == (0, "")
    rows = [" ".join(line.split()) for line in output.splitlines()]
    definition = world.shop.home.versions.read(world.old).definition
    assert rows == [
        "redo period what because",
        f"features 2017-05 definition {definition} visits changed",
        f"features 2017-07 definition {definition} visits changed",
        f"version 2017-06 {world.old} features of 2017-05 and labels of 2017-04 change",
        f"predictions 2017-07 by {world.old} its features change; version {world.old} changes",
    ]
    assert world.shop.state() == before


def test_scripts_get_the_whole_plan(world: World, ask: Asking) -> None:
    correct(world)

    found = ask.json("plan", "shop")

    assert [one["period"] for one in found["features"]] == ["2017-05", "2017-07"]
    assert [one["version"] for one in found["versions"]] == [world.old]
    assert [one["period"] for one in found["predictions"]] == ["2017-07"]


def test_doing_it_needs_an_airflow_and_changes_nothing_without_one(world: World, ask: Asking) -> None:
    correct(world)
    before = world.shop.state()

    code, _, errors = ask("plan", "shop", "--run")

    assert code == 1
    assert "ALMANAC_AIRFLOW_URL: expected Airflow's address" in errors
    assert world.shop.state() == before


def test_versions_are_trained_oldest_first_before_periods_are_scored() -> None:
    versions = [StaleVersion(version=f"{period}-0", period=period, features=(), labels=()) for period in ("2017-07", "2017-06")]
    predictions = (StalePredictions(period="2017-08", version="2017-07-0", reasons=(), in_sample=True),)

    assert list(runs("shop", Redo(versions=tuple(versions), predictions=predictions))) == [
        ("shop_retrain", {"period": "2017-06", "refresh": True}),
        ("shop_retrain", {"period": "2017-07", "refresh": True}),
        ("shop_score", {"period": "2017-08", "refresh": True, "allow_in_sample": True}),
    ]
