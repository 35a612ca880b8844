"""Aggregates: a period's features, merged inside the tasks from the partial sums of its windows. No row passes through the JVM,
and memory holds one bucket of entities at a time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from almanac import chunks
from almanac.columns import row_places
from almanac.core.aggregates import COUNT, DISTINCT, RECENCY, SUM, ZERO, Feature
from almanac.core.receipts import Output
from almanac.spark import arrow
from almanac.spark.arrow import WrittenFiles
from almanac.spark.partials import BUCKETS, CODE, EVENTS, GROUPS, LAST, START, SUMS, Aggregation, keys, micros, summable

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
Opened = Callable[[Output], pq.ParquetFile]  # a task opens each file once


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A period's features to merge and write.

    Args:
        kept: the files of the partial sums of each block that can hold one of its events, by table.
        high: where the windows end.
        folder: for the new files.
        schema: as `schema_of` gives it.
    """

    asked: Aggregation
    kept: Sequence[Mapping[str, Output]]
    high: datetime
    folder: str
    schema: pa.Schema


def merged(spark: SparkSession, wanted: Sequence[Merge]) -> list[WrittenFiles]:
    """Merges partial sums to features, and writes these."""

    def work(hand: Sequence[tuple[int, int]]) -> Iterator[str]:
        files: dict[str, pq.ParquetFile] = {}

        def opened(made: Output) -> pq.ParquetFile:
            if made.uri not in files:
                files[made.uri] = chunks.open_made(made)
            return files[made.uri]

        for number, dealt in itertools.groupby(hand, key=lambda one: one[0]):
            one = wanted[number]
            found = (_features(one, bucket, opened) for _, bucket in dealt)
            for record in arrow.sink_batches(found, one.folder, one.asked.part.name, one.schema):
                yield json.dumps([number, record])

    dealt = [(number, bucket) for number in range(len(wanted)) for bucket in range(BUCKETS)]
    tasks = max(1, min(len(dealt), spark.sparkContext.defaultParallelism))
    records: dict[int, list[str]] = {number: [] for number in range(len(wanted))}
    for text in arrow.in_tasks(spark, [dealt[task::tasks] for task in range(tasks)], work):
        number, record = json.loads(text)
        records[number].append(record)
    return [arrow.collect(records[number], one.schema) for number, one in enumerate(wanted)]


def schema_of(asked: Aggregation) -> pa.Schema:
    """The columns of the features: those of the entity, and float32."""
    keys = [pa.field(key, asked.schema.field(key).type) for key in asked.entity]
    return pa.schema([*keys, *(pa.field(feature.name, pa.float32()) for feature in asked.part.features)])


def _features(merge: Merge, bucket: int, opened: Opened) -> pa.RecordBatch:
    """The features of a bucket's entities that have an event in the longest window."""
    asked, kept, schema = merge.asked, merge.kept, merge.schema
    part, end = asked.part, micros(merge.high)
    inside = {window: end - window // MICROSECOND for window in part.windows}
    longest = min(inside.values())
    names = {f"{DISTINCT} {column}" for column, functions in part.columns.items() if DISTINCT in functions}
    tables = {name: _bucket([one[name] for one in kept if name in one], bucket, longest, end, opened) for name in {SUMS, *names}}
    sums = tables[SUMS]
    if sums is None:
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
    named = sums.select(list(asked.entity)).group_by(list(asked.entity), use_threads=False).aggregate([])
    entities = [column.combine_chunks() for column in arrow.sort(named, asked.entity).columns]
    by_window = {
        window: {
            name: _Merged(_merge(name, rows, asked, low), asked, entities) for name, rows in tables.items() if rows is not None
        }
        for window, low in inside.items()
    }
    found = {feature.name: _column(asked, feature, by_window[feature.window], len(named), end) for feature in part.features}
    arrays = [
        *(column.cast(schema.field(key).type) for key, column in zip(asked.entity, entities, strict=True)),
        *(pa.array(found[feature.name], from_pandas=True) for feature in part.features),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _bucket(files: Sequence[Output], bucket: int, low: int, high: int, opened: Opened) -> pa.Table | None:
    """A bucket's rows in some files, for the segments from `low` to `high`, in the order of the files."""
    tables = []
    for made in files:
        file = opened(made)
        group = json.loads(file.schema_arrow.metadata[GROUPS]).get(str(bucket))
        if group is not None:
            with chunks.reading(made.uri, group, made):
                rows = file.read_row_group(group, use_threads=False)
            tables.append(rows.filter(_between(rows, low, high)).replace_schema_metadata(None))
    whole = pa.concat_tables(tables, promote_options="permissive") if tables else None  # some sums may be decimals
    return whole if whole is not None and whole.num_rows else None


def _between(rows: pa.Table, low: int, high: int) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(rows[START], low), pc.less(rows[START], high))


def _merge(name: str, rows: pa.Table, asked: Aggregation, low: int) -> pa.Table:
    """Partial sums from `low` on, merged to one row per entity, or per entity and value."""
    by = [key for key in keys(asked) if key != START]
    inside = rows.filter(pc.greater_equal(rows[START], low))
    if name != SUMS:
        column = name.removeprefix(f"{DISTINCT} ")
        return inside.group_by(by, use_threads=False).aggregate([(column, "count_distinct")]).rename_columns([*by, name])
    columns = [column for column in inside.column_names if column not in (*by, START)]
    how = {EVENTS: "sum", LAST: "max"}
    wanted = [(column, how.get(column) or column.split(" ", 1)[0]) for column in columns]
    inside = summable(inside, [column for column, function in wanted if function == SUM and column != EVENTS], asked.part.name)
    return inside.group_by(by, use_threads=False).aggregate(wanted).rename_columns([*by, *columns])


class _Merged:
    """Merged rows as numpy arrays: the position of each row's entity, and the rows of each value of the split."""

    def __init__(self, rows: pa.Table, asked: Aggregation, entities: Sequence[pa.Array]) -> None:
        self._rows, self._columns = rows, dict[str, Any]()
        keys = [rows[key].combine_chunks() for key in asked.entity]
        self._place = row_places(keys, entities).to_numpy(zero_copy_only=False)
        self._of: Mapping[int, Any] = {}
        if asked.part.split:
            code = rows[CODE].to_numpy()
            order = np.argsort(code, kind="stable")
            bounds = np.searchsorted(code[order], np.arange(len(asked.part.values) + 1))
            self._of = {value: order[bounds[value] : bounds[value + 1]] for value in range(len(asked.part.values))}

    def column(self, name: str, value: int | None) -> tuple[Any, Any]:
        """Positions of entities, and a column's values there, float64, NaN for null; only those of one split value if given."""
        if name not in self._columns:
            self._columns[name] = pc.fill_null(self._rows[name].cast(pa.float64(), safe=False), np.nan).to_numpy()
        values = self._columns[name]
        return (self._place, values) if value is None else (self._place[self._of[value]], values[self._of[value]])


def _column(
    asked: Aggregation, feature: Feature, merged: Mapping[str, _Merged], entities: int, end: int
) -> npt.NDArray[np.float32]:
    """A feature of each entity: NaN if its events have no value; 0 if it has no events and the function is one of `ZERO`."""
    found = np.full(entities, 0.0 if feature.function in ZERO else np.nan)
    column = {COUNT: EVENTS, RECENCY: LAST}.get(feature.function, f"{feature.function} {feature.column}")
    rows = merged.get(column if feature.function == DISTINCT else SUMS)
    if rows is not None:
        value = None if feature.value is None else asked.part.values.index(feature.value)
        place, values = rows.column(column, value)
        found[place] = (end - values) / (DAY / MICROSECOND) if feature.function == RECENCY else values
    return found.astype(np.float32)
