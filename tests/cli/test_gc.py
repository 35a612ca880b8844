"""`almanac gc`: dry by default, by number and bytes; what it deletes and how it refuses."""

from __future__ import annotations

from datetime import timedelta

import pytest

from almanac.core.layout import staged_file
from almanac.store.objects import Objects
from tests.support.command_line import Asking
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

DAYS = timedelta(days=8)


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    return Asking(monkeypatch, capsys)


@pytest.fixture
def a_week_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's clock says that eight days have passed."""
    real = Objects.now
    monkeypatch.setattr(Objects, "now", lambda self, uri: real(self, uri) + DAYS)


def orphan(world: World, size: int = 1_500_000) -> str:
    """A file of predictions that no commit ever named."""
    home = world.shop.home
    uri = f"{home.predictions.uri}/{staged_file('2017-07', 'f' * 64, 'lost')}"
    home.objects.put(uri, b"0" * size)
    return uri


def test_it_lists_by_kind_number_and_bytes_and_deletes_nothing(world: World, ask: Asking, a_week_later: None) -> None:
    uri = orphan(world)
    before = world.changed()
    code, output, errors = ask("gc", "shop")

    assert (code, errors) == (0, "")
    lines = {line.split()[0]: line.split() for line in output.splitlines() if line.strip()}
    assert lines["predictions"][:3] == ["predictions", "1", "1.5"]
    assert lines["models"] == ["models", "0", "0.0"]
    assert int(lines["parts"][1]) > 0
    assert output.rstrip().endswith("Nothing was deleted. To delete them: almanac gc shop --delete")
    assert world.changed() == before == [uri]


def test_scripts_get_every_file_with_its_kind_and_size(world: World, ask: Asking, a_week_later: None) -> None:
    uri = orphan(world)
    found = ask.json("gc", "shop")

    assert (found["pipeline"], found["deleted"], found["older_than"]) == ("shop", False, 7 * 86400)
    assert [(item["uri"], item["bytes"]) for item in found["items"] if item["kind"] == "predictions"] == [(uri, 1_500_000)]
    assert {total["kind"]: total["files"] for total in found["totals"]}["predictions"] == 1
    assert sum(total["files"] for total in found["totals"]) == len(found["items"])


def test_with_delete_exactly_what_was_listed_goes(world: World, ask: Asking, a_week_later: None) -> None:
    orphan(world)
    state, scores = world.shop.state(), world.shop.scores()
    listed = {item["uri"] for item in ask.json("gc", "shop")["items"]}
    there = {item.uri for item in world.shop.home.objects.walk(f"{world.shop.home.layout.root}/")}

    deleted = ask.json("gc", "shop", "--delete")
    assert deleted["deleted"] is True
    assert {item["uri"] for item in deleted["items"]} == listed
    assert there - {item.uri for item in world.shop.home.objects.walk(f"{world.shop.home.layout.root}/")} == listed
    assert (world.shop.state(), world.shop.scores()) == (state, scores)

    code, output, _ = ask("gc", "shop", "--delete")
    assert code == 0 and output.rstrip().endswith("Deleted 0 files, 0.0 MB.")
    assert ask("gc", "shop")[1].rstrip().endswith("No unused file is older than 7d. Nothing was deleted.")


def test_a_longer_age_is_kept_to_and_named_in_what_to_do(world: World, ask: Asking, a_week_later: None) -> None:
    orphan(world)

    assert "almanac gc shop --older-than 190h --delete" in ask("gc", "shop", "--older-than", "190h")[1]
    assert ask.json("gc", "shop", "--older-than", "9d", "--delete")["items"] == []


def test_by_the_stores_own_clock_nothing_of_today_is_garbage(world: World, ask: Asking) -> None:
    uri = orphan(world, size=1)

    assert ask.json("gc", "shop", "--delete")["items"] == []
    assert world.shop.home.objects.has(uri)


@pytest.mark.parametrize(
    ("age", "told"),
    [
        ("6d", "expected an age of 7 days or more, got 6 days: running jobs, and readers of an earlier state"),
        ("week", "expected a number of hours, days or weeks, such as 36h, 7d or 2w; got 'week'."),
    ],
)
def test_an_age_below_a_week_or_none_at_all_is_a_wrong_call(world: World, ask: Asking, age: str, told: str) -> None:
    code, output, errors = ask("gc", "shop", "--older-than", age, "--delete")
    assert (code, output) == (2, "")
    assert "Invalid value for --older-than: " in errors and told in errors
    assert world.changed() == []


def test_an_unknown_pipeline_is_refused(ask: Asking) -> None:
    code, _, errors = ask("gc", "shopp", "--delete")
    assert code == 1
    assert "Pipeline 'shopp' does not exist in ALMANAC_ROOT (found: " in errors
