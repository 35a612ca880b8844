"""The plugin that Airflow's loader finds; .airflowignore hides the package beside it from the loader."""

from airflow.plugins_manager import AirflowPlugin

from almanac.airflow.links import ReportLink


class AlmanacPlugin(AirflowPlugin):
    """Registers the links of Almanac's tasks in the UI."""

    name = "almanac"
    operator_extra_links = [ReportLink()]  # noqa: RUF012 - Airflow reads a plain list
