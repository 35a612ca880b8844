"""Periods: the data interval that a run works for, half-open `[start, end)`, and how a run finds its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum

from almanac.core.timezone import check_timezone, day_after, is_left_out, local_day, midnight
from almanac.errors import DescriptionError, PeriodError

# What a week can begin with, to the number of days from Monday.
WEEK_STARTS = {"monday": 0, "sunday": 6}
DAYS_OF_WEEK = 7
MONTHS = {"month": 1, "quarter": 3}


class Every(Enum):
    """How long a period is. A day's key is `2017-06-09`, a week's is that of its first day, a month's is `2017-06`, and a
    quarter's `2017-Q2`.
    """

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"

    @classmethod
    def of(cls, text: str) -> Every:
        try:
            return cls(text)
        except ValueError:
            expected = ", ".join(f"'{item.value}'" for item in cls)
            raise DescriptionError(f"every: expected one of {expected}; got {text!r}.") from None


@dataclass(frozen=True, slots=True)
class Calendar:
    """How time is divided into periods.

    Args:
        every: how long a period is.
        timezone: in which zone a period begins, at midnight. A day in which the clocks change has 23 or 25 hours.
        week_starts: the day with which a week begins, `monday` or `sunday`.

    Raises:
        DescriptionError: a field is invalid; the message names it.
    """

    every: Every
    timezone: str = "UTC"
    week_starts: str = "monday"

    def __post_init__(self) -> None:
        check_timezone("timezone", self.timezone)
        if self.week_starts not in WEEK_STARTS:
            raise DescriptionError(f"week_starts: expected 'monday' or 'sunday', got {self.week_starts!r}.")
        if self.week_starts != "monday" and self.every is not Every.WEEK:
            raise DescriptionError(
                f"week_starts: expected it with every='week' only, got {self.week_starts!r} with every={self.every.value!r}. "
                "Leave it out."
            )

    @property
    def cron(self) -> str:
        """When a period begins, as a cron expression for a clock in `timezone`."""
        weekday = (WEEK_STARTS[self.week_starts] + 1) % DAYS_OF_WEEK
        return {
            Every.DAY: "0 0 * * *",
            Every.WEEK: f"0 0 * * {weekday}",
            Every.MONTH: "0 0 1 * *",
            Every.QUARTER: "0 0 1 1,4,7,10 *",
        }[self.every]

    @property
    def example(self) -> str:
        """What a key looks like, in words."""
        week = "2017-06-05, a Monday" if self.week_starts == "monday" else "2017-06-04, a Sunday"
        return {Every.DAY: "2017-06-09", Every.WEEK: week, Every.MONTH: "2017-06", Every.QUARTER: "2017-Q2"}[self.every]

    def first_day(self, day: date) -> date:
        """The first day of the period that has a day."""
        if self.every is Every.DAY:
            return day
        if self.every is Every.WEEK:
            return day - timedelta(days=(day.weekday() - WEEK_STARTS[self.week_starts]) % DAYS_OF_WEEK)
        return day.replace(month=day.month - (day.month - 1) % MONTHS[self.every.value], day=1)

    def key(self, day: date) -> str:
        """The key of the period that begins with a day."""
        if self.every is Every.QUARTER:
            return f"{day.year:04}-Q{(day.month + 2) // 3}"
        return day.isoformat()[:7] if self.every is Every.MONTH else day.isoformat()

    def day(self, key: str) -> date:
        """The day that a key names. Raises: ValueError."""
        if self.every is Every.QUARTER:
            year, quarter = key[:4], key[4:]
            return date(int(year), {"-Q1": 1, "-Q2": 4, "-Q3": 7, "-Q4": 10}.get(quarter, 0), 1)
        return datetime.strptime(key, "%Y-%m" if self.every is Every.MONTH else "%Y-%m-%d").date()

    def plus(self, day: date, count: int) -> date:
        """The first day of the period that is `count` periods after the one that begins with `day`."""
        if self.every is Every.DAY:
            return day_after(day, count, self.timezone)
        if self.every is Every.WEEK:
            return day + timedelta(days=DAYS_OF_WEEK * count)
        years, month = divmod(day.year * 12 + day.month - 1 + MONTHS[self.every.value] * count, 12)
        return day.replace(year=years, month=month + 1)

    def __str__(self) -> str:
        """In words: `month`, or `week in Europe/London`."""
        return self.every.value + ("" if self.timezone == "UTC" else f" in {self.timezone}")


@dataclass(frozen=True, slots=True)
class Period:
    """The data interval `[start, end)`, from one local midnight of its calendar to another. `as_of` is its end: nothing known at
    or after it enters its features.

    Args:
        day: the first day, on the calendar's own clock.
        calendar: how time is divided.
    """

    day: date
    calendar: Calendar

    def __lt__(self, other: Period) -> bool:
        return self.day < other.day

    @classmethod
    def parse(cls, key: str, calendar: Calendar) -> Period:
        """A period from its key.

        Raises:
            PeriodError: the key does not have the form of the calendar, no period begins there, or the day never was.
        """
        try:
            day = calendar.day(key)
            if calendar.first_day(day) != day or calendar.key(day) != key:
                raise ValueError(key)
        except (ValueError, TypeError):
            raise PeriodError(f"Period: expected a {calendar.every.value} such as {calendar.example}; got {key!r}.") from None
        if calendar.every is Every.DAY and is_left_out(day, calendar.timezone):
            raise PeriodError(
                f"Period: expected a day that {calendar.timezone} had; got {key!r}, which it left out when its clocks changed. "
                f"The next one is {cls(day_after(day, 1, calendar.timezone), calendar)}."
            )
        return cls(day, calendar)

    @classmethod
    def holding(cls, moment: datetime, calendar: Calendar) -> Period:
        """The period that holds a moment."""
        return cls(calendar.first_day(local_day(moment, calendar.timezone)), calendar)

    @property
    def key(self) -> str:
        return self.calendar.key(self.day)

    @property
    def start(self) -> datetime:
        """In UTC."""
        return midnight(self.day, self.calendar.timezone)

    @property
    def end(self) -> datetime:
        """In UTC."""
        return self.plus(1).start

    @property
    def as_of(self) -> datetime:
        """In UTC."""
        return self.end

    def plus(self, count: int) -> Period:
        """The period `count` periods after this one; before it when negative."""
        return Period(self.calendar.plus(self.day, count), self.calendar)

    def until(self, last: Period) -> Iterator[Period]:
        """This period and all that follow, to `last` inclusive."""
        period = self
        while period.day <= last.day:
            yield period
            period = period.plus(1)

    def __str__(self) -> str:
        return self.key


def resolve(
    calendar: Calendar,
    *,
    asked: str | None = None,
    partition: str | None = None,
    interval: tuple[datetime, datetime] | None = None,
    by_timetable: bool = False,
) -> Period:
    """The period of a run: a person's parameter, else the partition key, else the data interval. Never the clock.

    An interval that decides must be a period. `by_timetable`: a schedule or a backfill made the run, so its parameter and its
    interval must agree. An interval of zero width, which asset-triggered and cron-triggered runs have, does not count.

    Raises:
        PeriodError: the run has no period, or two that differ.
    """
    if interval is not None and interval[0] == interval[1]:
        interval = None
    given = {
        "params.period": Period.parse(asked, calendar) if asked else None,
        "the partition key": Period.parse(partition, calendar) if partition else None,
        "the data interval": Period.holding(interval[0], calendar) if interval else None,
    }
    found = {name: period for name, period in given.items() if period is not None}
    if not found:
        example = calendar.key(calendar.first_day(date(2017, 6, 10)))
        raise PeriodError(
            "This run has no period: it has no params.period, no partition key and no data interval. "
            f'Start it with the parameter period, such as {{"period": "{example}"}}, or through a backfill.'
        )
    if by_timetable and len(set(found.values())) > 1:
        listed = ", ".join(f"{name} says {period}" for name, period in found.items())
        raise PeriodError(f"This run has two periods: {listed}. Leave params.period out of scheduled runs and backfills.")
    decides = by_timetable or len(found) == 1
    if decides and interval and (meant := found["the data interval"]) and interval != (meant.start, meant.end):
        raise PeriodError(
            f"This run's data interval is {_minutes(interval[0])} to {_minutes(interval[1])} UTC, expected a {calendar}, such as "
            f"{_minutes(meant.start)} to {_minutes(meant.end)} UTC. The pipeline's periods were changed since the run was made. "
            f'Start a new run with the parameter period, such as {{"period": "{meant}"}}.'
        )
    return next(iter(found.values()))


def _minutes(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
