"""The DAGs of a small pipeline, run task by task with real Spark jobs on the real store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from almanac import Audit, FeatureGroup, Scoring
from almanac.local import seaweed
from almanac.user_module import module_zip
from tests.support import leak
from tests.support.shop import MODULE, Shop, people
from tests.support.shop_dags import write_dags, write_jobs

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(900)]

Run = Callable[..., dict[str, Any]]
USER_MODULE = "shop.py"


@pytest.fixture(scope="module")
def jobs(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the steps and the shop's module."""
    return write_jobs(tmp_path_factory.mktemp("spark_jobs"))


@pytest.fixture(scope="module")
def dag_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dags")


@pytest.fixture(scope="module")
def played(
    store: seaweed.Store,
    spark: Any,
    spark_environment: dict[str, str],
    repository: Path,
    jobs: Path,
    dag_files: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Shop, Run]:
    """The shop, with a version in force that scored a period, and a function that runs one of its DAGs."""
    folder = tmp_path_factory.mktemp("runs")
    shop = Shop.open(f"s3://almanac/runs-{uuid.uuid4().hex}", spark)
    shop.describe(features=(shop.pipeline.group("habits"),))
    shop.retrain("2017-06")
    shop.score("2017-07")
    dags = write_dags(dag_files, shop.pipeline)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ALMANAC"))},
        **spark_environment,
        **store.environment(),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(repository / "plugins"),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
        "ALMANAC_ROOT": shop.home.layout.root,
        "ALMANAC_SPARK_JOBS": str(jobs),
    }
    subprocess.run(["airflow", "db", "migrate"], env=env, check=True, capture_output=True, timeout=120)
    subprocess.run(["airflow", "pools", "set", "spark", "2", "Spark"], env=env, check=True, capture_output=True, timeout=120)

    def run(verb: str, **conf: Any) -> dict[str, Any]:
        script = Path(__file__).parents[1] / "support" / "run_dag.py"
        command = [sys.executable, str(script), str(dags), f"shop_{verb}", json.dumps(conf)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-4000:]
        ended = json.loads(done.stdout.strip().splitlines()[-1])
        ended["log"] = done.stdout + done.stderr
        return ended

    return shop, run


def test_a_run_without_a_period_is_refused_in_words(played):
    shop, run = played
    before = shop.state()
    ended = run("score", period="July")
    assert ended["state"] == "failed"
    assert "Period: expected a month such as 2017-06; got 'July'." in ended["log"]
    assert shop.state() == before


def test_a_dry_run_of_a_retrain_plans_and_changes_nothing(played):
    shop, run = played
    before = shop.state()
    ended = run("retrain", period="2017-08", dry_run=True)
    assert ended["state"] == "success"
    assert ended["tasks"]["plan"] == "success"
    assert ended["tasks"]["sources.pin"] == "skipped"
    assert shop.state() == before


def test_a_suspect_version_is_named_on_its_task_and_in_the_runs_note_and_is_not_promoted(played, jobs, dag_files):
    """The visits of the month to come, read from the folder of events as if it were a reference."""
    shop, run = played
    before = shop.state()
    module = jobs / USER_MODULE
    sound = module.read_text()
    leaking = sound
    for old, new in leak.CODE.items():
        leaking = leaking.replace(old, new)
    sources = leak.described(shop.landing)["sources"]
    features = (FeatureGroup("traits", reads=("people",)), shop.pipeline.group("habits"))
    try:
        module.write_text(leaking)
        write_dags(dag_files, replace(shop.pipeline, sources=sources, features=features))
        ended = run("retrain", period="2017-07")
    finally:
        module.write_text(sound)
        write_dags(dag_files, shop.pipeline)
    (version,) = set(shop.home.versions.names()) - set(before["versions"])
    fact = "suspect: feature 'visits_next' alone tells the label with a ROC AUC of 1.000 (threshold 0.98)"

    assert ended["state"] == "success"
    assert (ended["tasks"]["model.publish"], ended["tasks"]["champion.publish"]) == ("success", "skipped")
    assert f"shop model.stage 2017-07: {fact}. ROC AUC 1.000 in training" in ended["log"]
    assert f"version {version} is {fact}. Look for a reference without time" in ended["log"]
    assert ended["note"].startswith(f"Found by Almanac: version {version} is {fact}. Look for a reference without time")
    assert f"Skipped by Almanac: Version {version} is not promoted; it stays in the history. reject: {fact}" in ended["note"]
    assert shop.state()["log"] == before["log"]


def test_a_failed_check_fails_the_task_with_what_was_found_and_publishes_nothing(played, jobs, dag_files):
    """Of the source, whose failing rows may be set aside, and then of the features."""
    shop, run = played
    before = shop.state()
    module = jobs / USER_MODULE
    sound = module.read_text()
    suite = '"sources": {"visits": [gxe.ExpectColumnValuesToBeBetween(column="amount", min_value=150)]}'
    failing = sound.replace('column="visits", min_value=1', 'column="visits", min_value=3')
    visits = replace(shop.pipeline.sources["visits"], audit=Audit(quarantine=0.5))
    try:
        module.write_text(failing.replace('return {"features"', f'return {{{suite}, "features"'))
        write_dags(dag_files, replace(shop.pipeline, sources={**shop.pipeline.sources, "visits": visits}))
        ended = run("retrain", period="2017-06")
    finally:
        module.write_text(sound)
        write_dags(dag_files, shop.pipeline)
    assert ended["state"] == "failed"
    assert ended["tasks"]["sources.audit"] == "success"
    assert re.search(r"warning: source 'visits': \d+ of \d+ rows \([\d.]+\) were set aside: \d+ by expect_column", ended["log"])
    assert ended["tasks"]["features.audit"] == "failed"
    assert ended["tasks"]["features.publish"] == "upstream_failed"
    *_, report = re.findall(r"Full report \(link valid for seven days\): (http\S+)", ended["log"])
    with urllib.request.urlopen(report) as answer:
        assert b"Did not pass." in answer.read()
    assert "did not pass its audit; nothing was published" in ended["log"]
    assert "expect_column_values_to_be_between(column='visits', min_value=3" in ended["log"]
    assert {key: before[key] for key in ("predictions", "versions", "log")} == {
        key: value for key, value in shop.state().items() if key in ("predictions", "versions", "log")
    }


def test_a_rollback_withdraws_the_version_and_scores_again_what_it_wrote(played):
    """The bad version was trained by other feature code: the older one's features are built by its own definition first."""
    shop, run = played
    assert shop.module == module_zip(MODULE.parent, "shop")
    first = shop.home.log().champion
    definition = shop.home.versions.read(first).definition
    shop.code(**{'F.sum("amount")': '(F.sum("amount") * 2)'})
    bad = shop.train("2017-07")
    shop.promote(bad, "it looked better")
    shop.score("2017-08")
    shop.score("2017-09")
    assert [item.version for item in shop.home.written()] == [first, bad, bad]
    before = shop.state()
    dry = run("rollback", reason="trained on a broken feed", dry_run=True)
    assert dry["state"] == "success"
    assert set(dry["tasks"].values()) == {"success", "skipped"}
    assert f"Roll back from {bad} to {first}: 2 periods, " in dry["log"]
    assert shop.state() == before
    ended = run("rollback", reason="trained on a broken feed")
    assert ended["state"] == "success", ended["log"][-4000:]
    assert ended["tasks"]["features.publish[0]"] == ended["tasks"]["predictions.publish[0]"] == "success"
    assert "2017-08" in shop.home.features(definition).visible()
    assert [item.version for item in shop.home.written()] == [first, first, first]
    published = shop.home.published(shop.home.predictions, ["2017-08", "2017-09"]).values()
    staged = [shop.home.receipts.read(one.links["staged"]).run_info for one in published]
    assert [one.task for one in staged] == ["score", "score"]
    assert len({one.spark_application for one in staged}) == 1
    entry = shop.home.log().entries[-1]
    assert (entry.version, entry.replaces, entry.withdraw, entry.reason) == (first, bad, True, "trained on a broken feed")
    assert entry.plan.startswith(f"{shop.home.layout.home}/rollbacks/")


def test_a_group_whose_job_fails_is_left_out_of_what_is_scored(played, dag_files):
    """The task stays failed for a person to see; the run goes on without it, and its version can bear that."""
    shop, run = played
    plain, sound = shop.pipeline, people()
    shop.describe(scoring=Scoring(degrade=0.9))
    try:
        version = shop.train("2017-06")
        shop.put("people", "all.parquet", pa.concat_tables([sound, sound]))
        write_dags(dag_files, shop.pipeline)
        ended = run("score", period="2017-10", version=version)
    finally:
        shop.put("people", "all.parquet", sound)
        shop.pipeline = plain
        write_dags(dag_files, plain)
    importance = shop.home.versions.importance(shop.home.versions.read(version))
    assert importance["traits"] <= 0.9
    assert ended["state"] == "success", ended["log"][-4000:]
    assert ended["tasks"]["features.stage.groups"] == "failed"
    assert ended["tasks"]["features.stage.combine"] == ended["tasks"]["predictions.publish"] == "success"
    assert "Feature groups traits were left out: band are null." in ended["log"]
    assert "Scored without the feature groups traits: their features were null." in ended["log"]
    assert "2017-10" in shop.home.predictions.visible()
