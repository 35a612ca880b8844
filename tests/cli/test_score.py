"""`almanac score`: what many periods would be scored with, and what is refused before a run is started."""

from __future__ import annotations

import pytest

from tests.support.command_line import Asking
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    for name in ("ALMANAC_AIRFLOW_URL", "ALMANAC_AIRFLOW_TOKEN", "ALMANAC_AIRFLOW_USER", "ALMANAC_AIRFLOW_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return Asking(monkeypatch, capsys)


def test_a_dry_run_tells_each_periods_version_and_whether_features_are_built(world: World, ask: Asking) -> None:
    world.shop.promote(world.new)
    before = world.shop.state()

    found = ask.json("score", "shop", "--from", "2017-07", "--to", "2017-09", "--dry-run")

    assert [(one["period"], one["version"], one["build"]) for one in found] == [
        ("2017-07", world.old, []),
        ("2017-08", world.new, []),
        ("2017-09", world.new, ["2017-09"]),
    ]
    code, output, _ = ask("score", "shop", "--from", "2017-08", "--to", "2017-09", "--dry-run")
    assert code == 0 and "published" in output and "will be built" in output
    assert world.shop.state() == before


def test_a_run_needs_an_airflow(world: World, ask: Asking) -> None:
    code, _, error = ask("score", "shop", "--from", "2017-08", "--to", "2017-09")
    assert code == 1
    assert "ALMANAC_AIRFLOW_URL: expected Airflow's address, such as http://localhost:8080, got nothing." in error


def test_periods_that_nothing_is_in_force_for_are_refused(world: World, ask: Asking) -> None:
    code, _, error = ask("score", "shop", "--from", "2017-05", "--to", "2017-09", "--dry-run")
    assert (code, error) == (
        1,
        "almanac: No version of shop is in force for 2017-05. Retrain an earlier period and promote it, or name a version.\n",
    )


def test_periods_in_the_wrong_order_are_refused(world: World, ask: Asking) -> None:
    code, _, error = ask("score", "shop", "--from", "2017-09", "--to", "2017-08", "--dry-run")
    assert (code, error) == (1, "almanac: From 2017-09 to 2017-08: the last period is before the first. Swap them.\n")
