"""What a source holds of a span is counted from the rows themselves, whatever its files' statistics tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import EventSource, Late
from almanac.core.late import Span, SpanContents
from almanac.errors import SourceMissing
from almanac.store import pinned_files
from almanac.store.objects import Objects
from tests.support.observing import observe
from tests.support.shop import parquet

pytestmark = pytest.mark.store

JULY = Span(
    period="2017-07",
    reader="the features of 2017-07",
    low=datetime(2017, 7, 1, tzinfo=UTC),
    high=datetime(2017, 8, 1, tzinfo=UTC),
)


def at(*moments: datetime | None, known: datetime | None = None) -> pa.Table:
    rows = {"at": pa.array(moments, pa.timestamp("us"))}
    return pa.table(rows if known is None else {**rows, "known": pa.array([known] * len(moments), pa.timestamp("us"))})


@pytest.fixture
def source(root: str) -> EventSource:
    return EventSource(f"{root}/visits/", event_time="at", timezone="UTC")


def look(objects: Objects, source: EventSource, span: Span = JULY) -> SpanContents:
    return pinned_files.look(objects, source, observe(objects, "visits", source), span)


def deliver(objects: Objects, source: EventSource, **files: pa.Table) -> None:
    for name, rows in files.items():
        objects.put(f"{source.uri}{name}.parquet", parquet(rows))


def test_only_rows_of_the_span_count_and_an_event_exactly_at_its_end_is_not_in_it(objects: Objects, source: EventSource) -> None:
    first, last = datetime(2017, 7, 1), datetime(2017, 7, 31, 23, 59, 59, 999999)
    deliver(objects, source, a=at(datetime(2017, 6, 30, 23), first), b=at(last, datetime(2017, 8, 1)), c=at(None, None))

    assert look(objects, source) == SpanContents(rows=2, newest=last.replace(tzinfo=UTC))


def test_an_event_that_is_dated_in_the_future_makes_nothing_complete(objects: Objects, source: EventSource) -> None:
    deliver(objects, source, a=at(datetime(2017, 7, 3), datetime(2099, 1, 1)))

    assert look(objects, source) == SpanContents(rows=1, newest=datetime(2017, 7, 3, tzinfo=UTC))


def test_where_the_span_is_empty_the_newest_event_before_it_is_told(objects: Objects, source: EventSource) -> None:
    deliver(objects, source, a=at(datetime(2017, 3, 3)), b=at(datetime(2017, 5, 5)), c=at(datetime(2017, 9, 9)))

    assert look(objects, source) == SpanContents(rows=0, newest=datetime(2017, 5, 5, tzinfo=UTC))


def test_what_was_not_known_then_does_not_count(objects: Objects, source: EventSource) -> None:
    source = replace(source, knowledge_time="known")
    early, late = datetime(2017, 7, 20), datetime(2017, 8, 3)
    deliver(
        objects,
        source,
        a=at(datetime(2017, 7, 2), known=early),
        b=at(datetime(2017, 7, 30), known=late),
        c=at(datetime(2017, 6, 30), known=late),
    )

    assert look(objects, source, replace(JULY, known=JULY.high)) == SpanContents(rows=1, newest=datetime(2017, 7, 2, tzinfo=UTC))
    assert look(objects, source, replace(JULY, low=datetime(2017, 7, 3, tzinfo=UTC), known=JULY.high)).rows == 0


def test_times_are_read_in_the_sources_own_zone(objects: Objects, source: EventSource) -> None:
    deliver(objects, source, a=at(datetime(2017, 7, 31, 19, 59), datetime(2017, 7, 31, 20, 0)))

    found = look(objects, replace(source, timezone="America/New_York"))

    assert found == SpanContents(rows=1, newest=datetime(2017, 7, 31, 23, 59, tzinfo=UTC))


def test_files_without_statistics_are_read(objects: Objects, source: EventSource) -> None:
    body = pa.BufferOutputStream()
    pq.write_table(at(datetime(2017, 5, 5)), body, write_statistics=False)
    objects.put(f"{source.uri}a.parquet", body.getvalue().to_pybytes())

    assert look(objects, source) == SpanContents(rows=0, newest=datetime(2017, 5, 5, tzinfo=UTC))


def test_the_marker_is_a_file_of_the_period(objects: Objects, source: EventSource) -> None:
    source = replace(source, late=Late("fail", marker="ready/{period}"))
    deliver(objects, source, a=at(datetime(2017, 7, 3)))
    objects.put(f"{source.uri}ready/2017-06", b"")
    assert not look(objects, source).marked

    objects.put(f"{source.uri}ready/2017-07", b"")
    assert look(objects, source).marked


def test_a_source_without_files_is_told_from_one_that_is_not_as_described(objects: Objects, source: EventSource) -> None:
    with pytest.raises(SourceMissing, match="there is no Parquet file below"):
        observe(objects, "visits", source)
