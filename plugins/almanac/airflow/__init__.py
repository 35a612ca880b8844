"""The only room that knows Airflow: the DAGs of a pipeline, and the operators that they chain."""

from almanac.airflow.dags import build_dags

__all__ = ["build_dags"]
