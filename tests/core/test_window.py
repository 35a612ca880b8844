"""The moving window: the examples of each retrain, and that no training label reaches into the holdout."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almanac import EventSource, Late, ReferenceSource
from almanac.core.canonical import decode, digest, encode
from almanac.core.label import Label
from almanac.core.period import Calendar, Every, Period
from almanac.core.target import MULTICLASS, REGRESSION, Target
from almanac.core.window import Examples, MovingWindow, check_classes, examples
from almanac.errors import DataError, DescriptionError
from tests.support.calendars import CALENDARS
from tests.support.shop import pipeline

SIZES = Target(MULTICLASS, ("low", "middle", "high"))
LONG_AGO = Period.parse("2010-01", Calendar(Every.MONTH))


def month(key: str) -> Period:
    return Period.parse(key, Calendar(Every.MONTH))


def label(days: int = 30, lag: int = 0) -> Label:
    return Label("returns", reads=("visits",), horizon=timedelta(days=days), lag=timedelta(days=lag))


def windows(year: int, wanted: Label) -> list[tuple[str, str, str]]:
    """Retrain, its training periods, its holdout; for each month of a year."""
    found = []
    for number in range(1, 13):
        retrained = month(f"{year}-{number:02d}")
        given = examples(retrained, MovingWindow(3), wanted, LONG_AGO)
        found.append((retrained.key, " ".join(given.training), given.holdout))
    return found


def test_the_retrain_of_2017_07_trains_on_03_to_05_and_is_judged_on_06() -> None:
    found = examples(month("2017-07"), MovingWindow(3), label(), month("2017-03"))

    assert found == Examples(training=("2017-03", "2017-04", "2017-05"), holdout="2017-06")
    assert found.periods == ("2017-03", "2017-04", "2017-05", "2017-06")


def test_the_windows_of_two_years_are_these() -> None:
    """A label of 30 days is not known after February's 28: 2017-02 has the holdout of 2017-01, and 2017-03 steps over it."""
    assert [*windows(2017, label()), *windows(2018, label())] == [
        ("2017-01", "2016-09 2016-10 2016-11", "2016-12"),
        ("2017-02", "2016-09 2016-10 2016-11", "2016-12"),
        ("2017-03", "2016-10 2016-11 2016-12", "2017-02"),
        ("2017-04", "2016-12 2017-01 2017-02", "2017-03"),
        ("2017-05", "2017-01 2017-02 2017-03", "2017-04"),
        ("2017-06", "2017-02 2017-03 2017-04", "2017-05"),
        ("2017-07", "2017-03 2017-04 2017-05", "2017-06"),
        ("2017-08", "2017-04 2017-05 2017-06", "2017-07"),
        ("2017-09", "2017-05 2017-06 2017-07", "2017-08"),
        ("2017-10", "2017-06 2017-07 2017-08", "2017-09"),
        ("2017-11", "2017-07 2017-08 2017-09", "2017-10"),
        ("2017-12", "2017-08 2017-09 2017-10", "2017-11"),
        ("2018-01", "2017-09 2017-10 2017-11", "2017-12"),
        ("2018-02", "2017-09 2017-10 2017-11", "2017-12"),
        ("2018-03", "2017-10 2017-11 2017-12", "2018-02"),
        ("2018-04", "2017-12 2018-01 2018-02", "2018-03"),
        ("2018-05", "2018-01 2018-02 2018-03", "2018-04"),
        ("2018-06", "2018-02 2018-03 2018-04", "2018-05"),
        ("2018-07", "2018-03 2018-04 2018-05", "2018-06"),
        ("2018-08", "2018-04 2018-05 2018-06", "2018-07"),
        ("2018-09", "2018-05 2018-06 2018-07", "2018-08"),
        ("2018-10", "2018-06 2018-07 2018-08", "2018-09"),
        ("2018-11", "2018-07 2018-08 2018-09", "2018-10"),
        ("2018-12", "2018-08 2018-09 2018-10", "2018-11"),
    ]


def test_with_a_label_lag_of_one_day_months_of_30_days_step_back_as_well() -> None:
    assert windows(2017, label(lag=1)) == [
        ("2017-01", "2016-09 2016-10 2016-11", "2016-12"),
        ("2017-02", "2016-09 2016-10 2016-11", "2016-12"),
        ("2017-03", "2016-10 2016-11 2016-12", "2017-02"),
        ("2017-04", "2016-10 2016-11 2016-12", "2017-02"),
        ("2017-05", "2017-01 2017-02 2017-03", "2017-04"),
        ("2017-06", "2017-01 2017-02 2017-03", "2017-04"),
        ("2017-07", "2017-03 2017-04 2017-05", "2017-06"),
        ("2017-08", "2017-04 2017-05 2017-06", "2017-07"),
        ("2017-09", "2017-04 2017-05 2017-06", "2017-07"),
        ("2017-10", "2017-06 2017-07 2017-08", "2017-09"),
        ("2017-11", "2017-06 2017-07 2017-08", "2017-09"),
        ("2017-12", "2017-08 2017-09 2017-10", "2017-11"),
    ]


def test_a_leap_years_february_is_long_enough_for_29_days_and_a_common_ones_is_not() -> None:
    assert examples(month("2016-02"), MovingWindow(1), label(29), LONG_AGO).holdout == "2016-01"
    assert examples(month("2017-02"), MovingWindow(1), label(29), LONG_AGO).holdout == "2016-12"


@given(
    moment=st.datetimes(min_value=datetime(2012, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC)),
    calendar=CALENDARS,
    horizon=st.integers(1, 120),
    lag=st.integers(0, 40),
    periods=st.integers(1, 12),
)
def test_no_training_label_reaches_into_the_holdout(
    moment: datetime, calendar: Calendar, horizon: int, lag: int, periods: int
) -> None:
    retrained = Period.holding(moment, calendar)
    # Far enough back for the label, the embargo and the window, at the longest.
    first = Period.holding(moment - timedelta(days=2 * (horizon + lag) + 92 * (periods + 3)), calendar)
    wanted = label(horizon, lag)
    found = examples(retrained, MovingWindow(periods), wanted, first)
    holdout = Period.parse(found.holdout, calendar)
    training = [Period.parse(key, calendar) for key in found.training]

    assert all(period.as_of + wanted.horizon <= holdout.as_of for period in training)
    known = wanted.horizon + wanted.lag
    assert holdout.as_of + known <= retrained.as_of < holdout.plus(1).as_of + known
    assert len(training) == periods
    assert training == list(training[0].until(training[-1])), "no period is left out within the window"
    assert training[-1].plus(1).as_of + wanted.horizon > holdout.as_of, "the newest that the embargo allows"


def test_too_few_labelled_periods_are_refused_with_what_there_is_and_what_to_do() -> None:
    with pytest.raises(DataError) as refused:
        examples(month("2017-06"), MovingWindow(3), label(), month("2017-03"))

    assert str(refused.value) == (
        "The retrain for 2017-06 has 2 labelled training periods before its holdout, expected at least 3. "
        "The pipeline begins with 2017-03; a label takes 30 days to be known. "
        "The first period that can be retrained is 2017-07. Retrain that or a later one, or lower MovingWindow.minimum."
    )


def test_a_retrain_before_any_label_is_known_is_refused() -> None:
    with pytest.raises(DataError, match=r"has 0 labelled training periods .* a label takes 31 days to be known"):
        examples(month("2017-03"), MovingWindow(1), label(lag=1), month("2017-03"))


def test_a_minimum_lets_a_young_pipeline_train_on_what_there_is() -> None:
    found = examples(month("2017-06"), MovingWindow(3, minimum=2), label(), month("2017-03"))

    assert found == Examples(training=("2017-03", "2017-04"), holdout="2017-05")


@pytest.mark.parametrize(
    ("counts", "listed"),
    [
        ({"2017-04": {0: 8, 1: 2}, "2017-05": {0: 10}}, "The label of 2017-05 has one class (0: 10 rows)"),
        ({"2017-04": {0: 0, 1: 7}}, "The label of 2017-04 has one class (1: 7 rows)"),
        ({"2017-04": {0: 0, 1: 0}}, "The label of 2017-04 has one class (no rows)"),
        ({"2017-04": {}}, "The label of 2017-04 has one class (no rows)"),
    ],
)
def test_a_snapshot_of_a_single_class_is_refused_by_name(counts: dict[str, dict[int, int]], listed: str) -> None:
    with pytest.raises(DataError) as refused:
        check_classes(counts, Target())

    assert str(refused.value) == (
        f"{listed}, expected two. Check the label's function and the sources for the days after the period's end."
    )


def test_snapshots_of_two_classes_are_let_through() -> None:
    check_classes({"2017-04": {0: 8, 1: 2}, "2017-05": {0: 1, 1: 1}}, Target())


@pytest.mark.parametrize(
    ("target", "counts", "text"),
    [
        (SIZES, {"low": 8, "high": 2}, "has no rows of class middle (low: 8 rows, middle: 0 rows, high: 2 rows), expected"),
        (SIZES, {"low": 8, "middle": 0}, "has no rows of class middle, high (low: 8 rows, middle: 0 rows, high: 0 rows)"),
        (SIZES, {}, "has no rows of class low, middle, high (low: 0 rows, middle: 0 rows, high: 0 rows), expected"),
        (Target(REGRESSION), {2.5: 10}, "has one value (2.5: 10 rows), expected more. Check the label's function"),
        (Target(REGRESSION), {}, "has one value (no rows), expected more. Check the label's function"),
    ],
)
def test_a_snapshot_without_a_class_or_of_a_single_value_is_refused(target: Target, counts: Any, text: str) -> None:
    with pytest.raises(DataError) as refused:
        check_classes({"2017-04": {"low": 1, "middle": 1, "high": 1}, "2017-05": counts}, target)

    assert str(refused.value).startswith(f"The label of 2017-05 {text}")


def test_snapshots_of_every_class_and_of_two_values_are_let_through() -> None:
    check_classes({"2017-04": {"low": 1, "middle": 2, "high": 1}}, SIZES)
    check_classes({"2017-04": {2.5: 1, 3.5: 2}}, Target(REGRESSION))


@pytest.mark.parametrize(
    ("periods", "minimum", "text"),
    [
        (0, None, "MovingWindow.periods: expected 1 or more, got 0."),
        (3, 0, "MovingWindow.minimum: expected 1 to periods (3), got 0."),
        (3, 4, "MovingWindow.minimum: expected 1 to periods (3), got 4."),
    ],
)
def test_a_window_that_cannot_be_is_refused(periods: int, minimum: int | None, text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        MovingWindow(periods, minimum=minimum)

    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "my label"}, "Label.name: expected the name of a function, got 'my label'."),
        ({"reads": ()}, "Label('returns').reads: expected a tuple of source names, at least one; got ()."),
        ({"reads": "visits"}, "Label('returns').reads: expected a tuple of source names, at least one; got 'visits'."),
        ({"horizon": timedelta(0)}, "Label.horizon: expected more than zero, got 0:00:00."),
        ({"lag": timedelta(days=-1)}, "Label.lag: expected zero or more, got -1 day, 0:00:00."),
        ({"absent": 2}, "Label.absent: expected 0 and 1, or None, for a binary label; got 2."),
        ({"kind": "ordinal"}, "Label.kind: expected one of 'binary', 'multiclass', 'regression'; got 'ordinal'."),
        (
            {"kind": "multiclass", "classes": SIZES.classes, "absent": 0},
            "Label.absent: expected low, middle, high, or None, for a multiclass label; got 0.",
        ),
        (
            {"kind": "regression", "absent": float("nan")},
            "Label.absent: expected finite numbers, or None, for a regression label; got nan.",
        ),
    ],
)
def test_a_label_that_cannot_be_is_refused(changes: dict[str, object], text: str) -> None:
    described: dict[str, object] = {"name": "returns", "reads": ("visits",), "horizon": timedelta(days=30)}
    with pytest.raises(DescriptionError) as refused:
        Label(**{**described, **changes})  # type: ignore[arg-type]

    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("target", "absent"), [(Target(), 1), (SIZES, "low"), (Target(REGRESSION), 0), (Target(REGRESSION), 2.5), (SIZES, None)]
)
def test_a_label_of_every_kind_is_read_as_it_was_written(target: Target, absent: Any) -> None:
    described = Label(
        "size", reads=("visits",), horizon=timedelta(days=30), absent=absent, kind=target.kind, classes=target.classes
    )

    assert decode(Label, encode(described)) == described
    assert described.target == target


def test_a_binary_label_is_written_as_it_was_before_there_were_kinds() -> None:
    assert encode(label()) == {"name": "returns", "reads": ["visits"], "horizon": 2592000.0, "lag": 0.0, "absent": None}
    assert digest(label()) == "6a556c09ccb69ab1f148e6df433bc579d932700ae465580fdd49687bdea5517d"
    assert decode(Label, encode(label())).target == Target()


# --- how late the label's sources are ---


@given(
    retrained=st.dates(date(2016, 1, 1), date(2020, 12, 28)),
    horizon=st.integers(1, 70),
    own=st.integers(0, 40),
    late=st.integers(0, 40),
)
@settings(derandomize=True)
def test_a_label_counts_its_own_lag_or_that_of_its_sources_whichever_is_longer(
    retrained: date, horizon: int, own: int, late: int
) -> None:
    period = month(f"{retrained:%Y-%m}")
    wanted = Label("returns", reads=("visits",), horizon=timedelta(days=horizon), lag=timedelta(days=own))
    found = examples(period, MovingWindow(1), wanted, LONG_AGO, timedelta(days=late))

    holdout = month(found.holdout)
    known = timedelta(days=horizon + max(own, late))
    assert holdout.as_of + known <= period.as_of < holdout.plus(1).as_of + known
    assert all(month(one).as_of + wanted.horizon <= holdout.as_of for one in found.training)


def test_a_pipelines_label_is_as_late_as_the_latest_of_the_sources_that_it_reads() -> None:
    at = {"event_time": "at", "timezone": "UTC"}
    described = pipeline("s3://landing")
    sources = {
        "visits": EventSource("s3://landing/visits/", lag=timedelta(days=2), **at),
        "returns_of": EventSource("s3://landing/returns/", late=Late("shift", by=timedelta(days=5)), **at),
        "others": EventSource("s3://landing/others/", lag=timedelta(days=9), **at),
        "people": ReferenceSource("s3://landing/people/"),
    }

    def lag(*reads: str) -> timedelta:
        label = Label("returns", reads=reads, horizon=timedelta(days=30), absent=0)
        return replace(described, sources=sources, label=label).label_lag

    assert lag("visits") == timedelta(days=2)
    assert lag("visits", "returns_of") == timedelta(days=5)
    assert lag("people") == timedelta(0)
