"""The operators: `SparkDoor` submits the Spark job of a door, `StoreDoor` does a door's work in the worker, `PublishDoor` does
too and can go back to the doors before, `Arrival` waits for a source, `Approve` asks a person.

All store their arguments; what they do when they run is in `work` and `again`, imported then and not when DAGs are parsed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.sdk.exceptions import AirflowSensorTimeout

from almanac.airflow.links import ReportLink
from almanac.errors import SourceError
from almanac.settings import pool, spark_connection

if TYPE_CHECKING:
    from almanac.airflow.desk import Desk
    from almanac.core.receipts import Placed

DEFAULT_POOL = "default_pool"


class Traced:
    """What a task leaves for others to look at: the URIs of its receipts, by period."""

    description: str
    receipts: Mapping[str, str] = {}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - the provider's signature
        """Asked by Airflow's OpenLineage provider, where it is installed."""
        from almanac.airflow import desk

        return desk.lineage(self.description, self.receipts)


class StoreDoor(Traced, BaseOperator):
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
            found = work.WORK[self.work](desk.Desk.of(self.description, context), self.given)
            self.receipts = desk.receipts_in(found)
            return found


class SparkDoor(Traced, SparkSubmitOperator):
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

    def execute(self, context: Any) -> Any:  # the job's receipts, where SparkSubmitOperator gives nothing
        from almanac.airflow import desk, work

        with desk.failing_clearly():
            found = desk.Desk.of(self.description, context)
            uris = self.carry(found, self.step, work.ORDERS[self.work](found, self.given, self.part))
            found.announce_decisions(uris.values())
            self.receipts = uris
            return uris

    def carry(self, found: Desk, step: str, placed: list[Placed]) -> dict[str, str]:
        """Submits a step for those of the orders that are not carried out yet; gives period to its receipt's URI."""
        from almanac.airflow import desk

        left = found.place(placed)
        if left:
            desk.check_connection(self._conn_id)
            self.name = f"almanac {step} {self.part}".strip()
            self.application = found.application(step)
            self.py_files = desk.library_zip()
            self.application_args = [*left, "--witness", found.witness_json()]
            self._hook = None  # it keeps the arguments of the submission before
            with found.explaining(placed):
                super().execute(found.context)
        return found.receipts_of(placed)


class PublishDoor(SparkDoor):
    """Publishes in the worker. Where somebody else moved meanwhile, it carries out the doors before again, with Spark jobs of
    its own; that is rare, so it waits for no place in the pool.

    Args:
        work: the name of a function of `again`.
    """

    ui_color = StoreDoor.ui_color

    def __init__(self, *, work: str, **rest: Any) -> None:
        super().__init__(step="", work=work, pool=DEFAULT_POOL, **rest)

    def execute(self, context: Any) -> Any:
        from almanac.airflow import again, desk

        with desk.failing_clearly():
            found = desk.Desk.of(self.description, context)
            done = again.AGAIN[self.work](found, self.given, lambda step, placed: self.carry(found, step, placed))
            self.receipts = desk.receipts_in(done)
            return done


class Arrival(BaseSensorOperator):
    """Waits until a source is complete for what the run reads of it, without a worker meanwhile.

    Args:
        description: the pipeline, as canonical JSON.
        source: the source's name.
        given: what earlier tasks returned, by name: `plan`.
    """

    template_fields: Sequence[str] = ("given",)
    ui_color = "#e3ecf7"

    def __init__(self, *, description: str, source: str, given: Mapping[str, Any] | None = None, **rest: Any) -> None:
        super().__init__(mode="reschedule", **rest)
        self.description = description
        self.source = source
        self.given = given or {}
        self.lacking: Sequence[str] = ()

    def poke(self, context: Any) -> bool:
        from almanac.airflow import desk, work

        self.lacking = work.lacking(desk.Desk.of(self.description, context), self.given, self.source)
        return not self.lacking

    def execute(self, context: Any) -> Any:
        from almanac.airflow import desk, work

        with desk.failing_clearly():
            try:
                return super().execute(context)
            except AirflowSensorTimeout:
                refused = work.never_came(self.source, self.lacking, self.timeout)
            except SourceError as error:
                refused = error
            return work.go_on_without(desk.Desk.of(self.description, context), self.given, self.source, refused)


class Approve(ApprovalOperator):
    """Asks a person whether a candidate that the gate let through is promoted, with the comparison as the question's body.

    Args:
        description: the pipeline, as canonical JSON.
        given: what earlier tasks returned, by name: `gate`.
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "given")
    ui_color = "#f3e6f5"

    def __init__(self, *, description: str, given: Mapping[str, Any] | None = None, **rest: Any) -> None:
        super().__init__(subject="Promote?", **rest)
        self.description = description
        self.given = given or {}

    def execute(self, context: Any) -> Any:
        from almanac.airflow import desk, work

        with desk.failing_clearly():
            self.subject, self.body = work.question(desk.Desk.of(self.description, context), self.given)
        return super().execute(context)
