"""The command line on a bucket alone: what it says to people, what it gives to scripts, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from almanac.cli import console, show
from almanac.core.bundle import Engine
from almanac.core.receipts import RunInfo
from almanac.runs import promotions
from tests.support.command_line import Asking
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    monkeypatch.delenv("ALMANAC_AIRFLOW_URL", raising=False)
    return Asking(monkeypatch, capsys)


def test_versions_show_period_metrics_decision_and_where_each_is_in_force(world: World, ask: Asking):
    code, output, _ = ask("versions", "shop")
    assert code == 0
    first, second = output.strip().splitlines()[1:]
    assert first.split()[:2] == [world.old, "2017-06"]
    assert first.rstrip().endswith("from 2017-07")
    assert second.rstrip().endswith("never")
    rows = json.loads(ask("versions", "shop", "--json")[1])
    assert [(row["version"], row["decision"], row["in_force"]) for row in rows] == [
        (world.old, "promote", ["from 2017-07"]),
        (world.new, "none", []),
    ]
    assert set(rows[0]["metrics"]) == {"roc_auc", "average_precision", "log_loss", "brier_score"}


def test_the_newest_of_many_are_shown_and_how_many_came_before(world: World, ask: Asking, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(console, "MANY", 1)
    code, output, told = ask("versions", "shop")
    assert (code, told) == (0, "Showing the newest 1 of 2. --last 0 also shows the 1 before them.\n")
    assert world.new in output and world.old not in output
    assert ask("versions", "shop", "--last", "0")[1:] == ask("versions", "shop", "--last", "9")[1:]
    for asked, shown in (((), 2), (("--last", "1"), 1)):
        assert len(json.loads(ask("versions", "shop", "--json", *asked)[1])) == shown


def test_predictions_show_rows_and_the_version_that_wrote_each_period(world: World, ask: Asking):
    (row,) = json.loads(ask("predictions", "shop", "--json")[1])
    assert (row["period"], row["version"], row["rows"]) == ("2017-07", world.old, world.scored.rows)


def test_a_promotion_by_hand_needs_a_reason_and_stays_in_the_history(world: World, ask: Asking):
    before = world.shop.state()
    code, output, error = ask("promote", "shop", world.new)
    assert (code, output) == (1, "")
    assert error == "almanac: A promotion by hand needs a reason, got none. Give one; it is recorded in the promotion log.\n"
    assert world.shop.state() == before
    code, output, _ = ask("promote", "shop", world.new, "--reason", "fresher")
    assert code == 0
    entries = json.loads(ask("history", "shop", "--json")[1])
    assert [(entry["version"], entry["reason"], entry["actor"]) for entry in entries][1:] == [(world.new, "fresher", "ann")]
    rows = json.loads(ask("versions", "shop", "--json")[1])
    assert [row["in_force"] for row in rows] == [["2017-07"], ["from 2017-08"]]


def test_a_dry_rollback_shows_its_plan_and_changes_nothing(world: World, ask: Asking):
    world.shop.promote(world.new)
    before = world.shop.state()
    code, output, _ = ask("rollback", "shop", "--dry-run")
    assert code == 0
    assert world.new in output and world.old in output and "nothing (0 rows)" in output
    found = json.loads(ask("rollback", "shop", "--dry-run", "--json")[1])
    assert (found["bad"], found["to"], found["scores"]) == (world.new, world.old, {})
    assert world.shop.state() == before


def test_a_rollback_of_an_older_version_is_planned_by_name(world: World, ask: Asking):
    world.shop.promote(world.new)
    world.shop.score("2017-08")
    newest = world.shop.train("2017-08")
    world.shop.promote(newest)
    found = ask.json("rollback", "shop", "--dry-run", "--from", world.new)
    assert (found["bad"], found["to"], found["scores"]) == (world.new, world.old, {"2017-08": world.old})
    output = ask("rollback", "shop", "--dry-run", "--from", world.new)[1]
    assert "2017-08 (" in output and newest not in output


def test_a_rollback_needs_a_reason_and_an_airflow(world: World, ask: Asking):
    world.shop.promote(world.new)
    before = world.shop.state()
    code, _, error = ask("rollback", "shop")
    assert (code, error) == (1, "almanac: Rollback: expected a reason, got none. Give one: it stays in the promotion log.\n")
    code, _, error = ask("rollback", "shop", "--reason", "bad")
    assert code == 1
    assert "ALMANAC_AIRFLOW_URL: expected Airflow's address, such as http://localhost:8080, got nothing." in error
    assert world.shop.state() == before


def test_a_rollback_without_a_login_or_with_an_airflow_that_does_not_answer_says_so(
    world: World, ask: Asking, monkeypatch: pytest.MonkeyPatch
):
    world.shop.promote(world.new)
    monkeypatch.setenv("ALMANAC_AIRFLOW_URL", "http://127.0.0.1:9")
    code, _, error = ask("rollback", "shop", "--reason", "bad")
    assert code == 1
    assert "No login is set for Airflow at http://127.0.0.1:9. Set ALMANAC_AIRFLOW_TOKEN, or ALMANAC_AIRFLOW_USER" in error
    monkeypatch.setenv("ALMANAC_AIRFLOW_TOKEN", "a token")
    code, _, error = ask("rollback", "shop", "--reason", "bad")
    assert code == 1
    assert "Airflow does not answer (ConnectError). Check ALMANAC_AIRFLOW_URL" in error


def test_a_version_is_withdrawn_and_reinstated_by_hand(world: World, ask: Asking):
    code, _, error = ask("withdraw", "shop", world.new)
    assert (code, error) == (
        1,
        "almanac: A withdrawal needs a reason, got none. Give one; it is recorded in the promotion log.\n",
    )
    code, output, _ = ask("withdraw", "shop", world.new, "--reason", "broken [feed]")
    assert code == 0
    assert "withdraw" in output and "broken [feed]" in output
    assert [row["withdrawn"] for row in ask.json("versions", "shop")] == [False, True]
    code, _, error = ask("withdraw", "shop", world.new, "--reason", "again")
    assert code == 1
    assert error.startswith(
        f"almanac: Cannot withdraw {world.new}: expected a version that is in the history, got one that is withdrawn"
    )
    assert ask("reinstate", "shop", world.new, "--reason", "it was right")[0] == 0
    history = ask("history", "shop")[1]
    assert "withdraw" in history and "reinstate" in history and "broken [feed]" in history


def test_a_rollback_to_an_unknown_version_lists_those_that_there_are(world: World, ask: Asking):
    world.shop.promote(world.new)
    code, _, error = ask("rollback", "shop", "--dry-run", "--to", "2016-01-00000000")
    assert code == 1
    assert error.startswith("almanac: Version '2016-01-00000000' is unknown (there are: ")
    assert world.old in error and error.endswith("Name one of them.\n")


def test_show_tells_what_a_version_is(world: World, ask: Asking):
    code, output, _ = ask("show", "shop", world.old)
    assert code == 0
    for part in (world.old, "2017-03, 2017-04", "2017-05", "model.joblib", "scikit-learn", "ROC AUC"):
        assert part in output
    whole = json.loads(ask("show", "shop", world.old, "--json")[1])
    assert whole["manifest"]["version"] == world.old
    assert set(whole["report"]) == {
        "estimator",
        "choice",
        "training",
        "holdout",
        "confusion_matrix",
        "calibration",
        "verdict",
        "importance",
    }
    shares = whole["report"]["importance"]
    assert f"habits {shares['habits']:.4f}, traits {shares['traits']:.4f}" in " ".join(output.split())


def test_the_approver_of_a_promotion_is_shown_wherever_the_promotion_is(world: World, ask: Asking):
    shop, told = world.shop, "by ann, approved by bob"
    said = {"reason": "fresher", "gate": None, "run_info": RunInfo(actor="ann"), "approver": "bob"}
    promotions.promote(shop.home, shop.pipeline, shop.home.log(), world.new, **said)
    assert "ann, approved by bob" in ask("history", "shop")[1]
    shown = " ".join(ask("show", "shop", world.new)[1].split())
    assert f"promotion 2: promote of {world.new} from 2017-08, {told}" in shown and ": fresher" in shown
    shop.score("2017-08")
    assert told in ask("explain", "shop", "2017-08")[1]
    assert "promotion 1: promote of" in " ".join(ask("show", "shop", world.old)[1].split())


def test_an_unknown_pipeline_lists_those_that_there_are(ask: Asking):
    code, _, error = ask("versions", "shopp")
    assert code == 1
    assert "Pipeline 'shopp' does not exist in ALMANAC_ROOT (found: " in error and "shop" in error


def test_a_missing_root_says_what_to_set(ask: Asking, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ALMANAC_ROOT")
    code, _, error = ask("versions", "shop")
    assert code == 1
    assert error == "almanac: ALMANAC_ROOT: expected an S3 URI such as s3://bucket/almanac, got nothing. Set it.\n"


def test_the_command_itself_is_installed_and_explains_itself():
    done = subprocess.run([sys.executable, "-m", "almanac", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("pipelines", "versions", "predictions", "history", "show", "promote", "rollback", "check"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with ä and 漢\tand a tab", "plain, with ä and 漢\tand a tab"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("back\x08 and \r over", "back\\x08 and \\r over"),
        ("right \u202eto left", "right \\u202eto left"),
    ],
)
def test_what_people_wrote_steers_no_terminal(text: str, shown: str) -> None:
    assert console.harmless(text) == shown


def test_a_version_is_shown_with_its_engine_why_and_how_much_faster_it_was():
    assert show._engine(Engine(name="numpy", reason="equal", speedup=4.1)) == "numpy, 4.1 times as fast as onnxruntime (equal)"
    assert show._engine(Engine()) == "scikit-learn (no other engine was tried)"
