"""Periods: their keys, what follows what, and how a run finds its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac.core.period import Every, Period, resolve
from almanac.errors import DescriptionError, PeriodError

EVERY = st.sampled_from(Every)
MOMENTS = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2060, 1, 1), timezones=st.just(UTC))
JULY = (datetime(2017, 7, 1, tzinfo=UTC), datetime(2017, 8, 1, tzinfo=UTC))


def month(key: str) -> Period:
    return Period.parse(key, Every.MONTH)


@pytest.mark.parametrize(
    ("every", "key", "start", "end"),
    [
        (Every.DAY, "2016-02-29", datetime(2016, 2, 29), datetime(2016, 3, 1)),
        (Every.WEEK, "2017-06-05", datetime(2017, 6, 5), datetime(2017, 6, 12)),
        (Every.WEEK, "2016-12-26", datetime(2016, 12, 26), datetime(2017, 1, 2)),
        (Every.MONTH, "2017-02", datetime(2017, 2, 1), datetime(2017, 3, 1)),
        (Every.MONTH, "2016-02", datetime(2016, 2, 1), datetime(2016, 3, 1)),
        (Every.MONTH, "2017-12", datetime(2017, 12, 1), datetime(2018, 1, 1)),
    ],
)
def test_a_key_names_a_half_open_interval_in_utc(every: Every, key: str, start: datetime, end: datetime) -> None:
    period = Period.parse(key, every)

    assert period.start == start.replace(tzinfo=UTC)
    assert period.end == end.replace(tzinfo=UTC)
    assert period.as_of == period.end
    assert (period.key, str(period)) == (key, key)


@pytest.mark.parametrize(
    ("every", "key", "example"),
    [
        (Every.DAY, "2017-06", "2017-06-09"),
        (Every.DAY, "2017-02-29", "2017-06-09"),
        (Every.DAY, "2017-6-9", "2017-06-09"),
        (Every.WEEK, "2017-06-06", "2017-06-05, a Monday"),
        (Every.WEEK, "2017-W23", "2017-06-05, a Monday"),
        (Every.MONTH, "2017-06-01", "2017-06"),
        (Every.MONTH, "2017-13", "2017-06"),
        (Every.MONTH, "2017-6", "2017-06"),
        (Every.MONTH, "June 2017", "2017-06"),
        (Every.MONTH, "", "2017-06"),
        (Every.MONTH, " 2017-06", "2017-06"),
    ],
)
def test_a_key_of_another_form_is_refused_with_an_example(every: Every, key: str, example: str) -> None:
    with pytest.raises(PeriodError) as refused:
        Period.parse(key, every)

    assert str(refused.value) == f"Period: expected a {every.value} such as {example}; got {key!r}."


def test_something_that_is_no_text_is_refused_as_a_key() -> None:
    with pytest.raises(PeriodError, match="expected a month such as 2017-06; got 201706"):
        Period.parse(201706, Every.MONTH)  # type: ignore[arg-type]


def test_an_unknown_length_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DescriptionError) as refused:
        Every.of("fortnight")

    assert str(refused.value) == "every: expected one of 'day', 'week', 'month'; got 'fortnight'."


@pytest.mark.parametrize(
    ("every", "key", "count", "then"),
    [
        (Every.MONTH, "2017-11", 1, "2017-12"),
        (Every.MONTH, "2017-11", 2, "2018-01"),
        (Every.MONTH, "2017-12", 1, "2018-01"),
        (Every.MONTH, "2017-01", -1, "2016-12"),
        (Every.MONTH, "2017-03", -15, "2015-12"),
        (Every.MONTH, "2017-03", 24, "2019-03"),
        (Every.WEEK, "2016-12-26", 1, "2017-01-02"),
        (Every.WEEK, "2017-01-02", -1, "2016-12-26"),
        (Every.DAY, "2016-02-28", 1, "2016-02-29"),
        (Every.DAY, "2017-12-31", 1, "2018-01-01"),
        (Every.DAY, "2017-03-01", -1, "2017-02-28"),
    ],
)
def test_counting_periods_goes_over_the_ends_of_years(every: Every, key: str, count: int, then: str) -> None:
    assert Period.parse(key, every).plus(count).key == then


@given(moment=MOMENTS, every=EVERY, count=st.integers(-400, 400))
def test_counting_forth_and_back_arrives_where_it_began(moment: datetime, every: Every, count: int) -> None:
    period = Period.holding(moment, every)

    assert period.plus(count).plus(-count) == period
    assert (period < period.plus(count)) == (count > 0)


@given(moment=MOMENTS, every=EVERY)
def test_every_moment_lies_in_one_period_whose_key_leads_back_to_it(moment: datetime, every: Every) -> None:
    period = Period.holding(moment, every)

    assert period.start <= moment < period.end == period.plus(1).start
    assert Period.parse(period.key, every) == period


def test_a_moment_is_placed_by_its_time_in_utc() -> None:
    evening_in_new_york = datetime(2017, 6, 30, 21, tzinfo=timezone(timedelta(hours=-5)))

    assert Period.holding(evening_in_new_york, Every.MONTH).key == "2017-07"
    assert Period.holding(evening_in_new_york, Every.DAY).key == "2017-07-01"


def test_a_range_holds_its_last_period_and_is_empty_backwards() -> None:
    assert [period.key for period in month("2017-11").until(month("2018-02"))] == ["2017-11", "2017-12", "2018-01", "2018-02"]
    assert [period.key for period in month("2017-11").until(month("2017-11"))] == ["2017-11"]
    assert list(month("2017-11").until(month("2017-10"))) == []


def test_periods_begin_when_their_cron_says() -> None:
    assert {every.value: every.cron for every in Every} == {"day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *"}


def test_a_persons_parameter_wins_over_the_interval_of_a_manual_run() -> None:
    assert resolve(Every.MONTH, asked="2017-03", interval=JULY).key == "2017-03"


def test_a_persons_parameter_wins_over_the_partition_key_and_that_over_the_interval() -> None:
    assert resolve(Every.MONTH, asked="2017-03", partition="2017-05", interval=JULY).key == "2017-03"
    assert resolve(Every.MONTH, partition="2017-05", interval=JULY).key == "2017-05"


def test_the_interval_gives_the_period_when_nothing_else_does() -> None:
    assert resolve(Every.MONTH, interval=JULY).key == "2017-07"
    assert resolve(Every.MONTH, asked="", partition="", interval=JULY, by_timetable=True).key == "2017-07"


def test_an_interval_of_no_width_is_no_interval() -> None:
    triggered = (datetime(2017, 9, 14, 8, 30, tzinfo=UTC),) * 2

    assert resolve(Every.MONTH, asked="2017-03", interval=triggered, by_timetable=True).key == "2017-03"
    with pytest.raises(PeriodError, match="no data interval"):
        resolve(Every.MONTH, interval=triggered)


@pytest.mark.parametrize(("every", "example"), [(Every.DAY, "2017-06-01"), (Every.WEEK, "2017-06-05"), (Every.MONTH, "2017-06")])
def test_a_run_without_a_period_is_refused_and_told_how_to_give_one(every: Every, example: str) -> None:
    with pytest.raises(PeriodError) as refused:
        resolve(every)

    assert str(refused.value) == (
        "This run has no period: it has no params.period, no partition key and no data interval. "
        f'Start it with the parameter period, such as {{"period": "{example}"}}, or through a backfill.'
    )
    assert Period.parse(example, every).key == example


def test_a_scheduled_run_whose_parameter_disagrees_with_its_interval_is_refused() -> None:
    with pytest.raises(PeriodError) as refused:
        resolve(Every.MONTH, asked="2017-03", interval=JULY, by_timetable=True)

    assert str(refused.value) == (
        "This run has two periods: params.period says 2017-03, the data interval says 2017-07. "
        "Leave params.period out of scheduled runs and backfills."
    )


def test_a_scheduled_run_whose_partition_disagrees_with_its_interval_is_refused() -> None:
    with pytest.raises(PeriodError, match="the partition key says 2017-05, the data interval says 2017-07"):
        resolve(Every.MONTH, partition="2017-05", interval=JULY, by_timetable=True)


def test_a_scheduled_run_whose_parameter_says_the_same_is_let_through() -> None:
    assert resolve(Every.MONTH, asked="2017-07", partition="2017-07", interval=JULY, by_timetable=True).key == "2017-07"


def test_a_malformed_parameter_is_refused_also_where_an_interval_is_there() -> None:
    with pytest.raises(PeriodError, match="expected a month such as 2017-06; got '2017-7'"):
        resolve(Every.MONTH, asked="2017-7", interval=JULY)
