"""The plugin that Airflow's loader finds; .airflowignore hides the package beside it from the loader."""

from airflow.plugins_manager import AirflowPlugin

from almanac.airflow.links import ReportLink
from almanac.airflow.timetable import UntilTimetable


class AlmanacPlugin(AirflowPlugin):
    """Registers the links of Almanac's tasks in the UI, and the schedule of pipelines whose data has ended."""

    name = "almanac"
    operator_extra_links = [ReportLink()]  # noqa: RUF012 - Airflow reads a plain list
    timetables = [UntilTimetable]  # noqa: RUF012
