"""The DAG files as Airflow finds them, and what each process loads on the way. Each asks a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

LOADED = "import json, sys; print(json.dumps([name for name in {names!r} if name in sys.modules]))"
DAG_PROCESSOR = """
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({dags!r}, safe_mode=True)
assert not bag.import_errors, bag.import_errors
"""
SHOW = """
import json
print(json.dumps({
    dag.dag_id: {
        "tasks": [task.task_id for task in dag.tasks],
        "doc": dag.doc_md, "tags": sorted(dag.tags), "groups": sorted(name for name in dag.task_group_dict if name),
        "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "about": {name: dag.params.get_param(name).description for name in dag.params},
        "names": {task.task_id: task.task_display_name for task in dag.tasks},
        "outlets": sorted(asset.name for task in dag.tasks for asset in task.outlets),
    }
    for dag in bag.dags.values()
}))
"""


@pytest.fixture(scope="module")
def ask(repository: Path, tmp_path_factory: pytest.TempPathFactory):
    """Runs a script as an Airflow process would, and gives the last line that it printed, as JSON."""
    home = tmp_path_factory.mktemp("airflow")

    def run(script: str) -> object:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ALMANAC"))},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(repository / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(repository / "plugins"),
        }
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def shown(ask, repository: Path) -> dict:
    return ask(DAG_PROCESSOR.format(dags=str(repository / "dags")) + SHOW)


def test_every_pipeline_has_its_three_dags_in_safe_mode(shown):
    assert sorted(shown) == [
        f"{pipeline}_{verb}" for pipeline in ("churn", "purchase_propensity") for verb in ("retrain", "rollback", "score")
    ]


def test_a_retrain_lists_its_tasks_in_the_order_of_the_steps(shown):
    tasks = shown["purchase_propensity_retrain"]["tasks"]
    assert tasks == [
        "plan",
        "sources.pin",
        "features.stage.groups",
        "features.stage.combine",
        "features.audit",
        "features.publish",
        "model.stage",
        "model.audit",
        "model.publish",
        "champion.stage",
        "champion.audit",
        "champion.publish",
    ]
    names = shown["purchase_propensity_retrain"]["names"]
    assert names["features.stage.groups"] == "build event_counts, demographic_bands, catalogue_affinity"
    assert (names["model.stage"], names["champion.audit"], names["champion.publish"]) == ("train", "gate", "promote")


def test_a_rollback_lists_its_tasks_in_the_order_of_the_steps(shown):
    assert shown["churn_rollback"]["tasks"] == [
        "plan",
        "champion.publish",
        "features.plan",
        "features.pin",
        "features.check",
        "features.stage",
        "features.combine",
        "features.audit",
        "features.publish",
        "score",
        "predictions.stage",
        "predictions.audit",
        "predictions.publish",
        "verify",
    ]


APPROVED = """
import json
from dataclasses import replace
from almanac import Gate
from almanac.airflow import build_dags
from almanac.core.canonical import decode
from almanac.core.pipeline import Pipeline
described = decode(Pipeline, json.loads(bag.dags["churn_retrain"].tasks[0].description))
dags = build_dags(replace(described, gate=Gate(approval=True)))
task = dags["churn_retrain"].get_task("champion.approve")
print(json.dumps([sorted(task.upstream_task_ids), sorted(task.downstream_task_ids), task.task_display_name]))
"""


def test_where_the_gate_asks_for_approval_a_person_stands_between_the_gate_and_the_promotion(ask, shown, repository: Path):
    assert "champion.approve" not in shown["churn_retrain"]["tasks"]
    assert ask(DAG_PROCESSOR.format(dags=str(repository / "dags")) + APPROVED) == [
        ["champion.audit"],
        ["champion.publish"],
        "approve",
    ]


def test_dags_say_what_they_do_and_every_parameter_has_a_type_and_a_description(shown):
    for name, dag in shown.items():
        assert len(dag["doc"]) > 200, name
        assert "almanac" in dag["tags"], name
        for param, schema in dag["params"].items():
            assert "type" in schema, (name, param)
            assert dag["about"][param], (name, param)
    assert shown["churn_rollback"]["params"]["reason"]["minLength"] == 1


def test_publishing_tasks_tell_others_through_assets(shown):
    assert shown["churn_score"]["outlets"] == ["churn.features", "churn.predictions"]
    assert shown["churn_retrain"]["outlets"] == ["churn.champion", "churn.decision", "churn.features", "churn.model"]


HEAVY = ["pyspark", "great_expectations", "sklearn", "pandas", "boto3", "deltalake"]
PROCESSES = {
    "the DAG processor": (DAG_PROCESSOR, HEAVY),
    "an Airflow worker": (
        "from almanac.airflow import context, tasks\nfrom almanac.runs import publish, plan, pin, orders, rescore, rollback\n",
        ["pyspark"],
    ),
    "the API server, which loads the plugin": (
        "import almanac_plugin\n",
        ["sklearn", "great_expectations", "pyspark"],
    ),
    "a Spark driver": (
        "from almanac.jobs import run, features, model, predictions\nfrom almanac.spark import checks, scoring\n",
        ["airflow"],
    ),
    "a Spark executor": (
        "from almanac.model import engines, training\nfrom almanac.spark import arrow, sources, scoring, features\n",
        ["airflow", "great_expectations", "deltalake"],
    ),
}


@pytest.mark.parametrize("process", PROCESSES)
def test_no_process_loads_what_is_not_its_own(process: str, ask, repository: Path):
    script, forbidden = PROCESSES[process]
    script = script.format(dags=str(repository / "dags")) if "{dags" in script else script
    paths = f"import sys; sys.path.insert(0, {str(repository / 'plugins')!r})\n"
    assert ask(paths + script + LOADED.format(names=forbidden)) == []


def test_the_plugin_loader_registers_the_shim_and_nothing_of_the_package(ask):
    found = ask(
        "import json, sys\n"
        "from airflow import plugins_manager\n"
        "names = [plugin.name for plugin in plugins_manager._get_plugins()[0]]\n"
        "errors = plugins_manager._get_plugins()[1]\n"
        "print(json.dumps([names.count('almanac'), [e for e in errors if 'almanac' in e], 'canonical' in sys.modules]))"
    )
    assert found == [1, {}, False] or found == [1, [], False]
