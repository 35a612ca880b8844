"""What a DAG says about itself in the UI."""

from __future__ import annotations

from almanac.core.pipeline import Pipeline


def retrain_doc(pipeline: Pipeline) -> str:
    window = pipeline.window.periods
    return f"""{_head(pipeline)}

**Retrains** on a moving window of {window} {pipeline.every}s and lets a gate decide whether the new version takes over.

1. **plan**: the snapshots of the window and the holdout; only features that are not published yet are built
2. **sources.pin**: the exact source files that this run may read
3. **features**: {", ".join(group.name for group in pipeline.features)}, each a Spark job; combined, checked, published
4. **model**: all estimators are fitted, the best on the newest training snapshot is refitted on the whole window
5. **champion**: candidate and version in force meet on the same holdout ({pipeline.gate.metric}); *promote* is skipped
   when the gate says no, and the version stays in the history

| parameter | meaning |
|---|---|
| `period` | the {pipeline.every} to retrain for, such as `{pipeline.first_period}`; a schedule or backfill gives its own |
| `refresh` | build features again whose sources changed since |
| `known_at` | a time: corrections of labels count until then, and versioned sources are read as they were |
| `dry_run` | plan only |
"""


def score_doc(pipeline: Pipeline) -> str:
    return f"""{_head(pipeline)}

**Scores** one {pipeline.every} with the version in force for it. A backfill gives each period its own version, in any order.
Scoring again with nothing changed publishes nothing.{_degraded(pipeline)}{_delivered(pipeline)}

    airflow backfill create --dag-id {pipeline.name}_score --from-date 2017-08-01 --to-date 2017-10-31

| parameter | meaning |
|---|---|
| `period` | the {pipeline.every} to score; a schedule or backfill gives its own |
| `from`, `to` | the first and the last of several, scored in one Spark application with a commit each |
| `version` | score with this version instead of the one in force |
| `allow_in_sample` | score a period that the version was trained on; recorded as such |
| `refresh` | build features again whose sources changed since |
"""


def rollback_doc(pipeline: Pipeline) -> str:
    return f"""{_head(pipeline)}

**Rolls back**: takes the version in force out of it, and scores again exactly the periods that it wrote. Where the older
version wants features that are not there, they are built by its own definition. A rollback that was begun and not finished is
gone on with.{_delivered(pipeline)}

| parameter | meaning |
|---|---|
| `reason` | why; it stays in the promotion log |
| `to` | the version to go back to; what was in force before, when empty |
| `from` | the version to take out of force; the one in force now, when empty |
| `withdraw` | score again what the bad version wrote; without it only periods to come change |
| `periods` | only these of the affected periods |
| `dry_run` | plan only |
"""


def _degraded(pipeline: Pipeline) -> str:
    most = pipeline.scoring.degrade
    return (
        f" Feature groups that cannot be built are left out where they hold at most {most:g} of the version's importance."
        if most
        else ""
    )


def _delivered(pipeline: Pipeline) -> str:
    names = ", ".join(f"`{one.name}`" for one in pipeline.deliveries)
    return f" What was published is then **delivered** to {names}." if names else ""


def _head(pipeline: Pipeline) -> str:
    return f"### {pipeline.name}\n\n{pipeline.description}" if pipeline.description else f"### {pipeline.name}"
