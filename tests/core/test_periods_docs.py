"""docs/periods.md: its keys, its times and its commands."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from almanac.core.period import Calendar, Every, Period


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "periods.md").read_text()


def test_every_length_of_a_period_is_listed_with_a_key_that_it_accepts(text: str) -> None:
    listed = re.findall(r'^\| `"(\w+)"` \| `([^`]+)`', text, re.MULTILINE)

    assert [Every(every) for every, _ in listed] == list(Every)
    assert all(Period.parse(key, Calendar(Every(every))).key == key for every, key in listed)
    (sunday,) = re.findall(r'`week_starts="sunday"`: `([^`]+)`', text)
    assert Period.parse(sunday, Calendar(Every.WEEK, week_starts="sunday")).key == sunday


def test_the_run_for_a_day_in_london_starts_when_the_page_says(text: str) -> None:
    (key, ends) = re.findall(r"the run for `([^`]+)` starts when that day\nhas ended in London, at (\S+) UTC", text)[0]

    assert f"{Period.parse(key, Calendar(Every.DAY, 'Europe/London')).end:%H:%M}" == ends


def test_the_backfill_that_the_page_shows_is_of_the_days_of_july(text: str) -> None:
    london = Calendar(Every.DAY, "Europe/London")
    (shown,) = re.findall(r"--from-date (\S+) --to-date (\S+)", text)
    first, last = (datetime.fromisoformat(one) for one in shown)

    assert Period.holding(first, london).start == first
    assert [period.key for period in Period.holding(first, london).until(Period.holding(last, london))] == [
        f"{datetime(2017, 7, 1) + timedelta(days=day):%Y-%m-%d}" for day in range(31)
    ]
