"""Churn: will a household stay away for the next 30 days? Its functions are in `spark_jobs/churn.py`."""

import os
from datetime import timedelta

from almanac import EventSource, FeatureGroup, Gate, Label, MovingWindow, Pipeline, Population
from almanac.airflow import build_dags

LANDING = os.environ.get("ALMANAC_LANDING", "s3://almanac/landing")
QUARTER = timedelta(days=90)
MONTH = timedelta(days=30)

build_dags(
    Pipeline(
        name="churn",
        description="Will a household stay away for the next 30 days?",
        tags=("example",),
        entity="household_id",
        every="month",
        first_period="2017-03",
        last_period="2017-12",
        sources={
            "transactions": EventSource(
                f"{LANDING}/transactions/",
                event_time="transaction_timestamp",
                timezone="UTC",
                columns=("household_id", "basket_id", "sales_value"),
            ),
        },
        population=Population("active_households", reads=("transactions",), lookback=QUARTER),
        features=(
            FeatureGroup("basket_rhythm", reads=("transactions",), lookback=QUARTER),
            FeatureGroup("spend_trend", reads=("transactions",), lookback=QUARTER),
        ),
        # A household that is not seen in the 30 days has churned.
        label=Label("churned", reads=("transactions",), horizon=MONTH, absent=1),
        # A fresher version takes over unless it is clearly worse: chance alone moves an AUC by a few thousandths.
        window=MovingWindow(periods=3),
        gate=Gate(metric="roc_auc", min_gain=-0.01, floor=0.75),
    )
)
