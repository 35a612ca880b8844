"""The newcomer's path: one retrain and one score of the first example on real data, through a running scheduler."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from almanac.local import scheduler, seaweed
from almanac.local.processes import members
from demo import landing, progress
from demo.story import DAGS, PIPELINE, Story, retrain, score

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def story(spark_environment: dict[str, str], repository: Path, tmp_path_factory: pytest.TempPathFactory):
    """Everything that `make demo` starts, in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    store = seaweed.start(folder / "store")
    try:
        landing.deliver(store)
        airflow, environment = scheduler.start(folder / "airflow", repository, store, lambda: spark_environment)
        try:
            airflow.wait_for_dags(DAGS)
            yield Story(airflow, store, environment, Console(file=io.StringIO(), width=180), folder / "story.json")
        finally:
            sessions = [session.popen.pid for session in airflow.sessions]
            airflow.stop()
            assert [process for session in sessions for process in members(session)] == []
    finally:
        store.stop()


def test_a_newcomer_sees_a_version_promoted_and_a_month_scored_by_it(story: Story):
    story.run(retrain("2017-07"))
    (version,) = story.versions()
    assert version["decision"] == "promote"
    assert version["in_force"] == ["from 2017-08"]
    assert version["metrics"]["roc_auc"] >= 0.80
    assert version["training"] == ["2017-03", "2017-04", "2017-05"]
    story.run(score("2017-08"))
    (predicted,) = json.loads(story._ask("predictions", PIPELINE, "--json"))
    assert predicted["period"] == "2017-08"
    assert predicted["version"] == version["version"]
    assert predicted["rows"] > 2000
    output = story.console.file.getvalue()
    assert "retrain 2017-07  model.stage: success" in output

    # The same again: every order finds its receipt.
    again = progress.Run(DAGS[1], "again-score-2017-08", "score 2017-08 again")
    story.airflow.trigger(again.dag, again.run, {"period": "2017-08"})
    assert progress.watch(story.airflow, [again], story.console) == {again: "success"}
    assert json.loads(story._ask("predictions", PIPELINE, "--json")) == [predicted]

    # The Airflow user who started it is known to the receipt.
    shown = json.loads(story._ask("show", PIPELINE, version["version"], "--json"))
    assert shown["report"]["verdict"].split(":")[0] in ("fine", "bias", "variance")
    assert Path(shown["manifest"]["files"]["model.joblib"]["uri"]).name == "model.joblib"
