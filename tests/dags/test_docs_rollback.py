"""docs/rollback.md, walked through: every command that it shows is run, in its order, against a running Airflow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dags.running import Running

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(900)]

CALLED = {"purchase_propensity": "shop"}
GOOD, BAD = "2017-07-600d600d", "2017-08-0bad0bad"


@pytest.fixture(scope="module")
def commands(repository: Path) -> list[list[str]]:
    text = (repository / "docs" / "rollback.md").read_text()
    shown = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert all(line.startswith("$ almanac ") for line in shown)
    return [shlex.split(line.removeprefix("$ almanac ")) for line in shown]


@pytest.fixture(scope="module")
def walked(running: Running, commands: list[list[str]]) -> Iterator[dict[str, str]]:
    """What each command printed; the bad version is in force and wrote 2017-09."""
    shop = running.shop
    bad, good = shop.home.log().in_force("2017-09"), shop.home.log().in_force("2017-08")
    assert bad and good and bad != good
    shop.score("2017-09")
    names = {**CALLED, GOOD: good, BAD: bad}
    printed = {}
    for words in commands:
        done = running.almanac(*[names.get(word, word) for word in words])
        printed.setdefault(" ".join(words), done.stdout)
        printed["last " + " ".join(words)] = done.stdout
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    yield {**printed, "good": good, "bad": bad}


def test_the_walk_ends_with_every_period_scored_by_what_is_in_force(running: Running, walked: dict[str, str]):
    log = running.shop.home.log()
    written = {item.period: item.version for item in running.shop.home.written()}

    assert written["2017-09"] == log.in_force("2017-09") == walked["good"]
    assert walked["bad"] in log.withdrawn


def test_before_the_rollback_the_score_is_explained_by_the_bad_version_and_after_it_by_the_good_one(walked: dict[str, str]):
    explained = "explain purchase_propensity 2017-09 --entity 77"

    assert walked["bad"] in walked[explained]
    assert walked["good"] in walked["last " + explained]
    assert walked["bad"] not in walked["last " + explained]


def test_the_commands_show_what_the_page_says(walked: dict[str, str]):
    bad, good = walked["bad"], walked["good"]

    assert "2017-09" in walked[f"impact purchase_propensity --version {BAD}"]
    plan = walked["rollback purchase_propensity --dry-run"]
    assert bad in plan and good in plan and "2017-09" in plan
    assert "success" in walked["rollback purchase_propensity --reason scores of new customers are far too high --wait"]
    assert bad not in walked["predictions purchase_propensity"]
    assert "scores of new customers are far too high" in walked["last history purchase_propensity"]
    assert bad in walked["find --pipeline purchase_propensity --withdrawn"]


def test_the_rollback_that_the_command_line_starts_knows_its_reason_and_who_asked(running: Running, walked: dict[str, str]):
    entry = next(entry for entry in running.shop.home.log().entries if entry.replaces == walked["bad"])

    assert (entry.reason, entry.actor) == ("scores of new customers are far too high", "admin")
    assert entry.run and entry.plan


def test_a_rollback_whose_features_are_there_builds_none(running: Running, walked: dict[str, str]):
    (run,) = running.airflow.ask("GET", "dags/shop_rollback/dagRuns").json()["dag_runs"]
    tasks = running.airflow.ask("GET", f"dags/shop_rollback/dagRuns/{run['dag_run_id']}/taskInstances").json()["task_instances"]

    built = {task["state"] for task in tasks if task["task_id"].startswith("features.") and task["task_id"] != "features.plan"}
    assert built == {"skipped"}
    assert [task["state"] for task in tasks if task["task_id"] == "predictions.publish"] == ["success"]


def test_a_rollback_that_airflow_or_the_plan_refuses_starts_nothing(running: Running, walked: dict[str, str]):
    before = running.shop.state()

    without_reason = running.almanac("rollback", "shop")
    nowhere = running.almanac("rollback", "shop", "--reason", "bad", "--to", "2016-01-00000000", "--json")

    assert without_reason.returncode == nowhere.returncode == 1
    assert "A rollback needs a reason, found none" in without_reason.stderr
    assert "Version '2016-01-00000000' is unknown" in nowhere.stderr
    assert running.shop.state() == before
