"""One map from a file's type to the type that user code sees, and values that stay what they are through it."""

from __future__ import annotations

import io
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from almanac import columns
from almanac.columns import AS_WRITTEN, UTC_TIME, common, filled, of_batch, packed, plain, seen, unpacked, unreadable
from almanac.errors import SourceError

NEW_YORK = "America/New_York"
NAIVE, ZONED = pa.timestamp("us"), pa.timestamp("us", "UTC")


def through(column: pa.Array, kind: pa.DataType | None = None, timezone: str | None = None) -> pa.Array:
    """A column as user code sees it after it was in a Parquet file; of a type, or of its own."""
    body = io.BytesIO()
    pq.write_table(pa.table({"x": column}), body)
    file = pq.ParquetFile(io.BytesIO(body.getvalue()), **AS_WRITTEN)
    kind = kind or seen(plain(file.schema_arrow.field("x").type))
    found = [of_batch(batch, pa.schema([("x", kind)]), timezone).column("x") for batch in file.iter_batches()]
    for one in found:
        one.validate(full=True)
        assert one.type == kind
    return pa.concat_arrays(found)


# --- the map ---


@pytest.mark.parametrize(
    ("kind", "compared"),
    [
        (pa.large_string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string()),
        (pa.json_(), pa.string()),
        (pa.uuid(), pa.string()),
        (pa.binary(16), pa.binary()),
        (pa.large_binary(), pa.binary()),
        (pa.uint8(), pa.int16()),
        (pa.uint16(), pa.int32()),
        (pa.uint32(), pa.int64()),
        (pa.uint64(), pa.decimal128(20, 0)),
        (pa.int8(), pa.int8()),
        (pa.float16(), pa.float32()),
        (pa.decimal64(9, 2), pa.decimal128(9, 2)),
        (pa.decimal256(30, 2), pa.decimal128(30, 2)),
        (pa.date64(), pa.date32()),
        (pa.timestamp("ns"), NAIVE),
        (pa.timestamp("s", "Europe/Berlin"), ZONED),
        (pa.duration("ns"), pa.duration("us")),
        (pa.large_list(pa.large_string()), pa.list_(pa.string())),
        (pa.list_(pa.uint8(), 3), pa.list_(pa.int16())),
        (
            pa.struct([("at", pa.timestamp("ns")), ("k", pa.dictionary(pa.int8(), pa.string()))]),
            pa.struct([("at", NAIVE), ("k", pa.string())]),
        ),
        (pa.map_(pa.large_string(), pa.float16()), pa.map_(pa.string(), pa.float32())),
    ],
    ids=str,
)
def test_a_type_has_one_spelling(kind: pa.DataType, compared: pa.DataType) -> None:
    assert plain(kind) == compared
    assert plain(compared) == compared
    assert not unreadable(compared)


def test_every_timestamp_is_seen_in_utc_nested_ones_too() -> None:
    assert seen(plain(pa.timestamp("ns"))) == UTC_TIME
    assert seen(pa.list_(pa.struct([("at", NAIVE)]))) == pa.list_(pa.struct([("at", UTC_TIME)]))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (pa.time64("us"), "no time of day"),
        (pa.list_(pa.time32("ms")), "no time of day"),
        (pa.decimal256(50, 2), "at most 38 digits"),
        (pa.map_(pa.string(), pa.decimal256(39, 0)), "at most 38 digits"),
        (pa.struct([("a", pa.int8()), ("A", pa.int8())]), "a and A differ only in case"),
        (pa.month_day_nano_interval(), "does not know this type"),
    ],
    ids=str,
)
def test_what_spark_cannot_read_is_told_with_the_reason(kind: pa.DataType, why: str) -> None:
    assert why in unreadable(plain(kind))
    assert "columns=(...)" in columns.refusal("visits", "x", kind, why)


# --- files that agree ---

WIDER = [
    ((pa.int8(), pa.int64()), pa.int64()),
    ((pa.uint8(), pa.int8()), pa.int16()),
    ((pa.float16(), pa.float64()), pa.float64()),
    ((pa.float32(), pa.float64()), pa.float64()),
    ((pa.int32(), pa.float32()), pa.float64()),
    ((pa.decimal128(10, 2), pa.decimal128(12, 4)), pa.decimal128(12, 4)),
    ((pa.decimal128(10, 2), pa.decimal128(8, 4)), pa.decimal128(12, 4)),
    ((pa.int64(), pa.decimal128(10, 2)), pa.decimal128(21, 2)),
    ((pa.uint64(), pa.int64()), pa.decimal128(20, 0)),
    ((pa.null(), pa.string()), pa.string()),
    ((pa.null(), pa.timestamp("ns", "UTC")), ZONED),
    ((pa.list_(pa.null()), pa.large_list(pa.int32())), pa.list_(pa.int32())),
    (
        (pa.struct([("a", pa.int8()), ("b", pa.null())]), pa.struct([("b", pa.string()), ("a", pa.int32())])),
        pa.struct([("a", pa.int32()), ("b", pa.string())]),
    ),
    ((pa.map_(pa.string(), pa.int8()), pa.map_(pa.large_string(), pa.int64())), pa.map_(pa.string(), pa.int64())),
]  # fmt: skip
APART = [
    (pa.int64(), pa.float64()),
    (pa.int64(), pa.string()),
    (pa.bool_(), pa.int8()),
    (pa.string(), pa.binary()),
    (pa.date32(), pa.timestamp("us")),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.decimal128(38, 0), pa.decimal128(38, 10)),
    (pa.decimal128(10, 2), pa.float64()),
    (pa.list_(pa.int64()), pa.int64()),
    (pa.list_(pa.int64()), pa.list_(pa.string())),
    (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int8()), ("b", pa.int8())])),
]


@pytest.mark.parametrize(("kinds", "wide"), WIDER, ids=str)
def test_types_widen_to_one_that_holds_both_whichever_comes_first(
    kinds: tuple[pa.DataType, pa.DataType], wide: pa.DataType
) -> None:
    one, other = map(plain, kinds)
    assert common(one, other) == wide
    turned = common(other, one)
    assert turned == wide or {field.name: field.type for field in turned.fields} == {f.name: f.type for f in wide.fields}


@pytest.mark.parametrize("kinds", APART, ids=str)
def test_types_that_no_type_holds_without_a_loss_do_not_agree(kinds: tuple[pa.DataType, pa.DataType]) -> None:
    one, other = map(plain, kinds)
    assert common(one, other) is None and common(other, one) is None


INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
NUMBERS = (*INTEGERS, pa.float16(), pa.float32(), pa.float64(), pa.decimal128(9, 3), pa.decimal128(20, 0), pa.decimal256(38, 6))


@st.composite
def numbers(draw: st.DrawFn, kind: pa.DataType) -> Any:
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        low, high = (0, 2**bits - 1) if pa.types.is_unsigned_integer(kind) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return draw(st.integers(low, high))
    if pa.types.is_decimal(kind):
        digits = draw(st.lists(st.integers(0, 9), min_size=1, max_size=kind.precision))
        return Decimal((draw(st.integers(0, 1)), tuple(digits), -kind.scale))
    value = draw(st.floats(width=kind.bit_width, allow_nan=False))
    return np.float16(value) if pa.types.is_float16(kind) else value


@settings(derandomize=True, max_examples=400, deadline=None)
@given(kinds=st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)), data=st.data())
def test_a_number_is_the_same_number_in_the_wider_type(kinds: tuple[pa.DataType, pa.DataType], data: st.DataObject) -> None:
    wide = common(*map(plain, kinds))
    assume(wide is not None)
    for kind in kinds:
        value = data.draw(numbers(kind))
        found = of_batch(pa.RecordBatch.from_pydict({"x": pa.array([value, None], kind)}), pa.schema([("x", seen(wide))]), None)

        assert found.column("x").to_pylist() == [value, None]


@settings(derandomize=True, max_examples=300)
@given(kinds=st.lists(st.sampled_from((*NUMBERS, pa.null(), pa.string(), pa.large_string())), min_size=3, max_size=3))
def test_the_order_of_files_does_not_matter_where_all_agree(kinds: list[pa.DataType]) -> None:
    def folded(some: list[pa.DataType]) -> pa.DataType | None:
        found: pa.DataType | None = plain(some[0])
        for kind in some[1:]:
            found = common(found, plain(kind)) if found is not None else None
        return found

    found = {str(folded(list(order))) for order in (kinds, kinds[::-1], [kinds[1], kinds[0], kinds[2]])} - {"None"}
    assert len(found) <= 1


# --- values ---


def test_a_uuid_is_text_whoever_wrote_it() -> None:
    one = uuid.UUID(int=5)
    assert through(pa.array([one.bytes, None], pa.uuid())).to_pylist() == [str(one), None]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_nan_is_null_and_infinity_stays_what_it_is(kind: pa.DataType) -> None:
    found = through(pa.array(np.array([1, np.nan, np.inf, -np.inf], kind.to_pandas_dtype())))
    assert found.to_pylist() == [1.0, None, np.inf, -np.inf]


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pa.array([[1.0, float("nan")], None, []], pa.large_list(pa.float32())), [[1.0, None], None, []]),
        (pa.array([[1.0, float("nan")], None], pa.list_(pa.float64(), 2)), [[1.0, None], None]),
        (pa.array([{"a": float("nan")}, None], pa.struct([("a", pa.float64())])), [{"a": None}, None]),
        (pa.array([[("a", float("nan"))], None], pa.map_(pa.string(), pa.float64())), [[("a", None)], None]),
        (pa.array([[{"a": [float("nan")]}], []], pa.list_(pa.struct([("a", pa.list_(pa.float64()))]))), [[{"a": [None]}], []]),
    ],
    ids=str,
)
def test_nan_is_null_inside_of_nested_columns_too(column: pa.Array, found: list[Any]) -> None:
    assert through(column).to_pylist() == found


def test_a_nested_naive_time_is_read_in_the_declared_zone() -> None:
    column = pa.array([[{"at": datetime(2017, 6, 1)}], None], pa.list_(pa.struct([("at", pa.timestamp("ns"))])))
    (first,), missing = through(column, timezone=NEW_YORK).to_pylist()
    assert (first["at"], missing) == (datetime(2017, 6, 1, 4, tzinfo=UTC), None)


FAR = [datetime(1, 1, 1), datetime(1582, 10, 4), datetime(1677, 9, 20), datetime(2262, 4, 12), datetime(9999, 12, 31, 23, 59)]


@pytest.mark.parametrize("how", [{"use_deprecated_int96_timestamps": True}, {"coerce_timestamps": "ms"}, {}])
def test_a_time_far_from_today_is_of_its_own_century(how: dict[str, Any]) -> None:
    body = io.BytesIO()
    pq.write_table(pa.table({"x": pa.array(FAR, NAIVE)}), body, **how)
    (batch,) = pq.ParquetFile(io.BytesIO(body.getvalue()), **AS_WRITTEN).iter_batches()

    found = of_batch(batch, pa.schema([("x", UTC_TIME)]), "UTC").column("x")
    assert found.cast(NAIVE).to_pylist() == FAR


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("s", "UTC")])
def test_a_time_that_does_not_fit_into_microseconds_is_refused_and_never_wraps(kind: pa.DataType) -> None:
    batch = pa.RecordBatch.from_pydict({"at": pa.array([2**62], pa.int64()).cast(kind)})
    with pytest.raises(SourceError) as refused:
        of_batch(batch, pa.schema([("at", UTC_TIME)], {columns.SOURCE: b"visits"}), None)

    assert str(refused.value).startswith("Source 'visits': column 'at' has a value that does not fit timestamp[us, tz=UTC]: ")
    assert str(refused.value).endswith("Deliver it again, or leave the column out with columns=(...).")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(nanoseconds=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5))
def test_nanoseconds_are_cut_off_downwards_on_both_sides_of_1970(nanoseconds: list[int]) -> None:
    column = pa.array(nanoseconds, pa.int64()).cast(pa.timestamp("ns"))
    found = columns.moments(column, None)

    assert [one // 1000 for one in nanoseconds] == found.cast(pa.int64()).to_pylist()


@settings(derandomize=True, max_examples=200, deadline=None)
@given(lists=st.lists(st.none() | st.lists(st.none() | st.floats(), max_size=3), max_size=6), start=st.integers(0, 3))
def test_a_slice_of_lists_is_read_as_the_whole_is(lists: list[Any], start: int) -> None:
    schema = pa.schema([("x", pa.list_(pa.float64()))])
    batch = pa.RecordBatch.from_pydict({"x": pa.array(lists, pa.large_list(pa.float64()))})
    whole, part = (of_batch(one, schema, None).column("x") for one in (batch, batch.slice(start)))

    part.validate(full=True)
    assert part.to_pylist() == whole.slice(start).to_pylist()
    nulls = [None if one is None else [None if item is None or item != item else item for item in one] for one in lists]
    assert whole.to_pylist() == nulls


# --- files that lack a column ---


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.string(), "web"),
        (pa.string(), None),
        (pa.int32(), 3),
        (pa.float64(), 0.5),
        (pa.bool_(), True),
        (UTC_TIME, None),
        (pa.decimal128(9, 2), 1),
    ],
)
def test_what_a_file_lacks_is_filled(kind: pa.DataType, value: Any) -> None:
    schema = pa.schema([pa.field("a", pa.int64()), filled(pa.field("b", kind), value)])
    found = of_batch(pa.RecordBatch.from_pydict({"a": pa.array([1, 2])}), schema, None)

    assert found.schema.field("b").type == kind
    assert found.column("b").to_pylist() == [value, value]


@pytest.mark.parametrize(
    ("kind", "value"), [(pa.int64(), "3"), (pa.string(), 3), (pa.int8(), 300), (pa.int64(), 0.5), (UTC_TIME, "2017-01-01")]
)
def test_a_fill_of_another_type_is_no_value(kind: pa.DataType, value: Any) -> None:
    with pytest.raises((ValueError, pa.ArrowException)):
        filled(pa.field("x", kind), value)


def test_what_a_file_lacks_without_a_fill_is_refused() -> None:
    schema = pa.schema([("b", pa.int64())], {columns.SOURCE: b"visits"})
    with pytest.raises(SourceError, match=r"Source 'visits': a file has no column 'b'\. Deliver it again, or set fill="):
        of_batch(pa.RecordBatch.from_pydict({"a": pa.array([1])}), schema, None)


def test_a_schema_is_kept_exactly_as_text() -> None:
    schema = pa.schema(
        [("a.b", pa.decimal128(9, 2)), ("c`", pa.struct([("odd <name>", pa.list_(NAIVE))])), ("d", pa.duration("us"))]
    )
    assert unpacked(packed(schema)) == schema


def test_the_leaves_of_columns_are_counted_as_parquet_lays_them_out() -> None:
    table = pa.table({
        "s": pa.array([{"a": 1, "b": [1]}], pa.struct([("a", pa.int8()), ("b", pa.list_(pa.int8()))])),
        "s.a": [1.5],
        "m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
        "u": pa.array([b"x" * 16], pa.uuid()),
        "at": pa.array([timedelta(1)]),
    })  # fmt: skip
    body = io.BytesIO()
    pq.write_table(table, body)
    file = pq.ParquetFile(body)

    found = dict(columns.leaves(file.schema_arrow))
    assert [file.schema.column(place).path for place in found.values()] == ["s.a", "s.a", "m.key_value.key", "u", "at"]
    assert file.metadata.row_group(0).column(found["s.a"]).statistics.min == 1.5


# --- keys of several columns ---

KEYED = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.sampled_from([None, "", "a", "ab", "b"])), max_size=12)


def _of_pairs(rows: list[tuple[int | None, str | None]], whole: pa.DataType) -> list[pa.Array]:
    return [pa.array([row[0] for row in rows], whole), pa.array([row[1] for row in rows], pa.string())]


@given(keys=KEYED, among=KEYED)
def test_a_row_is_found_where_all_its_columns_are_equal_and_nowhere_with_a_null(
    keys: list[tuple[int | None, str | None]], among: list[tuple[int | None, str | None]]
) -> None:
    among = list(dict.fromkeys(among))
    found = columns.row_places(_of_pairs(keys, pa.int32()), _of_pairs(among, pa.int64())).to_pylist()

    assert found == [among.index(key) if key in among and None not in key else None for key in keys]


def test_three_columns_are_matched_as_one_key_and_values_that_join_to_one_text_are_not() -> None:
    keys = [pa.array(["a", "ab", "a"]), pa.array(["bc", "c", "bc"]), pa.array([1, 1, 2])]
    among = [pa.array(["ab", "a"]), pa.array(["c", "bc"]), pa.array([1, 2])]
    assert columns.row_places(keys, among).to_pylist() == [None, 0, 1]


def test_one_column_is_matched_as_places_does() -> None:
    keys, among = pa.chunked_array([[3, None], [1]]), pa.array([1, 2, 3], pa.int16())
    assert columns.row_places([keys], [among]).to_pylist() == columns.places(keys, among).to_pylist() == [2, None, 0]


def test_an_entity_is_shown_by_its_value_or_by_all_its_values() -> None:
    rows = pa.table({"shop": ["n", "s"], "customer": [1, 2]})
    assert columns.entities(rows, ["customer"]) == ["1", "2"]
    assert columns.entities(rows, ["customer", "shop"]) == ["(1, 'n')", "(2, 's')"]


def test_a_struct_of_times_with_and_without_a_zone_is_read_in_the_declared_one() -> None:
    zoned, naive = pa.timestamp("us", "UTC"), pa.timestamp("us")
    assert columns.has_zone(zoned) and columns.has_zone(pa.list_(zoned)) and not columns.has_zone(pa.int64())
    assert not columns.has_zone(naive) and not columns.has_zone(pa.struct([("a", naive), ("b", zoned)]))
