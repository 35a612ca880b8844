"""Purchase propensity: will a household buy from a category in the next 30 days?

The plain functions that `dags/purchase_propensity.py` names. Almanac passes arguments by name: the sources that a
function reads, already cut to [as_of - 90 days, as_of), the moment `as_of` itself and the pipeline's parameters. Nothing
here knows about Airflow, S3 or periods, so each function can also be called from a notebook or a test.

A feature group returns one row per household. Two habits keep its numbers the same on every run: money is summed as whole
cents, because a sum of floats depends on the order of its rows, and a share is one division of two such sums.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation
    from sklearn.base import BaseEstimator

LOOKBACK_DAYS = 90
WINDOWS = (7, 30, 90)  # days before as_of

# The twelve departments with the most purchases, without MISCELLANEOUS: key rings, gift cards and unnamed items.
LARGEST = "GROCERY,DRUG GM,PRODUCE,MEAT-PCKGD,MEAT,DELI,PASTRY,NUTRITION,FUEL,SEAFOOD-PCKGD,SALAD BAR,COSMETICS"
DEPARTMENTS = {name: re.sub(r"\W+", "_", name.lower()) for name in LARGEST.split(",")}  # department to its part of a column name

# A pump reports thousandths of a gallon as its quantity (10,000 and more), which would drown every other purchase.
LARGEST_COUNTED_QUANTITY = 200

UNKNOWN_BAND = -1

# The columns of the feature groups, by how an estimator prepares them.
COUNTS = (
    *(f"{measure}_{days}d" for days in WINDOWS for measure in ("events", "baskets", "units", "spend")),
    *(f"events_{department}_90d" for department in DEPARTMENTS.values()),
    "coupon_events_90d",
    "departments_90d",
    "category_events_90d",
    "category_units_90d",
    "category_spend_90d",
    "category_baskets_30d",
    "category_baskets_90d",
)
SHARES = (
    "discount_share_90d",
    "private_brand_spend_share",
    "national_brand_spend_share",
    *(f"department_{department}_spend_share" for department in DEPARTMENTS.values()),
    "category_spend_share",
    "category_basket_share",
)
RECENCIES = ("days_since_last_event", "days_since_category")
BANDS = ("age_band", "income_band", "household_size_band", "kids_band", "owns_home", "is_married")


def households(transactions: DataFrame) -> DataFrame:
    """The population: every household that bought anything in the 90 days before as_of."""
    return transactions.select("household_id").distinct()


def event_counts(transactions: DataFrame, products: DataFrame, as_of: datetime) -> DataFrame:
    """How much a household shops. An event is one purchased line of a basket; a window is [as_of - N days, as_of).

    - `events_Nd`, `baskets_Nd`, `units_Nd`, `spend_Nd` (dollars paid), for 7, 30 and 90 days
    - `days_since_last_event`: whole days, 0 within the last 24 hours
    - `events_DEPARTMENT_90d`: lines by the product's department; a line whose product has none is in `events_90d` only
    - `discount_share_90d`: the shop's discounts, as a share of the price before them; null when that price was zero
    - `coupon_events_90d`: lines paid in part with a coupon
    """
    units = F.when(F.col("quantity") > LARGEST_COUNTED_QUANTITY, 1).otherwise(F.col("quantity"))
    discount = _cents("retail_disc") + _cents("coupon_match_disc")
    sums = {
        **{f"events_{days}d": _sum_where(_within(as_of, days), F.lit(1)) for days in WINDOWS},
        **{f"units_{days}d": _sum_where(_within(as_of, days), units) for days in WINDOWS},
        **{f"cents_{days}d": _sum_where(_within(as_of, days), _cents("sales_value")) for days in WINDOWS},
        **{f"events_{name}_90d": _sum_where(F.col("department") == key, F.lit(1)) for key, name in DEPARTMENTS.items()},
        "discount_cents": F.sum(discount),
        "coupon_events_90d": F.count_if((F.col("coupon_disc") > 0) | (F.col("coupon_match_disc") > 0)),
    }
    # Summing to baskets first counts the baskets of three windows without three distinct counts of all lines.
    baskets = (
        _with_product(transactions, products, "department")
        .groupBy("household_id", "basket_id")
        .agg(*(total.alias(name) for name, total in sums.items()), F.max("transaction_timestamp").alias("last_event"))
    )
    totals = baskets.groupBy("household_id").agg(
        *(F.sum(name).alias(name) for name in sums),
        *(F.count_if(F.col(f"events_{days}d") > 0).alias(f"baskets_{days}d") for days in WINDOWS),
        F.max("last_event").alias("last_event"),
    )
    return totals.select(
        "household_id",
        *(f"{measure}_{days}d" for days in WINDOWS for measure in ("events", "baskets", "units")),
        *((F.col(f"cents_{days}d") / 100).alias(f"spend_{days}d") for days in WINDOWS),
        _whole_days(F.col("last_event"), as_of).alias("days_since_last_event"),
        *(f"events_{department}_90d" for department in DEPARTMENTS.values()),
        _share(F.col("discount_cents"), F.col("cents_90d") + F.col("discount_cents")).alias("discount_share_90d"),
        "coupon_events_90d",
    )


def demographic_bands(demographics: DataFrame) -> DataFrame:
    """Who a household is, in bands that keep their order: a band's code is its lower bound.

    - `age_band`: "19-24" is 19, "65+" is 65
    - `income_band`: thousands of dollars a year; "Under 15K" is 0, "250K+" is 250
    - `household_size_band`, `kids_band`: persons; "5+" is 5
    - `owns_home`, `is_married`: 1 or 0, probable owners and renters included

    -1 means unknown. Most households are not in `demographics` at all: Almanac's join gives them null, which
    `estimators` treats as -1.
    """
    return demographics.select(
        "household_id",
        _band("age").alias("age_band"),
        _band("income").alias("income_band"),
        _band("household_size").alias("household_size_band"),
        _band("kids_count").alias("kids_band"),
        _yes_no("home_ownership", yes="homeowner", no="renter").alias("owns_home"),
        _yes_no("marital_status", yes="married", no="unmarried").alias("is_married"),
    )


def catalogue_affinity(transactions: DataFrame, products: DataFrame, as_of: datetime, category: str) -> DataFrame:
    """What a household buys, over the 90 days, and its history with the category in question.

    - `private_brand_spend_share`, `national_brand_spend_share`: shares of spend; a line without a product has neither
    - `department_DEPARTMENT_spend_share`: shares of spend; `departments_90d`: the number of departments, out of all
    - `category_events_90d`, `category_units_90d`, `category_spend_90d`, `category_baskets_30d`, `category_baskets_90d`
    - `category_spend_share`, `category_basket_share`: the category's share of spend and of baskets
    - `days_since_category`: whole days since the category was last bought; null when not within 90 days

    A share is null when nothing was spent.
    """
    lines = _with_product(transactions, products, "department", "brand", "product_category")
    in_category = _bought(category)
    cents = _cents("sales_value")
    spent = {
        "private_brand_spend_share": F.col("brand") == "Private",
        "national_brand_spend_share": F.col("brand") == "National",
        **{f"department_{column}_spend_share": F.col("department") == name for name, column in DEPARTMENTS.items()},
        "category_spend_share": in_category,
    }
    totals = lines.groupBy("household_id").agg(
        F.sum(cents).alias("cents"),
        F.countDistinct("basket_id").alias("baskets"),
        *(_sum_where(condition, cents).alias(name) for name, condition in spent.items()),
        F.countDistinct("department").alias("departments_90d"),
        F.count_if(in_category).alias("category_events_90d"),
        _sum_where(in_category, F.col("quantity")).alias("category_units_90d"),
        F.countDistinct(F.when(in_category & _within(as_of, 30), F.col("basket_id"))).alias("category_baskets_30d"),
        F.countDistinct(F.when(in_category, F.col("basket_id"))).alias("category_baskets_90d"),
        F.max(F.when(in_category, F.col("transaction_timestamp"))).alias("last_category"),
    )
    return totals.select(
        "household_id",
        "departments_90d",
        "category_events_90d",
        "category_units_90d",
        (F.col("category_spend_share") / 100).alias("category_spend_90d"),
        "category_baskets_30d",
        "category_baskets_90d",
        *(_share(F.col(name), F.col("cents")).alias(name) for name in spent),
        _share(F.col("category_baskets_90d"), F.col("baskets")).alias("category_basket_share"),
        _whole_days(F.col("last_category"), as_of).alias("days_since_category"),
    )


def buys_category(transactions: DataFrame, products: DataFrame, category: str) -> DataFrame:
    """The label: 1 for each household that buys the category. These transactions are those of the 30 days to come."""
    buyers = _with_product(transactions, products, "product_category").where(_bought(category))
    return buyers.select("household_id").distinct().withColumn("label", F.lit(1))


def estimators() -> dict[str, BaseEstimator]:
    """The estimators, each from raw features to a probability. X is a pandas frame of float32, NaN if missing.

    Both consist of parts that skl2onnx can export, and stay in float32 throughout, so that an ONNX export agrees with them.
    """
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, PowerTransformer, StandardScaler

    def fill(value: float) -> SimpleImputer:
        return SimpleImputer(strategy="constant", fill_value=np.float32(value))

    one_hot = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
    linear = ColumnTransformer(
        [
            # Counts and spend have long tails, which would otherwise dominate a linear model.
            ("counts", make_pipeline(fill(0), PowerTransformer()), list(COUNTS)),
            ("shares", make_pipeline(fill(0), StandardScaler()), list(SHARES)),
            ("recencies", make_pipeline(fill(LOOKBACK_DAYS), StandardScaler()), list(RECENCIES)),
            ("bands", make_pipeline(fill(UNKNOWN_BAND), one_hot), list(BANDS)),
        ]
    )
    # Trees handle missing values themselves; only the bands of an absent household get the code for unknown.
    named = ColumnTransformer(
        [("numbers", "passthrough", [*COUNTS, *SHARES, *RECENCIES]), ("bands", fill(UNKNOWN_BAND), list(BANDS))]
    )
    regression = LogisticRegression(C=0.005, max_iter=1000, random_state=0)
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=80, max_leaf_nodes=6, min_samples_leaf=80, early_stopping=False, random_state=0
    )
    return {
        "logistic": Pipeline([("prepare", linear), ("classify", regression)]),
        "boosted": Pipeline([("prepare", named), ("classify", trees)]),
    }


def checks() -> dict[str, list[Expectation]]:
    """What must hold before a period is published: for its features, and for its predictions."""
    import great_expectations.expectations as gxe  # here, so that an executor that imports this module does not load it

    def between(column: str, low: float, high: float | None = None) -> Expectation:
        return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)

    return {
        "features": [
            gxe.ExpectColumnValuesToBeUnique(column="household_id"),
            *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in COUNTS),
            *(between(column, 0) for column in COUNTS),
            *(between(column, 0, 1) for column in SHARES),
            *(between(column, 0, LOOKBACK_DAYS) for column in RECENCIES),
            between("events_90d", 1),  # the population consists of households that bought something
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="events_30d", column_B="events_7d", or_equal=True),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="events_90d", column_B="events_30d", or_equal=True),
            between("age_band", UNKNOWN_BAND, 120),
            between("income_band", UNKNOWN_BAND, 1000),
            gxe.ExpectColumnValuesToBeInSet(column="household_size_band", value_set=[UNKNOWN_BAND, 1, 2, 3, 4, 5]),
            gxe.ExpectColumnValuesToBeInSet(column="kids_band", value_set=[UNKNOWN_BAND, 0, 1, 2, 3]),
            gxe.ExpectColumnValuesToBeInSet(column="owns_home", value_set=[UNKNOWN_BAND, 0, 1]),
            gxe.ExpectColumnValuesToBeInSet(column="is_married", value_set=[UNKNOWN_BAND, 0, 1]),
        ],
        "predictions": [
            gxe.ExpectColumnValuesToBeUnique(column="household_id"),
            gxe.ExpectColumnValuesToNotBeNull(column="score"),
            between("score", 0, 1),
        ],
    }


def _with_product(transactions: DataFrame, products: DataFrame, *columns: str) -> DataFrame:
    """Adds the product's columns. Some lines name a product that the catalogue lacks: they stay, with nulls."""
    return transactions.join(products.select("product_id", *columns), on="product_id", how="left")


def _bought(category: str) -> Column:
    """Whether a line is a purchase in the category. A quantity of 0 is a correction on the receipt, not a purchase."""
    return (F.col("product_category") == category) & (F.col("quantity") > 0)


def _within(as_of: datetime, days: int) -> Column:
    return F.col("transaction_timestamp") >= F.lit(as_of - timedelta(days=days))


def _sum_where(condition: Column, value: Column) -> Column:
    return F.sum(F.when(condition, value).otherwise(0))


def _cents(column: str) -> Column:
    return F.round(F.col(column) * 100).cast("long")


def _share(part: Column, whole: Column) -> Column:
    """A ratio, null if the whole is zero: Spark 4 refuses a plain division by zero."""
    return F.try_divide(part, whole)


def _whole_days(moment: Column, as_of: datetime) -> Column:
    return F.timestamp_diff("DAY", moment, F.lit(as_of))


def _band(column: str) -> Column:
    """A band's lower bound: its first number, but 0 for "Under ...", and UNKNOWN_BAND where the text has no number."""
    text = F.lower(F.trim(F.col(column)))
    first_number = F.regexp_extract(text, r"\d+", 0).try_cast("int")
    return F.coalesce(F.when(text.rlike(r"^(under|below|less|<)"), 0).otherwise(first_number), F.lit(UNKNOWN_BAND))


def _yes_no(column: str, *, yes: str, no: str) -> Column:
    """1 or 0 by the text's last word ("Probable Renter" is a renter), UNKNOWN_BAND for any other."""
    last_word = F.substring_index(F.lower(F.trim(F.col(column))), " ", -1)
    return F.when(last_word == yes, 1).when(last_word == no, 0).otherwise(UNKNOWN_BAND)
