"""Periods: their keys, what follows what, and how a run finds its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac.core.period import Calendar, Every, Period, resolve
from almanac.errors import DescriptionError, PeriodError
from tests.support.calendars import CALENDARS, ZONES

MOMENTS = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2060, 1, 1), timezones=st.just(UTC))
DAYS, WEEKS, MONTHS, QUARTERS = map(Calendar, Every)
SUNDAYS = Calendar(Every.WEEK, week_starts="sunday")
LONDON = Calendar(Every.DAY, "Europe/London")
JULY = (datetime(2017, 7, 1, tzinfo=UTC), datetime(2017, 8, 1, tzinfo=UTC))


def month(key: str) -> Period:
    return Period.parse(key, MONTHS)


@pytest.mark.parametrize(
    ("calendar", "key", "start", "end"),
    [
        (DAYS, "2016-02-29", datetime(2016, 2, 29), datetime(2016, 3, 1)),
        (WEEKS, "2017-06-05", datetime(2017, 6, 5), datetime(2017, 6, 12)),
        (WEEKS, "2016-12-26", datetime(2016, 12, 26), datetime(2017, 1, 2)),
        (MONTHS, "2017-02", datetime(2017, 2, 1), datetime(2017, 3, 1)),
        (MONTHS, "2016-02", datetime(2016, 2, 1), datetime(2016, 3, 1)),
        (MONTHS, "2017-12", datetime(2017, 12, 1), datetime(2018, 1, 1)),
        (SUNDAYS, "2017-06-04", datetime(2017, 6, 4), datetime(2017, 6, 11)),
        (QUARTERS, "2017-Q1", datetime(2017, 1, 1), datetime(2017, 4, 1)),
        (QUARTERS, "2017-Q4", datetime(2017, 10, 1), datetime(2018, 1, 1)),
    ],
)
def test_a_key_names_a_half_open_interval_in_utc(calendar: Calendar, key: str, start: datetime, end: datetime) -> None:
    period = Period.parse(key, calendar)

    assert period.start == start.replace(tzinfo=UTC)
    assert period.end == end.replace(tzinfo=UTC)
    assert period.as_of == period.end
    assert (period.key, str(period)) == (key, key)


@pytest.mark.parametrize(
    ("calendar", "key", "example"),
    [
        (DAYS, "2017-06", "2017-06-09"),
        (DAYS, "2017-02-29", "2017-06-09"),
        (DAYS, "2017-6-9", "2017-06-09"),
        (WEEKS, "2017-06-06", "2017-06-05, a Monday"),
        (WEEKS, "2017-W23", "2017-06-05, a Monday"),
        (MONTHS, "2017-06-01", "2017-06"),
        (MONTHS, "2017-13", "2017-06"),
        (MONTHS, "2017-6", "2017-06"),
        (MONTHS, "June 2017", "2017-06"),
        (MONTHS, "", "2017-06"),
        (MONTHS, " 2017-06", "2017-06"),
        (SUNDAYS, "2017-06-05", "2017-06-04, a Sunday"),
        (QUARTERS, "2017-Q0", "2017-Q2"),
        (QUARTERS, "2017-Q5", "2017-Q2"),
        (QUARTERS, "2017-q2", "2017-Q2"),
        (QUARTERS, "2017Q2", "2017-Q2"),
        (QUARTERS, "17-Q2", "2017-Q2"),
        (QUARTERS, " 201-Q2", "2017-Q2"),
        (QUARTERS, "2017-04", "2017-Q2"),
        (QUARTERS, "", "2017-Q2"),
    ],
)
def test_a_key_of_another_form_is_refused_with_an_example(calendar: Calendar, key: str, example: str) -> None:
    with pytest.raises(PeriodError) as refused:
        Period.parse(key, calendar)

    assert str(refused.value) == f"Period: expected a {calendar.every.value} such as {example}; got {key!r}."


def test_something_that_is_no_text_is_refused_as_a_key() -> None:
    with pytest.raises(PeriodError, match="expected a month such as 2017-06; got 201706"):
        Period.parse(201706, MONTHS)  # type: ignore[arg-type]


def test_an_unknown_length_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DescriptionError) as refused:
        Every.of("fortnight")

    assert str(refused.value) == "every: expected one of 'day', 'week', 'month', 'quarter'; got 'fortnight'."


@pytest.mark.parametrize(
    ("calendar", "key", "count", "then"),
    [
        (MONTHS, "2017-11", 1, "2017-12"),
        (MONTHS, "2017-11", 2, "2018-01"),
        (MONTHS, "2017-12", 1, "2018-01"),
        (MONTHS, "2017-01", -1, "2016-12"),
        (MONTHS, "2017-03", -15, "2015-12"),
        (MONTHS, "2017-03", 24, "2019-03"),
        (WEEKS, "2016-12-26", 1, "2017-01-02"),
        (WEEKS, "2017-01-02", -1, "2016-12-26"),
        (DAYS, "2016-02-28", 1, "2016-02-29"),
        (DAYS, "2017-12-31", 1, "2018-01-01"),
        (DAYS, "2017-03-01", -1, "2017-02-28"),
        (SUNDAYS, "2016-12-25", 1, "2017-01-01"),
        (QUARTERS, "2017-Q4", 1, "2018-Q1"),
        (QUARTERS, "2017-Q1", -5, "2015-Q4"),
    ],
)
def test_counting_periods_goes_over_the_ends_of_years(calendar: Calendar, key: str, count: int, then: str) -> None:
    assert Period.parse(key, calendar).plus(count).key == then


@given(moment=MOMENTS, calendar=CALENDARS, count=st.integers(-400, 400))
def test_counting_forth_and_back_arrives_where_it_began(moment: datetime, calendar: Calendar, count: int) -> None:
    period = Period.holding(moment, calendar)

    assert period.plus(count).plus(-count) == period
    assert (period < period.plus(count)) == (count > 0)


@given(moment=MOMENTS, calendar=CALENDARS)
def test_every_moment_lies_in_one_period_whose_key_leads_back_to_it(moment: datetime, calendar: Calendar) -> None:
    period = Period.holding(moment, calendar)

    assert period.start <= moment < period.end == period.plus(1).start
    assert Period.parse(period.key, calendar) == period
    assert Period.holding(period.start, calendar) == period
    assert period.plus(1).plus(-1) == period


@given(calendar=CALENDARS, moment=MOMENTS, count=st.integers(1, 60))
def test_periods_follow_each_other_without_a_gap_in_any_zone(calendar: Calendar, moment: datetime, count: int) -> None:
    first = Period.holding(moment, calendar)
    found = list(first.until(first.plus(count)))

    assert len(found) == count + 1
    assert all(before.end == after.start and before.start < before.end for before, after in pairwise(found))
    assert [before.key < after.key for before, after in pairwise(found)] == [True] * count


@pytest.mark.parametrize("zone", ZONES)
def test_the_first_and_the_last_moment_of_all_have_a_period(zone: str) -> None:
    for every in Every:
        for moment in (datetime.min, datetime.max):
            period = Period.holding(moment.replace(tzinfo=UTC), Calendar(every, zone))
            assert Period.parse(period.key, period.calendar) == period


@pytest.mark.parametrize(
    ("key", "start", "hours"),
    [("2017-03-26", "2017-03-26 00:00", 23), ("2017-06-09", "2017-06-08 23:00", 24), ("2017-10-29", "2017-10-28 23:00", 25)],
)
def test_a_day_in_london_has_23_or_25_hours_when_the_clocks_change(key: str, start: str, hours: int) -> None:
    period = Period.parse(key, LONDON)

    assert f"{period.start:%Y-%m-%d %H:%M}" == start
    assert period.end - period.start == timedelta(hours=hours)


def test_months_and_quarters_in_a_zone_begin_at_its_midnight() -> None:
    march, second = (
        Period.parse("2017-03", Calendar(Every.MONTH, "Europe/London")),
        Period.parse("2017-Q2", Calendar(Every.QUARTER, "America/New_York")),
    )

    assert (march.start, march.end) == (datetime(2017, 3, 1, tzinfo=UTC), datetime(2017, 3, 31, 23, tzinfo=UTC))
    assert (second.start, second.end) == (datetime(2017, 4, 1, 4, tzinfo=UTC), datetime(2017, 7, 1, 4, tzinfo=UTC))


def test_the_day_that_samoa_left_out_is_no_period() -> None:
    samoa = Calendar(Every.DAY, "Pacific/Apia")
    with pytest.raises(PeriodError) as refused:
        Period.parse("2011-12-30", samoa)

    assert str(refused.value) == (
        "Period: expected a day that Pacific/Apia had; got '2011-12-30', which it left out when its clocks changed. The next one "
        "is 2011-12-31."
    )
    assert Period.parse("2011-12-29", samoa).plus(1).key == "2011-12-31"
    assert Period.parse("2011-12", Calendar(Every.MONTH, "Pacific/Apia")).end - Period.parse(
        "2011-12", Calendar(Every.MONTH, "Pacific/Apia")
    ).start == timedelta(days=30)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((Every.DAY, "Lundon"), "timezone: expected a name such as 'UTC' or 'America/New_York', got 'Lundon'."),
        ((Every.WEEK, "UTC", "tuesday"), "week_starts: expected 'monday' or 'sunday', got 'tuesday'."),
        (
            (Every.MONTH, "UTC", "sunday"),
            "week_starts: expected it with every='week' only, got 'sunday' with every='month'. Leave it out.",
        ),
    ],
)
def test_a_calendar_that_cannot_be_is_refused(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Calendar(*given)

    assert str(refused.value) == message


def test_a_moment_is_placed_by_its_time_in_utc() -> None:
    evening_in_new_york = datetime(2017, 6, 30, 21, tzinfo=timezone(timedelta(hours=-5)))

    assert Period.holding(evening_in_new_york, MONTHS).key == "2017-07"
    assert Period.holding(evening_in_new_york, DAYS).key == "2017-07-01"


def test_a_range_holds_its_last_period_and_is_empty_backwards() -> None:
    assert [period.key for period in month("2017-11").until(month("2018-02"))] == ["2017-11", "2017-12", "2018-01", "2018-02"]
    assert [period.key for period in month("2017-11").until(month("2017-11"))] == ["2017-11"]
    assert list(month("2017-11").until(month("2017-10"))) == []


def test_periods_begin_when_their_cron_says() -> None:
    found = [calendar.cron for calendar in (DAYS, WEEKS, SUNDAYS, MONTHS, QUARTERS)]

    assert found == ["0 0 * * *", "0 0 * * 1", "0 0 * * 0", "0 0 1 * *", "0 0 1 1,4,7,10 *"]


def test_a_persons_parameter_wins_over_the_interval_of_a_manual_run() -> None:
    assert resolve(MONTHS, asked="2017-03", interval=JULY).key == "2017-03"


def test_a_persons_parameter_wins_over_the_partition_key_and_that_over_the_interval() -> None:
    assert resolve(MONTHS, asked="2017-03", partition="2017-05", interval=JULY).key == "2017-03"
    assert resolve(MONTHS, partition="2017-05", interval=JULY).key == "2017-05"


def test_the_interval_gives_the_period_when_nothing_else_does() -> None:
    assert resolve(MONTHS, interval=JULY).key == "2017-07"
    assert resolve(MONTHS, asked="", partition="", interval=JULY, by_timetable=True).key == "2017-07"


def test_an_interval_of_no_width_is_no_interval() -> None:
    triggered = (datetime(2017, 9, 14, 8, 30, tzinfo=UTC),) * 2

    assert resolve(MONTHS, asked="2017-03", interval=triggered, by_timetable=True).key == "2017-03"
    with pytest.raises(PeriodError, match="no data interval"):
        resolve(MONTHS, interval=triggered)


@pytest.mark.parametrize(
    ("calendar", "example"),
    [(DAYS, "2017-06-10"), (WEEKS, "2017-06-05"), (SUNDAYS, "2017-06-04"), (MONTHS, "2017-06"), (QUARTERS, "2017-Q2")],
)
def test_a_run_without_a_period_is_refused_and_told_how_to_give_one(calendar: Calendar, example: str) -> None:
    with pytest.raises(PeriodError) as refused:
        resolve(calendar)

    assert str(refused.value) == (
        "This run has no period: it has no params.period, no partition key and no data interval. "
        f'Start it with the parameter period, such as {{"period": "{example}"}}, or through a backfill.'
    )
    assert Period.parse(example, calendar).key == example


def test_a_scheduled_run_whose_parameter_disagrees_with_its_interval_is_refused() -> None:
    with pytest.raises(PeriodError) as refused:
        resolve(MONTHS, asked="2017-03", interval=JULY, by_timetable=True)

    assert str(refused.value) == (
        "This run has two periods: params.period says 2017-03, the data interval says 2017-07. "
        "Leave params.period out of scheduled runs and backfills."
    )


def test_a_scheduled_run_whose_partition_disagrees_with_its_interval_is_refused() -> None:
    with pytest.raises(PeriodError, match="the partition key says 2017-05, the data interval says 2017-07"):
        resolve(MONTHS, partition="2017-05", interval=JULY, by_timetable=True)


def test_a_scheduled_run_whose_parameter_says_the_same_is_let_through() -> None:
    assert resolve(MONTHS, asked="2017-07", partition="2017-07", interval=JULY, by_timetable=True).key == "2017-07"


def test_a_malformed_parameter_is_refused_also_where_an_interval_is_there() -> None:
    with pytest.raises(PeriodError, match="expected a month such as 2017-06; got '2017-7'"):
        resolve(MONTHS, asked="2017-7", interval=JULY)


def test_an_interval_in_a_zone_gives_the_period_of_its_local_day() -> None:
    sunday = (datetime(2017, 10, 28, 23, tzinfo=UTC), datetime(2017, 10, 30, tzinfo=UTC))

    assert resolve(LONDON, interval=sunday, by_timetable=True).key == "2017-10-29"
    assert resolve(LONDON, asked="2017-10-29", interval=sunday, by_timetable=True).key == "2017-10-29"


@pytest.mark.parametrize("by_timetable", [True, False])
def test_a_run_from_before_the_zone_was_changed_is_refused(by_timetable: bool) -> None:
    new_york = Calendar(Every.MONTH, "America/New_York")
    with pytest.raises(PeriodError) as refused:
        resolve(new_york, interval=JULY, by_timetable=by_timetable)

    assert str(refused.value) == (
        "This run's data interval is 2017-07-01 00:00 to 2017-08-01 00:00 UTC, expected a month in America/New_York, such as "
        "2017-06-01 04:00 to 2017-07-01 04:00 UTC. The pipeline's periods were changed since the run was made. Start a new run "
        'with the parameter period, such as {"period": "2017-06"}.'
    )
    assert resolve(new_york, interval=JULY, asked="2017-07").key == "2017-07", "a person's parameter decides"
