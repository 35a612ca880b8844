"""Links from a task in the UI to what it left on S3."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink


class ReportLink(BaseOperatorLink):
    """To the checks' report as a page, where the task is an audit. Signed for seven days when the task ends."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        from almanac.airflow import desk

        return desk.report_link(getattr(operator, "left_report", ""))
