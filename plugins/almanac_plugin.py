"""The shim that Airflow's plugin loader finds; the package beside it is kept out of the loader by .airflowignore."""

from airflow.plugins_manager import AirflowPlugin

from almanac.airflow.links import ReportLink
from almanac.airflow.timetable import UntilTimetable


class AlmanacPlugin(AirflowPlugin):
    """Registers the links that Almanac's tasks show in the UI, and the schedule of pipelines whose data has ended."""

    name = "almanac"
    operator_extra_links = [ReportLink()]  # noqa: RUF012 - Airflow reads a plain list
    timetables = [UntilTimetable]  # noqa: RUF012
