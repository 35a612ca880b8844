"""Features, staged: what one group gives, its part, and the parts of all groups combined."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from almanac.core.aggregates import Aggregates
from almanac.core.degrade import LEFT_OUT, NULLS, leaves_out
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import PART, Receipt
from almanac.doors import aggregate, calls, fitting
from almanac.doors.job import Work
from almanac.errors import DataError, DescriptionError, examples
from almanac.store.home import Home
from almanac.store.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def made(work: Work) -> Receipt:
    """The part of the order's feature group: one row an entity that the group knows.

    Raises:
        DescriptionError: the function gave no such rows, or other columns than for another period. DataError: it gave an entity
            twice.
    """
    from almanac.spark import arrow
    from almanac.spark import features as rooms

    pipeline, order = work.pipeline, work.order
    group = pipeline.group(order.part)
    if isinstance(group, Aggregates):
        return aggregate.features(work, group)
    with calls.reading(work, calls.cuts(work)):
        frame = rooms.shaped(calls.given(work, group), pipeline.entity, group.name)
        schema = rooms.arrow_schema(frame)
        fitting.check_key(work.home, schema.field(pipeline.entity), f"Function {group.name!r} of {pipeline.name} {order.period}")
        names = [name for name in schema.names if name != pipeline.entity]
        fitting.check_columns(work.home, order, names)
        written = arrow.write(frame, work.home.layout.part(order.digest, uuid.uuid4().hex), group.name, schema)
    findings = []
    if written.outputs:
        what, entities = f"Feature group {group.name!r}", rooms.of_files(work.bench.spark, written.outputs, [pipeline.entity])
        _, without = rooms.check_unique(entities, pipeline.entity, what)
        findings = rooms.nameless(what, without, pipeline.entity)
    fitting.keep_columns(work.home, order, names)
    facts = {"rows": written.rows, "schema": {field.name: str(field.type) for field in schema}}
    return work.receipt(content=written.sums.digest, outputs=written.outputs, findings=findings, facts=facts)


def combined(work: Work) -> Receipt:
    """The parts joined to the population: one row for each of its entities. The features of groups that the order leaves out
    are null.

    Raises:
        DescriptionError: two groups give a column of one name, or one that Almanac writes itself.
        DataError: the population is empty, or other than it was when it was read again.
    """
    from almanac.spark import arrow
    from almanac.spark import features as rooms

    pipeline, order = work.pipeline, work.order
    people, absent = pipeline.population, leaves_out(order)
    table = work.home.features(order.description)
    with calls.reading(work, calls.cuts(work)):
        spine, entities, findings = rooms.population(calls.given(work, people), pipeline.entity, people, order.period)
        key = rooms.arrow_schema(spine).field(pipeline.entity)
        fitting.check_key(work.home, key, f"Population {people.name!r} of {pipeline.name} {order.period}")
        joined = rooms.combine(spine, _given(work), pipeline.entity, pipeline.zeros(absent))
        nulls = [name for name in _columns(table, absent) if name not in joined.columns] if absent else []
        joined = rooms.with_nulls(joined, nulls).sortWithinPartitions(pipeline.entity)
        schema = table.fitting(rooms.arrow_schema(joined))
        _check_names(schema.names, pipeline)
        table.create(schema)
        folder, stem = table.staging(order)
        found = arrow.write(joined, folder, stem, schema)
        written = (found if found.outputs else arrow.empty(folder, stem, schema)).within(order.period)
        spine.unpersist()
    if written.rows != entities:
        raise DataError(
            f"Features of {order.period} have {written.rows} rows for {entities} entities: entities in must equal entities "
            "out. A source gave another answer when it was read again; start the run again."
        )
    facts = {"rows": entities, "features": [name for name in schema.names if name != pipeline.entity]}
    if absent:
        facts |= {LEFT_OUT: list(absent), NULLS: nulls}
        findings.append(f"Feature groups {examples(absent)} were left out: {examples(nulls, 12)} are null.")
    return work.receipt(content=written.sums.digest, outputs=written.outputs, findings=findings, facts=facts)


def _columns(table: Table, absent: Sequence[str]) -> list[str]:
    """The columns that whole features have. Raises: DataError, where no such features were ever staged."""
    if not (found := table.columns()):
        raise DataError(
            f"Feature groups {examples(absent)} cannot be left out: no features of this definition were built yet, so nobody "
            "knows which columns they would have. Build a period whole first."
        )
    return found


def columns(home: Home, published: Receipt, entity: str) -> dict[str, list[str]]:
    """The features of each group, of a period of features that is published whole."""
    staged = home.receipts.read(published.links["staged"])
    parts = {name: home.receipts.read(uri) for name, uri in staged.links.items() if name.startswith(PART)}
    return {
        name.removeprefix(PART): [column for column in part.facts["schema"] if column != entity] for name, part in parts.items()
    }


def _check_names(names: list[str], pipeline: Pipeline) -> None:
    """No feature has the name of a column that Almanac writes beside it. Raises: DescriptionError."""
    taken = ("as_of", "period", "label", "snapshot", "model_version", "order", *pipeline.label.target.columns)
    if clash := [name for name in names if name.lower() in {one.lower() for one in taken}]:
        raise DescriptionError(
            f"Features have columns {examples(clash)}, which Almanac writes itself (taken are: {', '.join(taken)}). Rename them "
            "in the function that gives them."
        )


def _given(work: Work) -> Mapping[str, DataFrame]:
    """What the groups gave, by name, in the order of the description."""
    from almanac.spark import features as rooms

    names = [group.name for group in work.pipeline.features if PART + group.name in work.placed.links]
    receipts = {name: work.linked(PART + name) for name in names}
    return {
        name: rooms.of_files(work.bench.spark, receipt.outputs) if receipt.outputs else _empty(work, receipt)
        for name, receipt in receipts.items()
    }


def _empty(work: Work, receipt: Receipt) -> DataFrame:
    schema = ", ".join(f"`{name}` {_spark_type(kind)}" for name, kind in receipt.facts["schema"].items())
    return work.bench.spark.createDataFrame([], schema)


def _spark_type(arrow_type: str) -> str:
    return {"int64": "long", "int32": "int", "string": "string"}.get(arrow_type, "float")
