"""The DAGs of a pipeline, their operators and tasks. Only this room imports Airflow."""

from almanac.airflow.dags import build_dags

__all__ = ["build_dags"]
