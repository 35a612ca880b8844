"""The same rows are the same rows, in whichever files, row groups and types a writer put them. No Spark session is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from almanac import Aggregates, EventSource, chunks
from almanac.columns import AS_WRITTEN, packed, plain, schema_of, unpacked
from almanac.core.pins import Pin, PinnedFile
from almanac.core.sources import Cut
from almanac.cutting import View, cut_rows, view_of
from almanac.spark.partials import Aggregation, _partial, blocks
from almanac.store.schemas import agreed

Row = tuple[int, datetime | None, float | None, str | None, list[float | None] | None]
SOURCE = EventSource("s3://shop/visits/", event_time="at", timezone="America/New_York")
NAMES = ("customer", "at", "amount", "channel", "basket")
# How writers spell each column: pyarrow, pandas, Polars, Spark and DuckDB among them.
SPELLINGS: dict[str, list[pa.DataType]] = {
    "customer": [pa.int64(), pa.int8(), pa.uint8(), pa.uint32(), pa.int16()],
    "at": [pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ms")],
    "amount": [pa.float64(), pa.float32()],
    "channel": [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()],
    "basket": [pa.list_(pa.float64()), pa.large_list(pa.float64()), pa.list_(pa.float32())],
}
NUMBERS = st.sampled_from([0.0, 0.5, -3.25, 1024.0, float("nan"), None])
ROWS = st.lists(
    st.tuples(
        st.integers(0, 100),
        st.none() | st.datetimes(datetime(2017, 3, 11), datetime(2017, 3, 14)).map(lambda at: at.replace(microsecond=5000)),
        NUMBERS,
        st.none() | st.sampled_from(["web", "shop", ""]),
        st.none() | st.lists(NUMBERS, max_size=3),
    ),
    min_size=1,
    max_size=12,
)


@st.composite
def writing(draw: st.DrawFn) -> dict[str, Any]:
    """How a file is written."""
    return {
        "kinds": {name: draw(st.sampled_from(kinds)) for name, kinds in SPELLINGS.items()},
        "order": draw(st.permutations(NAMES)),
        "row_group_size": draw(st.integers(1, 5)),
        "int96": draw(st.booleans()),
        "nulls": draw(st.booleans()),
    }


def write(folder: Path, name: str, rows: Sequence[Row], how: dict[str, Any]) -> PinnedFile:
    columns = {}
    for place, column in enumerate(NAMES):
        kind, values = how["kinds"][column], [row[place] for row in rows]
        if how["nulls"] and column != "customer" and all(value is None for value in values):
            kind = pa.null()  # as of a frame of nothing but None
        flat = kind.value_type if pa.types.is_dictionary(kind) else kind
        columns[column] = pa.array(values, flat).dictionary_encode() if flat != kind else pa.array(values, kind)
    path = folder / f"{name}.parquet"
    table = pa.table(columns).select(how["order"])
    pq.write_table(table, path, row_group_size=how["row_group_size"], use_deprecated_int96_timestamps=how["int96"])
    footer = pq.read_metadata(path)
    groups = tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    return PinnedFile(uri=str(path), size=path.stat().st_size, etag=name, groups=groups)


def pinned(files: Sequence[PinnedFile]) -> Pin:
    found = []
    for file in files:
        own = pq.ParquetFile(file.uri, **AS_WRITTEN).schema_arrow
        found.append((file.uri, pa.schema([(field.name, plain(field.type)) for field in own])))
    schema = agreed("visits", SOURCE, found, ())
    return Pin(source="visits", uri=SOURCE.uri, files=tuple(files), columns={}, schema=packed(schema))


def read(pin: Pin) -> list[dict[str, Any]]:
    cut = Cut(low=datetime(2017, 3, 11, 12, tzinfo=UTC), high=datetime(2017, 3, 13, 12, tzinfo=UTC))
    view = view_of(SOURCE, pin, NAMES, cut)
    batches = chunks.read_chunks(chunks.of_pinned(pin.files), view.stored)
    rows = [row for batch in batches for row in cut_rows(batch, view).to_pylist()]
    return sorted(rows, key=repr)


@settings(derandomize=True, max_examples=120, deadline=None)
@given(rows=ROWS, parts=st.lists(writing(), min_size=1, max_size=3), whole=writing())
def test_rows_are_the_same_in_whichever_files_and_types_they_lie(
    rows: list[Row], parts: list[dict[str, Any]], whole: dict[str, Any]
) -> None:
    # At least one row of each writing in each column has a value, or a column would have no type at all.
    rows = [*rows, (1, datetime(2017, 3, 12, 2, 30), 0.5, "web", [1.5])]
    with tempfile.TemporaryDirectory() as folder:
        one = pinned([write(Path(folder), "whole", rows, whole)])
        pieces = [rows[number :: len(parts)] for number in range(len(parts))]
        held = [(piece, how) for piece, how in zip(pieces, parts, strict=True) if piece]
        many = [write(Path(folder), f"part-{number}", piece, how) for number, (piece, how) in enumerate(held)]

        assert read(pinned(many)) == read(pinned(many[::-1])) == read(one)


def test_partial_sums_of_files_of_other_types_can_be_joined(tmp_path: Path) -> None:
    part = Aggregates("a", reads=("visits",), windows=(timedelta(days=30),), columns={"amount": ("sum", "max", "distinct")})
    kinds = [{name: spellings[number] for name, spellings in SPELLINGS.items()} for number in (0, 1)]
    rows = [(1, datetime(2017, 3, 12), float("nan"), "web", None), (1, datetime(2017, 3, 12), 0.5, "web", [1.0])]
    how = {"order": NAMES, "row_group_size": 2, "int96": False, "nulls": False}
    files = [write(tmp_path, f"{number}", rows, {**how, "kinds": kind}) for number, kind in enumerate(kinds)]
    schema = schema_of(SOURCE, unpacked(pinned(files).schema), "visits", ["customer", "at", "amount"])
    asked = Aggregation(part=part, entity=("customer",), events=View(source=SOURCE, shown=schema))
    edges = (datetime(2017, 3, 1, tzinfo=UTC),)
    rows_of = [list(chunks.read_chunks(chunks.of_pinned([file]), schema.names)) for file in files]
    sums = [_partial(asked, block, rows)[0] for file, rows in zip(files, rows_of, strict=True) for block in blocks(file, edges)]

    joined = pa.concat_tables([one["sums"] for one in sums]).to_pandas()
    assert joined["sum amount"].tolist() == [0.5, 0.5] and joined["@events"].tolist() == [2, 2]
    assert [one["distinct amount"]["amount"].to_pylist() for one in sums] == [[0.5], [0.5]]
    assert not pd.isna(joined).any().any()
