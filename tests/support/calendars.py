"""Calendars for property tests: every length of a period, in zones whose days are odd."""

from __future__ import annotations

from hypothesis import strategies as st

from almanac.core.period import WEEK_STARTS, Calendar, Every

ODD_ZONES = (
    "Europe/London",
    "America/New_York",
    "Asia/Kolkata",  # half an hour
    "Australia/Lord_Howe",  # its clocks change by half an hour
    "America/Sao_Paulo",  # skipped midnights until 2018
    "Africa/Cairo",  # skips midnight again since 2023
    "Asia/Gaza",  # skipped and doubled midnights
    "America/Havana",  # a midnight that occurs twice each autumn
    "America/St_Johns",  # until 2011 clocks were set back a minute after midnight
    "Pacific/Apia",  # no 2011-12-30
    "Pacific/Kwajalein",  # no 1993-08-21
)
ZONES = ("UTC", *ODD_ZONES)


def _of(every: Every, timezone: str, week_starts: str) -> Calendar:
    return Calendar(every, timezone, week_starts if every is Every.WEEK else "monday")


CALENDARS = st.builds(_of, st.sampled_from(Every), st.sampled_from(ZONES), st.sampled_from(sorted(WEEK_STARTS)))
