"""Content digests: what rows say, whatever their order, their batches or their files."""

from __future__ import annotations

import math
import random
import struct
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from almanac.spark import digests
from almanac.spark.digests import Sums

NOON = datetime(2017, 6, 1, 12, tzinfo=UTC)

COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "customer": (pa.int64(), [3, 1, 4, 1, 5, -9]),
    "score": (pa.float64(), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    "amount": (pa.float32(), [1.0, 2.0, 3.0, None, 5.0, 6.0]),
    "member": (pa.bool_(), [True, False, True, False, True, None]),
    "at": (pa.timestamp("us", tz="UTC"), [NOON, NOON, None, NOON, NOON, NOON]),
    "segment": (pa.string(), ["a", "b", "", None, "e", "ä"]),
}


def batch(**columns: tuple[pa.DataType, list[Any]]) -> pa.RecordBatch:
    arrays = {name: pa.array(values, kind) for name, (kind, values) in columns.items()}
    return pa.RecordBatch.from_pydict(arrays)


def of(*batches: pa.RecordBatch) -> str:
    return digests.of_batches(batches, batches[0].schema).digest


def floats(*values: float | None) -> pa.RecordBatch:
    return batch(x=(pa.float64(), list(values)))


EVERYTHING = batch(**COLUMNS)


def test_the_order_of_rows_does_not_matter() -> None:
    rows = list(range(EVERYTHING.num_rows))
    random.Random(0).shuffle(rows)
    assert rows != sorted(rows)
    assert of(EVERYTHING.take(pa.array(rows))) == of(EVERYTHING)


@pytest.mark.parametrize("cuts", [(1,), (3,), (2, 2, 5), (0, 6)])
def test_how_rows_are_cut_into_batches_does_not_matter(cuts: tuple[int, ...]) -> None:
    ends = [*sorted(cuts), EVERYTHING.num_rows]
    parts = [EVERYTHING.slice(start, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert sum(part.num_rows for part in parts) == EVERYTHING.num_rows
    assert of(*parts) == of(EVERYTHING)


def test_the_order_of_columns_does_not_matter() -> None:
    assert of(EVERYTHING.select(sorted(COLUMNS, reverse=True))) == of(EVERYTHING)


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("customer", 2),
        ("score", 0.2000000000000001),
        ("amount", 2.0000002384185791),
        ("member", True),
        ("at", datetime(2017, 6, 1, 12, 0, 0, 1, tzinfo=UTC)),
        ("segment", "B"),
    ],
)
def test_one_changed_value_of_any_type_changes_the_digest(column: str, other: object) -> None:
    kind, values = COLUMNS[column]
    changed = batch(**{**COLUMNS, column: (kind, [values[0], other, *values[2:]])})
    assert of(changed) != of(EVERYTHING)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_null_is_not_the_value_that_stands_for_nothing(column: str) -> None:
    kind = COLUMNS[column][0]
    nothing = {pa.string(): "", pa.bool_(): False, pa.timestamp("us", tz="UTC"): datetime(1970, 1, 1, tzinfo=UTC)}.get(kind, 0)
    assert of(batch(x=(kind, [None]))) != of(batch(x=(kind, [nothing])))


def test_a_null_is_not_nan() -> None:
    assert of(floats(None)) != of(floats(math.nan))


def test_every_nan_is_the_same() -> None:
    strange = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0123))[0]
    assert np.float64(strange).view(np.uint64) != np.float64(math.nan).view(np.uint64)
    assert of(floats(strange, 1.0)) == of(floats(math.nan, 1.0))


def test_minus_zero_is_zero() -> None:
    assert of(floats(-0.0)) == of(floats(0.0))


def test_the_infinities_differ() -> None:
    assert len({of(floats(value)) for value in (math.inf, -math.inf, math.nan, 0.0)}) == 4


def test_an_added_a_renamed_and_a_retyped_column_change_the_digest() -> None:
    one = batch(x=(pa.int64(), [1, 2]))
    others = [
        batch(x=(pa.int64(), [1, 2]), y=(pa.int64(), [None, None])),
        batch(y=(pa.int64(), [1, 2])),
        batch(x=(pa.int32(), [1, 2])),
        batch(x=(pa.float64(), [1, 2])),
    ]
    assert len({of(one), *map(of, others)}) == 5


def test_values_that_change_places_between_rows_or_columns_change_the_digest() -> None:
    straight = batch(x=(pa.int64(), [1, 2]), y=(pa.int64(), [3, 4]))
    across_rows = batch(x=(pa.int64(), [1, 2]), y=(pa.int64(), [4, 3]))
    across_columns = batch(x=(pa.int64(), [3, 4]), y=(pa.int64(), [1, 2]))
    assert len({of(straight), of(across_rows), of(across_columns)}) == 3


def test_how_often_a_row_stands_counts() -> None:
    assert len({of(floats(*[1.0] * count)) for count in range(5)}) == 5


def test_small_whole_numbers_do_not_collide_in_either_lane() -> None:
    pairs = [(one, two) for one in range(60) for two in range(60)]
    rows = [digests.of_batch(batch(x=(pa.int64(), [one]), y=(pa.int64(), [two]))) for one, two in pairs]
    for lane in range(digests.LANES):
        assert len({sums.lanes[lane] for sums in rows}) == 3600


def test_the_sums_of_parts_add_up_to_the_sums_of_the_whole_in_any_order() -> None:
    one, two = EVERYTHING.slice(0, 2), EVERYTHING.slice(2)
    assert digests.of_batch(one) + digests.of_batch(two) == digests.of_batch(EVERYTHING)
    assert digests.of_batch(two) + digests.of_batch(one) == digests.of_batch(EVERYTHING)
    assert digests.of_batch(EVERYTHING) + digests.nothing(EVERYTHING.schema) == digests.of_batch(EVERYTHING)
    assert digests.of_batch(EVERYTHING).rows == 6


def test_sums_of_other_columns_do_not_add() -> None:
    with pytest.raises(ValueError, match=r"Sums.columns: expected \('x:double',\), got \('x:int64',\)\."):
        digests.of_batch(floats(1.0)) + digests.of_batch(batch(x=(pa.int64(), [1])))


def test_an_empty_batch_is_nothing_but_its_columns() -> None:
    assert digests.of_batch(EVERYTHING.slice(0, 0)) == digests.nothing(EVERYTHING.schema)
    assert digests.nothing(floats().schema).digest != digests.nothing(EVERYTHING.schema).digest


def test_text_in_a_dictionary_says_the_same_as_plain_text() -> None:
    values = ["b", None, "a", "b", ""]
    plain = batch(x=(pa.string(), values))
    packed = pa.RecordBatch.from_pydict({"x": pa.array(values).dictionary_encode()})
    assert digests.of_batch(packed).lanes == digests.of_batch(plain).lanes


def test_what_lies_beneath_a_null_does_not_matter() -> None:
    values = pa.array([7, 8], pa.int64())
    buffers = values.buffers()
    one_null = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), buffers[1]])
    assert one_null.to_pylist() == [7, None]
    assert of(pa.RecordBatch.from_pydict({"x": one_null})) == of(batch(x=(pa.int64(), [7, None])))


def test_a_digest_is_what_it_was_in_earlier_releases() -> None:
    """It names published content: another mixing function would make every period look new."""
    assert of(EVERYTHING) == "4d9f44bca72d792ac22cdc9fa8e5d29cbdd43504fe41c1dfb5762d410e77dd0c"
    assert Sums(0, (0, 0), ()).digest == "53a696ca19e9b2db9bbc7f299efe274ca92e0e53c5f182936ed3e58d74bc248d"
