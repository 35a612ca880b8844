"""The note of a run whose tasks were skipped, or whose version is suspect: why, so that a person need not open a task's log.

A task keeps the reason as an XCom. Tasks have no access to Airflow's database, so the note is written where the run ends: in the
scheduler, through a listener of Almanac's plugin.
"""

from __future__ import annotations

from typing import Any

from airflow.listeners import hookimpl

# The XComs' keys, which the tasks of no other DAG use; and how the part of the note begins that holds their values.
REASON, SUSPECT = "almanac_skipped", "almanac_suspect"
BEGINNINGS = {SUSPECT: "Found by Almanac: ", REASON: "Skipped by Almanac: "}
LONGEST = 1000  # characters, by the column in Airflow's database


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:  # noqa: ARG001 - the hook's signature
    _note(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:  # noqa: ARG001
    _note(dag_run)


def _note(dag_run: Any) -> None:
    """Gives an ended run a note of its suspect version and the reasons of its skipped tasks. A person's own note stays."""
    from airflow.models.xcom import XComModel
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None or (dag_run.note and not dag_run.note.startswith(tuple(BEGINNINGS.values()))):
        return
    parts = []
    for key, beginning in BEGINNINGS.items():
        query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key=key)
        if texts := dict.fromkeys(str(XComModel.deserialize_value(one)) for one in session.scalars(query)):
            parts.append(beginning + "\n".join(texts))
    if parts or dag_run.note:
        dag_run.note = "\n".join(parts)[:LONGEST]
