"""Sources are read in UTC and cut to the moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from almanac import EventSource, ReferenceSource
from almanac.columns import UTC_TIME, of_batch
from almanac.core.sources import Cut
from almanac.cutting import keep

NEW_YORK = "America/New_York"
AS_OF = datetime(2017, 6, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
VISITS = EventSource("s3://bucket/visits/", event_time="at", timezone="UTC")
KNOWN = EventSource("s3://bucket/visits/", event_time="at", timezone="UTC", knowledge_time="known")
PEOPLE = ReferenceSource("s3://bucket/people/")


def read(column: pa.Array, timezone: str | None) -> list[datetime | None]:
    batch = pa.RecordBatch.from_pydict({"at": column})
    found = of_batch(batch, pa.schema([("at", UTC_TIME)]), timezone)
    assert found.schema.field("at").type == UTC_TIME
    return [None if at is None else at.astimezone(UTC) for at in found["at"].to_pylist()]


def naive(*moments: datetime | None, unit: str = "us") -> pa.Array:
    return pa.array(moments, pa.timestamp(unit))


@pytest.mark.parametrize(
    ("timezone", "told", "meant"),
    [
        ("UTC", datetime(2017, 6, 1), datetime(2017, 6, 1)),
        (None, datetime(2017, 6, 1), datetime(2017, 6, 1)),
        (NEW_YORK, datetime(2017, 6, 1), datetime(2017, 6, 1, 4)),
        (NEW_YORK, datetime(2017, 1, 31, 23, 59), datetime(2017, 2, 1, 4, 59)),
        ("Asia/Kolkata", datetime(2017, 6, 1), datetime(2017, 5, 31, 18, 30)),
    ],
)
def test_a_naive_time_is_read_in_the_declared_zone(timezone: str | None, told: datetime, meant: datetime) -> None:
    assert read(naive(told), timezone) == [meant.replace(tzinfo=UTC)]


def test_an_hour_that_a_clock_shows_twice_is_the_first_of_the_two() -> None:
    assert read(naive(datetime(2017, 11, 5, 1, 30)), NEW_YORK) == [datetime(2017, 11, 5, 5, 30, tzinfo=UTC)]


def test_an_hour_that_a_clock_skips_is_the_moment_of_the_jump() -> None:
    shown = [datetime(2017, 3, 12, 1, 59), datetime(2017, 3, 12, 2, 0), datetime(2017, 3, 12, 2, 59), datetime(2017, 3, 12, 3, 0)]
    assert read(naive(*shown), NEW_YORK) == [datetime(2017, 3, 12, hour, minute, tzinfo=UTC) for hour, minute in
                                             ((6, 59), (7, 0), (7, 0), (7, 0))]  # fmt: skip


@pytest.mark.parametrize("zone", ["Europe/Berlin", NEW_YORK, "UTC"])
def test_a_time_with_a_zone_stays_the_moment_that_it_is_whatever_was_declared(zone: str) -> None:
    assert read(pa.array([AS_OF], pa.timestamp("us", tz=zone)), "Asia/Kolkata") == [AS_OF]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_every_unit_are_read_and_a_missing_one_stays_missing(unit: str) -> None:
    assert read(naive(datetime(2017, 6, 1), None, unit=unit), NEW_YORK) == [datetime(2017, 6, 1, 4, tzinfo=UTC), None]


def test_nanoseconds_are_cut_off_and_never_move_an_event_past_as_of() -> None:
    last = pa.array([1_496_275_199_999_999_999], pa.int64()).cast(pa.timestamp("ns"))  # a nanosecond before as_of
    assert read(last, "UTC") == [AS_OF - INSTANT]


def test_columns_come_in_the_schemas_order_and_packed_text_comes_plain() -> None:
    batch = pa.RecordBatch.from_pydict({
        "extra": pa.array([1]),
        "segment": pa.array(["a"]).dictionary_encode(),
        "customer": pa.array([7], pa.int64()),
    })  # fmt: skip
    schema = pa.schema([("customer", pa.int64()), ("segment", pa.string())])
    found = of_batch(batch, schema, None)
    assert found.schema.equals(schema)
    assert found.to_pylist() == [{"customer": 7, "segment": "a"}]


def kept(source: EventSource | ReferenceSource, cut: Cut, *rows: tuple[datetime | None, datetime | None]) -> list[int]:
    """The numbers of the rows, each an event time and a knowledge time, that a cut keeps."""
    batch = pa.RecordBatch.from_pydict({
        "row": pa.array(range(len(rows)), pa.int64()),
        "at": pa.array([at for at, _ in rows], UTC_TIME),
        "known": pa.array([known for _, known in rows], UTC_TIME),
    })  # fmt: skip
    found: list[int] = keep(batch, source, cut)["row"].to_pylist()
    return found


def at(*moments: datetime | None) -> list[tuple[datetime | None, datetime | None]]:
    return [(moment, AS_OF) for moment in moments]


def test_a_cut_holds_its_low_and_not_its_high() -> None:
    low = AS_OF - timedelta(days=90)
    moments = at(low - INSTANT, low, low + INSTANT, AS_OF - INSTANT, AS_OF, AS_OF + INSTANT)
    assert kept(VISITS, Cut(low=low, high=AS_OF), *moments) == [1, 2, 3]
    assert kept(VISITS, Cut(high=AS_OF), *moments) == [0, 1, 2, 3]
    assert kept(VISITS, Cut(low=low), *moments) == [1, 2, 3, 4, 5]


def test_what_became_known_at_as_of_or_later_is_not_kept() -> None:
    rows = [(AS_OF - INSTANT, known) for known in (AS_OF - INSTANT, AS_OF, AS_OF + INSTANT)]
    assert kept(KNOWN, Cut(high=AS_OF, known=AS_OF), *rows) == [0]


def test_a_source_without_a_knowledge_time_is_not_cut_by_it() -> None:
    rows = [(AS_OF - INSTANT, AS_OF + INSTANT)]
    assert kept(VISITS, Cut(high=AS_OF, known=AS_OF), *rows) == [0]


def test_a_row_whose_time_is_missing_is_in_no_cut() -> None:
    assert kept(VISITS, Cut(high=AS_OF), *at(None, AS_OF - INSTANT)) == [1]
    assert kept(KNOWN, Cut(high=AS_OF, known=AS_OF), (AS_OF - INSTANT, None)) == []


def test_without_bounds_and_from_a_reference_everything_is_kept() -> None:
    rows = at(None, AS_OF, AS_OF + timedelta(days=900))
    assert kept(VISITS, Cut(), *rows) == [0, 1, 2]
    assert kept(PEOPLE, Cut(low=AS_OF, high=AS_OF), *rows) == [0, 1, 2]


def test_a_cut_that_keeps_nothing_keeps_the_columns() -> None:
    batch = pa.RecordBatch.from_pydict({"at": pa.array([AS_OF], UTC_TIME)})
    found = keep(batch, VISITS, Cut(high=AS_OF))
    assert (found.num_rows, found.schema) == (0, batch.schema)
