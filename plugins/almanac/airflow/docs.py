"""The documentation of the DAGs, shown in the Airflow UI."""

from __future__ import annotations

from almanac.core.pipeline import Pipeline


def period_doc(pipeline: Pipeline) -> str:
    """Which period a run is for."""
    every, first = pipeline.every, pipeline.first
    begins = f"{first.start:%Y-%m-%d}" if pipeline.timezone == "UTC" else f"{first.start:%Y-%m-%d %H:%M} UTC"
    return (
        f"The {every} to run for, such as {first}. When empty, the run's date says which: a scheduled run or one of a backfill "
        f"has the date at which its {every} begins ({begins} is the run for {first}, and starts when that has "
        f"ended); a run that you trigger with a logical date is for the last {every} that had ended by then."
    )


def retrain_doc(pipeline: Pipeline) -> str:
    window = pipeline.window.periods
    return f"""{_head(pipeline)}

**Retrains** on a moving window of {window} {pipeline.every}s and lets a gate decide whether the new version takes over.

1. **plan**: finds the snapshots of the window and the holdout, and which of their features are not published yet
2. **sources.pin**: records the exact source files that this run may read
3. **features**: {", ".join(group.name for group in pipeline.features)} are built in Spark jobs, then combined, checked and
   published
4. **model**: fits all estimators; the best on the newest training snapshot is refitted on the whole window
5. **champion**: compares candidate and version in force on the same holdout ({pipeline.gate.metric}); if the gate rejects
   the candidate, *promote* is skipped and the version stays in the history

| parameter | meaning |
|---|---|
| `period` | {period_doc(pipeline)} |
| `refresh` | rebuild features whose sources have changed |
| `known_at` | a time: label corrections count until then, and versioned sources are read as they were then |
| `dry_run` | plan only |
"""


def score_doc(pipeline: Pipeline) -> str:
    return f"""{_head(pipeline)}

**Scores** one {pipeline.every} with the version in force for it. A backfill uses each period's own version, in any order.
Scoring again when nothing has changed publishes nothing.{_degraded(pipeline)}{_delivered(pipeline)}

    airflow backfill create --dag-id {pipeline.name}_score --from-date {_begin(pipeline, 6)} --to-date {_begin(pipeline, 8)}

scores the periods that begin from the one time to the other.

| parameter | meaning |
|---|---|
| `period` | {period_doc(pipeline)} |
| `from`, `to` | the first and last of several periods, scored in one Spark application with a commit each |
| `version` | score with this version instead of the one in force |
| `allow_in_sample` | allow a period that the version was trained on; recorded as in-sample |
| `refresh` | rebuild features whose sources have changed |
"""


def rollback_doc(pipeline: Pipeline) -> str:
    return f"""{_head(pipeline)}

**Rolls back**: takes the version in force out of force, and scores again exactly the periods that it wrote, in one
Spark job. Missing features of the older version are built by its own definition.
An unfinished rollback is resumed.{_delivered(pipeline)}

| parameter | meaning |
|---|---|
| `reason` | the reason; it stays in the promotion log |
| `to` | the version to go back to; when empty, the one in force before |
| `from` | the version to take out of force; when empty, the one in force now |
| `withdraw` | withdraw the version and score again what it wrote; without it only future periods change |
| `periods` | only these affected periods |
| `dry_run` | plan only |
"""


def _begin(pipeline: Pipeline, count: int) -> str:
    """When a period begins, as an option of Airflow's commands, which read a date without an offset in UTC."""
    period = pipeline.first.plus(count)
    if pipeline.timezone == "UTC":
        return f"{period.day}"
    return f"{period.start:%Y-%m-%dT%H:%M:%S+00:00}"


def _degraded(pipeline: Pipeline) -> str:
    most = pipeline.scoring.degrade
    return (
        f" Feature groups that cannot be built are left out if they hold at most {most:g} of the version's importance."
        if most
        else ""
    )


def _delivered(pipeline: Pipeline) -> str:
    names = ", ".join(f"`{one.name}`" for one in pipeline.deliveries)
    return f" Published periods are then **delivered** to {names}." if names else ""


def _head(pipeline: Pipeline) -> str:
    return f"### {pipeline.name}\n\n{pipeline.description}" if pipeline.description else f"### {pipeline.name}"
