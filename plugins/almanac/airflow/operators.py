"""The operators: `WorkerTask` runs a function of `tasks` in the worker, `SparkOrders` submits the Spark job of some orders,
`Together` that of the orders of several mapped tasks, `Publish` runs in the worker and can submit jobs of its own,
`SourceComplete` waits for a source, `Approve` asks a person.

They only store their arguments. Their work is imported when they run, not when DAGs are parsed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.sdk.exceptions import AirflowSensorTimeout

from almanac.airflow import tasks
from almanac.airflow.links import ReportLink
from almanac.airflow.tasks import TaskFunction
from almanac.errors import SourceError
from almanac.settings import pool, shared_applications, spark_connection

if TYPE_CHECKING:
    from almanac.airflow.context import TaskContext
    from almanac.core.receipts import PlacedOrder

DEFAULT_POOL = "default_pool"


class Traced:
    """Keeps the URIs of a task's receipts, by period, for lineage."""

    description: str
    receipts: Mapping[str, str] = {}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - the provider's signature
        """Airflow's OpenLineage provider calls this, if it is installed."""
        from almanac.airflow import openlineage

        return openlineage.facets(self.description, self.receipts)


class WorkerTask(Traced, BaseOperator):
    """Runs a function in the worker.

    Args:
        description: the pipeline, as canonical JSON.
        function: a function of `tasks`.
        arguments: its keyword arguments: outputs of earlier tasks, or values.

    Raises:
        TypeError: the function does not take these arguments.
    """

    template_fields: Sequence[str] = ("arguments",)
    ui_color = "#e8f1ee"

    def __init__(self, *, description: str, function: TaskFunction, arguments: Mapping[str, Any], **rest: Any) -> None:
        super().__init__(**rest)
        inspect.signature(function).bind("context", **arguments)
        self.description = description
        self.function = function
        self.arguments = arguments

    def execute(self, context: Any) -> Any:
        from almanac.airflow import openlineage
        from almanac.airflow.context import TaskContext, ending_clearly

        with ending_clearly(context):
            found = self.function(TaskContext.of(self.description, context), **self.arguments)
            self.receipts = openlineage.receipts_in(found)
            return found


class SparkOrders(Traced, SparkSubmitOperator):
    """Submits a Spark job for the orders without an answer, and returns the URIs of all receipts by period. A job that stages
    also audits, unless ALMANAC_APPLICATIONS says otherwise.

    Args:
        description: the pipeline, as canonical JSON.
        function: of `tasks`; it returns the orders.
        arguments: its keyword arguments: outputs of earlier tasks, or values.
        then: of `tasks`, with the same arguments; it returns what the job combines once all orders are done.

    Raises:
        TypeError: a function does not take these arguments.
        DescriptionError: ALMANAC_APPLICATIONS has a value that it does not take.
    """

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "arguments")
    operator_extra_links = (ReportLink(),)
    ui_color = "#fdf0dc"

    def __init__(
        self,
        *,
        description: str,
        function: TaskFunction,
        arguments: Mapping[str, Any],
        then: TaskFunction | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(conn_id=spark_connection(), **{"pool": pool(), **rest})
        for one in (function, *filter(None, (then,))):
            self._check(one, arguments)
        self.then = then
        self.audits = shared_applications()
        self.description = description
        self.function = function
        self.arguments = arguments

    def _check(self, function: TaskFunction, arguments: Mapping[str, Any]) -> None:
        inspect.signature(function).bind("context", **arguments)

    def execute(self, context: Any) -> Any:  # returns the job's receipts; SparkSubmitOperator returns nothing
        from almanac.airflow.context import TaskContext, ending_clearly

        with ending_clearly(context):
            found = TaskContext.of(self.description, context)
            placed = self.function(found, **self.arguments)
            uris = self.run_orders(found, placed, self.then(found, **self.arguments) if self.then else ())
            found.announce_decisions(uris.values())
            self.receipts = uris
            return uris

    def run_orders(self, found: TaskContext, placed: list[PlacedOrder], then: Sequence[PlacedOrder] = ()) -> dict[str, str]:
        """Submits a job for the orders without an answer, all of one step; maps each period to its receipt's URI. `then`: what
        the job combines afterwards.
        """
        from almanac.airflow.context import check_connection
        from almanac.airflow.library import library_zip
        from almanac.core.receipts import Step

        left = found.place(placed)
        if left:
            order = placed[0].order
            step = f"{order.artifact.value}.{order.step.value}"
            check_connection(self._conn_id)
            parts = dict.fromkeys(one.order.part for one in placed)
            self.name = f"almanac {step} {' '.join(parts)}".strip()
            self.application = found.application
            self.py_files = library_zip()
            combine = [argument for one in then for argument in ("--combine", found.home.receipts.place(one))]
            # A feature group is not audited: its rows are, once they are combined.
            audits = ["--audit"] if self.audits and order.step is Step.STAGE and (combine or not order.part) else []
            self.application_args = [step, *left, *combine, *audits, "--run-info", found.run_info_json()]
            self._hook = None  # it holds the arguments of the previous submission
            with found.explaining(placed):
                super().execute(found.context)
        return found.receipts_of(placed)


class Together(SparkOrders):
    """Runs the orders of several mapped tasks in one Spark job ahead of them. A failed order does not fail this task: its own
    task finds the failure and tells it, and the others go on.
    """

    def execute(self, context: Any) -> Any:
        from airflow.sdk.exceptions import AirflowFailException

        try:
            return super().execute(context)
        except AirflowFailException as error:
            self.log.warning("Some orders failed; their own tasks say so and can be cleared: %s", error)
            return {}


class Publish(SparkOrders):
    """Publishes in the worker. If another run changed something meanwhile, it redoes earlier steps in Spark jobs of its own;
    that is rare, so it does not wait for a slot in the pool.

    Args:
        function: a function of `tasks`; its second argument runs orders.
    """

    ui_color = WorkerTask.ui_color

    def __init__(self, **rest: Any) -> None:
        super().__init__(pool=DEFAULT_POOL, **rest)

    def _check(self, function: TaskFunction, arguments: Mapping[str, Any]) -> None:
        inspect.signature(function).bind("context", "run_orders", **arguments)

    def execute(self, context: Any) -> Any:
        from almanac.airflow import openlineage
        from almanac.airflow.context import TaskContext, ending_clearly

        with ending_clearly(context):
            found = TaskContext.of(self.description, context)
            done = self.function(found, lambda placed: self.run_orders(found, placed), **self.arguments)
            self.receipts = openlineage.receipts_in(done)
            return done


class SourceComplete(BaseSensorOperator):
    """Waits, without holding a worker, until a source holds everything that the run reads of it.

    Args:
        description: the pipeline, as canonical JSON.
        source: the source's name.
        plan: the output of the task `plan`.
    """

    template_fields: Sequence[str] = ("plan",)
    ui_color = "#e3ecf7"

    def __init__(self, *, description: str, source: str, plan: Any, **rest: Any) -> None:
        super().__init__(mode="reschedule", **rest)
        self.description = description
        self.source = source
        self.plan = plan
        self.reasons: Sequence[str] = ()

    def poke(self, context: Any) -> bool:
        from almanac.airflow.context import TaskContext

        self.reasons = tasks.missing_data(TaskContext.of(self.description, context), plan=self.plan, source=self.source)
        return not self.reasons

    def execute(self, context: Any) -> Any:
        from almanac.airflow.context import TaskContext, ending_clearly

        with ending_clearly(context):
            try:
                return super().execute(context)
            except AirflowSensorTimeout:
                refused = tasks.timed_out(self.source, self.reasons, self.timeout)
            except SourceError as error:
                refused = error
            found = TaskContext.of(self.description, context)
            return tasks.go_on_without(found, plan=self.plan, source=self.source, error=refused)


class Approve(ApprovalOperator):
    """Asks a person whether to promote a candidate that passed the gate; the comparison is the question's body.

    Args:
        description: the pipeline, as canonical JSON.
        gate: the output of the gate's task.
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "gate")
    ui_color = "#f3e6f5"

    def __init__(self, *, description: str, gate: Any, **rest: Any) -> None:
        super().__init__(subject="Promote?", **rest)
        self.description = description
        self.gate = gate

    def execute(self, context: Any) -> Any:
        from almanac.airflow.context import TaskContext, ending_clearly

        with ending_clearly(context):
            self.subject, self.body = tasks.question(TaskContext.of(self.description, context), gate=self.gate)
        return super().execute(context)
