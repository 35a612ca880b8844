"""The functions of churn, called as Almanac calls them: with transactions cut to [as_of - 90 days, as_of)."""

from datetime import UTC, datetime, timedelta

import churn as module
import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

pytestmark = pytest.mark.spark

AS_OF = datetime(2017, 7, 1, tzinfo=UTC)

REGULAR, NEWCOMER, TWICE_AT_ONCE = 1, 2, 3
LINES = [
    # household, basket, days before as_of, paid
    (REGULAR, 10, 80.0, 30.0),
    (REGULAR, 11, 60.0, 10.0),
    (REGULAR, 11, 60.0, 5.0),
    (REGULAR, 12, 40.0, 20.0),
    (REGULAR, 13, 30.0, 35.0),
    (NEWCOMER, 20, 1.5, 0.29),
    (NEWCOMER, 20, 1.5, 0.29),
    (NEWCOMER, 20, 1.5, 0.29),
    (TWICE_AT_ONCE, 30, 50.0, 0.0),
    (TWICE_AT_ONCE, 31, 50.0, 0.0),
]


@pytest.fixture(scope="module")
def transactions(spark: SparkSession) -> DataFrame:
    rows = [(household, basket, AS_OF - timedelta(days=days), paid) for household, basket, days, paid in LINES]
    columns = "household_id long, basket_id long, transaction_timestamp timestamp, sales_value double"
    return spark.createDataFrame(rows, columns).cache()


@pytest.fixture(scope="module")
def rhythm(transactions: DataFrame) -> dict[int, Row]:
    return {row.household_id: row for row in module.basket_rhythm(transactions, AS_OF).collect()}


@pytest.fixture(scope="module")
def trend(transactions: DataFrame) -> dict[int, Row]:
    return {row.household_id: row for row in module.spend_trend(transactions, AS_OF).collect()}


def test_the_population_is_each_household_with_a_basket_once(transactions: DataFrame) -> None:
    found = [row.household_id for row in module.active_households(transactions).collect()]
    assert sorted(found) == [REGULAR, NEWCOMER, TWICE_AT_ONCE]


def test_gaps_lie_between_baskets_and_not_between_their_lines(rhythm: dict[int, Row]) -> None:
    row = rhythm[REGULAR]  # gaps of 20, 20 and 10 days
    assert row.gap_mean_days == pytest.approx(50 / 3)
    assert row.gap_longest_days == 20
    assert (row.days_since_basket, row.days_since_first_basket) == (30, 80)
    assert row.gaps_overdue == pytest.approx(30 / (50 / 3))
    assert row.active_weeks == 4


def test_a_single_basket_has_a_recency_but_no_gap(rhythm: dict[int, Row]) -> None:
    row = rhythm[NEWCOMER]
    assert (row.days_since_basket, row.days_since_first_basket, row.active_weeks) == (1.5, 1.5, 1)
    assert (row.gap_mean_days, row.gap_longest_days, row.gaps_overdue) == (None, None, None)


def test_with_baskets_only_at_one_moment_nobody_can_be_overdue(rhythm: dict[int, Row]) -> None:
    row = rhythm[TWICE_AT_ONCE]
    assert (row.gap_mean_days, row.gap_longest_days, row.gaps_overdue) == (0, 0, None)


def test_a_basket_exactly_30_days_ago_is_recent(trend: dict[int, Row]) -> None:
    row = trend[REGULAR]
    assert (row.baskets_recent_30d, row.baskets_earlier_60d) == (1, 3)
    assert (row.spend_recent_30d, row.spend_earlier_60d) == (35.0, 65.0)
    assert (row.basket_spend_mean, row.baskets_trend, row.spend_trend) == (25.0, 0.25, 0.35)


def test_a_newcomers_trend_is_one_and_money_adds_up_to_the_cent(trend: dict[int, Row]) -> None:
    row = trend[NEWCOMER]
    assert (row.baskets_trend, row.spend_trend) == (1, 1)
    assert row.spend_recent_30d == row.basket_spend_mean == 0.87  # as floats: 0.8699999999999999


def test_a_trend_of_spend_is_unknown_when_nothing_was_spent(trend: dict[int, Row]) -> None:
    assert trend[TWICE_AT_ONCE].spend_trend is None
    assert trend[TWICE_AT_ONCE].baskets_trend == 0


def test_the_label_is_zero_for_each_household_that_comes(transactions: DataFrame) -> None:
    label = {row.household_id: row.label for row in module.churned(transactions).collect()}
    assert label == {REGULAR: 0, NEWCOMER: 0, TWICE_AT_ONCE: 0}


def test_every_group_gives_one_row_a_household_and_together_the_declared_columns(transactions: DataFrame) -> None:
    groups = [module.basket_rhythm(transactions, AS_OF), module.spend_trend(transactions, AS_OF)]
    for group in groups:
        assert sorted(row.household_id for row in group.collect()) == [REGULAR, NEWCOMER, TWICE_AT_ONCE]
    columns = [column for group in groups for column in group.columns if column != "household_id"]
    assert sorted(columns) == sorted(feature_columns())


def test_the_estimators_take_missing_values_and_rank_the_overdue_higher() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.gamma(2.0, size=(300, len(feature_columns()))), columns=feature_columns())
    label = (frame["gaps_overdue"] > 2).to_numpy().astype(int)
    known = frame.mask(random.random(frame.shape) < 0.1).astype(np.float32)
    asked = frame.head(2).astype(np.float32)
    asked["gaps_overdue"] = np.float32([0.1, 6.0])
    asked["gap_mean_days"] = np.float32(np.nan)
    for name, estimator in module.estimators().items():
        early, overdue = estimator.fit(known, label).predict_proba(asked)[:, 1]
        assert 0 <= early < overdue <= 1, name


def test_the_checks_are_about_columns_that_exist() -> None:
    checks = module.checks()
    assert {each.column for each in checks["features"]} == {"household_id", *feature_columns()}
    assert {each.column for each in checks["predictions"]} == {"household_id", "score"}


def feature_columns() -> list[str]:
    return [*module.RHYTHM, *module.ACTIVITY, *module.TRENDS]
