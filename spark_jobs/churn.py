"""Churn: will a household stay away for the next 30 days?

The plain functions that `dags/churn.py` names. A household has churned if it buys nothing in the 30 days from as_of. Its
rhythm is the signal: a household that comes twice a week and has not come for two weeks has left, one that comes once a
month has not. Sources are passed cut to [as_of - 90 days, as_of).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation
    from sklearn.base import BaseEstimator

LOOKBACK_DAYS = 90
RECENT_DAYS = 30
HOUR = 3600
DAY_HOURS = 24

# Null with too few baskets: a single visit has no gap.
RHYTHM = (
    "days_since_basket",
    "days_since_first_basket",
    "gap_mean_days",
    "gap_longest_days",
    "gaps_overdue",
)
ACTIVITY = (
    "baskets_recent_30d",
    "baskets_earlier_60d",
    "active_weeks",
    "spend_recent_30d",
    "spend_earlier_60d",
    "basket_spend_mean",
)
TRENDS = ("baskets_trend", "spend_trend")


def active_households(transactions: DataFrame) -> DataFrame:
    """The population: every household with a basket in the 90 days before as_of."""
    return transactions.select("household_id").distinct()


def basket_rhythm(transactions: DataFrame, as_of: datetime) -> DataFrame:
    """When a household comes, in days, counted in whole hours. A gap lies between two consecutive baskets.

    - `days_since_basket`, `days_since_first_basket`: before as_of; the first basket is the first within the 90 days
    - `gap_mean_days`, `gap_longest_days`: null with a single basket
    - `gaps_overdue`: the time since the last basket, in mean gaps; above 1 the household is overdue. Null without a gap
    - `active_weeks`: of the 13 weeks counted back from as_of, those with a basket
    """
    # Whole hours are summed, so that a mean does not depend on the order of rows.
    hours_ago = F.floor((F.unix_seconds(F.lit(as_of)) - F.unix_seconds("time")) / HOUR)
    in_order = Window.partitionBy("household_id").orderBy(F.desc("hours_ago"), "basket_id")
    visits = _baskets(transactions).select("household_id", "basket_id", hours_ago.alias("hours_ago"))
    gaps = visits.withColumn("gap", F.lag("hours_ago").over(in_order) - F.col("hours_ago"))
    rhythm = gaps.groupBy("household_id").agg(
        F.min("hours_ago").alias("since_last"),
        F.max("hours_ago").alias("since_first"),
        F.sum("gap").alias("gap_sum"),
        F.count("gap").alias("gap_count"),
        F.max("gap").alias("gap_longest"),
        F.countDistinct(F.floor(F.col("hours_ago") / (7 * DAY_HOURS))).alias("active_weeks"),
    )
    mean_gap = F.try_divide("gap_sum", "gap_count")
    return rhythm.select(
        "household_id",
        (F.col("since_last") / DAY_HOURS).alias("days_since_basket"),
        (F.col("since_first") / DAY_HOURS).alias("days_since_first_basket"),
        (mean_gap / DAY_HOURS).alias("gap_mean_days"),
        (F.col("gap_longest") / DAY_HOURS).alias("gap_longest_days"),
        F.try_divide(F.col("since_last"), mean_gap).alias("gaps_overdue"),
        "active_weeks",
    )


def spend_trend(transactions: DataFrame, as_of: datetime) -> DataFrame:
    """How much a household buys, and whether that grows: the last 30 days compared with the 60 days before them.

    - `baskets_recent_30d`, `baskets_earlier_60d`; `spend_recent_30d`, `spend_earlier_60d` in dollars
    - `basket_spend_mean`: dollars, over all 90 days
    - `baskets_trend`, `spend_trend`: the recent part's share of all 90 days: 0 is stopped, 1/3 is steady, 1 is new; null
      when nothing was spent
    """
    recent = F.col("time") >= F.lit(as_of - timedelta(days=RECENT_DAYS))
    totals = (
        _baskets(transactions)
        .groupBy("household_id")
        .agg(
            F.count_if(recent).alias("baskets_recent_30d"),
            F.count_if(~recent).alias("baskets_earlier_60d"),
            F.sum(F.when(recent, F.col("cents")).otherwise(0)).alias("recent_cents"),
            F.count("*").alias("baskets"),
            F.sum("cents").alias("cents"),
        )
    )
    return totals.select(
        "household_id",
        "baskets_recent_30d",
        "baskets_earlier_60d",
        (F.col("recent_cents") / 100).alias("spend_recent_30d"),
        ((F.col("cents") - F.col("recent_cents")) / 100).alias("spend_earlier_60d"),
        (F.col("cents") / F.col("baskets") / 100).alias("basket_spend_mean"),
        F.try_divide("baskets_recent_30d", "baskets").alias("baskets_trend"),
        F.try_divide("recent_cents", "cents").alias("spend_trend"),
    )


def churned(transactions: DataFrame) -> DataFrame:
    """The label: 0 for each household that comes in the 30 days from as_of. Absent households have churned (`absent=1`)."""
    return transactions.select("household_id").distinct().withColumn("label", F.lit(0))


def estimators() -> dict[str, BaseEstimator]:
    """The estimators, from raw features (a pandas frame of float32, NaN if missing) to the probability of churn."""
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import PowerTransformer, StandardScaler

    # A household with one basket has no gap that is shorter than the lookback.
    unseen_gap = SimpleImputer(strategy="constant", fill_value=np.float32(LOOKBACK_DAYS))
    nothing = SimpleImputer(strategy="constant", fill_value=np.float32(0))
    linear = ColumnTransformer(
        [
            ("rhythm", make_pipeline(unseen_gap, PowerTransformer()), list(RHYTHM)),
            ("activity", make_pipeline(nothing, PowerTransformer()), list(ACTIVITY)),
            ("trends", make_pipeline(nothing, StandardScaler()), list(TRENDS)),
        ]
    )
    select = ColumnTransformer([("numbers", "passthrough", [*RHYTHM, *ACTIVITY, *TRENDS])])
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=80, max_leaf_nodes=8, min_samples_leaf=40, early_stopping=False, random_state=0
    )
    return {
        "logistic": Pipeline([("prepare", linear), ("classify", LogisticRegression(max_iter=1000, random_state=0))]),
        "boosted": Pipeline([("prepare", select), ("classify", trees)]),
    }


def checks() -> dict[str, list[Expectation]]:
    """What must hold before a period is published: for its features, and for its predictions."""
    import great_expectations.expectations as gxe  # here, so that an executor that imports this module does not load it

    def between(column: str, low: float, high: float | None = None) -> Expectation:
        return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)

    return {
        "features": [
            gxe.ExpectColumnValuesToBeUnique(column="household_id"),
            *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in ("days_since_basket", *ACTIVITY)),
            *(between(column, 0) for column in (*ACTIVITY, "gaps_overdue")),
            *(between(column, 0, LOOKBACK_DAYS) for column in RHYTHM if column != "gaps_overdue"),
            *(between(column, 0, 1) for column in TRENDS),
            between("active_weeks", 1, 13),
        ],
        "predictions": [
            gxe.ExpectColumnValuesToBeUnique(column="household_id"),
            gxe.ExpectColumnValuesToNotBeNull(column="score"),
            between("score", 0, 1),
        ],
    }


def _baskets(transactions: DataFrame) -> DataFrame:
    """One row per basket: household_id, basket_id, time (of its last line), cents paid."""
    # Whole cents: a sum of floats would depend on the order of its rows.
    cents = F.round(F.col("sales_value") * 100).cast("long")
    return transactions.groupBy("household_id", "basket_id").agg(
        F.max("transaction_timestamp").alias("time"), F.sum(cents).alias("cents")
    )
