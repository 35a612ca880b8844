"""The schedule of a pipeline whose data has ended. `almanac_plugin` registers it, so that Airflow can read it back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.timetables.interval import CronDataIntervalTimetable


class UntilTimetable(CronDataIntervalTimetable):
    """A data interval for each period, and none that begins after the last one.

    A DAG's own `end_date` would also bind runs that a person starts: with a later logical date they would have no tasks.

    Args:
        last: where the last data interval begins.
    """

    def __init__(self, cron: str, timezone: str, last: datetime) -> None:
        super().__init__(cron, timezone)
        self.last = last

    def serialize(self) -> dict[str, Any]:
        return {**super().serialize(), "last": self.last.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> UntilTimetable:
        return cls(data["expression"], data["timezone"], datetime.fromisoformat(data["last"]))

    def next_dagrun_info(self, **given: Any) -> Any:
        """The next data interval; None after the last one."""
        found = super().next_dagrun_info(**given)
        interval = found.data_interval if found is not None else None
        return found if interval is not None and interval.start <= self.last else None
