"""The context of a running task: its pipeline and period, the orders it places, and why a Spark job failed.

Imported by a running task only, never when DAGs are parsed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from almanac.core import facts
from almanac.core.canonical import decode, dumps, encode
from almanac.core.facts import Gated
from almanac.core.period import Every, Period, resolve
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import PlacedOrder, Receipt, RunInfo
from almanac.errors import AlmanacError, CheckFailed, DescriptionError, NotFound, PeriodError, StoreError, bounded
from almanac.runs import plan
from almanac.settings import Settings
from almanac.store.home import Home

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TaskContext:
    """One running task: its pipeline, the pipeline's home, and Airflow's own context."""

    pipeline: Pipeline
    home: Home
    settings: Settings
    context: Any

    @classmethod
    def of(cls, description: str, context: Any) -> TaskContext:
        settings = Settings.from_environment()
        pipeline = decode(Pipeline, json.loads(description))
        return cls(pipeline, Home.of(settings.root, pipeline.name), settings, context)

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
            Every.of(self.pipeline.every),
            asked=self.params.get("period"),
            partition=getattr(run, "partition_key", None),
            interval=interval if all(interval) else None,
            by_timetable=kind in ("scheduled", "backfill"),
        )

    @property
    def range(self) -> tuple[Period, ...]:
        """The periods that a person asked for with `from` and `to`; none when these are empty. Raises: PeriodError."""
        first, last = self.params.get("from"), self.params.get("to")
        if not first and not last:
            return ()
        kind = str(getattr(self.context["dag_run"].run_type, "value", self.context["dag_run"].run_type))
        if kind in ("scheduled", "backfill") or self.params.get("period"):
            raise PeriodError(
                f"This run has from ({first}) and to ({last}), and a period besides. Leave out one of the two; scheduled runs "
                "and backfills have their own."
            )
        return self.pipeline.range(first, last)

    @property
    def module(self) -> bytes:
        return plan.module_zip(self.settings.spark_jobs, self.pipeline.name)

    @property
    def run(self) -> str:
        """The DAG run's name, which no other has."""
        found = self.context["dag_run"]
        return f"{found.dag_id} {found.run_id}"

    def states_of(self, *tasks: str) -> dict[str, str]:
        """How those of the tasks that this run has ended; empty where this task only runs after all succeeded."""
        run, rule = self.context["dag_run"], getattr(self.context["task"], "trigger_rule", "all_success")
        if str(getattr(rule, "value", rule)) == "all_success":
            return {}
        found = self.context["ti"].get_task_states(dag_id=run.dag_id, task_ids=list(tasks), run_ids=[run.run_id])
        return {task: str(state) for task, state in found.get(run.run_id, {}).items()}

    @property
    def run_info(self) -> RunInfo:
        run, task = self.context["dag_run"], self.context["ti"]
        actor = getattr(run, "triggering_user_name", None) or ""
        return RunInfo(dag=run.dag_id, run=run.run_id, task=task.task_id, attempt=task.try_number, actor=actor)

    def run_info_json(self) -> str:
        return dumps(self.run_info).decode()

    @property
    def application(self) -> str:
        """What spark-submit starts."""
        return str(self.settings.spark_jobs / "steps" / "run.py")

    def place(self, placed: list[PlacedOrder]) -> list[str]:
        """Places orders; gives the URIs of those that are not answered yet."""
        uris = [(self.home.receipts.place(one), one) for one in placed]
        left = [uri for uri, one in uris if self.home.receipts.done(one.order) is None]
        log.info("%d orders, %d of them answered before", len(placed), len(placed) - len(left))
        return left

    def receipts_of(self, placed: list[PlacedOrder]) -> dict[str, str]:
        """Period to the URI of its receipt. Raises: CheckFailed, NotFound."""
        found = {}
        for one in placed:
            receipt = self.home.receipts.find(one.order)
            if receipt is None:
                raise NotFound(
                    f"No receipt for {one.order}, although its job succeeded. Look at the job's log and clear the task."
                )
            if not receipt.answered:
                raise _failure(receipt)
            for finding in receipt.findings:
                log.info("%s: %s", one.order, finding)
            self._leave_report(receipt)
            found[one.order.period] = self.home.receipts.uri(receipt)
        return found

    @contextlib.contextmanager
    def explaining(self, placed: list[PlacedOrder]) -> Iterator[None]:
        """Where a job fails, its receipts say why: that is raised, instead of spark-submit's exit code."""
        before = {one.order.digest: self.home.receipts.find(one.order) for one in placed}
        try:
            yield
        except Exception:
            for one in placed:
                receipt = self.home.receipts.find(one.order)
                if receipt is not None and not receipt.answered and receipt != before[one.order.digest]:
                    self._leave_report(receipt)
                    raise _failure(receipt) from None
            raise

    def _leave_report(self, receipt: Receipt) -> None:
        page = next((output.uri for output in receipt.outputs if output.name.endswith(".html")), "")
        if page:
            self.context["task"].left_report = page
            log.info("The whole report, for seven days: %s", self.home.objects.signed(page))

    def announce_decisions(self, uris: Iterable[str]) -> None:
        """Puts what a gate decided into the events of the task's assets, where it has some."""
        for receipt in map(self.home.receipts.read, uris if self.context["task"].outlets else ()):
            gated = facts.read(Gated, receipt)
            self.announce(version=gated.comparison.candidate_version, **encode(gated.decision))

    def announce(self, **extra: Any) -> None:
        """Puts what was published into the events of the task's assets."""
        for asset in self.context["task"].outlets:
            self.context["outlet_events"][asset].extra = {"pipeline": self.pipeline.name, **extra}


def _failure(receipt: Receipt) -> AlmanacError:
    if receipt.error:
        return AlmanacError(f"{receipt.order}: {bounded(receipt.findings)}")
    return CheckFailed(str(receipt.order), receipt.findings)


@contextlib.contextmanager
def failing_clearly() -> Iterator[None]:
    """An error of Almanac's fails the task with its text. Only a store that does not answer is worth Airflow's retry."""
    try:
        yield
    except StoreError as error:
        raise AirflowException(str(error)) from error
    except AlmanacError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def check_connection(name: str) -> None:
    """Airflow knows the Spark connection: an unknown one would silently mean YARN.

    Raises:
        DescriptionError: it does not.
    """
    try:
        BaseHook.get_connection(name)
    except AirflowNotFoundException:
        raise DescriptionError(
            f"Airflow has no connection {name!r}; without one, the Spark job would go to YARN. Add it, for example with "
            f'AIRFLOW_CONN_{name.upper()}=\'{{"conn_type": "spark", "host": "local[2]"}}\'.'
        ) from None
