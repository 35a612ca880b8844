"""Time zones: their names, local times in UTC, and the days that a zone left out."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from almanac.errors import DescriptionError

DAY = timedelta(days=1)
NO_ZONES = ("localtime", "posixrules", "Factory")  # what a machine's own files are called


def check_timezone(field: str, name: str) -> None:
    """Checks the name of a zone. `field`: where it was given, such as `EventSource.timezone`.

    Raises:
        DescriptionError: the machine knows no zone of this name.
    """
    try:
        if name in NO_ZONES:
            raise ValueError
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError, AttributeError):  # OSError: a folder of names, such as America
        raise DescriptionError(f"{field}: expected a name such as 'UTC' or 'America/New_York', got {name!r}.") from None


def as_utc(moment: datetime, timezone: str | None) -> datetime:
    """A moment in UTC; a naive one is read in `timezone`, as rows are: a local time that occurs twice is read as the first of the
    two, a skipped one as the moment of the jump.
    """
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    zone = ZoneInfo(timezone or "UTC")
    first, second = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return first
    start = second.replace(microsecond=0)  # for a skipped time, the offset after the jump gives the earlier moment
    before, after = 0, int((first - start).total_seconds()) + 1
    while after - before > 1:
        middle = (before + after) // 2
        if (start + timedelta(seconds=middle)).astimezone(zone).replace(tzinfo=None) < moment:
            before = middle
        else:
            after = middle
    return start + timedelta(seconds=after)


@lru_cache(maxsize=8192)
def midnight(day: date, timezone: str) -> datetime:
    """The beginning of a local day, in UTC. If the clocks skip midnight, it is the moment of the jump; if midnight occurs twice,
    the first one. A day that a zone left out begins when the next one does.
    """
    try:
        return as_utc(datetime.combine(day, time()), timezone)
    except OverflowError:  # the first or the last day that Python knows
        return (datetime.min if day.year == date.min.year else datetime.max).replace(tzinfo=UTC)


def local_day(moment: datetime, timezone: str) -> date:
    """The local day that holds a moment, by `midnight`."""
    try:
        local = moment.astimezone(ZoneInfo(timezone))
    except OverflowError:
        local = moment.astimezone(UTC)
    day = date(local.year, local.month, local.day)  # a plain date: Airflow's times are of a class of their own
    # Clocks that are set back over midnight show the day before once more, after the new day has begun.
    return day + DAY if day < date.max and moment >= midnight(day + DAY, timezone) else day


def day_after(day: date, count: int, timezone: str) -> date:
    """The local day `count` days after another; before it when negative. Days that the zone left out do not count."""
    found = day + count * DAY
    while (then := day + (count + len(_left_out(day, found, timezone)) * (1 if count > 0 else -1)) * DAY) != found:
        found = then
    return found


def is_left_out(day: date, timezone: str) -> bool:
    """Whether a zone went from the day before to the day after, as Samoa did on 2011-12-30 when it crossed the date line."""
    return day in _days_left_out(timezone, day.year)


def _left_out(begin: date, end: date, timezone: str) -> list[date]:
    """The days from one to another that a zone left out; the first of them does not count, the last does."""
    first, last = min(begin, end), max(begin, end)
    years = range(first.year, last.year + 1)
    return [day for year in years for day in _days_left_out(timezone, year) if first <= day <= last and day != begin]


@lru_cache(maxsize=1024)
def _days_left_out(timezone: str, year: int) -> tuple[date, ...]:
    if timezone == "UTC":
        return ()
    days = (date.fromordinal(date(year, 1, 1).toordinal() + number) for number in range(366 if year < date.max.year else 365))
    # The first and the last day that Python knows have no midnight in UTC in every zone.
    inside = (day for day in days if day.year == year and date.min < day < date.max)
    return tuple(day for day in inside if local_day(midnight(day, timezone), timezone) != day)
