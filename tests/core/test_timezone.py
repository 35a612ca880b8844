"""Time zones: names, local midnights in UTC, and days that never were."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac.core.timezone import check_timezone, day_after, is_left_out, local_day, midnight
from almanac.errors import DescriptionError
from tests.support.calendars import ZONES

DAYS = st.dates(date(1971, 1, 1), date(2059, 12, 31))


@pytest.mark.parametrize("name", ["Mars/Olympus", "EST5PDT6", "", "../UTC", "/etc", "America", "utc", None, 1])
def test_a_zone_that_does_not_exist_is_refused_by_the_field_that_has_it(name: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        check_timezone("Pipeline.timezone", name)

    assert str(refused.value) == f"Pipeline.timezone: expected a name such as 'UTC' or 'America/New_York', got {name!r}."


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("Europe/London", date(2017, 3, 26), "2017-03-26 00:00"),
        ("Europe/London", date(2017, 3, 27), "2017-03-26 23:00"),
        ("Asia/Kolkata", date(2017, 3, 26), "2017-03-25 18:30"),
        ("America/Sao_Paulo", date(2017, 10, 15), "2017-10-15 03:00"),  # 01:00, as 00:00 was skipped
        ("Africa/Cairo", date(2024, 4, 26), "2024-04-25 22:00"),  # also 01:00
        ("America/Havana", date(2017, 11, 5), "2017-11-05 04:00"),  # the first of two
        ("America/St_Johns", date(2005, 10, 30), "2005-10-30 02:30"),  # the first of two, a minute before the change
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30 10:00"),  # left out, so it begins when the next one does
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30 10:00"),
    ],
)
def test_a_skipped_midnight_is_the_jump_and_a_doubled_one_is_the_first(zone: str, day: date, begins: str) -> None:
    assert f"{midnight(day, zone):%Y-%m-%d %H:%M}" == begins


@given(day=DAYS, zone=st.sampled_from(ZONES))
def test_a_day_holds_its_midnight_and_no_moment_before(day: date, zone: str) -> None:
    if is_left_out(day, zone):
        return
    begins = midnight(day, zone)

    assert local_day(begins, zone) == day
    assert local_day(begins - timedelta(microseconds=1), zone) == day_after(day, -1, zone)


@pytest.mark.parametrize(("zone", "day"), [("Pacific/Apia", date(2011, 12, 30)), ("Pacific/Kwajalein", date(1993, 8, 21))])
def test_counting_days_skips_the_one_that_never_was(zone: str, day: date) -> None:
    before, after = day - timedelta(days=1), day + timedelta(days=1)

    assert is_left_out(day, zone)
    assert not is_left_out(before, zone)
    assert not is_left_out(after, zone)
    assert day_after(before, 1, zone) == after
    assert day_after(after, -1, zone) == before
    assert day_after(day, 1, zone) == after
    assert day_after(day, -1, zone) == before
    assert day_after(before, 365, zone) == day + timedelta(days=365)
    assert local_day(midnight(day, zone), zone) == after


@pytest.mark.parametrize("zone", ZONES)
def test_the_first_and_the_last_day_of_all_have_a_beginning(zone: str) -> None:
    assert midnight(date.min, zone) <= datetime(1, 1, 2, tzinfo=UTC)
    assert midnight(date.max, zone) >= datetime(9999, 12, 30, tzinfo=UTC)
    assert local_day(datetime.min.replace(tzinfo=UTC), zone) == date.min
    assert local_day(datetime.max.replace(tzinfo=UTC), zone) >= date.max - timedelta(days=1)
