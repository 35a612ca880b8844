"""Features: the rows of one feature group, or of all groups combined, staged; and their audit."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from almanac.core import facts
from almanac.core.aggregates import Aggregates
from almanac.core.canonical import sealed
from almanac.core.degrade import leaves_out
from almanac.core.facts import StagedFeatures, StagedGroup, left_out
from almanac.core.pins import Pin
from almanac.core.pipeline import WRITTEN, FeatureGroup, Pipeline
from almanac.core.receipts import PART, Artifact, Order, Receipt, Step
from almanac.errors import DataError, DescriptionError, examples
from almanac.jobs import aggregates, ahead, user_functions
from almanac.jobs.checks import audited, keep_reports, one_row_each, staged_rows, user_checks
from almanac.jobs.context import JobContext
from almanac.store import compatibility
from almanac.store.home import Home
from almanac.store.profiles import PROFILE
from almanac.store.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from almanac.spark.arrow import WrittenFiles


def stage(context: JobContext) -> Receipt:
    """The rows of the order's feature group; if it names none, those of all groups combined, in the features table.

    Raises:
        DescriptionError, DataError: as `_group` and `_combined`.
    """
    return _group(context) if context.order.part else _combined(context)


def _group(context: JobContext) -> Receipt:
    """The rows of the order's feature group: one for each entity that the group has.

    Raises:
        DescriptionError: the function did not return such rows, or returned other columns than for another period.
        DataError: it returned an entity twice.
    """
    pipeline, order = context.pipeline, context.order
    group = pipeline.group(order.part)
    if isinstance(group, Aggregates):
        return aggregates.features(context, group)
    written = ahead.result_of(context, _begin_group, lambda other: _has_function(pipeline, other))
    compatibility.keep_columns(context.home, order, written.features(pipeline.keys))
    facts = StagedGroup(rows=written.files.rows, schema={field.name: str(field.type) for field in written.schema})
    return context.receipt(
        content=written.files.sums.digest, outputs=written.files.outputs, findings=written.findings, facts=facts
    )


def _has_function(pipeline: Pipeline, order: Order) -> bool:
    return bool(order.part) and not isinstance(pipeline.group(order.part), Aggregates)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """Rows that were written for an order, and its findings. `nulls`: features that are null because a group was left out."""

    files: WrittenFiles
    schema: pa.Schema
    findings: Sequence[str]
    nulls: Sequence[str] = ()

    def features(self, keys: Sequence[str]) -> list[str]:
        return [name for name in self.schema.names if name not in keys]


def _begin_group(context: JobContext, pins: Mapping[str, Pin]) -> Callable[[], _Written]:
    from almanac.spark import arrow, features

    pipeline, order = context.pipeline, context.order
    group = pipeline.group(order.part)
    assert isinstance(group, FeatureGroup)
    frame = features.shaped(user_functions.frame(context, group, pins), pipeline.keys, group.name)
    schema = features.arrow_schema(frame)
    for key in pipeline.keys:
        compatibility.check_key(context.home, schema.field(key), f"Function {group.name!r} of {pipeline.name} {order.period}")
    compatibility.check_columns(context.home, order, [name for name in schema.names if name not in pipeline.keys])

    def write() -> _Written:
        files = arrow.write(frame, context.home.layout.part(order.digest, uuid.uuid4().hex), group.name, schema)
        findings: list[str] = []
        if files.outputs:
            what = f"Feature group {group.name!r}"
            entities = features.of_files(context.job.spark, files.outputs, pipeline.keys)
            _, without = features.check_unique(entities, pipeline.keys, what)
            findings = features.nameless(what, without, pipeline.keys)
        return _Written(files=files, schema=schema, findings=findings)

    return write


def _combined(context: JobContext) -> Receipt:
    """The groups joined to the population: one row for each of its entities. The features of groups that the order leaves out
    are null.

    Raises:
        DescriptionError: two groups have a column of one name, or one has a column that Almanac writes itself.
        DataError: the population is empty, or differed when it was read again.
    """
    pipeline, absent = context.pipeline, leaves_out(context.order)
    written = ahead.result_of(context, _begin_combined, lambda other: not other.part)
    rows, findings = written.files.rows, list(written.findings)
    names = written.features(pipeline.keys)
    facts = StagedFeatures(rows=rows, features=tuple(names), left_out=tuple(absent), nulls=tuple(written.nulls))
    if absent:
        findings.append(f"Feature groups {examples(absent)} were left out: {examples(written.nulls, 12)} are null.")
    return context.receipt(content=written.files.sums.digest, outputs=written.files.outputs, findings=findings, facts=facts)


def _begin_combined(context: JobContext, pins: Mapping[str, Pin]) -> Callable[[], _Written]:
    from almanac.spark import arrow, features

    pipeline, order = context.pipeline, context.order
    people, absent = pipeline.population, leaves_out(order)
    table = context.home.features(order.description)
    frames = _frames(context)
    given = user_functions.frame(context, people, pins)

    def write() -> _Written:
        spine, entities, findings = features.population(given, pipeline.keys, people, order.period)
        try:
            return written(features.named(spine, pipeline.keys), entities, findings)
        finally:
            spine.unpersist()

    def written(spine: DataFrame, entities: int, findings: list[str]) -> _Written:
        for key in features.arrow_schema(spine):
            compatibility.check_key(context.home, key, f"Population {people.name!r} of {pipeline.name} {order.period}")
        joined = features.combine(spine, frames, pipeline.keys, pipeline.zeros(absent))
        nulls = [name for name in _columns(table, absent) if name not in joined.columns] if absent else []
        joined = features.with_nulls(joined, nulls).sortWithinPartitions(*pipeline.keys)
        schema = table.fitting(features.arrow_schema(joined))
        check_names(schema.names, pipeline)
        table.create(schema)
        folder, stem = table.staging(order)
        found = arrow.write(joined, folder, stem, schema)
        files = (found if found.outputs else arrow.empty(folder, stem, schema)).within(order.period)
        if files.rows != entities:
            raise DataError(
                f"Features of {order.period}: expected {entities} rows, one for each entity of the population; got {files.rows}. "
                "A source changed between two reads. Start the run again."
            )
        return _Written(files=files, schema=schema, findings=findings, nulls=nulls)

    return write


def _columns(table: Table, absent: Sequence[str]) -> list[str]:
    """The columns of features with all groups. Raises: DataError, if none were ever staged."""
    if not (found := table.columns()):
        raise DataError(
            f"Feature groups {examples(absent)} cannot be left out: no features of this definition were built yet, so their "
            "columns are unknown. Build a period with all groups first."
        )
    return found


def check_names(names: list[str], pipeline: Pipeline) -> None:
    """Checks that no feature has the name of a column that Almanac writes. Raises: DescriptionError."""
    taken = (*WRITTEN, *pipeline.label.target.columns)
    if clash := [name for name in names if name.lower() in {one.lower() for one in taken}]:
        raise DescriptionError(
            f"Features have columns {examples(clash)}, which Almanac writes itself (reserved: {', '.join(taken)}). Rename them "
            "in the function that returns them."
        )


def _frames(context: JobContext) -> Mapping[str, DataFrame]:
    """The staged rows of each group, by name, in the order of the description."""
    from almanac.spark import features

    names = [group.name for group in context.pipeline.features if PART + group.name in context.placed.links]
    receipts = {name: context.linked(PART + name) for name in names}
    return {
        name: features.of_files(context.job.spark, receipt.outputs) if receipt.outputs else _empty(context, receipt)
        for name, receipt in receipts.items()
    }


def _empty(context: JobContext, receipt: Receipt) -> DataFrame:
    schema = ", ".join(f"`{name}` {_spark_type(kind)}" for name, kind in facts.read(StagedGroup, receipt).schema.items())
    return context.job.spark.createDataFrame([], schema)


def _spark_type(arrow_type: str) -> str:
    return {"int64": "long", "int32": "int", "string": "string"}.get(arrow_type, "float")


def audit(context: JobContext) -> Receipt:
    """The user's checks of features, and one row for each entity, by Great Expectations on the staged files. The profile is
    kept if no group was left out.
    """
    from almanac.spark import profiles

    staged = context.admitted("staged", Artifact.FEATURES, Step.STAGE)
    rows, nulls = staged_rows(context, staged), facts.read(StagedFeatures, staged).nulls
    own = one_row_each(context.pipeline.keys, staged.rows)
    checked = audited(context, staged, rows, own + user_checks(context, staged, "features", rows, nulls), nulls)
    if not staged.rows or left_out(staged):
        return checked
    found = profiles.profile(context.job.session, staged.outputs, context.order.period, rows.held)
    infinite = [f"{name} ({column.infinite} rows)" for name, column in found.columns.items() if column.infinite]
    warning = (
        f"warning: features {examples(infinite)} are infinite: they were divided by zero, or exceed float32 (3.4e38). "
        "scikit-learn refuses them. Return null instead, or use another unit."
    )
    return replace(
        checked,
        outputs=(*checked.outputs, *keep_reports(context, {PROFILE: sealed(found)})),
        findings=(*checked.findings, *([warning] if infinite else ())),
    )


def columns_by_group(home: Home, published: Receipt, keys: Sequence[str]) -> dict[str, list[str]]:
    """The features of each group, from a period of features that was published with all groups."""
    staged = home.receipts.read(published.links["staged"])
    groups = {name.removeprefix(PART): home.receipts.read(uri) for name, uri in staged.links.items() if name.startswith(PART)}
    return {
        name: [column for column in facts.read(StagedGroup, group).schema if column not in keys] for name, group in groups.items()
    }
