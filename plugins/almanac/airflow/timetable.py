"""The schedule of a pipeline with a time zone or a last period. `almanac_plugin` registers it, so that Airflow can
read it back.
"""

from __future__ import annotations

from typing import Any

from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import DateTime, instance

from almanac.core.period import Calendar, Every, Period


class PeriodTimetable(CronDataIntervalTimetable):
    """A data interval for each period, and none that begins after the last one.

    Airflow's own timetable begins a day whose midnight occurs twice with the second one, so an hour would be in no period's
    interval, or in two; here the intervals are the periods themselves.

    A DAG's own `end_date` would also bind runs that a person starts: with a later logical date they would have no tasks.

    Args:
        calendar: how time is divided.
        last: the key of the last period, if there is one.
    """

    def __init__(self, calendar: Calendar, last: str | None = None) -> None:
        super().__init__(calendar.cron, calendar.timezone)
        self.calendar = calendar
        self.last = None if last is None else Period.parse(last, calendar)

    def serialize(self) -> dict[str, Any]:
        calendar, last = self.calendar, self.last
        return {
            "every": calendar.every.value,
            "timezone": calendar.timezone,
            "week_starts": calendar.week_starts,
            "last": None if last is None else last.key,
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PeriodTimetable:
        return cls(Calendar(Every(data["every"]), data["timezone"], data["week_starts"]), data["last"])

    def next_dagrun_info(self, **given: Any) -> Any:
        """The next data interval; None after the last one."""
        found = super().next_dagrun_info(**given)
        interval = found.data_interval if found is not None else None
        return found if interval is not None and (self.last is None or interval.start <= self.last.start) else None

    def _get_next(self, current: DateTime) -> DateTime:
        """The first beginning of a period after a moment."""
        return instance(Period.holding(current, self.calendar).end)

    def _get_prev(self, current: DateTime) -> DateTime:
        """The last beginning of a period before a moment."""
        period = Period.holding(current, self.calendar)
        return instance(period.start if period.start < current else period.plus(-1).start)
