"""Checks of staged rows, shared by the audits of features and predictions: the rows, the suite, the report."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from almanac.core.canonical import dumps, sha256
from almanac.core.facts import AuditedRows, left_out
from almanac.core.receipts import Output, Receipt
from almanac.errors import IntegrityError, examples
from almanac.jobs.context import JobContext

if TYPE_CHECKING:
    from almanac.spark.rows import Rows


def staged_rows(context: JobContext, staged: Receipt) -> Rows:
    """The staged rows, from files that are checked against their digests. If the rows are many, Spark is started.

    Raises:
        IntegrityError: a file was altered.
    """
    from almanac.spark import rows

    size = sum(output.bytes for output in staged.outputs)
    if size > rows.HELD_BYTES:
        context.job.begin()
    tables = []
    for output in staged.outputs:
        body = context.home.objects.get(output.uri)
        if sha256(body) != output.sha256:
            raise IntegrityError(
                f"{output.uri}: the staged file was altered, so it is not published. Restore it from the bucket's versions, or "
                f"delete its receipt {context.placed.links['staged']} and start the run again, which stages it again."
            )
        if size <= rows.HELD_BYTES:
            tables.append(pq.read_table(pa.BufferReader(body)))
    if tables and rows.few(staged.rows, tables[0].num_columns, size):
        return rows.of_table(context.job.session, pa.concat_tables(tables))
    context.job.begin()
    return rows.of_files(context.job.session, staged.outputs)


def one_row_each(keys: Sequence[str], rows: int) -> list[Any]:
    """The expectations that there are `rows` rows and each is of another entity: no key is null, and all together are unique."""
    from almanac.spark.checks import expectation

    unique = (
        expectation("ExpectColumnValuesToBeUnique", column=keys[0])
        if len(keys) == 1
        else expectation("ExpectCompoundColumnsToBeUnique", column_list=list(keys))
    )
    return [
        expectation("ExpectTableRowCountToEqual", value=rows),
        *(expectation("ExpectColumnValuesToNotBeNull", column=key) for key in keys),
        unique,
    ]


def user_checks(context: JobContext, staged: Receipt, section: str, rows: Rows, nulls: Collection[str]) -> list[Any]:
    """A section of the user's `checks()`. Empty for a period that is empty on purpose, and without the checks of features that
    are null because their group was left out: `nulls`. Raises: DescriptionError, if one is about a column that `rows` lack.
    """
    from almanac.spark import checks

    found = context.call("checks")
    checks.suites(found, context.pipeline)
    wanted = checks.section(found, section)
    if staged.rows:
        checks.check_columns(wanted, rows.schema.names, section)
    return [one for one in wanted if not checks.columns_of(one) & set(nulls)] if staged.rows else []


def audited(context: JobContext, staged: Receipt, rows: Rows, expectations: list[Any], nulls: Collection[str]) -> Receipt:
    """The receipt of a suite run on staged rows. The result is kept as an HTML page and as JSON."""
    from almanac.spark import checks

    checked = checks.run(rows, expectations, f"{context.home.name}_{context.order.artifact.value}_{context.order.period}")
    outputs = keep_reports(context, {"checks.html": checked.html.encode(), "checks.json": dumps(_finite(checked.result))})
    return context.receipt(
        passed=checked.passed,
        content=staged.content,
        outputs=outputs,
        findings=[*checked.blocking, *(f"warning: {text}" for text in (*checked.warnings, *_unchecked(staged, nulls)))],
        facts=AuditedRows(checks=checked.checks, rows=staged.rows),
    )


def _unchecked(staged: Receipt, nulls: Collection[str]) -> list[str]:
    absent = left_out(staged)
    return [f"the groups {examples(absent)} were left out, so {examples(nulls, 12)} were not checked"] if absent else []


def keep_reports(context: JobContext, reports: Mapping[str, bytes]) -> list[Output]:
    """Keeps reports under unique names: the same order may run twice at once."""
    folder = context.home.layout.report(context.order.digest, uuid.uuid4().hex, "").rstrip("/")
    return [context.put(folder, name, body) for name, body in reports.items()]


def _finite(value: Any) -> Any:
    """Replaces NaN and infinities by text: plain JSON has neither."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)
