"""Links from a task in the UI to what it wrote to S3."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink


class ReportLink(BaseOperatorLink):
    """Links to the report of an audit. The link is signed when the task ends and is valid for seven days."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        from almanac.store.objects import Objects

        uri = getattr(operator, "left_report", "")
        return Objects().signed(uri) if uri else ""
