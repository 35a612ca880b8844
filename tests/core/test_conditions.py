"""Conditions: how each is read, and which versions fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from almanac.core.conditions import Candidate, Conditions, Fate, MetricBound, age, bound, newest_first, period, since
from almanac.core.notes import Note
from tests.support.records import NOON

FOUND = Candidate(
    pipeline="shop",
    version="2017-06-ea02faee",
    period="2017-06",
    estimator="logistic",
    classes=("Pipeline", "StandardScaler", "LogisticRegression"),
    features=("visits", "baskets_30d"),
    metrics={"roc_auc": 0.8, "log_loss": 0.5},
    trained=NOON,
    fates=(Fate.PROMOTED, Fate.WITHDRAWN),
    notes=(Note(text="The sales week", tags=("campaign",), actor="ann", at=NOON), Note(text="x", tags=("b",), actor="", at=None)),
)


def test_without_conditions_every_version_fits() -> None:
    assert Conditions().fit(FOUND)
    assert Conditions().fit(replace(FOUND, trained=None, notes=(), metrics={}, features=(), classes=(), estimator=""))


@pytest.mark.parametrize(
    "asked",
    [
        {"estimator": "LOGISTIC"},
        {"estimator": "logisticregression"},
        {"estimator": "scaler"},
        {"since": NOON},
        {"since": NOON - timedelta(days=1)},
        {"features": ("baskets_30d", "visits")},
        {"period": "2017-06"},
        {"metrics": (MetricBound(metric="roc_auc", sign=">=", value=0.8), MetricBound(metric="log_loss", sign="<", value=0.51))},
        {"fates": (Fate.PROMOTED,)},
        {"fates": (Fate.WITHDRAWN, Fate.PROMOTED)},
        {"note": "SALES"},
        {"tags": ("b", "campaign")},
        {"estimator": "logistic", "period": "2017-06", "tags": ("b",)},
    ],
)
def test_a_version_fits_what_it_is(asked: dict[str, Any]) -> None:
    assert Conditions(**asked).fit(FOUND)


@pytest.mark.parametrize(
    "asked",
    [
        {"estimator": "forest"},
        {"since": NOON + timedelta(seconds=1)},
        {"features": ("baskets_30d", "baskets")},
        {"period": "2017-07"},
        {"metrics": (MetricBound(metric="roc_auc", sign=">", value=0.8),)},
        {"metrics": (MetricBound(metric="brier_score", sign="<", value=1.0),)},
        {"fates": (Fate.REJECTED,)},
        {"fates": (Fate.PROMOTED, Fate.REJECTED)},
        {"note": "holiday"},
        {"tags": ("camp",)},
        {"estimator": "logistic", "period": "2017-07"},
    ],
)
def test_a_version_does_not_fit_where_one_condition_fails(asked: dict[str, Any]) -> None:
    assert not Conditions(**asked).fit(FOUND)


def test_a_version_whose_training_time_nobody_knows_was_not_trained_since() -> None:
    assert not Conditions(since=NOON).fit(replace(FOUND, trained=None))


def test_the_one_that_was_trained_last_comes_first_and_those_of_unknown_time_last() -> None:
    unknown, old, new = (
        replace(FOUND, version=str(number), trained=at) for number, at in enumerate([None, NOON, NOON + timedelta(1)])
    )

    assert newest_first([unknown, new, old]) == newest_first([old, unknown, new]) == [new, old, unknown]


# --- how each is read ---


def test_an_age_is_a_number_of_hours_days_or_weeks() -> None:
    assert (age("36h"), age("7d"), age(" 2w ")) == (timedelta(hours=36), timedelta(days=7), timedelta(days=14))


def test_since_is_so_long_ago_or_the_beginning_of_a_day() -> None:
    assert since("36h", NOON) == NOON - timedelta(hours=36)
    assert since("9999w", NOON) < datetime(1850, 1, 1, tzinfo=UTC)
    assert since("2017-01-01", NOON) == datetime(2017, 1, 1, tzinfo=UTC)


def test_a_bound_is_a_metric_a_sign_and_a_number() -> None:
    assert bound("roc_auc>=0.8") == MetricBound(metric="roc_auc", sign=">=", value=0.8)
    assert bound(" log_loss < 1 ") == MetricBound(metric="log_loss", sign="<", value=1.0)


def test_a_period_is_a_month_or_a_day() -> None:
    assert (period("2017-09"), period("2017-09-05")) == ("2017-09", "2017-09-05")


REFUSED: list[tuple[Callable[[str], object], list[str], str]] = [
    (
        age,
        ["soon", "7", "d", "-7d", "7 days", "10000w", ""],
        "expected a number of hours, days or weeks, such as 36h, 7d or 2w; got {}.",
    ),
    (
        lambda text: since(text, NOON),
        ["soon", "2017-13-01", "2017-01", "01.01.2017", ""],
        "expected how long ago (36h, 7d, 2w) or a day such as 2017-01-01; got {}.",
    ),
    (
        bound,
        ["auc>=0.8", "roc_auc", "roc_auc=0.8", "roc_auc>=high", "roc_auc>=0.8>1", ""],
        "expected one of roc_auc, average_precision, log_loss, brier_score, accuracy, f1_macro, roc_auc_ovr, rmse, mae, r2 "
        "with a sign (>=, <=, >, <) and a number, such as roc_auc>=0.8; got {}. Quote it, so that the shell does not interpret "
        "the sign.",
    ),
    (
        period,
        ["2017", "2017-13", "June", "2017-9", ""],
        "expected a period's key, a month such as 2017-09, a quarter such as 2017-Q3 or a day such as 2017-09-04; got {}.",
    ),
]


@pytest.mark.parametrize(("read", "text", "told"), [(read, text, told) for read, texts, told in REFUSED for text in texts])
def test_what_cannot_be_read_is_refused_with_an_example(read: Callable[[str], object], text: str, told: str) -> None:
    with pytest.raises(ValueError) as refused:
        read(text)

    assert str(refused.value) == told.format(repr(text))
