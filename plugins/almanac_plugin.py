"""The plugin that Airflow's loader finds in its plugins folder; .airflowignore hides the package beside it from the loader."""

from almanac.airflow.plugin import AlmanacPlugin

__all__ = ["AlmanacPlugin"]
