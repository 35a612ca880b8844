"""Scoring: a version scores the features that it was trained with, and nothing else."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from almanac.core.receipts import Output
from almanac.errors import DataError, IntegrityError
from almanac.spark import scoring
from almanac.spark.scoring import Scorer

FEATURES = pa.schema([("band", pa.float32()), ("customer", pa.int64()), ("visits", pa.float32())])


def scorer(model: Output | None = None, features: tuple[str, ...] = ("visits", "band")) -> Scorer:
    return Scorer(
        model=model or Output(name="model.joblib", uri="s3://bucket/model.joblib", bytes=1, sha256="0"),
        features=features,
        entity="customer",
        as_of=datetime(2017, 7, 1, tzinfo=UTC),
        version="2017-06-0123abcd",
        order="f00d",
    )


@pytest.fixture
def model(tmp_path: Path) -> Output:
    """A fitted model on its way: its first feature speaks for the label, its second one against it."""
    rows = pd.DataFrame({"visits": [0, 0, 9, 9], "band": [9, 9, 0, 0]}, dtype="float32")
    path = tmp_path / "model.joblib"
    joblib.dump(LogisticRegression().fit(rows, [0, 0, 1, 1]), path)
    body = path.read_bytes()
    return Output(name=path.name, uri=str(path), bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


def test_features_of_the_models_signature_are_admitted_in_any_order_and_with_others_beside() -> None:
    scoring.check_signature(FEATURES, scorer())
    scoring.check_signature(FEATURES.append(pa.field("more", pa.string())), scorer())


def test_missing_features_are_named_with_those_that_there_are() -> None:
    with pytest.raises(DataError) as refused:
        scoring.check_signature(FEATURES, scorer(features=("visits", "amount", "days")))
    assert str(refused.value) == (
        "The features lack amount, days, which version 2017-06-0123abcd was trained with (they have: band, customer, visits). "
        "Score with a version of this feature definition."
    )


def test_features_without_the_entity_are_refused() -> None:
    with pytest.raises(DataError, match=r"The features lack customer, which version .+ \(they have: band, visits\)"):
        scoring.check_signature(pa.schema([FEATURES.field("band"), FEATURES.field("visits")]), scorer())


@pytest.mark.parametrize("kind", [pa.float64(), pa.int32(), pa.string()])
def test_features_of_another_type_are_refused_by_name_and_type(kind: pa.DataType) -> None:
    with pytest.raises(DataError) as refused:
        scoring.check_signature(FEATURES.set(2, pa.field("visits", kind)), scorer())
    assert str(refused.value) == f"The features have visits ({kind}), version 2017-06-0123abcd wants float32. Build them again."


def test_a_batch_is_scored_with_the_features_in_the_models_order(model: Output) -> None:
    batch = pa.RecordBatch.from_pydict({"band": [0, 9], "customer": [1, 2], "visits": [9, 0]}, pa.schema(FEATURES))

    found = scoring.score_batch(batch, scorer(model))

    assert found.schema.names == ["customer", "as_of", "score", "model_version", "order"]
    first, second = found.to_pylist()
    assert first["score"] > 0.9 and second["score"] < 0.1
    assert (first["customer"], first["model_version"], first["order"]) == (1, "2017-06-0123abcd", "f00d")
    assert first["as_of"] == datetime(2017, 7, 1, tzinfo=UTC)


def test_the_entity_keeps_its_type(model: Output) -> None:
    one = np.array([1], "float32")
    batch = pa.RecordBatch.from_pydict({"customer": ["anna"], "visits": one, "band": one})
    found = scoring.score_batch(batch, scorer(model))
    assert found.schema.field("customer").type == pa.string()
    assert found["customer"].to_pylist() == ["anna"]


def test_a_model_whose_bytes_were_altered_is_not_unpickled(model: Output, tmp_path: Path) -> None:
    touched = tmp_path / "unpickled"
    joblib.dump(Harmful(str(touched)), model.uri)

    with pytest.raises(IntegrityError) as refused:
        scoring.load(model)

    assert str(refused.value) == f"{model.uri}: the model was altered since it was published; it is not loaded. Restore it."
    assert not touched.exists()


class Harmful:
    """Its pickle makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


def test_what_says_where_a_row_is_from_is_no_part_of_what_it_says() -> None:
    schema = scoring.schema(FEATURES.field("customer"))
    assert set(scoring.OUTSIDE) < set(schema.names)
    assert "model_version" not in scoring.OUTSIDE
