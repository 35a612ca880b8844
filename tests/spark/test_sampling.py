"""Sampled training rows: drawn the same again, weighted so that probabilities stay what they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from almanac import Sampling
from almanac.core.target import BINARY, REGRESSION, Target
from almanac.core.window import LABEL, SNAPSHOT, WEIGHT
from almanac.errors import DataError, DescriptionError
from almanac.model import reports, training
from almanac.spark import sampling

TARGET = Target(BINARY)
SNAPSHOTS = ("2017-03", "2017-04")


def rows(count: int = 20_000, rare: float = 0.02) -> pd.DataFrame:
    """Two snapshots whose label is rare and depends on `x`; `band` is 0, 1 or, in one row of 100, 2."""
    dice = np.random.default_rng(5)
    x = dice.normal(size=2 * count)
    chance = 1 / (1 + np.exp(-(np.log(rare) + x)))
    return pd.DataFrame({
        "customer": np.tile(np.arange(count), 2),
        SNAPSHOT: np.repeat(SNAPSHOTS, count),
        "x": x.astype("float32"),
        "band": np.where(dice.random(2 * count) < 0.01, 2, dice.integers(0, 2, 2 * count)).astype("float32"),
        LABEL: (dice.random(2 * count) < chance).astype("int8"),
    })  # fmt: skip


ROWS = rows()


def test_a_rare_label_stays_and_weights_say_how_many_each_row_stands_for() -> None:
    drawn = sampling.draw(ROWS, Sampling(4000), TARGET, ["customer"])
    positive = int(ROWS[LABEL].sum())
    assert len(drawn) == 4000 and drawn[LABEL].sum() == positive
    assert set(drawn.loc[drawn[LABEL] == 1, WEIGHT]) == {1.0}
    assert drawn[WEIGHT].sum() == pytest.approx(len(ROWS))
    assert drawn.loc[drawn[LABEL] == 0, WEIGHT].unique() == pytest.approx((len(ROWS) - positive) / (4000 - positive))
    assert list(drawn.index) == sorted(drawn.index)


def test_entities_that_share_a_column_are_drawn_independently() -> None:
    given = ROWS.assign(shop=np.where(ROWS["customer"] % 2, "odd", "even"), customer=ROWS["customer"] // 2)
    drawn = sampling.draw(given, Sampling(4000), TARGET, ["customer", "shop"])
    shuffled = sampling.draw(given.sample(frac=1, random_state=1), Sampling(4000), TARGET, ["customer", "shop"])
    pd.testing.assert_frame_equal(drawn, shuffled.sort_index())

    rare = drawn[drawn[LABEL] == 0]
    share = len(rare) / (given[LABEL] == 0).sum()
    both = rare.groupby(["customer", SNAPSHOT])["shop"].nunique().eq(2).sum()
    pairs = given[given[LABEL] == 0].groupby(["customer", SNAPSHOT])["shop"].nunique().eq(2).sum()
    assert both / pairs == pytest.approx(share**2, rel=0.2)


def test_strata_are_parted_by_features_too_and_a_null_is_a_stratum() -> None:
    given = ROWS.assign(band=ROWS["band"].where(ROWS["band"] != 1))
    drawn = sampling.draw(given, Sampling(600, by=("band",)), TARGET, ["customer"])
    counted = drawn.groupby(["band", LABEL], dropna=False).size()
    assert len(counted) == 6 and len(drawn) == 600
    for stratum, part in drawn.groupby(["band", LABEL], dropna=False):
        same = given[LABEL].eq(stratum[1]) & (given["band"].isna() if np.isnan(stratum[0]) else given["band"].eq(stratum[0]))
        assert part[WEIGHT].sum() == pytest.approx(same.sum())


def test_the_same_rows_are_drawn_whatever_their_order_and_other_entities_do_not_move_them_much() -> None:
    drawn = sampling.draw(ROWS, Sampling(4000), TARGET, ["customer"])
    shuffled = sampling.draw(ROWS.sample(frac=1, random_state=1), Sampling(4000), TARGET, ["customer"])
    pd.testing.assert_frame_equal(drawn, shuffled.sort_index())
    fewer = sampling.draw(ROWS[ROWS["customer"] % 100 != 7], Sampling(4000), TARGET, ["customer"])
    assert len(fewer.index.intersection(drawn.index)) > 0.95 * 4000


def test_no_snapshot_is_favoured() -> None:
    drawn = sampling.draw(ROWS, Sampling(4000), TARGET, ["customer"])
    both = drawn[drawn[LABEL] == 0].groupby(SNAPSHOT).size()
    assert both.max() / both.min() < 1.15


def test_older_rows_weigh_less_and_none_is_left_out_without_a_cap() -> None:
    drawn = sampling.draw(ROWS, Sampling(half_life=1), TARGET, ["customer"])
    assert len(drawn) == len(ROWS)
    assert drawn.groupby(SNAPSHOT)[WEIGHT].unique().map(list).to_dict() == {"2017-03": [0.5], "2017-04": [1.0]}


def test_a_regression_is_sampled_evenly() -> None:
    drawn = sampling.draw(ROWS.assign(label=ROWS["x"]), Sampling(1000), Target(REGRESSION), ["customer"])
    assert len(drawn) == 1000 and set(drawn[WEIGHT]) == {len(ROWS) / 1000}


def test_probabilities_stay_calibrated_though_a_half_of_the_rows_is_positive() -> None:
    drawn = sampling.draw(ROWS, Sampling(2 * int(ROWS[LABEL].sum())), TARGET, ["customer"])
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    fitted, bare = (training.fit({"logistic": pipeline}, given, ["x"], TARGET) for given in (drawn, drawn.drop(columns=WEIGHT)))
    fresh = rows(20_000)
    truth = fresh[LABEL].mean()
    assert drawn[LABEL].mean() == pytest.approx(0.5)
    assert training.predict(fitted.model, fresh[["x"]], TARGET).mean() == pytest.approx(truth, rel=0.1)
    assert training.predict(bare.model, fresh[["x"]], TARGET).mean() > 5 * truth


def test_figures_of_sampled_rows_are_those_of_all_rows() -> None:
    drawn = sampling.draw(ROWS, Sampling(6000), TARGET, ["customer"])
    fitted = training.fit({"logistic": LogisticRegression()}, drawn, ["x"], TARGET)
    holdout = rows(1000)
    told, whole = (reports.report(fitted, given, holdout, ["x"])["training"] for given in (drawn, ROWS))
    assert told["rows"] == 6000 and whole["rows"] == len(ROWS)
    assert told["positive"] == pytest.approx(whole["positive"])
    assert told["metrics"]["log_loss"] == pytest.approx(whole["metrics"]["log_loss"], rel=0.05)
    assert told["metrics"]["brier_score"] == pytest.approx(whole["metrics"]["brier_score"], rel=0.05)
    bare = training.metrics(drawn[LABEL], training.predict(fitted.model, drawn[["x"]], TARGET), TARGET)
    assert bare["log_loss"] > 2 * whole["metrics"]["log_loss"]


def test_a_feature_of_many_values_parts_no_strata() -> None:
    with pytest.raises(DataError, match=r"Sampling.by: expected features with at most 100 values, got 'x' with \d+\."):
        sampling.draw(ROWS, Sampling(100, by=("x",)), TARGET, ["customer"])


def test_fewer_rows_than_strata_are_refused() -> None:
    with pytest.raises(DataError, match=r"Sampling.rows: expected at least 6, one for each stratum by band and label; got 3\."):
        sampling.draw(ROWS, Sampling(3, by=("band",)), TARGET, ["customer"])


def test_entities_that_are_text_are_drawn_as_well() -> None:
    named = ROWS.assign(customer="customer " + ROWS["customer"].astype(str))
    assert sampling.draw(named, Sampling(100), TARGET, ["customer"])[WEIGHT].sum() == pytest.approx(len(named))


def test_an_estimator_that_takes_no_weights_is_refused_by_its_name() -> None:
    drawn = sampling.draw(ROWS.head(400), Sampling(half_life=2), TARGET, ["customer"])
    with pytest.raises(DescriptionError, match="'near' ends with KNeighborsClassifier, whose fit takes no sample_weight"):
        training.fit({"near": make_pipeline(StandardScaler(), KNeighborsClassifier())}, drawn, ["x"], TARGET)
    training.fit({"line": LinearRegression()}, drawn, ["x"], Target(REGRESSION))
