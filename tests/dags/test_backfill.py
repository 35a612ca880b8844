"""Backfills through a running scheduler: any order, any parallelism, the same table."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.dags.running import MONTHS, Running
from tests.shop import visits

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_backfill_gives_each_period_the_version_in_force_for_it(running: Running):
    running.by_command("score", "--from-date", "2017-08-01", "--to-date", "2017-09-30")

    assert running.states("score") == dict.fromkeys(MONTHS, "success")
    assert {period: version for period, (version, _) in running.table().items()} == running.versions
    assert len(set(running.versions.values())) == 2
    (published,) = running.shop.home.published(running.shop.home.predictions, MONTHS[:1]).values()
    assert (published.witness.dag, published.witness.task) == ("shop_score", "predictions.publish")


def test_a_backfill_again_and_backwards_publishes_nothing(running: Running):
    before, table = running.shop.home.predictions.version(), running.table()

    running.by_page("score", "2017-08", "2017-09", run_backwards=True, reprocess_behavior="completed", max_active_runs=2)

    assert running.states("score") == dict.fromkeys(MONTHS, "success")
    assert running.shop.home.predictions.version() == before
    assert running.table() == table


def test_many_periods_in_one_run_ask_for_just_what_the_backfill_made(running: Running):
    """The orders are the same, so their receipts are found."""
    before, table = running.shop.home.predictions.version(), running.table()

    done = running.almanac("score", "shop", "--from", "2017-08", "--to", "2017-09", "--wait")

    assert done.returncode == 0, done.stderr[-3000:]
    assert "predictions.publish: success" in done.stderr
    assert all(version in done.stdout for version in running.versions.values())
    assert running.shop.home.predictions.version() == before
    assert running.table() == table


def test_a_backfill_can_be_pinned_to_a_version(running: Running):
    other, table = running.versions["2017-09"], running.table()

    running.by_command(
        "score",
        *("--from-date", "2017-08-01", "--to-date", "2017-08-31", "--reprocess-behavior", "completed"),
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

    running.create("retrain", "--from-date", "2017-06-01", "--to-date", "2017-07-31", "--run-backwards")
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
    assert (gate.witness.dag, gate.witness.task) == ("shop_retrain", "champion.audit")
    # The pipeline's gate asks a person, about the new version alone.
    assert question["subject"] == f"Promote {new}?"
    assert f"| metric | {new} | {running.versions['2017-08']} in force |" in question["body"]
    assert later.entries[-1].approver == "admin"


def test_events_that_came_late_are_scored_by_one_command(running: Running):
    shop = running.shop
    table, known = running.table(), shop.home.versions.names()
    shop.put("visits", "late.parquet", visits(datetime(2017, 9, 1), seed=3))

    done = running.almanac("plan", "shop", "--run")

    assert done.returncode == 0, done.stderr[-3000:]
    assert "shop_score 2017-09" in done.stderr and "predictions.publish: success" in done.stderr
    assert done.stdout.endswith("Nothing: every source still holds what was used.\n")
    assert running.table()["2017-08"] == table["2017-08"]
    assert running.table()["2017-09"][0] == table["2017-09"][0]
    assert running.table()["2017-09"][1] != table["2017-09"][1]
    assert shop.home.versions.names() == known
