"""The DAGs of a pipeline: retrain, score and rollback. Task ids are `thing.door`, display names the verbs people know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, TaskGroup, task_group

from almanac.airflow.docs import retrain_doc, rollback_doc, score_doc
from almanac.airflow.operators import Approve, Arrival, PublishDoor, SparkDoor, StoreDoor
from almanac.core.canonical import dumps
from almanac.core.late import WAIT
from almanac.core.period import Every
from almanac.core.pipeline import Pipeline
from almanac.core.sources import EventSource


def build_dags(pipeline: Pipeline) -> dict[str, DAG]:
    """Gives a pipeline its DAGs. Call it once in a DAG file; the DAGs register themselves.

    `NAME_retrain` and `NAME_score` have a data interval for each period, so that schedules, backfills and `dags test`
    work as people know them; `NAME_rollback` is started by hand.
    """
    built = _Dags(pipeline)
    return {dag.dag_id: dag for dag in (built.retrain(), built.score(), built.rollback())}


class _Dags:
    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.description = dumps(pipeline).decode()

    def retrain(self) -> DAG:
        params = {
            "period": self._period_param(),
            "refresh": self._refresh_param(),
            "known_at": Param(
                None,
                type=["null", "string"],
                description="Count corrections of labels until this time, and read versioned sources as they were then; without "
                "it, labels count until the period's end.",
            ),
            "dry_run": Param(False, type="boolean", description="Plan only; change nothing."),
        }
        with self._dag("retrain", retrain_doc(self.pipeline), params, scheduled=True) as dag:
            plan = self._store("plan", "plan_retrain", "plan")
            pinned = self._pin(plan)
            published = self._features(plan, pinned)
            with TaskGroup("model"):
                staged = self._spark("stage", "model_stage", "model_orders", "train", plan=plan, **pinned)
                published >> staged
                audited = self._spark("audit", "model_audit", "audit_orders", "check model", staged=staged.output)
                model = self._store("publish", "publish_model", "publish model", staged=staged.output, audited=audited.output)
            with TaskGroup("champion"):
                compared = self._spark("stage", "champion_stage", "comparison_orders", "compare", plan=plan, version=model)
                gate = self._spark(
                    "audit", "champion_audit", "audit_orders", "gate", outlets=[self.asset("decision")], staged=compared.output
                )
                approved: dict[str, Any] = {"approved": self._approve(gate.output).output} if self.pipeline.gate.approval else {}
                self._publish("publish", "publish_champion", "promote", plan=plan, gate=gate.output, **approved)
        return dag

    def score(self) -> DAG:
        params = {
            "period": self._period_param(),
            "from": Param(None, type=["null", "string"], description="The first of several to score in one run, with to."),
            "to": Param(None, type=["null", "string"], description="The last of them."),
            "version": Param(None, type=["null", "string"], description="Score with this version instead of the one in force."),
            "allow_in_sample": Param(
                False, type="boolean", description="Score a period that the version was trained on; recorded as in-sample."
            ),
            "refresh": self._refresh_param(),
        }
        with self._dag("score", score_doc(self.pipeline), params, scheduled=True) as dag:
            plan = self._store("plan", "plan_score", "plan")
            # A group that could not be built may be left out: then combine decides.
            rule = "all_done" if self.pipeline.scoring.degrade else "all_success"
            published = self._features(plan, self._pin(plan), rule)
            with TaskGroup("predictions"):
                published >> self._predictions(plan)
                self._deliver("deliver", "deliver", after=dag.get_task("predictions.publish"))
        return dag

    def rollback(self) -> DAG:
        params = {
            "reason": Param(type="string", minLength=1, description="Why; it stays in the promotion log."),
            "to": Param(
                None, type=["null", "string"], description="The version to go back to; what was in force before, when empty."
            ),
            "from": Param(
                None, type=["null", "string"], description="The version to take out of force; the one in force now, when empty."
            ),
            "withdraw": Param(True, type="boolean", description="Score again what the bad version wrote."),
            "periods": Param(
                None,
                type=["null", "array"],
                items={"type": "string"},
                description="Only these of the affected periods; all when empty.",
            ),
            "dry_run": Param(False, type="boolean", description="Plan only; change nothing."),
        }
        with self._dag("rollback", rollback_doc(self.pipeline), params, scheduled=False) as dag:
            plan = self._store("plan", "plan_rollback", "plan")
            back = self._store("champion.publish", "roll_back", "roll back", plan=plan)
            rebuilds = self._store("features.plan", "plan_rebuilds", "plan features", plans=back)

            @task_group(group_id="features")
            def build(plan: Any) -> None:
                self._all_features(plan)

            @task_group(group_id="predictions")
            def score_again(plan: Any) -> None:
                # Features that need no building are skipped.
                self._predictions(plan, trigger_rule="none_failed_min_one_success")

            built, again = build.expand(plan=rebuilds), score_again.expand(plan=back)
            verified = self._publish("verify", "verify_rollback", "verify", plan=plan, trigger_rule="none_failed")
            built >> again >> verified
            # What was repaired is delivered, also where another period could not be.
            self._deliver("deliver", "deliver_in_rollback", after=again, before=verified, trigger_rule="all_done")
        return dag

    def _pin(self, plan: Any) -> dict[str, Any]:
        """The sources pinned, after those that are waited for are complete, and checked where the description asks."""
        pin = self._store("sources.pin", "pin_sources", "pin sources", plan=plan)
        for name, source in self.pipeline.sources.items():
            if isinstance(source, EventSource) and source.late.policy == WAIT:
                arrival = Arrival(
                    **self._common(f"sources.{name}.wait", f"wait for {name}", {"plan": plan}),
                    source=name,
                    timeout=source.late.timeout,
                    poke_interval=min(source.late.every, source.late.timeout),
                )
                arrival >> pin.operator
        return {"pin": pin, **({"checked": self._audit("sources.audit", plan, pin)} if self.pipeline.audited else {})}

    def _audit(self, task_id: str, plan: Any, pin: Any) -> Any:
        return self._spark(task_id, "sources_audit", "source_orders", "check sources", plan=plan, pin=pin).output

    def _features(self, plan: Any, pinned: Mapping[str, Any], trigger_rule: str = "all_success") -> Any:
        """Feature groups, each a task, then combined, checked and published. Gives the publishing task."""
        with TaskGroup("features"):
            with TaskGroup("stage"):
                groups = [
                    self._spark(
                        group.name, "features_stage", "group_orders", f"build {group.name}", part=group.name, plan=plan, **pinned
                    )
                    for group in self.pipeline.features
                ]
                staged = self._spark(
                    "combine", "features_stage", "combine_orders", "combine", trigger_rule=trigger_rule, plan=plan, **pinned
                )
                groups >> staged
            audited = self._spark("audit", "features_audit", "audit_orders", "check features", staged=staged.output)
            return self._store(
                "publish", "publish_features", "publish features", staged=staged.output, audited=audited.output
            ).operator

    def _all_features(self, plan: Any) -> None:
        """The features of a version of before, whichever groups its own description has, in one Spark job a door."""
        pin = self._store("pin", "pin_sources", "pin sources", plan=plan)
        # Where that description checks no source, this does nothing.
        pinned = {"pin": pin, "checked": self._audit("check", plan, pin)}
        built = self._spark("stage", "features_stage", "all_group_orders", "build features", plan=plan, **pinned)
        staged = self._spark("combine", "features_stage", "combine_orders", "combine", plan=plan, **pinned)
        audited = self._spark("audit", "features_audit", "audit_orders", "check features", staged=staged.output)
        built >> staged
        self._store("publish", "publish_features", "publish features", staged=staged.output, audited=audited.output)

    def _predictions(self, plan: Any, trigger_rule: str = "all_success") -> Any:
        """A period scored, checked and published. Gives the scoring task."""
        staged = self._spark("stage", "predictions_stage", "prediction_orders", "score", trigger_rule=trigger_rule, plan=plan)
        audited = self._spark("audit", "predictions_audit", "audit_orders", "check predictions", staged=staged.output)
        self._publish(
            "publish", "publish_predictions", "publish predictions", plan=plan, staged=staged.output, audited=audited.output
        )
        return staged

    def _deliver(self, task_id: str, work: str, *, after: Any, before: Any = None, trigger_rule: str = "all_success") -> None:
        """The task that brings predictions to where others read them, where the description names such places."""
        if not self.pipeline.deliveries:
            return
        delivering = StoreDoor(**self._common(task_id, "deliver", {}), work=work, trigger_rule=trigger_rule)
        after >> delivering
        if before is not None:
            delivering >> before

    def _store(self, task_id: str, work: str, shown: str, **given: Any) -> Any:
        return StoreDoor(**self._common(task_id, shown, given), work=work, outlets=self._published(work)).output

    def _spark(
        self,
        task_id: str,
        step: str,
        work: str,
        shown: str,
        *,
        part: str = "",
        outlets: Sequence[Asset] = (),
        trigger_rule: str = "all_success",
        **given: Any,
    ) -> SparkDoor:
        common = self._common(task_id, shown, given)
        return SparkDoor(**common, step=step, work=work, part=part, outlets=list(outlets), trigger_rule=trigger_rule)

    def _publish(self, task_id: str, work: str, shown: str, *, trigger_rule: str = "all_success", **given: Any) -> PublishDoor:
        common = self._common(task_id, shown, given)
        return PublishDoor(**common, work=work, outlets=self._published(work), trigger_rule=trigger_rule)

    def _approve(self, gate: Any) -> Approve:
        return Approve(**self._common("approve", "approve", {"gate": gate}))

    def _common(self, task_id: str, shown: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """What every operator of a pipeline is given."""
        return {"task_id": task_id, "task_display_name": shown, "description": self.description, "given": given}

    def _published(self, work: str) -> list[Asset]:
        """The asset that a task's work publishes, if it publishes one."""
        thing = work.removeprefix("publish_").replace("roll_back", "champion")
        return [self.asset(thing)] if work.startswith("publish_") or work == "roll_back" else []

    def asset(self, thing: str) -> Asset:
        """What is published under a thing's name, for DAGs of others to wait for."""
        return Asset(name=f"{self.pipeline.name}.{thing}", uri=f"almanac://{self.pipeline.name}/{thing}")

    def _period_param(self) -> Param:
        return Param(
            None,
            type=["null", "string"],
            description=f"The {self.pipeline.every} to work for, such as {self.pipeline.first_period}.",
        )

    def _refresh_param(self) -> Param:
        return Param(False, type="boolean", description="Build features again whose sources changed since they were built.")

    def _dag(self, verb: str, doc: str, params: dict[str, Param], *, scheduled: bool) -> DAG:
        pipeline = self.pipeline
        return DAG(
            dag_id=f"{pipeline.name}_{verb}",
            description=pipeline.description,
            doc_md=doc,
            tags=["almanac", pipeline.name, verb, *pipeline.tags],
            schedule=CronDataIntervalTimetable(Every.of(pipeline.every).cron, timezone="UTC") if scheduled else None,
            start_date=pipeline.first.start,
            catchup=False,
            params=params,
            default_args={"retries": 2, "retry_delay": 30.0},
        )
