"""Runs one DAG of a folder in this process, as `airflow dags test` does, and prints how its tasks ended, as JSON.

A program of its own: Airflow reads its settings when it is first imported.
"""

from __future__ import annotations

import json
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session


def main() -> None:
    folder, name, conf = sys.argv[1:4]
    dag = DagBag(folder, safe_mode=True).dags[name]
    run = dag.test(run_conf=json.loads(conf))
    tasks = {f"{task.task_id}[{task.map_index}]".replace("[-1]", ""): str(task.state) for task in run.get_task_instances()}
    print(json.dumps({"state": str(run.state), "tasks": tasks, "note": noted(run)}))


def noted(run: DagRun) -> str:
    """The note of an ended run. A scheduler calls the plugin's hook in its session; `dag.test` has none by then, so it is called
    here.
    """
    from almanac.airflow import notes

    with create_session() as session:
        found = session.get_one(DagRun, run.id)
        notes.on_dag_run_success(found, "")
        return str(found.note or "")


if __name__ == "__main__":
    main()
