"""The DAGs of a pipeline: retrain, score and rollback. Task ids are `artifact.step`, display names are verbs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, TaskGroup, task_group

from almanac import user_module
from almanac.airflow import tasks
from almanac.airflow.docs import period_doc, retrain_doc, rollback_doc, score_doc
from almanac.airflow.operators import Approve, Publish, SourceComplete, SparkOrders, Together, WorkerTask
from almanac.airflow.tasks import TaskFunction
from almanac.core.canonical import dumps
from almanac.core.pipeline import Pipeline
from almanac.core.sources import EventSource
from almanac.errors import DescriptionError
from almanac.settings import shared_applications, spark_jobs

RESERVED = ("dag_id", "params", "schedule")  # set by Almanac: tasks and docs rely on them


def build_dags(
    pipeline: Pipeline,
    *,
    default_args: Mapping[str, Any] | None = None,
    retrain: Mapping[str, Any] | None = None,
    score: Mapping[str, Any] | None = None,
    rollback: Mapping[str, Any] | None = None,
    **dag_arguments: Any,
) -> dict[str, DAG]:
    """Builds the DAGs of a pipeline, by id. Call it once in a DAG file; the DAGs register themselves.

    `NAME_retrain` and `NAME_score` have a data interval for each period, so schedules, backfills and `dags test` work as usual;
    `NAME_rollback` is started by hand.

    Args:
        default_args: for all tasks, as in any DAG: retries, owner, callbacks. The pool of Spark jobs is `ALMANAC_POOL`, also
            where `default_args` names another one.
        retrain, score, rollback: arguments for one of the DAGs; they override those for all. Its `default_args` are merged
            with those for all.
        dag_arguments: arguments of Airflow's `DAG` for all three: `max_active_runs`, `start_date`, `access_control`, callbacks.
            `tags` are added to Almanac's.

    Raises:
        DescriptionError: an argument that Almanac sets itself; a value that ALMANAC_APPLICATIONS does not take; the user's module
            is missing, or its text shows that it does not fit the description.
        TypeError: an argument that Airflow's `DAG` does not have.
    """
    user_module.check(spark_jobs(), pipeline)
    built = _Dags(pipeline, {**dag_arguments, "default_args": default_args or {}})
    dags = (built.retrain(retrain or {}), built.score(score or {}), built.rollback(rollback or {}))
    return {dag.dag_id: dag for dag in dags}


Task = TypeVar("Task", WorkerTask, SparkOrders, Publish)


class _Dags:
    def __init__(self, pipeline: Pipeline, dag_arguments: Mapping[str, Any]) -> None:
        self.pipeline = pipeline
        self.dag_arguments = dag_arguments
        self.description = dumps(pipeline).decode()

    def retrain(self, dag_arguments: Mapping[str, Any]) -> DAG:
        params = {
            "period": self._period_param(),
            "refresh": self._refresh_param(),
            "known_at": Param(
                None,
                type=["null", "string"],
                description="Use label corrections until this time, and read versioned sources as they were then. When empty, "
                "labels count until the period's end.",
            ),
            "dry_run": Param(False, type="boolean", description="Plan only; change nothing."),
        }
        with self._dag("retrain", retrain_doc(self.pipeline), params, dag_arguments, scheduled=True) as dag:
            plan = self._task(WorkerTask, "plan", "plan", tasks.plan_retrain).output
            pinned = self._pin(plan)
            published = self._features(plan, pinned)
            with TaskGroup("model"):
                staged = self._task(SparkOrders, "stage", "train", tasks.model_orders, plan=plan, **pinned)
                published >> staged
                audited = self._task(SparkOrders, "audit", "check model", tasks.audit_orders, staged=staged.output)
                model = self._task(
                    WorkerTask,
                    "publish",
                    "publish model",
                    tasks.publish_model,
                    publishes="model",
                    staged=staged.output,
                    audited=audited.output,
                )
            with TaskGroup("champion"):
                compared = self._task(SparkOrders, "stage", "compare", tasks.comparison_orders, plan=plan, version=model.output)
                gate = self._task(SparkOrders, "audit", "gate", tasks.audit_orders, publishes="decision", staged=compared.output)
                approved: dict[str, Any] = {"approved": self._approve(gate.output).output} if self.pipeline.gate.approval else {}
                self._task(
                    Publish, "publish", "promote", tasks.publish_champion, "champion", plan=plan, gate=gate.output, **approved
                )
        return dag

    def score(self, dag_arguments: Mapping[str, Any]) -> DAG:
        params = {
            "period": self._period_param(),
            "from": Param(
                None, type=["null", "string"], description="The first of several periods to score in one run; needs `to`."
            ),
            "to": Param(None, type=["null", "string"], description="The last of these periods; needs `from`."),
            "version": Param(None, type=["null", "string"], description="Score with this version instead of the one in force."),
            "allow_in_sample": Param(
                False, type="boolean", description="Allow a period that the version was trained on; recorded as in-sample."
            ),
            "refresh": self._refresh_param(),
        }
        with self._dag("score", score_doc(self.pipeline), params, dag_arguments, scheduled=True) as dag:
            plan = self._task(WorkerTask, "plan", "plan", tasks.plan_score).output
            # Combine also runs after a failed group: it decides whether the group may be left out.
            rule = "all_done" if self.pipeline.scoring.degrade else "all_success"
            published = self._features(plan, self._pin(plan), rule)
            with TaskGroup("predictions"):
                published >> self._predictions(plan)
                self._deliver("deliver", tasks.deliver, after=dag.get_task("predictions.publish"))
        return dag

    def rollback(self, dag_arguments: Mapping[str, Any]) -> DAG:
        params = {
            "reason": Param(type="string", minLength=1, description="The reason; it stays in the promotion log."),
            "to": Param(
                None, type=["null", "string"], description="The version to go back to; when empty, the one in force before."
            ),
            "from": Param(
                None, type=["null", "string"], description="The version to take out of force; when empty, the one in force now."
            ),
            "withdraw": Param(True, type="boolean", description="Withdraw the version and score again what it wrote."),
            "periods": Param(
                None,
                type=["null", "array"],
                items={"type": "string"},
                description="Only these affected periods; all when empty.",
            ),
            "dry_run": Param(False, type="boolean", description="Plan only; change nothing."),
        }
        with self._dag("rollback", rollback_doc(self.pipeline), params, dag_arguments, scheduled=False) as dag:
            plan = self._task(WorkerTask, "plan", "plan", tasks.plan_rollback).output
            back = self._task(
                WorkerTask, "champion.publish", "roll back", tasks.roll_back, publishes="champion", plan=plan
            ).output
            rebuilds = self._task(WorkerTask, "features.plan", "plan features", tasks.plan_rebuilds, plans=back).output

            @task_group(group_id="features")
            def build(plan: Any) -> None:
                self._all_features(plan)

            @task_group(group_id="predictions")
            def score_again(plan: Any) -> None:
                # Their orders are answered already, all by one Spark job. A period that failed there can be cleared by itself.
                self._predictions(plan)

            built = build.expand(plan=rebuilds)
            # The tasks that build features are skipped where none are missing.
            rule = "none_failed_min_one_success"
            scored = self._task(Together, "score", "score all", tasks.prediction_orders, trigger_rule=rule, plan=back)
            again = score_again.expand(plan=back)
            verified = self._task(Publish, "verify", "verify", tasks.verify_rollback, trigger_rule="none_failed", plan=plan)
            built >> scored >> again >> verified
            # Repaired periods are delivered even if another period failed.
            self._deliver("deliver", tasks.deliver_in_rollback, after=again, before=verified, trigger_rule="all_done")
        return dag

    def _pin(self, plan: Any) -> dict[str, Any]:
        """Waits for the sources with a `wait` policy, pins all, and audits those whose description asks for it."""
        pin = self._task(WorkerTask, "sources.pin", "pin sources", tasks.pin_sources, plan=plan)
        for name, source in self.pipeline.sources.items():
            if isinstance(source, EventSource) and source.late.does.waits:
                arrival = SourceComplete(
                    **self._common(f"sources.{name}.wait", f"wait for {name}"),
                    source=name,
                    plan=plan,
                    timeout=source.late.timeout,
                    poke_interval=min(source.late.every, source.late.timeout),
                )
                arrival >> pin
        checked = {"checked": self._audit("sources.audit", plan, pin.output)} if self.pipeline.audited else {}
        return {"pin": pin.output, **checked}

    def _audit(self, task_id: str, plan: Any, pin: Any) -> Any:
        return self._task(SparkOrders, task_id, "check sources", tasks.source_orders, plan=plan, pin=pin).output

    def _features(self, plan: Any, pinned: Mapping[str, Any], trigger_rule: str = "all_success") -> Any:
        """Builds the feature groups, in one task or in a task each; then combines, checks and publishes them. Returns the
        publishing task.
        """
        names = [group.name for group in self.pipeline.features]
        with TaskGroup("features"):
            with TaskGroup("stage"):
                if shared_applications():
                    groups = [self._groups("groups", f"build {', '.join(names)}", plan, pinned)]
                else:
                    groups = [
                        self._task(SparkOrders, name, f"build {name}", tasks.group_orders, groups=[name], plan=plan, **pinned)
                        for name in names
                    ]
                staged = self._task(
                    SparkOrders, "combine", "combine", tasks.combine_orders, trigger_rule=trigger_rule, plan=plan, **pinned
                )
                groups >> staged
            audited = self._task(SparkOrders, "audit", "check features", tasks.audit_orders, staged=staged.output)
            return self._publish_features(staged, audited)

    def _all_features(self, plan: Any) -> None:
        """Builds an older version's features, with the groups of its own description, in one Spark job for each step."""
        pin = self._task(WorkerTask, "pin", "pin sources", tasks.pin_sources, plan=plan).output
        # Does nothing if that description has no audited source.
        pinned = {"pin": pin, "checked": self._audit("check", plan, pin)}
        built = self._groups("stage", "build features", plan, pinned)
        staged = self._task(SparkOrders, "combine", "combine", tasks.combine_orders, plan=plan, **pinned)
        audited = self._task(SparkOrders, "audit", "check features", tasks.audit_orders, staged=staged.output)
        built >> staged
        self._publish_features(staged, audited)

    def _groups(self, task_id: str, shown: str, plan: Any, pinned: Mapping[str, Any]) -> SparkOrders:
        """Builds all feature groups in one Spark job."""
        then = tasks.orders_to_combine if shared_applications() else None
        return self._task(SparkOrders, task_id, shown, tasks.group_orders, then=then, plan=plan, **pinned)

    def _publish_features(self, staged: SparkOrders, audited: SparkOrders) -> WorkerTask:
        receipts: dict[str, Any] = {"staged": staged.output, "audited": audited.output}
        return self._task(WorkerTask, "publish", "publish features", tasks.publish_features, publishes="features", **receipts)

    def _predictions(self, plan: Any, trigger_rule: str = "all_success") -> Any:
        """Scores, checks and publishes a period. Returns the scoring task."""
        staged = self._task(SparkOrders, "stage", "score", tasks.prediction_orders, trigger_rule=trigger_rule, plan=plan)
        audited = self._task(SparkOrders, "audit", "check predictions", tasks.audit_orders, staged=staged.output)
        receipts: dict[str, Any] = {"staged": staged.output, "audited": audited.output}
        self._task(Publish, "publish", "publish predictions", tasks.publish_predictions, "predictions", plan=plan, **receipts)
        return staged

    def _deliver(
        self, task_id: str, function: TaskFunction, *, after: Any, before: Any = None, trigger_rule: str = "all_success"
    ) -> None:
        """Adds the task that brings the deliveries up to date, if the description has any."""
        if not self.pipeline.deliveries:
            return
        delivering = self._task(WorkerTask, task_id, "deliver", function, trigger_rule=trigger_rule)
        after >> delivering
        if before is not None:
            delivering >> before

    def _task(
        self,
        operator: type[Task],
        task_id: str,
        shown: str,
        function: TaskFunction,
        publishes: str = "",
        *,
        trigger_rule: str = "all_success",
        then: TaskFunction | None = None,
        **arguments: Any,
    ) -> Task:
        """A task of a function of `tasks`. `publishes`: the asset that it publishes, for other teams' DAGs to wait for. `then`:
        of `SparkOrders`.
        """
        name = self.pipeline.name
        outlets = [Asset(name=f"{name}.{publishes}", uri=f"almanac://{name}/{publishes}")] if publishes else []
        more: dict[str, Any] = {"outlets": outlets, "trigger_rule": trigger_rule, **({"then": then} if then else {})}
        return operator(**self._common(task_id, shown), function=function, arguments=arguments, **more)

    def _approve(self, gate: Any) -> Approve:
        return Approve(**self._common("approve", "approve"), gate=gate)

    def _common(self, task_id: str, shown: str) -> dict[str, Any]:
        """The arguments of every operator of the pipeline."""
        return {"task_id": task_id, "task_display_name": shown, "description": self.description}

    def _schedule(self) -> Any:
        """A data interval for each period, up to the pipeline's last one where it has one."""
        calendar, last = self.pipeline.calendar, self.pipeline.last_period
        if last is None and calendar.timezone == "UTC":
            return CronDataIntervalTimetable(calendar.cron, timezone="UTC")
        from almanac.airflow.timetable import PeriodTimetable

        return PeriodTimetable(calendar, last)

    def _period_param(self) -> Param:
        return Param(None, type=["null", "string"], description=period_doc(self.pipeline))

    def _refresh_param(self) -> Param:
        return Param(False, type="boolean", description="Rebuild features whose sources changed since they were built.")

    def _dag(self, verb: str, doc: str, params: dict[str, Param], dag_arguments: Mapping[str, Any], *, scheduled: bool) -> DAG:
        pipeline, given = self.pipeline, {**self.dag_arguments, **dag_arguments}
        if taken := [name for name in RESERVED if name in given]:
            raise DescriptionError(
                f"build_dags({pipeline.name}): expected no {', '.join(taken)}: Almanac sets it from the pipeline's name, periods "
                "and parameters. Leave it out."
            )
        default_args = {**self.dag_arguments["default_args"], **(dag_arguments.get("default_args") or {})}
        return DAG(
            **{
                "description": pipeline.description,
                "doc_md": doc,
                "start_date": pipeline.first.start,
                "catchup": False,
                **given,
                "dag_id": f"{pipeline.name}_{verb}",
                "tags": ["almanac", pipeline.name, verb, *pipeline.tags, *given.get("tags", ())],
                "schedule": self._schedule() if scheduled else None,
                "params": params,
                # By the tasks before it: where slots are few, the runs that are nearly done go first.
                "default_args": {"retries": 2, "retry_delay": 30.0, "weight_rule": "upstream", **default_args},
            }
        )
