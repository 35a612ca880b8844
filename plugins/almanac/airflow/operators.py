"""Two operators: `SparkDoor` submits the Spark job of a door, `StoreDoor` does a door's work in the worker.

Both store their arguments; what they do when they run is in `work`, which is imported then and not when DAGs are parsed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseOperator

from almanac.airflow.links import ReportLink
from almanac.settings import pool, spark_connection


class StoreDoor(BaseOperator):
    """Does a door's work in the worker.

    Args:
        description: the pipeline, as canonical JSON.
        work: the name of a function of `work`.
        given: what earlier tasks returned, by name.
    """

    template_fields: Sequence[str] = ("given",)
    ui_color = "#e8f1ee"

    def __init__(self, *, description: str, work: str, given: Mapping[str, Any] | None = None, **rest: Any) -> None:
        super().__init__(**rest)
        self.description = description
        self.work = work
        self.given = given or {}

    def execute(self, context: Any) -> Any:
        from almanac.airflow import desk, work

        with desk.failing_clearly():
            return work.WORK[self.work](desk.Desk.of(self.description, context), self.given)


class SparkDoor(SparkSubmitOperator):
    """Submits the Spark job of a door for the orders that are not carried out yet, and returns their receipts' URIs.

    Args:
        description: the pipeline, as canonical JSON.
        step: the file in `spark_jobs/steps/` that is submitted.
        work: the name of a function of `work` that gives the orders.
        part: the feature group.
        given: what earlier tasks returned, by name.
    """

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "given")
    operator_extra_links = (ReportLink(),)
    ui_color = "#fdf0dc"

    def __init__(
        self, *, description: str, step: str, work: str, part: str = "", given: Mapping[str, Any] | None = None, **rest: Any
    ) -> None:
        super().__init__(conn_id=spark_connection(), **{"pool": pool(), **rest})
        self.description = description
        self.step = step
        self.work = work
        self.part = part
        self.given = given or {}

    def execute(self, context: Any) -> dict[str, str]:  # type: ignore[override]  # the job's receipts, where it gives nothing
        from almanac.airflow import desk, work

        with desk.failing_clearly():
            found = desk.Desk.of(self.description, context)
            placed = work.ORDERS[self.work](found, self.given, self.part)
            left = found.place(placed)
            if left:
                desk.check_connection(self._conn_id)
                self.name = f"almanac {self.step} {self.part}".strip()
                self.application = found.application(self.step)
                self.py_files = desk.library_zip()
                self.application_args = [*left, "--witness", found.witness_json()]
                with found.explaining(placed):
                    super().execute(context)
            return found.receipts_of(placed)
