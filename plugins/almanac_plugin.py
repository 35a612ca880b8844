"""The shim that Airflow's plugin loader finds; the package beside it is kept out of the loader by .airflowignore."""

from airflow.plugins_manager import AirflowPlugin

from almanac.airflow.links import ReportLink


class AlmanacPlugin(AirflowPlugin):
    """Registers the links that Almanac's tasks show in the UI."""

    name = "almanac"
    operator_extra_links = [ReportLink()]  # noqa: RUF012 - Airflow reads a plain list
