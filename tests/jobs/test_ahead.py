"""Queries begun ahead: while a feature group is built, the query of the job's next group is planned and begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from almanac.core.receipts import PlacedOrder, RunInfo
from almanac.jobs import run
from almanac.jobs.context import SparkJob
from almanac.runs import feature_orders
from tests.support.shop import people
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

TELLS = """
def told(name):
    with open({path!r}, "a") as file:
        file.write(name + "\\n")


def customers("""


def groups(world: World) -> list[PlacedOrder]:
    """The orders of both groups, for one period."""
    planned = world.planned("2017-05")
    placed = [world.coded(one) for one in feature_orders.groups(world.shop.home, planned, world.pin(planned))]
    for one in placed:
        world.shop.home.receipts.place(one)
    assert [one.order.part for one in placed] == ["habits", "traits"]
    return placed


@pytest.fixture
def calls(world: World, tmp_path: Path) -> Callable[[], list[str]]:
    """The user's functions that were called; `world` has a module that tells."""
    path = tmp_path / "calls"
    world.shop.code(
        **{
            "\ndef customers(": TELLS.format(path=str(path)),
            "    age = ": "    told('habits')\n    age = ",
            "    return people.select(": "    told('traits')\n    return people.select(",
        }
    )
    return lambda: path.read_text().split() if path.exists() else []


def test_the_next_group_is_begun_before_this_one_is_done_and_called_once(world: World, calls: Callable[[], list[str]]) -> None:
    placed = groups(world)
    job = SparkJob("test", world.shop.spark, placed)

    first = run.run_order(world.shop.home, placed[0], job, RunInfo(run="test"))
    assert calls() == ["habits", "traits"]
    second = run.run_order(world.shop.home, placed[1], job, RunInfo(run="test"))

    assert calls() == ["habits", "traits"]
    assert first.passed and second.passed
    assert [output.name.split("-")[0] for one in (first, second) for output in one.outputs[:1]] == ["habits", "traits"]


def test_what_is_built_ahead_is_what_is_built_alone(world: World, calls: Callable[[], list[str]]) -> None:
    placed = groups(world)
    together = world.shop.together(placed)
    world.shop.restore(world.memory)
    world.shop.keep()
    alone = [one for order in groups(world) for one in world.shop.together([order])]

    assert [one.content for one in together] == [one.content for one in alone]


def test_the_error_of_the_next_group_is_its_own(world: World) -> None:
    world.shop.code(**{"    return people.select(": "    raise ValueError('no people')\n    return people.select("})
    first, second = world.shop.together(groups(world))

    assert first.passed
    assert not second.passed
    assert second.findings[0].startswith("Function 'traits' of 'shop' failed for 2017-05: ValueError: no people. ")


def test_a_group_that_fails_while_the_next_one_runs_fails_alone(world: World) -> None:
    world.shop.code(
        **{"    return visits.groupBy(": "    return visits.select('customer', 'amount')\n    return visits.groupBy("}
    )
    first, second = world.shop.together(groups(world))

    assert first.findings[0].startswith("Feature group 'habits': expected one row per entity")
    assert second.passed


def test_a_source_that_changes_after_its_group_was_begun_fails_that_group(world: World, calls: Callable[[], list[str]]) -> None:
    placed = groups(world)
    job = SparkJob("test", world.shop.spark, placed)
    assert run.run_order(world.shop.home, placed[0], job, RunInfo(run="test")).passed

    world.shop.put("people", "all.parquet", people().slice(1))
    second = run.run_order(world.shop.home, placed[1], job, RunInfo(run="test"))

    assert not second.passed
    assert "Source 'people' changed while it was read" in second.findings[0]


def test_a_group_that_is_done_is_not_begun_again(world: World, calls: Callable[[], list[str]]) -> None:
    placed = groups(world)
    world.shop.together(placed[1:])
    assert calls() == ["traits"]

    assert all(one.passed for one in world.shop.together(placed))
    assert calls() == ["traits", "habits"]


def test_a_retry_begins_nothing_ahead_so_that_one_group_cannot_take_another_with_it(
    world: World, calls: Callable[[], list[str]]
) -> None:
    placed = groups(world)
    job = SparkJob("test", world.shop.spark, placed)

    assert run.run_order(world.shop.home, placed[0], job, RunInfo(run="test", attempt=2)).passed
    assert calls() == ["habits"]


def test_a_function_that_exits_fails_its_group_and_no_other(world: World) -> None:
    world.shop.code(**{"    return people.select(": "    raise SystemExit(3)\n    return people.select("})
    first, second = world.shop.together(groups(world))

    assert first.passed
    assert second.findings[0].startswith("Function 'traits' of 'shop' failed for 2017-05: SystemExit: 3.")
