"""Purchase propensity: will a household buy from a category in the next 30 days?

This file says what the model is built from, and when. `spark_jobs/purchase_propensity.py` says how: it holds the functions
named below, which are called with the sources that they read.
"""

import os
from datetime import timedelta

from almanac import EventSource, FeatureGroup, Gate, Label, MovingWindow, Pipeline, Population, ReferenceSource
from almanac.airflow import build_dags

LANDING = os.environ.get("ALMANAC_LANDING", "s3://almanac/landing")
QUARTER = timedelta(days=90)
MONTH = timedelta(days=30)

build_dags(
    Pipeline(
        name="purchase_propensity",
        description="Will a household buy coffee in the next 30 days? Another category is one parameter away.",
        tags=("example",),
        entity="household_id",
        parameters={"category": "COFFEE"},
        # The data cover 2017. The features of a period look back 90 days from its end, so March is the first period with
        # all of its data.
        every="month",
        first_period="2017-03",
        last_period="2017-12",
        sources={
            "transactions": EventSource(
                f"{LANDING}/transactions/",
                event_time="transaction_timestamp",
                timezone="UTC",
                columns=(
                    "household_id",
                    "basket_id",
                    "product_id",
                    "quantity",
                    "sales_value",
                    "retail_disc",
                    "coupon_disc",
                    "coupon_match_disc",
                ),
            ),
            "demographics": ReferenceSource(
                f"{LANDING}/demographics/",
                columns=(
                    "household_id",
                    "age",
                    "income",
                    "household_size",
                    "kids_count",
                    "home_ownership",
                    "marital_status",
                ),
            ),
            "products": ReferenceSource(
                f"{LANDING}/products/",
                columns=("product_id", "department", "brand", "product_category"),
            ),
        },
        population=Population("households", reads=("transactions",), lookback=QUARTER),
        features=(
            FeatureGroup("event_counts", reads=("transactions", "products"), lookback=QUARTER),
            FeatureGroup("demographic_bands", reads=("demographics",)),
            FeatureGroup("catalogue_affinity", reads=("transactions", "products"), lookback=QUARTER),
        ),
        label=Label("buys_category", reads=("transactions", "products"), horizon=MONTH, absent=0),
        # Three monthly snapshots train a version. With 2,300 households, chance alone moves the difference of two AUCs
        # by some 0.004: a fresher version takes over unless it is clearly worse than the one in force.
        window=MovingWindow(periods=3),
        gate=Gate(metric="roc_auc", min_gain=-0.01, floor=0.70),
    )
)
