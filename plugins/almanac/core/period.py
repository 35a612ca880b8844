"""Periods: the data interval that a run works for, half-open `[start, end)`, and how a run finds its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from almanac.errors import DescriptionError, PeriodError


class Every(Enum):
    """How long a period is. A day's key is `2017-06-09`, a week's is that of its Monday, a month's is `2017-06`."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    @classmethod
    def of(cls, text: str) -> Every:
        try:
            return cls(text)
        except ValueError:
            expected = ", ".join(f"'{item.value}'" for item in cls)
            raise DescriptionError(f"every: expected one of {expected}; got {text!r}.") from None

    @property
    def cron(self) -> str:
        """When a period of this length begins, as a cron expression."""
        return {Every.DAY: "0 0 * * *", Every.WEEK: "0 0 * * 1", Every.MONTH: "0 0 1 * *"}[self]

    @property
    def form(self) -> str:
        """How a key is written, as strptime's format."""
        return "%Y-%m" if self is Every.MONTH else "%Y-%m-%d"


@dataclass(frozen=True, slots=True)
class Period:
    """The data interval `[start, end)`, in UTC. `as_of` is its end: nothing known at or after it enters its features."""

    start: datetime
    every: Every

    def __lt__(self, other: Period) -> bool:
        return self.start < other.start

    @classmethod
    def parse(cls, key: str, every: Every) -> Period:
        """A period from its key.

        Raises:
            PeriodError: the key does not have the form of `every`, or no period begins there.
        """
        example = {Every.DAY: "2017-06-09", Every.WEEK: "2017-06-05, a Monday", Every.MONTH: "2017-06"}[every]
        try:
            start = datetime.strptime(key, every.form).replace(tzinfo=UTC)
        except (ValueError, TypeError):
            raise PeriodError(f"Period: expected a {every.value} such as {example}; got {key!r}.") from None
        if cls.holding(start, every).start != start or start.strftime(every.form) != key:
            raise PeriodError(f"Period: expected a {every.value} such as {example}; got {key!r}.")
        return cls(start, every)

    @classmethod
    def holding(cls, moment: datetime, every: Every) -> Period:
        """The period that holds a moment."""
        day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if every is Every.WEEK:
            day -= timedelta(days=day.weekday())
        return cls(day.replace(day=1) if every is Every.MONTH else day, every)

    @property
    def key(self) -> str:
        return self.start.strftime(self.every.form)

    @property
    def end(self) -> datetime:
        return self.plus(1).start

    @property
    def as_of(self) -> datetime:
        return self.end

    def plus(self, count: int) -> Period:
        """The period `count` periods after this one; before it when negative."""
        if self.every is Every.MONTH:
            years, month = divmod(self.start.year * 12 + self.start.month - 1 + count, 12)
            return Period(self.start.replace(year=years, month=month + 1), self.every)
        return Period(self.start + count * timedelta(days=7 if self.every is Every.WEEK else 1), self.every)

    def until(self, last: Period) -> Iterator[Period]:
        """This period and all that follow, to `last` inclusive."""
        period = self
        while period.start <= last.start:
            yield period
            period = period.plus(1)

    def __str__(self) -> str:
        return self.key


def resolve(
    every: Every,
    *,
    asked: str | None = None,
    partition: str | None = None,
    interval: tuple[datetime, datetime] | None = None,
    by_timetable: bool = False,
) -> Period:
    """The period of a run: a person's parameter, else the partition key, else the data interval. Never the clock.

    `by_timetable`: a schedule or a backfill made the run, so its parameter and its interval must agree.
    An interval of zero width, which asset-triggered and cron-triggered runs have, does not count.

    Raises:
        PeriodError: the run has no period, or two that differ.
    """
    if interval is not None and interval[0] == interval[1]:
        interval = None
    given = {
        "params.period": Period.parse(asked, every) if asked else None,
        "the partition key": Period.parse(partition, every) if partition else None,
        "the data interval": Period.holding(interval[0], every) if interval else None,
    }
    found = {name: period for name, period in given.items() if period is not None}
    if not found:
        example = Period(datetime(2017, 6, 5 if every is Every.WEEK else 1, tzinfo=UTC), every).key
        raise PeriodError(
            "This run has no period: it has no params.period, no partition key and no data interval. "
            f'Start it with the parameter period, such as {{"period": "{example}"}}, or through a backfill.'
        )
    if by_timetable and len(set(found.values())) > 1:
        listed = ", ".join(f"{name} says {period}" for name, period in found.items())
        raise PeriodError(f"This run has two periods: {listed}. Leave params.period out of scheduled runs and backfills.")
    return next(iter(found.values()))
