"""Through a running scheduler: backfills give the same table in any order, and docs/rollback.md is walked through.

One file, because one Airflow serves both.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.running_airflow import MONTHS, Running
from tests.support.shop import visits

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(900)]

CALLED = {"purchase_propensity": "shop"}
GOOD, BAD = "2017-07-600d600d", "2017-08-0bad0bad"


@pytest.fixture(scope="module")
def backfilled(running: Running) -> None:
    """August and September scored by a backfill."""
    running.by_command("score", "--from-date", running.begin("2017-08"), "--to-date", running.begin("2017-09"))


def test_a_backfill_gives_each_period_the_version_in_force_for_it(running: Running, backfilled: None):
    assert running.states("score") == dict.fromkeys(MONTHS, "success")
    assert {period: version for period, (version, _) in running.table().items()} == running.versions
    assert len(set(running.versions.values())) == 2
    (published,) = running.shop.home.published(running.shop.home.predictions, MONTHS[:1]).values()
    assert (published.run_info.dag, published.run_info.task) == ("shop_score", "predictions.publish")


def test_a_backfill_again_and_backwards_publishes_nothing(running: Running, backfilled: None):
    before, table = running.shop.home.predictions.version(), running.table()

    running.by_page("score", "2017-08", "2017-09", run_backwards=True, reprocess_behavior="completed", max_active_runs=2)

    assert running.states("score") == dict.fromkeys(MONTHS, "success")
    assert running.shop.home.predictions.version() == before
    assert running.table() == table


def test_many_periods_in_one_run_ask_for_just_what_the_backfill_made(running: Running, backfilled: None):
    """The orders are the same, so their receipts are found."""
    before, table = running.shop.home.predictions.version(), running.table()

    done = running.almanac("score", "shop", "--from", "2017-08", "--to", "2017-09", "--wait")

    assert done.returncode == 0, done.stderr[-3000:]
    assert "predictions.publish: success" in done.stderr
    assert all(version in done.stdout for version in running.versions.values())
    assert running.shop.home.predictions.version() == before
    assert running.table() == table


def test_a_run_with_a_logical_date_is_for_the_last_month_that_had_ended_in_london(running: Running, backfilled: None):
    """Half an hour before the end of August in UTC, it has ended in London. The orders are those of the backfill."""
    before, table = running.shop.home.predictions.version(), running.table()

    state, tasks = running.by_date("score", "2017-08-31T23:30:00Z")

    assert (state, tasks["predictions.publish"]) == ("success", "success")
    assert running.shop.home.predictions.version() == before
    assert running.table() == table


def test_a_backfill_can_be_pinned_to_a_version(running: Running, backfilled: None):
    other, table = running.versions["2017-09"], running.table()

    running.by_command(
        "score",
        *("--from-date", running.begin("2017-08"), "--to-date", running.begin("2017-08"), "--reprocess-behavior", "completed"),
        *("--dag-run-conf", json.dumps({"version": other})),
    )

    assert {**table, "2017-08": running.table()["2017-08"]} == running.table()
    assert running.table()["2017-08"][0] == other


def test_a_backfill_with_params_that_the_dag_does_not_take_is_refused(running: Running):
    body = {"dag_id": "shop_score", "from_date": "2017-07-01T00:00:00Z", "to_date": "2017-07-28T00:00:00Z"}
    answer = running.airflow.ask("POST", "backfills", {**body, "dag_run_conf": {"version": 7}})

    assert answer.status_code == 422, answer.text
    assert "version" in answer.text


def test_backfilled_retrains_are_in_force_for_their_own_periods_and_never_overtake_the_champion(running: Running):
    shop = running.shop
    log, known = shop.home.log(), shop.home.versions.names()

    running.create("retrain", "--from-date", running.begin("2017-06"), "--to-date", running.begin("2017-07"), "--run-backwards")
    question = running.answer("Approve")
    running.wait("shop_retrain")

    assert running.states("retrain") == {"2017-06": "success", "2017-07": "success"}
    (new,) = set(shop.home.versions.names()) - set(known)  # that of 2017-06 was there: the same order is the same version
    later = shop.home.log()
    assert new.startswith("2017-07-")
    assert later.champion == log.champion == later.in_force("2017-09") == later.in_force("2017-12")
    assert later.in_force("2017-07") == log.in_force("2017-07") == running.versions["2017-08"]
    assert [(entry.version, entry.effective) for entry in later.entries[log.position :]] == [(new, "2017-08")]
    assert later.in_force("2017-08") == new
    gate = shop.home.receipts.read(later.entries[-1].gate)
    assert (gate.run_info.dag, gate.run_info.task) == ("shop_retrain", "champion.stage")  # the audit rides along
    # The pipeline's gate asks a person, about the new version alone.
    assert question["subject"] == f"Promote {new}?"
    assert f"| metric | {new} | {running.versions['2017-08']} in force |" in question["body"]
    assert later.entries[-1].approver == "admin"


def test_events_that_came_late_are_scored_by_one_command(running: Running, backfilled: None):
    shop = running.shop
    table, known = running.table(), shop.home.versions.names()
    shop.put("visits", "late.parquet", visits(datetime(2017, 9, 1), seed=3))

    done = running.almanac("plan", "shop", "--run")

    assert done.returncode == 0, done.stderr[-3000:]
    assert "shop_score 2017-09" in done.stderr and "predictions.publish: success" in done.stderr
    assert done.stdout.endswith("Nothing to redo: every source still holds what was used.\n")
    assert running.table()["2017-08"] == table["2017-08"]
    assert running.table()["2017-09"][0] == table["2017-09"][0]
    assert running.table()["2017-09"][1] != table["2017-09"][1]
    assert shop.home.versions.names() == known


def test_a_run_after_the_last_period_is_skipped_and_its_note_says_why(running: Running):
    done = running.almanac("retrain", "shop", "2018-02", "--wait")

    assert done.returncode == 0, done.stderr[-3000:]
    assert "plan: skipped" in done.stderr and "champion.publish: skipped" in done.stderr
    assert "Skipped by Almanac: Period 2018-02 is after 2017-12, the last period of shop: nothing to do." in done.stderr


# --- docs/rollback.md, walked through: every command that it shows is run, in its order ---


@pytest.fixture(scope="module")
def commands(repository: Path) -> list[list[str]]:
    text = (repository / "docs" / "rollback.md").read_text()
    shown = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert all(line.startswith("$ almanac ") for line in shown)
    return [shlex.split(line.removeprefix("$ almanac ")) for line in shown]


@pytest.fixture(scope="module")
def walked(running: Running, commands: list[list[str]]) -> Iterator[dict[str, str]]:
    """What each command printed; the bad version is in force and wrote 2017-09."""
    shop = running.restored().shop
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
    assert "Rollback: expected a reason, got none" in without_reason.stderr
    assert "Version '2016-01-00000000' is unknown" in nowhere.stderr
    assert running.shop.state() == before
