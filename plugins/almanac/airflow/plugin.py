"""Almanac's plugin for Airflow: the links of its tasks in the UI, the schedule of pipelines with a time zone or a last period,
and why runs were skipped.

An installed Almanac is found by its entry point, `installed`; one in Airflow's plugins folder by `almanac_plugin.py` there.
"""

from __future__ import annotations

from pathlib import Path

from airflow import settings
from airflow.plugins_manager import AirflowPlugin

from almanac.airflow import notes
from almanac.airflow.links import ReportLink
from almanac.airflow.timetable import PeriodTimetable


class AlmanacPlugin(AirflowPlugin):
    """Registers the links, the timetable and the notes."""

    name = "almanac"
    operator_extra_links = [ReportLink()]  # noqa: RUF012 - Airflow reads a plain list
    timetables = [PeriodTimetable]  # noqa: RUF012
    listeners = [notes]  # noqa: RUF012


# None where the plugins folder registers it: Airflow reports a second plugin of one name as an import error.
installed = None if Path(settings.PLUGINS_FOLDER or "", "almanac_plugin.py").is_file() else AlmanacPlugin
