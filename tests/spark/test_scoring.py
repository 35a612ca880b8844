"""Scoring: a version scores the features that it was trained with, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from sklearn.linear_model import LogisticRegression

from almanac.core.bundle import GOLDEN, MODEL, Bundle
from almanac.errors import DataError
from almanac.jobs.failures import plain
from almanac.model import training
from almanac.spark import arrow, scoring
from almanac.spark.arrow import WrittenFiles
from almanac.spark.scoring import Scorer
from tests.support.bundles import file, unaudited

FEATURES = pa.schema([("band", pa.float32()), ("customer", pa.int64()), ("visits", pa.float32())])
ROWS = pd.DataFrame({"visits": [0, 0, 9, 9], "band": [9, 9, 0, 0]}, dtype="float32")


def scorer(version: Bundle) -> Scorer:
    return Scorer(bundle=version, keys=("customer",), as_of=datetime(2017, 7, 1, tzinfo=UTC), order="f00d")


@pytest.fixture
def version(tmp_path: Path) -> Bundle:
    """A fitted model on its way: its first feature speaks for the label, its second one against it."""
    model = LogisticRegression().fit(ROWS, [0, 0, 1, 1])
    return unaudited(tmp_path, model, ROWS, environment={"scikit-learn": "0.1"})


def test_features_of_the_models_signature_are_admitted_in_any_order_and_with_others_beside(version: Bundle) -> None:
    scoring.check_signature(FEATURES, scorer(version))
    scoring.check_signature(FEATURES.append(pa.field("more", pa.string())), scorer(version))


def test_missing_features_are_named_with_those_that_there_are(version: Bundle) -> None:
    with pytest.raises(DataError) as refused:
        scoring.check_signature(FEATURES, scorer(replace(version, features=("visits", "amount", "days"))))
    assert str(refused.value) == (
        "The features lack amount, days, which version 2017-06-0123abcd reads (they have: band, customer, visits). "
        "Score with a version of this feature definition."
    )


def test_features_without_the_entity_are_refused(version: Bundle) -> None:
    with pytest.raises(DataError, match=r"The features lack customer, which version .+ \(they have: band, visits\)"):
        scoring.check_signature(pa.schema([FEATURES.field("band"), FEATURES.field("visits")]), scorer(version))


@pytest.mark.parametrize("kind", [pa.float64(), pa.int32(), pa.string()])
def test_features_of_another_type_are_refused_by_name_and_type(version: Bundle, kind: pa.DataType) -> None:
    with pytest.raises(DataError) as refused:
        scoring.check_signature(FEATURES.set(2, pa.field("visits", kind)), scorer(version))
    assert str(refused.value) == f"Version 2017-06-0123abcd: expected features as float32, got visits ({kind}). Build them again."


def test_a_batch_is_scored_with_the_features_in_the_models_order(version: Bundle) -> None:
    batch = pa.RecordBatch.from_pydict({"band": [0, 9], "customer": [1, 2], "visits": [9, 0]}, pa.schema(FEATURES))

    (found,) = scoring.batches([batch], scorer(version))

    assert found.schema.names == ["customer", "as_of", "score", "model_version", "order"]
    first, second = found.to_pylist()
    assert first["score"] > 0.9 and second["score"] < 0.1
    assert (first["customer"], first["model_version"], first["order"]) == (1, "2017-06-0123abcd", "f00d")
    assert first["as_of"] == datetime(2017, 7, 1, tzinfo=UTC)


def test_the_entity_keeps_its_type(version: Bundle) -> None:
    one = np.array([1], "float32")
    batch = pa.RecordBatch.from_pydict({"customer": ["anna"], "visits": one, "band": one})
    (found,) = scoring.batches([batch], scorer(version))
    assert found.schema.field("customer").type == pa.string()
    assert found["customer"].to_pylist() == ["anna"]


class Trap:
    """Its pickle makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


def feature_file(folder: Path) -> str:
    rows = {"customer": [1, 2, 3], "visits": np.array([9, 0, 5], "float32"), "band": np.array([0, 9, 5], "float32")}
    pq.write_table(pa.table(rows), folder / "features.parquet")
    return str(folder / "features.parquet")


def scored(spark: SparkSession, version: Bundle, folder: Path) -> WrittenFiles:
    """A feature file scored in Spark tasks, in workers of their own."""
    (folder / "out").mkdir()
    return scoring.score(spark, [feature_file(folder)], scorer(version), str(folder / "out"), "f00d")


def raised(spark: SparkSession, version: Bundle, folder: Path) -> str:
    """The error of the tasks as a receipt tells it; nothing was written."""
    with pytest.raises(Exception) as failed:
        scored(spark, version, folder)
    assert list((folder / "out").iterdir()) == []
    return plain(failed.value)


@pytest.mark.spark
def test_tasks_score_with_a_model_that_gives_its_golden_scores_again(
    spark: SparkSession, version: Bundle, tmp_path: Path
) -> None:
    written = scored(spark, version, tmp_path)

    rows = arrow.table(written.outputs).to_pandas().sort_values("customer")
    assert list(rows["customer"]) == [1, 2, 3]
    assert rows["score"].iloc[0] > 0.9 and rows["score"].iloc[1] < 0.1


@pytest.mark.spark
def test_a_pickle_planted_in_a_models_place_does_not_run_in_a_task(spark: SparkSession, version: Bundle, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    Path(version.files[MODEL].uri).write_bytes(training.pickled(Trap(sprung)))

    text = raised(spark, version, tmp_path)

    assert text.startswith(f"{version.files[MODEL].uri}: expected bytes with SHA-256 ")
    assert "It is not used, and nothing was unpickled." in text
    assert not sprung.exists()


@pytest.mark.spark
def test_the_planted_pickle_of_these_tests_would_have_run_in_a_task(spark: SparkSession, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"

    raised(spark, unaudited(tmp_path, Trap(sprung), ROWS, 0.5), tmp_path)

    assert sprung.exists()


@pytest.mark.spark
def test_tasks_refuse_a_model_that_a_library_makes_score_otherwise(spark: SparkSession, version: Bundle, tmp_path: Path) -> None:
    path = Path(version.files[GOLDEN].uri)
    ROWS.assign(score=0.5).to_parquet(path)

    text = raised(
        spark, replace(version, files={**version.files, GOLDEN: file(path.parent, path.name, path.read_bytes())}), tmp_path
    )

    assert text.startswith("Version 2017-06-0123abcd does not score here as it did where it was trained: a golden row's score")
    assert "These differ from the training environment: scikit-learn was 0.1, is 1." in text
    assert text.endswith("Install the recorded versions, or retrain.")


def test_what_says_where_a_row_is_from_is_no_part_of_what_it_says(version: Bundle) -> None:
    schema = scorer(version).schema(FEATURES)
    assert set(scoring.OUTSIDE) < set(schema.names)
    assert "model_version" not in scoring.OUTSIDE
