"""The command line on a bucket alone: what it says to people, what it gives to scripts, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from almanac import cli
from tests.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command in this process; gives exit code, output and errors."""
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    monkeypatch.setenv("ALMANAC_ACTOR", "ann")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["almanac", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
            sys.exit(0)
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return run


def test_versions_show_period_metrics_decision_and_where_each_is_in_force(world: World, ask: Ask):
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


def test_predictions_show_rows_and_the_version_that_wrote_each_period(world: World, ask: Ask):
    (row,) = json.loads(ask("predictions", "shop", "--json")[1])
    assert (row["period"], row["version"], row["rows"]) == ("2017-07", world.old, world.scored.rows)


def test_a_promotion_by_hand_needs_a_reason_and_stays_in_the_history(world: World, ask: Ask):
    before = world.shop.state()
    code, output, error = ask("promote", "shop", world.new)
    assert (code, output) == (1, "")
    assert error == "almanac: A promotion by hand needs a reason, found none. Give one: it stays in the promotion log.\n"
    assert world.shop.state() == before
    code, output, _ = ask("promote", "shop", world.new, "--reason", "fresher")
    assert code == 0
    entries = json.loads(ask("history", "shop", "--json")[1])
    assert [(entry["version"], entry["reason"], entry["actor"]) for entry in entries][1:] == [(world.new, "fresher", "ann")]
    rows = json.loads(ask("versions", "shop", "--json")[1])
    assert [row["in_force"] for row in rows] == [["2017-07"], ["from 2017-08"]]


def test_a_dry_rollback_shows_its_plan_and_changes_nothing(world: World, ask: Ask):
    world.shop.promote(world.new)
    before = world.shop.state()
    code, output, _ = ask("rollback", "shop", "--dry-run")
    assert code == 0
    assert world.new in output and world.old in output and "nothing (0 rows)" in output
    found = json.loads(ask("rollback", "shop", "--dry-run", "--json")[1])
    assert (found["bad"], found["to"], found["periods"]) == (world.new, world.old, [])
    assert world.shop.state() == before


def test_a_rollback_without_dry_run_says_which_dag_to_start(ask: Ask):
    code, _, error = ask("rollback", "shop")
    assert code == 2
    assert "start the DAG shop_rollback with a reason" in error


def test_a_rollback_to_an_unknown_version_lists_those_that_there_are(world: World, ask: Ask):
    world.shop.promote(world.new)
    code, _, error = ask("rollback", "shop", "--dry-run", "--to", "2016-01-00000000")
    assert code == 1
    assert error.startswith("almanac: Version '2016-01-00000000' is unknown (there are: ")
    assert world.old in error and error.endswith("Name one of them.\n")


def test_show_tells_what_a_version_is(world: World, ask: Ask):
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
    }


def test_an_unknown_pipeline_lists_those_that_there_are(ask: Ask):
    code, _, error = ask("versions", "shopp")
    assert code == 1
    assert "Nothing is kept of a pipeline 'shopp' (there are: " in error and "shop" in error


def test_a_missing_root_says_what_to_set(ask: Ask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ALMANAC_ROOT")
    code, _, error = ask("versions", "shop")
    assert code == 1
    assert error == "almanac: ALMANAC_ROOT: found nothing, allowed is an S3 URI such as s3://bucket/almanac. Set it.\n"


def test_the_command_itself_is_installed_and_explains_itself():
    done = subprocess.run([sys.executable, "-m", "almanac", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("pipelines", "versions", "predictions", "history", "show", "promote", "rollback", "check"):
        assert command in done.stdout
