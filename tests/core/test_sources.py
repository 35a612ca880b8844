"""Sources: how they are described, how they are cut in time, and what a pin says of their files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from almanac import columns
from almanac.core.canonical import decode, encode
from almanac.core.pins import Pin, PinnedFile, content_of
from almanac.core.sources import Cut, EventSource, ReferenceSource, cut_for_features, cut_for_label
from almanac.core.timezone import as_utc
from almanac.errors import DescriptionError

VISITS = EventSource("s3://shop/visits/", event_time="at")
PEOPLE = ReferenceSource("s3://shop/people/")
AS_OF = datetime(2017, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def day(number: int) -> datetime:
    return datetime(2017, 6, number, tzinfo=UTC)


def file(name: str, low: datetime | None = None, high: datetime | None = None, **changes: Any) -> PinnedFile:
    described: dict[str, Any] = {"uri": f"s3://shop/visits/{name}", "size": 10, "etag": f"etag {name}", "groups": (3, 2)}
    return PinnedFile(low=low, high=high, **{**described, **changes})


def pin(*files: PinnedFile) -> Pin:
    return Pin(source="visits", uri=VISITS.uri, files=files, columns={"at": "timestamp[us]"})


# --- descriptions ---


@pytest.mark.parametrize("noun", [lambda uri: EventSource(uri, event_time="at"), ReferenceSource])
@pytest.mark.parametrize("uri", ["s3a://shop/visits/", "hdfs://shop/visits/"])
def test_a_hadoop_uri_is_refused_and_told_why(noun: Any, uri: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        noun(uri)

    assert f".uri: expected s3://, got {uri!r}. Sources are read with pyarrow" in str(refused.value)
    assert str(refused.value).endswith("without Hadoop's s3a jars. Write it with s3://.")


@pytest.mark.parametrize("uri", ["s3://shop/visits", "shop/visits/", "file:///data/visits/", "https://shop/visits/", ""])
def test_a_uri_that_is_no_folder_on_s3_is_refused(uri: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        ReferenceSource(uri)

    assert str(refused.value) == (
        "ReferenceSource.uri: expected a folder such as 's3://bucket/folder/', with its slash, or a table such as "
        f"'postgres://CONNECTION/schema.table' or 'iceberg://CATALOG/namespace.table'; got {uri!r}."
    )


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "EST5PDT6", "", "../UTC", "/etc", "America", "utc"])
def test_a_time_zone_that_does_not_exist_is_refused(timezone: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        EventSource("s3://shop/visits/", event_time="at", timezone=timezone)

    assert str(refused.value) == (f"EventSource.timezone: expected a name such as 'UTC' or 'America/New_York', got {timezone!r}.")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"event_time": ""}, "EventSource.event_time: expected the column that says when an event happened, got nothing."),
        ({"lag": -DAY}, "EventSource.lag: expected zero or more, got -1 day, 0:00:00."),
        ({"columns": "at"}, "EventSource.columns: expected a tuple, got the text 'at'. Write ('at',) with its comma."),
    ],
)
def test_an_event_source_that_cannot_be_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        EventSource(**{"uri": "s3://shop/visits/", "event_time": "at", **changes})

    assert str(refused.value) == text


def test_columns_of_a_reference_source_that_are_one_text_are_refused() -> None:
    with pytest.raises(DescriptionError, match=r"ReferenceSource\.columns: expected a tuple, got the text 'band'"):
        ReferenceSource("s3://shop/people/", columns="band")  # type: ignore[arg-type]


def test_the_time_columns_are_read_besides_those_named_each_once() -> None:
    source = replace(VISITS, columns=("customer", "at"), knowledge_time="loaded")

    assert source.needed == ("customer", "at", "loaded")


def test_all_columns_are_read_when_none_is_named() -> None:
    """Nothing named is not only the time: a user's function would find an event source with one column."""
    assert VISITS.needed == ()
    assert PEOPLE.needed == ()


# --- cuts ---


def test_features_see_events_of_the_lookback_before_as_of() -> None:
    assert cut_for_features(VISITS, AS_OF, 90 * DAY) == Cut(low=datetime(2017, 4, 2, tzinfo=UTC), high=AS_OF)


def test_a_sources_lag_moves_the_whole_cut_back() -> None:
    late = replace(VISITS, lag=2 * DAY)

    assert cut_for_features(late, AS_OF, 30 * DAY) == Cut(low=day(29) - 30 * DAY, high=day(29))


def test_without_a_lookback_features_see_everything_before_as_of() -> None:
    assert cut_for_features(VISITS, AS_OF, None) == Cut(low=None, high=AS_OF)


def test_what_became_known_after_as_of_is_cut_off_whatever_the_lag() -> None:
    known = replace(VISITS, knowledge_time="loaded", lag=2 * DAY)

    assert cut_for_features(known, AS_OF, None) == Cut(high=day(29), known=AS_OF)


def test_a_label_sees_the_horizon_after_as_of_known_when_the_run_began() -> None:
    run = datetime(2017, 9, 1, tzinfo=UTC)

    assert cut_for_label(VISITS, AS_OF, 30 * DAY, run) == Cut(low=AS_OF, high=datetime(2017, 7, 31, tzinfo=UTC))
    assert cut_for_label(replace(VISITS, knowledge_time="loaded", lag=2 * DAY), AS_OF, 30 * DAY, run) == Cut(
        low=AS_OF, high=datetime(2017, 7, 31, tzinfo=UTC), known=run
    )


def test_a_reference_source_is_not_cut() -> None:
    assert cut_for_features(PEOPLE, AS_OF, 90 * DAY) == Cut()
    assert cut_for_label(PEOPLE, AS_OF, 30 * DAY, AS_OF) == Cut()


@given(lookback=st.integers(1, 400), lag=st.integers(0, 60), horizon=st.integers(1, 120))
def test_features_and_label_of_one_snapshot_never_share_an_event(lookback: int, lag: int, horizon: int) -> None:
    source = replace(VISITS, lag=lag * DAY)
    seen, predicted = (
        cut_for_features(source, AS_OF, lookback * DAY),
        cut_for_label(source, AS_OF, horizon * DAY, AS_OF + horizon * DAY),
    )

    assert seen.high is not None and predicted.low is not None
    assert seen.high <= predicted.low


# --- pins ---


def test_files_that_can_hold_a_row_of_the_cut_are_kept_at_its_boundaries() -> None:
    cut = Cut(low=day(10), high=day(20))
    files = {
        "ends before": file("a", day(1), day(9)),
        "ends at low": file("b", day(1), day(10)),
        "inside": file("c", day(12), day(13)),
        "around": file("d", day(1), day(30)),
        "begins before high": file("e", day(19), day(30)),
        "begins at high": file("f", day(20), day(30)),
    }
    kept = pin(*files.values()).within(cut)

    assert [name for name, one in files.items() if one in kept] == ["ends at low", "inside", "around", "begins before high"]


def test_a_file_whose_statistics_do_not_tell_is_kept() -> None:
    silent, half = file("a"), file("b", low=day(1))

    assert pin(silent, half).within(Cut(low=day(10), high=day(20))) == (silent, half)


def test_a_cut_without_bounds_keeps_every_file() -> None:
    files = (file("a", day(1), day(2)), file("b"))

    assert pin(*files).within(Cut()) == files


@given(order=st.permutations(range(4)), names=st.permutations(["w", "x", "y", "z"]))
def test_content_is_what_the_files_hold_whatever_they_are_called_and_however_listed(order: list[int], names: list[str]) -> None:
    files = [file(str(number), etag=f"etag {number}", size=number) for number in range(4)]
    delivered_again = tuple(
        replace(files[number], uri=f"s3://shop/visits/{name}") for number, name in zip(order, names, strict=True)
    )

    assert content_of(delivered_again) == content_of(tuple(files))


def test_content_differs_when_a_file_does_or_is_there_twice() -> None:
    one, other = file("a"), file("b")
    contents = [content_of(files) for files in ((), (one,), (one, other), (one, one), (replace(one, size=11),))]

    assert len(set(contents)) == 5


def test_freshness_is_the_newest_event_that_any_file_holds() -> None:
    assert pin(file("a", day(1), day(9)), file("b"), file("c", day(2), day(7))).freshness == day(9)
    assert pin(file("b")).freshness is None


def test_a_pin_is_read_as_it_was_written() -> None:
    pinned = pin(file("a", day(1), day(9)), file("b"))

    assert decode(Pin, encode(pinned)) == pinned
    assert pinned.files[0].rows == 5


# --- time zones ---


def test_naive_timestamps_are_read_in_the_declared_time_zone() -> None:
    assert as_utc(datetime(2017, 7, 1), "America/New_York") == datetime(2017, 7, 1, 4, tzinfo=UTC)
    assert as_utc(datetime(2017, 1, 1), "America/New_York") == datetime(2017, 1, 1, 5, tzinfo=UTC)
    assert as_utc(datetime(2017, 7, 1), None) == AS_OF
    assert as_utc(AS_OF, "America/New_York") == AS_OF


@pytest.mark.parametrize(
    "timezone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"]
)
@settings(derandomize=True, max_examples=300)
@given(moment=st.datetimes(datetime(1975, 1, 1), datetime(2037, 12, 31)))
@example(moment=datetime(2017, 3, 12, 2, 30))  # skipped in New York
@example(moment=datetime(2017, 3, 12, 2, 0))
@example(moment=datetime(2017, 3, 12, 2, 59, 59, 999_999))
@example(moment=datetime(2017, 11, 5, 1, 30))  # shown twice there
@example(moment=datetime(2017, 3, 26, 2, 30))  # skipped in Berlin
@example(moment=datetime(2017, 10, 29, 2, 30))
@example(moment=datetime(2017, 10, 1, 2, 15))  # half an hour is skipped on Lord Howe
@example(moment=datetime(2017, 4, 2, 1, 45))
def test_statistics_read_every_wall_clock_time_as_rows_do(timezone: str, moment: datetime) -> None:
    rows = columns.moments(pa.array([moment], pa.timestamp("us")), timezone)

    assert as_utc(moment, timezone) == rows[0].as_py()


@settings(derandomize=True, max_examples=300)
@given(moments=st.lists(st.datetimes(datetime(2017, 3, 11), datetime(2017, 3, 13)), min_size=2, max_size=2).map(sorted))
def test_an_earlier_wall_clock_time_is_never_a_later_moment_across_a_jump(moments: list[datetime]) -> None:
    """So the smallest and largest time of a file's statistics bound its rows."""
    assert as_utc(moments[0], "America/New_York") <= as_utc(moments[1], "America/New_York")


# --- fill ---


def test_a_fill_is_part_of_what_shapes_rows_and_a_source_without_one_is_what_it_was() -> None:
    filled = replace(VISITS, fill={"channel": None, "rank": 0})

    assert decode(EventSource, encode(filled)) == filled
    assert "fill" not in encode(VISITS) and encode(filled.shape)["fill"] == {"channel": None, "rank": 0}
    assert replace(VISITS, fill={}) == VISITS


@pytest.mark.parametrize("noun", ["EventSource", "ReferenceSource"])
@pytest.mark.parametrize("fill", ["channel", {"channel": [1]}, {"channel": DAY}, ("channel",)])
def test_a_fill_that_is_no_mapping_to_plain_values_is_refused(noun: str, fill: Any) -> None:
    source = VISITS if noun == "EventSource" else PEOPLE
    with pytest.raises(DescriptionError, match=rf"{noun}\.fill: expected column to text, number, True, False or None"):
        replace(source, fill=fill)


def test_a_fill_of_a_time_or_of_a_column_that_is_not_read_is_refused() -> None:
    with pytest.raises(DescriptionError) as refused:
        replace(VISITS, fill={"at": None})
    assert str(refused.value) == "EventSource.fill: 'at' is a time column, which every row needs. Leave it out of fill."

    with pytest.raises(DescriptionError, match=r"EventSource\.fill: 'channel' is not among columns=\. Leave it out of fill\."):
        replace(VISITS, columns=("customer",), fill={"channel": None})


@pytest.mark.parametrize("columns", [("amount", "AMOUNT"), ("At",)])
def test_columns_whose_names_differ_in_case_alone_are_refused(columns: tuple[str, ...]) -> None:
    with pytest.raises(DescriptionError, match=r"EventSource\.columns: expected names that differ in more than case, got "):
        replace(VISITS, columns=columns)
