"""Great Expectations metrics that one scan answers: nulls, ranges, means and uniqueness, counted on Arrow data in the tasks.

Great Expectations' Spark engine builds an expression for each metric and reads the rows several times. It still resolves the
metrics that are not answered here, and the details of a failed check.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from almanac.chunks import Batches
from almanac.spark.rows import Rows

NONNULL, NULL, BETWEEN = "column_values.nonnull", "column_values.null", "column_values.between"
UNIQUE, MEAN, COUNT = "column_values.unique", "column.mean", "table.row_count"
# A metric's steps; when only verdicts are requested, only the metric itself uses them.
STEPS = (".aggregate_fn", ".unexpected_count", ".condition")
# Uniqueness is decided by 8-byte hashes in the driver; above this many rows it is left to Spark.
MOST_HASHED = 20_000_000


@dataclass(frozen=True, slots=True)
class Question:
    """A metric of a column, or COUNT.

    Args:
        low, high: the bounds of BETWEEN.
        strict: whether the low and the high bound are exclusive.
    """

    metric: str
    column: str = ""
    low: float | None = None
    high: float | None = None
    strict: tuple[bool, bool] = (False, False)

    def count(self, column: pa.Array) -> list[Any]:
        """The partial answer from some rows of the column."""
        if self.metric in (NONNULL, NULL):
            return [column.null_count, len(column)]
        if self.metric == UNIQUE:
            return [base64.b64encode(_hashed(column.drop_null()).tobytes()).decode()]
        values = np.asarray(column.drop_null().cast(pa.float64(), safe=False))
        if self.metric == MEAN:
            return [float(values.sum()), len(values)]
        fits = np.ones(len(values), dtype=bool)
        if self.low is not None:
            fits &= values > self.low if self.strict[0] else values >= self.low
        if self.high is not None:
            fits &= values < self.high if self.strict[1] else values <= self.high
        return [int(len(values) - fits.sum())]

    def answer(self, counts: Sequence[Sequence[Any]]) -> Any:
        """The answer for all rows; None where the hashes do not decide, or a mean has no values."""
        if self.metric == UNIQUE:
            hashes = np.concatenate([np.frombuffer(base64.b64decode(one), np.uint64) for (one,) in counts])
            return 0 if len(np.unique(hashes)) == len(hashes) else None
        totals = [sum(parts) for parts in zip(*counts, strict=True)]
        if self.metric == MEAN:
            return totals[0] / totals[1] if totals[1] else None
        return totals[1] - totals[0] if self.metric == NULL else totals[0]


def _hashed(column: pa.Array) -> np.ndarray:
    if pa.types.is_integer(column.type):
        return np.asarray(column.cast(pa.int64())).view(np.uint64)
    return pd.util.hash_array(column.to_numpy(zero_copy_only=False), categorize=False)


@dataclass
class Answers:
    """Resolves metrics: with one scan where possible, otherwise with the engine.

    Args:
        rows: the rows that the metrics are about.
        engine: Great Expectations' own function that resolves metrics.
    """

    rows: Rows
    engine: Any
    known: dict[Question, Any] = field(default_factory=dict)

    def resolve(
        self, metrics_to_resolve: Iterable[Any], metrics: Any = None, runtime_configuration: Mapping[str, Any] | None = None
    ) -> dict[Any, Any]:
        wanted = list(metrics_to_resolve)
        if (runtime_configuration or {}).get("result_format") != "BOOLEAN_ONLY":
            return dict(self.engine(wanted, metrics, runtime_configuration))
        questions = {metric.id: question(metric, self.rows) for metric in wanted}
        self._answer({one for one in questions.values() if one is not None and one not in self.known})
        answered = {key: self.known[one] for key, one in questions.items() if one is not None and self.known[one] is not None}
        left = [metric for metric in wanted if metric.id not in answered]
        return {**self.engine(left, metrics, runtime_configuration), **answered} if left else answered

    def _answer(self, questions: set[Question]) -> None:
        """Answers questions in one scan of their columns; the row count comes from the files' footers."""
        self.known |= {one: self.rows.count for one in questions if one.metric == COUNT}
        listed = sorted((one for one in questions if one.metric != COUNT), key=repr)
        if not listed:
            return
        names = sorted({one.column for one in listed})

        def fold(batches: Batches) -> Iterator[str]:
            for batch in batches:
                yield json.dumps([one.count(batch.column(one.column)) for one in listed])

        counts = [json.loads(text) for text in self.rows.scan(names, fold)]
        for number, one in enumerate(listed):
            self.known[one] = one.answer([count[number] for count in counts]) if counts else None


def question(metric: Any, rows: Rows) -> Question | None:
    """The question that a metric asks, if a scan can answer it."""
    domain, values, name = metric.metric_domain_kwargs, metric.metric_value_kwargs, metric.metric_name
    for step in STEPS:
        name = name.removesuffix(step)
    column = domain.get("column")
    if domain.get("row_condition"):
        return None
    if name == COUNT:
        return Question(COUNT)
    if column not in rows.schema.names:
        return None
    kind = rows.schema.field(column).type
    numbers = pa.types.is_int32(kind) or pa.types.is_int64(kind) or pa.types.is_floating(kind)
    if name in (NONNULL, NULL) or (name == MEAN and numbers):
        return Question(name, column)
    if name == UNIQUE and rows.count <= MOST_HASHED and (pa.types.is_int64(kind) or pa.types.is_string(kind)):
        return Question(name, column)
    bounds = values.get("min_value"), values.get("max_value")
    if name == BETWEEN and numbers and all(bound is None or type(bound) in (int, float) for bound in bounds):
        return Question(name, column, *bounds, (bool(values.get("strict_min")), bool(values.get("strict_max"))))
    return None
