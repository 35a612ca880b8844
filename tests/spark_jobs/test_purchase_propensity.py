"""The functions of purchase propensity, called as Almanac calls them: with sources cut to [as_of - 90 days, as_of)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import purchase_propensity as module
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

pytestmark = pytest.mark.spark

AS_OF = datetime(2017, 7, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)

COFFEE, TEA, STEAK, GASOLINE, FILTERS, NOT_IN_CATALOGUE = 1, 2, 3, 4, 5, 99
PRODUCTS = [
    (COFFEE, "GROCERY", "National", "COFFEE"),
    (TEA, "GROCERY", "Private", "TEAS"),
    (STEAK, "MEAT", "National", "BEEF"),
    (GASOLINE, "FUEL", "National", "COUPON/MISC ITEMS"),
    (FILTERS, "DRUG GM", "National", "COFFEE FILTERS"),
]

HOUSEHOLD, DRIVER, VISITOR = 10, 20, 30
LINES = [
    # household, basket, product, days before as_of, quantity, paid, the shop's discount, coupon
    (HOUSEHOLD, 100, COFFEE, 2, 2, 6.00, 0.00, 0.00),
    (HOUSEHOLD, 100, TEA, 2, 1, 1.50, 0.50, 0.00),
    (HOUSEHOLD, 101, STEAK, 20, 1, 12.50, 2.00, 1.00),
    (HOUSEHOLD, 102, COFFEE, 45, 1, 4.00, 1.50, 0.00),
    (HOUSEHOLD, 102, NOT_IN_CATALOGUE, 45, 1, 1.00, 0.00, 0.00),
    (DRIVER, 200, GASOLINE, 60, 12_345, 25.00, 0.00, 0.00),
    (VISITOR, 300, COFFEE, 80, 0, 0.00, 0.00, 0.00),
]


@pytest.fixture(scope="module")
def products(spark: SparkSession) -> DataFrame:
    columns = "product_id long, department string, brand string, product_category string"
    return spark.createDataFrame(PRODUCTS, columns).cache()


@pytest.fixture(scope="module")
def transactions(spark: SparkSession) -> DataFrame:
    return lines(spark, [(*line[:3], AS_OF - timedelta(days=line[3]), *line[4:]) for line in LINES]).cache()


@pytest.fixture(scope="module")
def demographics(spark: SparkSession) -> DataFrame:
    return bands(
        spark,
        [
            (1, "19-24", "Under 15K", "1", "0", "Renter", "Unmarried"),
            (2, "45-54", "100-124K", "2", "1", "Probable Homeowner", "Married"),
            (3, "65+", "250K+", "5+", "3+", "Homeowner", None),
            (4, "Unknown", None, "", "None/Unknown", "Probable Renter", "Unknown"),
        ],
    ).cache()


@pytest.fixture(scope="module")
def counts(transactions: DataFrame, products: DataFrame) -> dict[int, Row]:
    return by_household(module.event_counts(transactions, products, AS_OF))


@pytest.fixture(scope="module")
def affinity(transactions: DataFrame, products: DataFrame) -> dict[int, Row]:
    return by_household(module.catalogue_affinity(transactions, products, AS_OF, "COFFEE"))


def test_the_population_is_each_household_with_an_event_once(transactions: DataFrame) -> None:
    assert sorted(row.household_id for row in module.households(transactions).collect()) == [HOUSEHOLD, DRIVER, VISITOR]


def test_events_baskets_units_and_spend_are_counted_over_7_30_and_90_days(counts: dict[int, Row]) -> None:
    row = counts[HOUSEHOLD]
    assert (row.events_7d, row.events_30d, row.events_90d) == (2, 3, 5)
    assert (row.baskets_7d, row.baskets_30d, row.baskets_90d) == (1, 2, 3)
    assert (row.units_7d, row.units_30d, row.units_90d) == (3, 4, 6)
    assert (row.spend_7d, row.spend_30d, row.spend_90d) == (7.5, 20.0, 25.0)
    assert row.days_since_last_event == 2


def test_an_event_exactly_at_a_windows_beginning_counts_and_one_a_second_before_does_not(
    spark: SparkSession, products: DataFrame
) -> None:
    edges = [(days, AS_OF - timedelta(days=days) - early) for days in (7, 30) for early in (0 * SECOND, SECOND)]
    edges.append((90, AS_OF - timedelta(days=90)))
    events = [(HOUSEHOLD, basket, TEA, moment, 1, 1.0, 0.0, 0.0) for basket, (_, moment) in enumerate(edges)]
    row = module.event_counts(lines(spark, events), products, AS_OF).first()
    assert (row.events_7d, row.events_30d, row.events_90d) == (1, 3, 5)
    assert (row.baskets_7d, row.baskets_30d, row.baskets_90d) == (1, 3, 5)
    assert row.days_since_last_event == 7


def test_money_adds_up_to_the_cent(spark: SparkSession, products: DataFrame) -> None:
    events = [(HOUSEHOLD, 1, TEA, AS_OF - SECOND, 1, paid, 0.0, 0.0) for paid in (0.29, 0.29, 0.29)]
    row = module.event_counts(lines(spark, events), products, AS_OF).first()
    assert row.spend_7d == 0.87  # as floats: 0.8699999999999999
    assert row.days_since_last_event == 0


def test_events_are_counted_by_department_and_those_without_one_in_the_total_only(counts: dict[int, Row]) -> None:
    row = counts[HOUSEHOLD]
    by_department = {name: row[f"events_{name}_90d"] for name in module.DEPARTMENTS.values()}
    assert {name: number for name, number in by_department.items() if number} == {"grocery": 3, "meat": 1}
    assert row.events_90d == 5


def test_a_pumps_thousandths_of_a_gallon_count_as_one_unit(counts: dict[int, Row]) -> None:
    assert counts[DRIVER].units_90d == 1
    assert counts[DRIVER].events_fuel_90d == 1
    assert counts[DRIVER].spend_90d == 25.0


def test_the_discount_share_is_of_the_price_before_discounts_and_unknown_when_that_was_nothing(
    counts: dict[int, Row],
) -> None:
    # 25.00 paid after 4.00 of the shop's discounts and its 1.00 on top of a coupon.
    assert counts[HOUSEHOLD].discount_share_90d == 5.0 / 30.0
    assert counts[HOUSEHOLD].coupon_events_90d == 1
    assert counts[DRIVER].discount_share_90d == 0.0
    assert counts[VISITOR].discount_share_90d is None


def test_brand_and_department_shares_are_of_all_that_was_spent(affinity: dict[int, Row]) -> None:
    row = affinity[HOUSEHOLD]
    assert row.private_brand_spend_share == 1.5 / 25
    assert row.national_brand_spend_share == 22.5 / 25  # the rest is the line that the catalogue does not know
    assert row.department_grocery_spend_share == 11.5 / 25
    assert row.department_meat_spend_share == 12.5 / 25
    assert row.department_fuel_spend_share == 0
    assert row.departments_90d == 2
    assert affinity[VISITOR].department_grocery_spend_share is None


def test_the_categorys_history_is_its_own_lines_only(affinity: dict[int, Row]) -> None:
    row = affinity[HOUSEHOLD]
    assert (row.category_events_90d, row.category_units_90d, row.category_spend_90d) == (2, 3, 10.0)
    assert (row.category_baskets_30d, row.category_baskets_90d) == (1, 2)
    assert (row.category_spend_share, row.category_basket_share) == (10 / 25, 2 / 3)
    assert row.days_since_category == 2


def test_without_a_purchase_of_the_category_counts_are_zero_and_recency_is_unknown(affinity: dict[int, Row]) -> None:
    for household in (DRIVER, VISITOR):  # the visitor's line has a quantity of 0: a correction
        assert (affinity[household].category_events_90d, affinity[household].category_baskets_90d) == (0, 0)
        assert affinity[household].category_spend_90d == 0
        assert affinity[household].days_since_category is None


def test_a_bands_code_is_its_lower_bound_and_minus_one_when_unknown(demographics: DataFrame) -> None:
    rows = by_household(module.demographic_bands(demographics))
    assert [tuple(rows[household])[1:] for household in (1, 2, 3, 4)] == [
        (19, 0, 1, 0, 0, 0),
        (45, 100, 2, 1, 1, 1),
        (65, 250, 5, 3, 1, -1),
        (-1, -1, -1, -1, 0, -1),
    ]


def test_the_label_names_each_buyer_of_the_category_once(spark: SparkSession, products: DataFrame) -> None:
    bought = {HOUSEHOLD: (COFFEE, 1), DRIVER: (FILTERS, 1), VISITOR: (COFFEE, 0)}
    to_come = [
        (household, basket, product, AS_OF + timedelta(days=basket), quantity, 1.0, 0.0, 0.0)
        for household, (product, quantity) in bought.items()
        for basket in (0, 1)
    ]
    label = module.buys_category(lines(spark, to_come), products, "COFFEE")
    assert [row.asDict() for row in label.collect()] == [{"household_id": HOUSEHOLD, "label": 1}]


def test_every_group_gives_one_row_a_household_and_together_the_declared_columns(
    transactions: DataFrame, products: DataFrame, demographics: DataFrame
) -> None:
    groups = [
        module.event_counts(transactions, products, AS_OF),
        module.demographic_bands(demographics),
        module.catalogue_affinity(transactions, products, AS_OF, "COFFEE"),
    ]
    for group in groups:
        households = [row.household_id for row in group.select("household_id").collect()]
        assert len(households) == len(set(households)) > 0
    columns = [column for group in groups for column in group.columns if column != "household_id"]
    assert sorted(columns) == sorted(feature_columns())
    assert len(columns) == len(set(columns))


def test_the_estimators_take_missing_values_and_bands_never_seen() -> None:
    known, label = features(600)
    unseen, _ = features(5)
    unseen[list(module.BANDS)] = np.float32(77)
    for name, estimator in module.estimators().items():
        score = estimator.fit(known, label).predict_proba(unseen)[:, 1]
        assert score.shape == (5,), name
        assert ((score >= 0) & (score <= 1)).all(), name


def test_to_the_estimators_an_absent_household_is_one_of_unknown_bands() -> None:
    known, label = features(600)
    absent = known.copy()
    absent[list(module.BANDS)] = np.float32(np.nan)
    unknown = absent.fillna(dict.fromkeys(module.BANDS, np.float32(module.UNKNOWN_BAND)))
    for name, estimator in module.estimators().items():
        estimator.fit(known, label)
        assert (estimator.predict_proba(absent) == estimator.predict_proba(unknown)).all(), name


def test_the_checks_are_about_columns_that_exist() -> None:
    checks = module.checks()
    assert checked_columns(checks["features"]) == {"household_id", *feature_columns()}
    assert checked_columns(checks["predictions"]) == {"household_id", "score"}


def lines(spark: SparkSession, rows: list[tuple[Any, ...]]) -> DataFrame:
    """Purchased lines; a coupon of theirs was matched by the shop."""
    return spark.createDataFrame(
        [(*row, row[-1]) for row in rows],
        "household_id long, basket_id long, product_id long, transaction_timestamp timestamp, quantity long,"
        "sales_value double, retail_disc double, coupon_disc double, coupon_match_disc double",
    )


def bands(spark: SparkSession, rows: list[tuple[Any, ...]]) -> DataFrame:
    return spark.createDataFrame(
        rows,
        "household_id long, age string, income string, household_size string, kids_count string,"
        "home_ownership string, marital_status string",
    )


def by_household(frame: DataFrame) -> dict[int, Row]:
    return {row.household_id: row for row in frame.collect()}


def feature_columns() -> list[str]:
    return [*module.COUNTS, *module.SHARES, *module.RECENCIES, *module.BANDS]


def features(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """A frame as training sees it: float32, a tenth of it missing, and a label that follows two of its columns."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.gamma(2.0, size=(rows, len(feature_columns()))), columns=feature_columns())
    frame[list(module.BANDS)] = random.integers(-1, 4, size=(rows, len(module.BANDS)))
    buys = (frame["category_events_90d"] > 3) | (frame["age_band"] == module.UNKNOWN_BAND)
    label = buys.to_numpy().astype(int)
    return frame.mask(random.random(frame.shape) < 0.1).astype(np.float32), label


def checked_columns(expectations: list[Any]) -> set[str]:
    named = [getattr(each, field, None) for each in expectations for field in ("column", "column_A", "column_B")]
    return {column for column in named if column}
