"""The skew check: what training saw of a row, and what scoring makes of it, are held against each other value by value."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from almanac.model import training
from almanac.spark import skew
from almanac.spark.scoring import Scorer
from almanac.spark.skew import Skew
from tests.support.bundles import audited

pytestmark = pytest.mark.spark

NAMES = ["visits", "band"]
MONTHS = ("2017-04", "2017-05")


def snapshot(month: str, size: int = 200) -> pd.DataFrame:
    dice = np.random.default_rng(int(month[-2:]))
    rows = pd.DataFrame(dice.normal(size=(size, 2)), columns=NAMES).astype("float32")
    rows.loc[3, "band"] = np.nan
    return rows.assign(customer=np.arange(size), snapshot=month, label=(rows["visits"] > 0).astype("int8"))


class Setting:
    """A version trained on two snapshots, their published features, and the sample that training keeps."""

    def __init__(self, folder: Path, spark: SparkSession) -> None:
        self.spark = spark
        rows = pd.concat([snapshot(month) for month in MONTHS], ignore_index=True)
        model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(rows[NAMES], rows["label"])
        self.bundle = audited(folder, model, rows[NAMES])
        kept = skew.sample(rows)
        self.trained = kept.assign(score=training.predict(model, kept[NAMES], self.bundle.target))
        self.published: dict[str, list[str]] = {}
        for month in MONTHS:
            # As combine writes them: several files, their rows in no order.
            whole = pa.Table.from_pandas(
                snapshot(month)[["customer", *NAMES]].sample(frac=1, random_state=1), preserve_index=False
            )
            for number, part in enumerate((whole.slice(0, 90), whole.slice(90))):
                uri = str(folder / f"{month}-{number}.parquet")
                pq.write_table(part, uri)
                self.published.setdefault(month, []).append(uri)

    def check(self, **changed: Any) -> Skew:
        scorer = Scorer(bundle=self.bundle, keys=("customer",), as_of=datetime(2017, 6, 1, tzinfo=UTC), order="f00d")
        trained = pa.Table.from_pandas(self.trained.assign(**changed), preserve_index=False)
        return skew.check(self.spark, trained, self.published, scorer, 1e-5)


@pytest.fixture
def setting(tmp_path: Path, spark: SparkSession) -> Setting:
    return Setting(tmp_path, spark)


def test_sampled_rows_are_of_every_snapshot_from_its_first_row_to_its_last() -> None:
    rows = pd.concat([snapshot("2017-04"), snapshot("2017-05", 5)], ignore_index=True)

    found = skew.sample(rows).groupby("snapshot")["customer"]

    assert found.size().to_dict() == {"2017-04": 64, "2017-05": 5}
    assert found.min().tolist() == [0, 0] and found.max().tolist() == [199, 4]


def test_rows_that_scoring_reads_and_scores_as_training_did_pass_nulls_included(setting: Setting) -> None:
    assert setting.trained["band"].isna().any()

    assert setting.check() == Skew(rows=128, findings=())


def test_one_feature_by_one_bit_is_told_with_entity_snapshot_and_both_values(setting: Setting) -> None:
    visits = setting.trained["visits"].to_numpy().copy()
    visits[70] = np.nextafter(visits[70], np.float32(9))
    customer, before = setting.trained.loc[70, ["customer", "visits"]]

    (told,) = setting.check(visits=visits).findings

    assert told.startswith("Skew: 1 of 128 sampled training rows have other values when scoring reads and scores them: ")
    assert (
        f"visits of customer {customer} in 2017-05 was {visits[70]!s}, is now {before!s}. The version is not published." in told
    )


def test_a_value_where_there_was_a_null_is_told(setting: Setting) -> None:
    (told,) = setting.check(band=setting.trained["band"].fillna(7)).findings

    assert "band of customer 3 in 2017-04 was 7.0, is now nan" in told


def test_a_score_beyond_what_the_engine_may_differ_by_is_told_and_one_within_is_not(setting: Setting) -> None:
    (told,) = setting.check(score=setting.trained["score"] + 1e-4).findings

    assert "Skew: 128 of 128 sampled training rows" in told and "score of customer" in told
    assert setting.check(score=setting.trained["score"] + 1e-6).findings == ()


def test_training_rows_that_scoring_does_not_find_are_told(setting: Setting) -> None:
    setting.published["2017-05"].pop()

    (told,) = setting.check().findings

    assert told.startswith("Skew: expected the 128 sampled training rows in the published features, scoring found ")
