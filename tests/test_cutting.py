"""What a reader sees of a source, against plain Python: conditions, references in time at every boundary, and two worlds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almanac import cutting
from almanac.columns import UTC_TIME, packed
from almanac.core import where
from almanac.core.pins import Pin, PinnedFile
from almanac.core.sources import Cut, ReferenceSource, cut_for_features, cut_for_label
from almanac.cutting import cut_rows, met, view_of
from almanac.errors import DescriptionError

START = datetime(2017, 6, 1, tzinfo=UTC)
VALID = ReferenceSource("s3://shop/people/", valid_from="begin", valid_to="end")
OPEN = ReferenceSource("s3://shop/people/", valid_from="begin")
COPIES = ReferenceSource("s3://shop/people/", snapshots="begin")
Row = tuple[int, int | None, int | None]  # a key, and hours since START


def moment(hours: int | None) -> datetime | None:
    return None if hours is None else START + timedelta(hours=hours)


def pinned(rows: list[Row], snapshots: bool = False) -> tuple[Pin, pa.RecordBatch]:
    schema = pa.schema([("key", pa.int64()), ("begin", UTC_TIME), ("end", UTC_TIME)])
    values = [[row[0] for row in rows], [moment(row[1]) for row in rows], [moment(row[2]) for row in rows]]
    columns = [pa.array(each, field.type) for each, field in zip(values, schema, strict=True)]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    known = sorted({found for row in rows if (found := moment(row[1])) is not None})
    file = PinnedFile(uri="a", size=1, etag="a", groups=(len(rows),))
    kinds = {field.name: str(field.type) for field in schema}
    pin = Pin(
        source="people",
        uri="s3://shop/people/",
        files=(file,),
        columns=kinds,
        schema=packed(schema),
        snapshots=tuple(known) if snapshots else None,
    )
    return pin, batch


def seen(source: ReferenceSource, rows: list[Row], hours: int) -> list[tuple[Any, ...]]:
    """The rows that the features of a snapshot see."""
    pin, batch = pinned(rows, bool(source.snapshots))
    as_of = START + timedelta(hours=hours)
    found = cut_rows(batch, view_of(source, pin, cut=cut_for_features(source, as_of, None)))
    return sorted((tuple(row.values()) for row in found.to_pylist()), key=repr)


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.none() | st.integers(0, 6), st.none() | st.integers(0, 6)),
    max_size=8,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(rows=ROWS, hours=st.integers(-1, 8))
def test_a_row_is_seen_while_it_held_just_before_as_of(rows: list[Row], hours: int) -> None:
    def held(begin: int | None, end: int | None) -> bool:
        return (begin is None or begin < hours) and (end is None or hours <= end)

    plain = [(key, moment(begin), None) for key, begin, end in rows if held(begin, end)]
    assert seen(VALID, rows, hours) == sorted(plain, key=repr)
    plain = [(key, moment(begin), moment(end)) for key, begin, end in rows if held(begin, None)]
    assert seen(OPEN, rows, hours) == sorted(plain, key=repr)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(rows=ROWS, hours=st.integers(-1, 8))
def test_the_newest_copy_before_as_of_is_seen_and_no_other(rows: list[Row], hours: int) -> None:
    before = [begin for _, begin, _ in rows if begin is not None and begin < hours]
    plain = [(key, moment(begin), moment(end)) for key, begin, end in rows if before and begin == max(before)]
    assert seen(COPIES, rows, hours) == sorted(plain, key=repr)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(rows=ROWS, changed=st.integers(1, 6), data=st.data())
def test_a_later_change_of_a_row_changes_no_earlier_period(rows: list[Row], changed: int, data: st.DataObject) -> None:
    """Two worlds: in one of them a row that holds ends at `changed`, and another begins."""
    lasting = [number for number, (_, begin, end) in enumerate(rows) if end is None and (begin is None or begin < changed)]
    if not lasting:
        return
    number = data.draw(st.sampled_from(lasting))
    key, begin, _ = rows[number]
    other: list[Row] = [*rows[:number], (key, begin, changed), *rows[number + 1 :], (key, changed, None)]
    for hours in range(-1, changed + 1):
        assert seen(VALID, rows, hours) == seen(VALID, other, hours)
    assert seen(VALID, rows, changed + 1) != seen(VALID, other, changed + 1)


def test_a_label_sees_a_reference_as_it_was_at_the_end_of_its_horizon() -> None:
    cut = cut_for_label(VALID, START, timedelta(days=30), START)
    assert cut == Cut(at=START + timedelta(days=30))
    assert cut_for_label(ReferenceSource("s3://shop/people/"), START, timedelta(days=30), START) == Cut()


def test_files_that_begin_later_are_not_read() -> None:
    def file(name: str, low: int | None, high: int) -> PinnedFile:
        return PinnedFile(uri=name, size=1, etag=name, groups=(1,), low=moment(low), high=moment(high))

    pin, _ = pinned([])
    valid = replace(pin, files=(file("a", None, 9), file("b", 0, 5), file("c", 3, 9)))
    assert [one.uri for one in valid.within(Cut(at=START + timedelta(hours=3)))] == ["a", "b"]
    copies = replace(pin, files=(file("a", 0, 0), file("b", 3, 3), file("c", 6, 6)), snapshots=(START, *map(moment, (3, 6))))  # type: ignore[arg-type]
    reads = {hours: [one.uri for one in copies.within(Cut(at=START + timedelta(hours=hours)))] for hours in (0, 1, 3, 4, 9)}
    assert reads == {0: [], 1: ["a"], 3: ["a"], 4: ["b"], 9: ["c"]}


# --- where ---

WORDS = st.sampled_from(["a", "b", "A", "a%", "", "it's"])
BATCH = st.lists(st.tuples(st.none() | WORDS, st.none() | st.integers(-2, 2), st.none() | st.booleans()), max_size=6)


def batch_of(rows: list[tuple[Any, Any, Any]]) -> pa.RecordBatch:
    text, number, flag = ([row[place] for row in rows] for place in range(3))
    return pa.RecordBatch.from_pydict(
        {"s": pa.array(text, pa.string()), "odd name": pa.array(number, pa.int16()), "f": pa.array(flag, pa.bool_())}
    )


Truth = bool | None


def both(one: Truth, other: Truth) -> Truth:
    return False if one is False or other is False else None if one is None or other is None else True


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> tuple[str, Any]:
    """A condition's text, and what it says of a row in plain Python."""
    kind = draw(st.integers(0, 7 if depth else 4))
    if kind == 0:
        word = draw(WORDS)
        quoted = word.replace("'", "''")
        return f"s = '{quoted}'", lambda row: None if row[0] is None else row[0] == word
    if kind == 1:
        sign, number = draw(st.sampled_from(["<", "<=", ">", ">=", "<>", "="])), draw(st.integers(-2, 2))
        tests = {"<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__, "<>": int.__ne__, "=": int.__eq__}
        return f"`odd name` {sign} {number}", lambda row: None if row[1] is None else tests[sign](row[1], number)
    if kind == 2:
        negative = draw(st.booleans())
        return f"s IS {'NOT ' * negative}NULL", lambda row: (row[0] is None) != negative
    if kind == 3:
        numbers = draw(st.lists(st.integers(-2, 2), min_size=1, max_size=3))
        listed = ", ".join(map(str, numbers))
        return f"`odd name` in ({listed})", lambda row: None if row[1] is None else row[1] in numbers
    if kind == 4:
        return "f", lambda row: row[2]
    first, one = draw(conditions(depth - 1))
    if kind == 5:
        return f"NOT ({first})", lambda row: None if one(row) is None else not one(row)
    second, other = draw(conditions(depth - 1))
    if kind == 6:
        return f"({first}) AND ({second})", lambda row: both(one(row), other(row))

    def either(row: Any) -> Truth:
        found = both(None if one(row) is None else not one(row), None if other(row) is None else not other(row))
        return None if found is None else not found

    return f"({first}) or ({second})", either


@settings(derandomize=True, max_examples=400, deadline=None)
@given(rows=BATCH, condition=conditions())
def test_a_condition_means_what_it_means_in_sql(rows: list[tuple[Any, Any, Any]], condition: tuple[str, Any]) -> None:
    text, plain = condition
    assert met(where.parsed(text), batch_of(rows)).to_pylist() == [plain(row) for row in rows]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s LIKE 'C%'", ["C1"]),
        ("s NOT LIKE '_1'", ["it's"]),
        ("at >= DATE '2017-06-02'", ["it's"]),
        ("at < TIMESTAMP '2017-06-01T00:00:01Z'", ["C1"]),
        ("day = date '2017-06-01' AND price > 1.25", ["C1"]),
        ("price = 1.25 OR price = 1.50 AND s = 'x'", ["it's"]),
        ("NOT price = 1.25", ["C1"]),
        ("ratio < 1e-3", ["C1"]),
    ],
)
def test_values_of_each_type_are_compared(text: str, kept: list[str]) -> None:
    from decimal import Decimal

    batch = pa.RecordBatch.from_pydict(
        {
            "s": ["C1", "it's", None],
            "at": pa.array([datetime(2017, 6, 1, tzinfo=UTC), datetime(2017, 6, 2, tzinfo=UTC), None], UTC_TIME),
            "day": [date(2017, 6, 1), date(2017, 6, 2), None],
            "price": pa.array([Decimal("1.50"), Decimal("1.25"), None], pa.decimal128(10, 2)),
            "ratio": pa.array([0.0001, 1, None], pa.float32()),
        }
    )
    assert cutting.keep(batch, replace(VALID, valid_from="", valid_to="", where=text), Cut())["s"].to_pylist() == kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('s = "x"', "expected a name, a value or a sign; got '\"x\"'"),
        ("n > ", "expected a value such as 'text', 12.5 or DATE '2017-06-01', with text in single quotes; got 'the end'"),
        ("n = null", "expected a value such as 'text', 12.5 or DATE '2017-06-01': for null write IS NULL; got 'null'"),
        ("n = 1 and", "expected the name of a column; got 'the end'"),
        ("n = 1 n = 2", "expected AND, OR or the end; got 'n'"),
        ("(n = 1", "expected ); got 'the end'"),
        ("n not 3", "expected IN or LIKE after NOT; got '3'"),
        ("at > TIMESTAMP 'soon'", "expected TIMESTAMP 'YYYY-MM-DD HH:MM:SS'; got 'soon'"),
        ("s like 3", "expected a pattern such as 'C%'; got '3'"),
    ],
)
def test_what_is_no_condition_is_refused_when_the_source_is_described(text: str, message: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        ReferenceSource("s3://shop/people/", where=text)
    assert str(refused.value) == (
        f"where: {message} in {text!r}. Write a condition such as \"status <> 'cancelled' AND quantity > 0\"."
    )
