"""What a run does about sources that may not be whole: when one is complete, and where consistent ones are cut."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from almanac import EventSource, Late
from almanac.core.canonical import decode, encode
from almanac.core.late import STEP, Span, SpanContents, consistent_until, lacking, refusal
from almanac.core.sources import Cut, cut_for_features, cut_for_label
from almanac.errors import DescriptionError, SourceError

DAY = timedelta(days=1)
LOW, HIGH = datetime(2017, 7, 1, tzinfo=UTC), datetime(2017, 8, 1, tzinfo=UTC)
JULY = Span(period="2017-07", reader="the features of 2017-07", low=LOW, high=HIGH)
VISITS = EventSource("s3://bucket/visits/", event_time="at", timezone="UTC")


def found(days_before: float = 0.5, rows: int = 100, *, marked: bool = True) -> SpanContents:
    return SpanContents(rows=rows, newest=HIGH - timedelta(days=days_before), marked=marked)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": "hope"}, "Late.policy: expected one of 'latest', 'wait', 'fail', 'consistent', 'shift'; got 'hope'."),
        ({"policy": "wait"}, "Late('wait'): expected within, rows or marker, got none of them. Say when the source is complete."),
        ({"policy": "fail"}, "Late('fail'): expected within, rows or marker, got none of them. Say when the source is complete."),
        (
            {"policy": "latest", "rows": 5, "marker": "ready"},
            "Late('latest'): got rows, marker, which this policy does not use. Leave it out.",
        ),
        ({"policy": "consistent", "rows": 5}, "Late('consistent'): got rows, which this policy does not use. Leave it out."),
        (
            {"policy": "shift"},
            "Late('shift').by: expected how late the source comes with the policy 'shift', and zero with any other; got 0:00:00.",
        ),
        (
            {"policy": "latest", "by": DAY},
            "Late('latest').by: expected how late the source comes with the policy 'shift', and zero with any other; "
            "got 1 day, 0:00:00.",
        ),
        ({"policy": "shift", "by": -DAY}, "Late.by: expected zero or more, got -1 day, 0:00:00."),
        ({"policy": "fail", "within": -DAY}, "Late.within: expected zero or more, got -1 day, 0:00:00."),
        ({"policy": "fail", "rows": 0}, "Late.rows: expected 1 or more, got 0."),
        (
            {"policy": "fail", "marker": "{day}/ready"},
            "Late.marker: expected a file's name below the uri, such as 'ready-{period}', got '{day}/ready'.",
        ),
        (
            {"policy": "fail", "marker": "ready-{"},
            "Late.marker: expected a file's name below the uri, such as 'ready-{period}', got 'ready-{'.",
        ),
        (
            {"policy": "fail", "marker": "/ready"},
            "Late.marker: expected a file's name below the uri, such as 'ready-{period}', got '/ready'.",
        ),
        ({"policy": "wait", "rows": 5, "timeout": 0 * DAY}, "Late.timeout: expected more than zero, got 0:00:00."),
        ({"policy": "wait", "rows": 5, "every": -DAY}, "Late.every: expected more than zero, got -1 day, 0:00:00."),
    ],
)
def test_a_policy_that_is_not_as_it_must_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Late(**given)
    assert str(refused.value) == message


def test_a_source_without_a_policy_is_kept_as_before_and_one_with_a_policy_comes_back() -> None:
    assert "late" not in encode(VISITS)
    late = replace(VISITS, late=Late("wait", within=DAY, marker="ready-{period}", timeout=3 * DAY))
    assert decode(EventSource, encode(late)) == late


def test_something_else_than_a_policy_is_refused() -> None:
    with pytest.raises(DescriptionError) as refused:
        replace(VISITS, late="wait")
    assert str(refused.value) == "EventSource.late: expected Late(...), such as Late('fail', rows=1); got 'wait'."


@pytest.mark.parametrize(("days", "whole"), [(0.5, True), (2.0, True), (2.01, False)])
def test_the_watermark_is_the_newest_event_before_the_end(days: float, whole: bool) -> None:
    said = lacking(Late("wait", within=2 * DAY), JULY, found(days))
    assert said == (
        []
        if whole
        else [
            "for the features of 2017-07 its newest event before 2017-08-01 is from 2017-07-29 23:45 UTC, "
            "expected one from 2017-07-30 or later"
        ]
    )


def test_everything_that_is_asked_for_is_told_at_once() -> None:
    asked = Late("fail", within=DAY, rows=500, marker="ready-{period}")
    assert lacking(asked, JULY, SpanContents(rows=0, newest=None, marked=False)) == [
        "for the features of 2017-07 it has no event, expected one from 2017-07-31 or later",
        "for the features of 2017-07 it has 0 events from 2017-07-01 to 2017-08-01, expected at least 500",
        "for the features of 2017-07 file ready-2017-07 is missing",
    ]
    assert lacking(asked, JULY, found(rows=500)) == []


def test_rows_are_asked_of_whole_periods_only() -> None:
    label = replace(JULY, whole=False)
    assert lacking(Late("fail", rows=500), label, found(rows=3)) == []


def test_a_refusal_says_what_was_found_and_what_to_do_next() -> None:
    told = str(refusal("visits", [f"reason {number}" for number in range(8)], "Nothing was built."))
    assert told == (
        "Source 'visits' is not complete: reason 0; reason 1; reason 2; reason 3; reason 4; and 3 more. Nothing was built. "
        "Deliver what is missing, or change the source's Late."
    )


CONSISTENT = Late("consistent")


def test_consistent_sources_are_cut_after_the_newest_event_of_the_one_that_is_farthest_behind() -> None:
    looked = {"a": (CONSISTENT, JULY, found(0.5)), "b": (CONSISTENT, JULY, found(4)), "c": (CONSISTENT, JULY, found(2))}
    assert consistent_until(looked) == HIGH - 4 * DAY + STEP


def test_sources_that_are_close_enough_to_the_end_have_everything() -> None:
    close = Late("consistent", within=3 * DAY)
    assert consistent_until({"a": (close, JULY, found(0.5)), "b": (close, JULY, found(3))}) is None
    assert consistent_until({"a": (CONSISTENT, JULY, SpanContents(rows=1, newest=HIGH - STEP))}) is None


def test_a_consistent_source_without_an_event_leaves_no_time_that_all_have() -> None:
    with pytest.raises(SourceError) as refused:
        consistent_until({"a": (CONSISTENT, JULY, found()), "b": (CONSISTENT, JULY, SpanContents(rows=0, newest=None))})
    assert str(refused.value) == (
        "Source 'b' holds no event that the features of 2017-07 could see, so the consistent sources have no time in common. "
        "Deliver it, or give it another policy."
    )


def test_only_consistent_sources_are_cut_earlier_and_their_lookback_begins_as_much_earlier() -> None:
    until = HIGH - 4 * DAY
    assert cut_for_features(replace(VISITS, late=CONSISTENT), HIGH, 30 * DAY, until) == Cut(low=until - 30 * DAY, high=until)
    assert cut_for_features(VISITS, HIGH, 30 * DAY, until) == cut_for_features(VISITS, HIGH, 30 * DAY)
    # A source that is known to arrive late is cut there already.
    late = replace(VISITS, late=CONSISTENT, lag=7 * DAY)
    assert cut_for_features(late, HIGH, None, until) == Cut(high=HIGH - 7 * DAY)


def test_what_a_label_sees_is_never_cut_earlier() -> None:
    assert cut_for_label(replace(VISITS, late=CONSISTENT), HIGH, 30 * DAY, HIGH) == cut_for_label(VISITS, HIGH, 30 * DAY, HIGH)


def test_waiting_for_a_source_changes_nothing_of_what_features_are() -> None:
    assert replace(VISITS, late=Late("wait", rows=5)).shape == replace(VISITS, late=Late("fail", within=DAY)).shape == VISITS
    assert replace(VISITS, late=CONSISTENT).shape != VISITS


def test_a_shifted_source_is_seen_as_much_earlier_by_features_of_every_period_and_by_no_label() -> None:
    shifted = replace(VISITS, lag=DAY, late=Late("shift", by=3 * DAY))
    assert decode(EventSource, encode(shifted)) == shifted

    for as_of in (LOW, HIGH):
        assert cut_for_features(shifted, as_of, 30 * DAY) == Cut(low=as_of - 34 * DAY, high=as_of - 4 * DAY)
        assert cut_for_label(shifted, as_of, 30 * DAY, as_of + 30 * DAY) == Cut(low=as_of, high=as_of + 30 * DAY)


def test_a_shift_shapes_features_and_what_is_asked_of_the_source_does_not() -> None:
    shifted = replace(VISITS, late=Late("shift", by=3 * DAY))

    assert shifted.shape == shifted != VISITS.shape
    assert replace(shifted, late=Late("shift", by=3 * DAY, within=DAY, rows=5)).shape == shifted
    assert replace(shifted, late=Late("shift", by=2 * DAY)).shape != shifted.shape


def test_a_shifted_source_is_asked_for_completeness_only_where_a_measure_is_given() -> None:
    assert not Late("shift", by=DAY).asks_for_all
    assert Late("shift", by=DAY, within=DAY).asks_for_all
