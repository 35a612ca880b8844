"""Great Expectations' two engines for the same rows: pandas if the rows are few, Spark if they are many.

Both must give the same verdicts. So pandas runs only the expectations that it answers as Spark does, on rows that `rows.plain`
made equal for both. Spark runs everything else, and what fails in pandas. docs/checks.md has the list.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from almanac.spark.answers import Answers
from almanac.spark.rows import Rows

# By default Great Expectations sends usage data.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")

# The expectations that pandas runs. About a table:
TABLE = frozenset({
    "ExpectColumnToExist",
    "ExpectTableColumnCountToBeBetween",
    "ExpectTableColumnCountToEqual",
    "ExpectTableColumnsToMatchOrderedList",
    "ExpectTableColumnsToMatchSet",
    "ExpectTableRowCountToBeBetween",
    "ExpectTableRowCountToEqual",
})  # fmt: skip
# About a column of any type that holds one value per row:
COLUMN = frozenset({
    "ExpectColumnProportionOfNonNullValuesToBeBetween",
    "ExpectColumnProportionOfUniqueValuesToBeBetween",
    "ExpectColumnUniqueValueCountToBeBetween",
    "ExpectColumnValuesToBeNull",
    "ExpectColumnValuesToBeUnique",
    "ExpectColumnValuesToNotBeNull",
})  # fmt: skip
# About numbers, text or booleans, if the expected values are of the column's own kind:
SET = frozenset({
    "ExpectColumnDistinctValuesToBeInSet",
    "ExpectColumnDistinctValuesToContainSet",
    "ExpectColumnDistinctValuesToEqualSet",
    "ExpectColumnMostCommonValueToBeInSet",
    "ExpectColumnValuesToBeInSet",
    "ExpectColumnValuesToNotBeInSet",
})  # fmt: skip
# About numbers and times, with bounds of the column's own kind:
RANGE = frozenset({"ExpectColumnMaxToBeBetween", "ExpectColumnMinToBeBetween", "ExpectColumnValuesToBeBetween"})
NUMBER = frozenset({"ExpectColumnMeanToBeBetween", "ExpectColumnMedianToBeBetween", "ExpectColumnStdevToBeBetween"})
# Spark sums whole numbers, because it reports a sum that is too large.
FLOAT = frozenset({"ExpectColumnSumToBeBetween"})
TEXT = frozenset({"ExpectColumnValueLengthsToBeBetween", "ExpectColumnValueLengthsToEqual"})
# About two columns of numbers without nulls: the engines differ on a null beside a value.
PAIR = frozenset({"ExpectColumnPairValuesAToBeGreaterThanB", "ExpectColumnPairValuesToBeEqual"})
# About several columns, each with one value per row and no nulls:
COMPOUND = frozenset({"ExpectCompoundColumnsToBeUnique"})

NUMBERS, TIMES = ("whole", "float"), ("time",)


def in_pandas(expectation: Any, held: pa.Table) -> bool:
    """Whether the pandas engine gives an expectation the same verdict as the Spark engine."""
    import great_expectations.expectations as known

    name, arguments = type(expectation).__name__, expectation.configuration.kwargs
    if getattr(known, name, None) is not type(expectation) or arguments.get("row_condition"):
        return False
    if name in TABLE:
        return True
    if name in PAIR:
        pair = (arguments.get("column_A"), arguments.get("column_B"))
        columns: list[pa.ChunkedArray] = [held.column(one) for one in pair if one in held.column_names]
        return len(columns) == 2 and all(_kind(one.type) in NUMBERS and not one.null_count for one in columns)
    if name in COMPOUND:
        names = arguments.get("column_list") or ()
        found = [held.column(one) for one in names if one in held.column_names]
        return len(found) == len(names) and all(_kind(one.type) and not one.null_count for one in found)
    if arguments.get("column") not in held.column_names:
        return bool(arguments.get("column"))  # neither engine can run it, and both say so
    column = held.column(arguments["column"])
    kind = _kind(column.type)
    if name in COLUMN:
        return bool(kind)
    if column.null_count == len(column):
        return False  # pandas gives 0 as the sum of no values
    if name in SET:
        return kind in (*NUMBERS, "text", "bool") and _alike(kind, arguments.get("value_set") or ())
    if name in RANGE:
        bounds = [arguments[bound] for bound in ("min_value", "max_value") if arguments.get(bound) is not None]
        return kind in (*NUMBERS, *TIMES) and _alike(kind, bounds)
    return (name in NUMBER and kind in NUMBERS) or (name in FLOAT and kind == "float") or (name in TEXT and kind == "text")


def _kind(kind: pa.DataType) -> str:
    """The kind of a column, as far as pandas handles it; empty if a row holds more than one value."""
    kinds = {
        "whole": lambda kind: pa.types.is_int32(kind) or pa.types.is_int64(kind),
        "short": pa.types.is_integer,  # the Spark engine takes no mean of these
        "float": pa.types.is_floating,
        "bool": pa.types.is_boolean,
        "text": pa.types.is_string,
        "time": pa.types.is_timestamp,
        "date": pa.types.is_date,
        "decimal": pa.types.is_decimal,
    }
    return next((name for name, holds in kinds.items() if holds(kind)), "")


def _alike(kind: str, values: Iterable[Any]) -> bool:
    wanted = {"text": str, "bool": bool, "time": datetime}.get(kind, int | float)
    return all(isinstance(value, wanted) and (kind == "bool" or not isinstance(value, bool)) for value in values)


def naive(expectation: Any) -> Any:
    """The expectation with its time bounds in UTC and without a zone, like the rows' times."""
    times = {
        name: value.astimezone(UTC).replace(tzinfo=None)
        for name in ("min_value", "max_value")
        if isinstance(value := getattr(expectation, name, None), datetime) and value.tzinfo
    }
    return expectation.copy(update=times) if times else expectation


class Engines:
    """The rows as each of the two engines sees them; each is built on first use."""

    def __init__(self, rows: Rows, name: str) -> None:
        self._rows, self._name = rows, name
        self.columns = rows.held.column_names if rows.held is not None else ()

    def parted(self, expectations: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The expectations that pandas runs, and those that Spark runs."""
        parts: tuple[list[Any], list[Any]] = [], []
        for one in expectations:
            parts[not self._here(one)].append(one)
        return parts

    def of(self, expectation: Any) -> Any:
        """The rows for the engine that runs an expectation."""
        return self.pandas if self._here(expectation) else self.spark

    def _here(self, expectation: Any) -> bool:
        return self._rows.held is not None and in_pandas(expectation, self._rows.held)

    @functools.cached_property
    def pandas(self) -> Any:
        assert self._rows.held is not None
        kept = pa.schema([pa.field(one.name, _wide(one.type)) for one in self._rows.held.schema])
        return self._batch("add_pandas", self._rows.held.cast(kept).to_pandas(types_mapper=pd.ArrowDtype))

    @functools.cached_property
    def spark(self) -> Any:
        batch = self._batch("add_spark", self._rows.frame())
        engine = batch.datasource.get_execution_engine()
        engine.resolve_metrics = Answers(rows=self._rows, engine=engine.resolve_metrics).resolve
        return batch

    def _batch(self, add: str, frame: Any) -> Any:
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
        asset = getattr(context.data_sources, add)(self._name).add_dataframe_asset(self._name)
        return asset.add_batch_definition_whole_dataframe(self._name).get_batch(batch_parameters={"dataframe": frame})


def _wide(kind: pa.DataType) -> pa.DataType:
    """float64 for floats: bounds are doubles, and pandas would round them to a column's float32."""
    return pa.float64() if pa.types.is_floating(kind) else kind
