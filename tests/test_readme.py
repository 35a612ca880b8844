"""What the README shows is true: its two files load and fit each other, its commands and make targets exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from almanac.core.canonical import decode
from almanac.core.functions import check_module
from almanac.core.pipeline import Pipeline
from tests.support.command_line import Asking
from tests.support.shop import MODULE

LOAD = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({folder!r}, safe_mode=True)
assert not bag.import_errors, bag.import_errors
print(json.dumps({{name: dag.tasks[0].description for name, dag in bag.dags.items()}}))
"""


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "README.md").read_text()


def block(text: str, name: str) -> str:
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None, name
    return found.group(1)


@pytest.mark.airflow
def test_the_two_files_of_a_pipeline_load_and_fit_each_other(text: str, repository: Path, tmp_path: Path):
    for folder, name in (("dags", "dag"), ("spark_jobs", "module")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "returning.py").write_text(block(text, name))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ALMANAC"))},
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "ALMANAC_SPARK_JOBS": str(tmp_path / "spark_jobs"),
        "PYTHONPATH": str(repository / "plugins"),
    }
    script = LOAD.format(folder=str(tmp_path / "dags"))
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    dags = json.loads(done.stdout.strip().splitlines()[-1])
    assert sorted(dags) == ["returning_retrain", "returning_rollback", "returning_score"]
    pipeline = decode(Pipeline, json.loads(dags["returning_retrain"]))
    module = type(sys)("returning")
    exec(compile(block(text, "module"), "returning.py", "exec"), vars(module))
    check_module(module, pipeline)
    assert list(module.estimators()) == ["logistic"]
    assert list(module.checks()) == ["features"]


ARGUMENTS = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({folder!r}, safe_mode=True)
assert not bag.import_errors, bag.import_errors
print(json.dumps({{name: {{
    "runs": dag.max_active_runs,
    "tags": sorted(dag.tags),
    "owners": sorted({{task.owner for task in dag.tasks}}),
    "retries": sorted({{task.retries for task in dag.tasks}}),
    "on_failure": sorted({{call.__name__ for task in dag.tasks for call in task.on_failure_callback}}),
}} for name, dag in bag.dags.items()}}))
"""


@pytest.mark.airflow
def test_airflows_own_arguments_reach_the_dags_and_their_tasks(text: str, repository: Path, tmp_path: Path):
    described = "from tests.support import shop\n\npipeline = shop.pipeline('s3://shop')\n"
    (tmp_path / "shop_dags.py").write_text(described + block(text, "arguments"))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ALMANAC"))},
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "ALMANAC_SPARK_JOBS": str(MODULE.parent),
        "PYTHONPATH": os.pathsep.join((str(repository), str(repository / "plugins"))),
    }
    script = ARGUMENTS.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    dags = json.loads(done.stdout.strip().splitlines()[-1])
    assert {name: dag["runs"] for name, dag in dags.items()} == {"shop_retrain": 16, "shop_rollback": 16, "shop_score": 3}
    for name, dag in dags.items():
        assert dag["tags"] == sorted({"almanac", "marketing", "shop", name.removeprefix("shop_")})
        assert (dag["owners"], dag["retries"], dag["on_failure"]) == (["growth"], [4], ["notify"])


def test_every_command_of_the_readme_exists(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    used = set(re.findall(r"^    almanac (\w+)", text, re.MULTILINE))
    assert used >= {"versions", "predictions", "history", "show", "promote", "rollback", "explain", "impact", "verify", "gc"}
    for command in sorted(used):
        code, output, complaint = Asking(monkeypatch, capsys)(command, "--help")
        assert code == 0, complaint
        assert "Example" in output


def test_every_make_target_of_the_readme_exists(text: str, repository: Path):
    rules = re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE)
    used = set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE))
    assert used and used <= set(rules)


def test_every_path_that_the_readme_links_exists(text: str, repository: Path):
    for path in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (repository / path).exists(), path
