"""The context of a running task: its pipeline and period, the orders it places, and why its Spark job failed.

Only running tasks import this module; DAG parsing does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException, AirflowSkipException

from almanac import user_module
from almanac.airflow.notes import REASON
from almanac.core import facts
from almanac.core.canonical import decode, dumps, encode
from almanac.core.facts import Gated
from almanac.core.period import Period, resolve
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import PlacedOrder, Receipt, RunInfo, alike
from almanac.errors import AlmanacError, CheckFailed, DescriptionError, NotFound, PeriodError, StoreError, bounded
from almanac.settings import PACKAGE, Settings, commit
from almanac.store.home import Home

log = logging.getLogger(__name__)


def _address(connection: str, source: str) -> str:
    """The address of the database that a source reads. Raises: DescriptionError."""
    from almanac.airflow.connections import address_of

    return address_of(connection, f"source {source!r}", "its uri")


@dataclasses.dataclass(frozen=True)
class TaskContext:
    """A running task: its pipeline, the pipeline's home, and Airflow's own context."""

    pipeline: Pipeline
    home: Home
    settings: Settings
    context: Any

    @classmethod
    def of(cls, description: str, context: Any) -> TaskContext:
        settings = Settings.from_environment()
        pipeline = decode(Pipeline, json.loads(description))
        return cls(pipeline, dataclasses.replace(Home.of(settings.root, pipeline.name), addresses=_address), settings, context)

    @property
    def params(self) -> Mapping[str, Any]:
        return self.context["params"]  # type: ignore[no-any-return]

    @property
    def period(self) -> Period:
        """The period that the run works for. Raises: PeriodError."""
        run = self.context["dag_run"]
        interval = (run.data_interval_start, run.data_interval_end)
        kind = str(getattr(run.run_type, "value", run.run_type))
        return resolve(
            self.pipeline.calendar,
            asked=self.params.get("period"),
            partition=getattr(run, "partition_key", None),
            interval=interval if all(interval) else None,
            by_timetable=kind in ("scheduled", "backfill"),
        )

    @property
    def range(self) -> tuple[Period, ...]:
        """The periods from the parameters `from` and `to`; empty when these are not set. Raises: PeriodError."""
        first, last = self.params.get("from"), self.params.get("to")
        if not first and not last:
            return ()
        kind = str(getattr(self.context["dag_run"].run_type, "value", self.context["dag_run"].run_type))
        if kind in ("scheduled", "backfill") or self.params.get("period"):
            raise PeriodError(
                f"from, to: expected no period besides, got from {first} and to {last} in a run that has a period. Leave out "
                "`from` and `to`, or the period; scheduled runs and backfills have a period of their own."
            )
        return self.pipeline.range(first, last)

    @property
    def module(self) -> bytes:
        return user_module.checked_zip(self.settings.spark_jobs, self.pipeline)

    @property
    def run(self) -> str:
        """The unique name of the DAG run."""
        found = self.context["dag_run"]
        return f"{found.dag_id} {found.run_id}"

    def states_of(self, *tasks: str) -> dict[str, str]:
        """The final states of those tasks that this run has; empty if this task runs only after all succeeded."""
        run, rule = self.context["dag_run"], getattr(self.context["task"], "trigger_rule", "all_success")
        if str(getattr(rule, "value", rule)) == "all_success":
            return {}
        found = self.context["ti"].get_task_states(dag_id=run.dag_id, task_ids=list(tasks), run_ids=[run.run_id])
        return {task: str(state) for task, state in found.get(run.run_id, {}).items()}

    @property
    def run_info(self) -> RunInfo:
        run, task = self.context["dag_run"], self.context["ti"]
        actor = getattr(run, "triggering_user_name", None) or ""
        who = {"dag": run.dag_id, "run": run.run_id, "task": task.task_id, "attempt": task.try_number, "actor": actor}
        return RunInfo(**who, commit=commit())

    def run_info_json(self) -> str:
        return dumps(self.run_info).decode()

    @property
    def application(self) -> str:
        """What spark-submit starts."""
        return str(PACKAGE / "steps" / "run.py")

    def place(self, placed: list[PlacedOrder]) -> list[str]:
        """Places orders; returns the URIs of those that are left to run."""
        uris = [(self.home.receipts.place(one), one) for one in placed]
        left = [uri for uri, one in uris if self.home.receipts.done(one.order) is None and not self._failed_elsewhere(one)]
        log.info("%d orders, %d already answered", len(placed), len(placed) - len(left))
        return left

    def _failed_elsewhere(self, placed: PlacedOrder) -> bool:
        """Whether an order has just failed in the job of an earlier task of this run, such as an audit in the job that staged: it
        is told, and tried again only if this task is cleared.
        """
        ours = self.run_info
        if ours.attempt > 1 or (receipt := self.home.receipts.find(placed.order)) is None:
            return False
        theirs = receipt.run_info
        return not receipt.answered and (theirs.dag, theirs.run) == (ours.dag, ours.run) and theirs.task != ours.task

    def receipts_of(self, placed: list[PlacedOrder]) -> dict[str, str]:
        """Maps each period to the URI of its receipt. Raises: CheckFailed, NotFound."""
        found = {}
        for one in placed:
            receipt = self.home.receipts.find(one.order)
            if receipt is None:
                raise NotFound(f"No receipt for {one.order}, although its job succeeded. Check the job's log and clear the task.")
            self._leave_report(receipt)
            if not receipt.answered:
                raise _failures([receipt])[0]
            for finding in receipt.findings:
                log.info("%s: %s", one.order, finding)
            found[one.order.period] = self.home.receipts.uri(receipt)
        return found

    @contextlib.contextmanager
    def explaining(self, placed: list[PlacedOrder]) -> Iterator[None]:
        """If the job fails, raises the reason from its receipts instead of spark-submit's exit code. If it left an order without
        one, its own error is raised, so that Airflow tries again. If it failed after all orders were answered, nothing is raised:
        what else the same job does has its own task.
        """
        before = {one.order.digest: self.home.receipts.find(one.order) for one in placed}
        try:
            yield
        except Exception as error:
            found = {one.order.digest: self.home.receipts.find(one.order) for one in placed}
            failed = [receipt for receipt in found.values() if receipt is not None and not receipt.answered]
            new = [receipt for receipt in failed if receipt != before[receipt.order.digest]]
            if None in found.values() or len(new) < len(failed):
                for failure in _failures(new):
                    log.error("%s", failure)
                raise
            if new:
                self._leave_report(new[0])
                first, *others = _failures(new)
                for other in others:
                    log.error("%s", other)
                raise first from None
            log.warning("The job failed after its orders were done: %s", error)

    def _leave_report(self, receipt: Receipt) -> None:
        page = next((output.uri for output in receipt.outputs if output.name.endswith(".html")), "")
        if page:
            self.context["task"].left_report = page
            log.info("Full report (link valid for seven days): %s", self.home.objects.signed(page))

    def announce_decisions(self, uris: Iterable[str]) -> None:
        """Adds a gate's decision to the events of the task's assets, if it has any."""
        for receipt in map(self.home.receipts.read, uris if self.context["task"].outlets else ()):
            gated = facts.read(Gated, receipt)
            self.announce(version=gated.comparison.candidate_version, **encode(gated.decision))

    def announce(self, **extra: Any) -> None:
        """Adds what was published to the events of the task's assets."""
        for asset in self.context["task"].outlets:
            self.context["outlet_events"][asset].extra = {"pipeline": self.pipeline.name, **extra}


def _failures(receipts: Iterable[Receipt]) -> list[AlmanacError]:
    """The errors of failed orders; those that differ in the period alone are one."""
    told = alike((one.order, bounded(one.findings), one) for one in receipts)
    return [
        AlmanacError(f"{what}: {bounded(one.findings)}") if one.error else CheckFailed(what, one.findings) for what, one in told
    ]


@contextlib.contextmanager
def ending_clearly(context: Any) -> Iterator[None]:
    """Fails the task with the message of an Almanac error. Airflow retries only if a store did not answer. Keeps the reason of a
    task that is skipped for the run's note.
    """
    try:
        yield
    except AirflowSkipException as skipped:
        context["ti"].xcom_push(REASON, str(skipped))
        raise
    except StoreError as error:
        raise AirflowException(str(error)) from error
    except AlmanacError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def check_connection(name: str) -> None:
    """Checks that Airflow has the Spark connection; without one, spark-submit would silently use YARN.

    Raises:
        DescriptionError: Airflow has no such connection.
    """
    try:
        BaseHook.get_connection(name)
    except AirflowNotFoundException:
        raise DescriptionError(
            f"Airflow has no connection {name!r}; without it the Spark job would go to YARN. Add it, for example with "
            f'AIRFLOW_CONN_{name.upper()}=\'{{"conn_type": "spark", "host": "local[2]"}}\'.'
        ) from None
