"""Three engines, one answer: what onnxruntime and numpy score is what scikit-learn would; what is not is left to scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from almanac.core.bundle import GOLDEN, MODEL, NUMPY, ONNX, ONNXRUNTIME, SCIKIT_LEARN, TREES, Bundle, Guard
from almanac.core.canonical import dumps
from almanac.core.scoring import Scoring
from almanac.core.target import MULTICLASS, REGRESSION, Target
from almanac.errors import Drifted, IntegrityError
from almanac.model import engines, training
from tests.support.bundles import audited

DICE = np.random.default_rng(7)
COUNT = 3000
ROWS = pd.DataFrame({
    "visits": DICE.normal(size=COUNT),
    "amount": DICE.normal(size=COUNT) * 100,
    "band": DICE.integers(0, 5, COUNT),
}).astype("float32")  # fmt: skip
LABEL = ((ROWS.visits + (ROWS.band == 2) + DICE.normal(size=COUNT)) > 0.5).astype(int)
TIERS = np.where(ROWS.visits > 0.5, "high", np.where(ROWS.visits < -0.5, "low", "middle"))
FLOAT32: dict[str, Any] = {"dtype": np.float32}


def linear(unknown: str = "ignore") -> Any:
    encoded = make_column_transformer(
        (StandardScaler(), ["visits", "amount"]),
        (OneHotEncoder(handle_unknown=unknown, sparse_output=False, **FLOAT32), ["band"]),
    )
    return make_pipeline(encoded, LogisticRegression()).fit(ROWS, LABEL)


def ordinal(**asked: Any) -> Any:
    encoded = make_column_transformer((OrdinalEncoder(**FLOAT32, **asked), ["band"]), remainder="passthrough")
    return make_pipeline(encoded, HistGradientBoostingClassifier(max_iter=20)).fit(ROWS, LABEL)


def batch(**changed: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(ROWS.head(100).assign(**changed).astype("float32"), preserve_index=False)


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        (linear(), ONNXRUNTIME),
        (make_pipeline(SimpleImputer(), LogisticRegression()).fit(ROWS, LABEL), ONNXRUNTIME),
        (ordinal(handle_unknown="use_encoded_value", unknown_value=-1), NUMPY),
        (HistGradientBoostingClassifier(max_iter=20).fit(ROWS, LABEL), NUMPY),
        (RandomForestClassifier(20, max_depth=6).fit(ROWS, LABEL), NUMPY),
    ],
    ids=["encoded", "filled", "ordinal", "boosted", "forest"],
)
def test_a_pipeline_that_can_be_exported_is_scored_by_a_fast_engine_as_by_itself(tmp_path: Path, model: Any, engine: str) -> None:
    version = audited(tmp_path, model, ROWS)
    found = engines.open_engine(version)

    assert isinstance(found, {ONNXRUNTIME: engines.Onnx, NUMPY: engines.Trees}[engine])
    assert (version.engine.name, version.engine.rows) == (engine, COUNT)
    assert version.engine.worst is not None and version.engine.worst < 1e-6
    for part in (batch(), batch(visits=9.5), batch(band=7), batch(band=1.5)):
        own = training.predict(model, part.to_pandas(), Target())
        assert np.abs(found.scores(part) - own).max() < 1e-6


def test_nulls_are_scored_where_training_can_and_refused_where_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "trees").mkdir()
    trees = HistGradientBoostingClassifier(max_iter=20).fit(ROWS.assign(visits=ROWS.visits.where(ROWS.visits > -1)), LABEL)
    part = batch(visits=np.nan)

    found = engines.open_engine(audited(tmp_path / "trees", trees, ROWS))
    assert np.abs(found.scores(part) - training.predict(trees, part.to_pandas(), Target())).max() < 1e-6
    with pytest.raises(ValueError, match="Input X contains NaN"):
        engines.open_engine(audited(tmp_path, linear(), ROWS)).scores(part)


def test_a_null_that_a_tree_sends_another_way_is_found_wherever_its_split_lies(tmp_path: Path) -> None:
    """An exported tree sends a null to the right, the pipeline to where most rows went. The first row meets no such split."""
    dice = np.random.default_rng(3)
    rows = pd.DataFrame({"visits": np.arange(400) % 10, "amount": dice.random(400), "band": dice.random(400)}).astype("float32")
    label = np.where(rows.visits >= 9, rows.amount < 0.8, rows.visits < 5).astype("int8")
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(rows, label)
    version = audited(tmp_path, tree, rows)

    assert version.engine.name != SCIKIT_LEARN
    assert "amount" in [guard.feature for guard in version.engine.guards if guard.nulls]
    nulls = pa.RecordBatch.from_pandas(rows.assign(amount=np.float32(np.nan)), preserve_index=False)
    found = engines.open_engine(version).scores(nulls)
    assert np.abs(found - training.predict(tree, nulls.to_pandas(), Target())).max() < 1e-6


def test_a_category_that_training_did_not_see_is_refused_where_the_pipeline_refuses_it(tmp_path: Path) -> None:
    """An exported OrdinalEncoder would score it."""
    version = audited(tmp_path, ordinal(), ROWS)

    assert [guard.feature for guard in version.engine.guards if guard.seen] == ["band"]
    with pytest.raises(ValueError, match=r"Found unknown categories \[.*7\.0.*\] in column 0 during transform"):
        engines.open_engine(version).scores(batch(band=7))


def test_a_guard_names_nulls_and_the_values_that_were_seen() -> None:
    values = np.array([0, 2, np.nan], "float32")
    assert engines.admits(Guard(feature="band", seen=(0.0, 1.0, 2.0)), values)
    assert not engines.admits(Guard(feature="band", seen=(0.0, 1.0)), values)
    assert not engines.admits(Guard(feature="band", nulls=True), values)
    assert engines.admits(Guard(feature="band", nulls=True), values[:2])
    endless = np.array([0, np.inf], "float32")
    assert not engines.admits(Guard(feature="band", infinite=True), endless)
    assert engines.admits(Guard(feature="band", nulls=True), endless)


def test_an_infinity_is_refused_as_the_pipeline_refuses_it(tmp_path: Path) -> None:
    """An exported one would score it."""
    found = engines.open_engine(audited(tmp_path, linear(), ROWS))
    with pytest.raises(ValueError, match="Input X contains infinity"):
        found.scores(batch(amount=np.inf))


def test_many_rows_are_scored_in_parts_and_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = engines.open_engine(audited(tmp_path, linear(), ROWS))
    rows = pa.RecordBatch.from_pandas(ROWS, preserve_index=False)
    whole = found.scores(rows)
    monkeypatch.setattr(engines, "PART_ROWS", 7)
    assert np.array_equal(found.scores(rows), whole)


def test_every_class_has_its_score_in_the_targets_order_and_one_never_seen_has_none(tmp_path: Path) -> None:
    target = Target(MULTICLASS, ("low", "never", "middle", "high"))
    model = LogisticRegression().fit(ROWS, TIERS)
    version = audited(tmp_path, model, ROWS, target=target)

    scores = engines.open_engine(version).scores(batch())

    assert (version.engine.name, version.engine.columns) == (ONNXRUNTIME, (1, -1, 2, 0))
    assert np.abs(scores - training.predict(model, batch().to_pandas(), target)).max() < 1e-6
    assert not scores[:, 1].any()


def test_a_regression_scores_its_value(tmp_path: Path) -> None:
    model = LinearRegression().fit(ROWS, ROWS.visits * 2 + 1)
    version = audited(tmp_path, model, ROWS, target=Target(REGRESSION))

    scores = engines.open_engine(version).scores(batch())

    assert version.engine.name == ONNXRUNTIME
    assert np.abs(scores - (ROWS.visits.head(100) * 2 + 1)).max() < 1e-5


class Own(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator that nobody wrote an exporter for."""

    def fit(self, rows: Any, label: Any) -> Own:  # noqa: ARG002
        self.classes_ = np.unique(label)
        return self

    def predict_proba(self, rows: Any) -> Any:
        positive = np.full(len(rows), 0.25)
        return np.column_stack([1 - positive, positive])


def test_an_estimator_that_cannot_be_exported_is_scored_by_scikit_learn_and_the_reason_is_kept(tmp_path: Path) -> None:
    version = audited(tmp_path, Own().fit(ROWS, LABEL), ROWS)

    assert (version.engine.name, ONNX in version.files) == (SCIKIT_LEARN, False)
    assert version.engine.reason.startswith("the pipeline cannot be exported to ONNX (MissingShapeCalculator: Unable to find")
    assert engines.open_engine(version).scores(batch()).tolist() == [0.25] * 100


def test_an_engine_whose_scores_differ_by_more_than_is_allowed_is_not_used(tmp_path: Path) -> None:
    version = audited(tmp_path, linear(), ROWS, scoring=Scoring(tail=1e-12))

    assert (version.engine.name, ONNX in version.files) == (SCIKIT_LEARN, False)
    assert version.engine.reason.startswith("on 3000 rows the engines' scores differ by ")
    assert version.engine.reason.endswith("allowed are 0.001, 1e-12 and 1e-12, so the slower one is used")
    assert version.engine.tail is not None and version.engine.tail > 1e-12


def test_scikit_learn_can_be_asked_for(tmp_path: Path) -> None:
    version = audited(tmp_path, linear(), ROWS, scoring=Scoring(engine="scikit-learn"))
    assert (version.engine.name, version.engine.reason) == (SCIKIT_LEARN, "the description asks for it")


def test_too_many_values_to_tell_new_ones_from_others_leave_a_feature_to_scikit_learn(tmp_path: Path) -> None:
    rows = ROWS.assign(band=np.arange(COUNT, dtype="float32"))
    encoded = make_column_transformer((OrdinalEncoder(**FLOAT32), ["band"]), remainder="passthrough")
    model = make_pipeline(encoded, HistGradientBoostingClassifier(max_iter=5)).fit(rows, LABEL)

    version = audited(tmp_path, model, rows)

    assert version.engine.name == SCIKIT_LEARN
    assert version.engine.reason == "the engines differ on values of band that training did not see, and it has 3000 values"


@pytest.fixture
def version(tmp_path: Path) -> Bundle:
    return audited(tmp_path, linear(), ROWS)


def test_an_altered_export_is_not_used(version: Bundle) -> None:
    path = Path(version.files[ONNX].uri)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(
        IntegrityError, match=r"model\.onnx: expected bytes with SHA-256 .+: the file was altered\. It is not used"
    ):
        engines.open_engine(version)


def test_an_export_that_gives_other_golden_scores_is_not_used(tmp_path: Path, version: Bundle) -> None:
    (tmp_path / "other").mkdir()
    other = audited(tmp_path / "other", ordinal(), ROWS)
    with pytest.raises(Drifted, match=r"does not score here as it did where it was trained: a golden row's score differs by 0\."):
        engines.open_engine(replace(version, files={**version.files, ONNX: other.files[ONNX]}))


@pytest.mark.parametrize("model", [linear(), ordinal(handle_unknown="use_encoded_value", unknown_value=-1)])
def test_a_task_that_scores_with_a_fast_engine_imports_no_scikit_learn(tmp_path: Path, model: Any) -> None:
    """It would cost every worker seconds."""
    version = audited(tmp_path, model, ROWS)
    program = """
import importlib, json, pkgutil, sys
import almanac.spark
from almanac.core.bundle import Bundle
from almanac.core.canonical import decode
from almanac.model import engines
for module in pkgutil.iter_modules(almanac.spark.__path__, "almanac.spark."):
    importlib.import_module(module.name)
engine = engines.open_engine(decode(Bundle, json.loads(sys.stdin.read())))
print(type(engine).__name__, *sorted({"sklearn", "scipy", "onnx", "great_expectations", "deltalake"} & sys.modules.keys()))
"""

    done = subprocess.run(
        [sys.executable, "-c", program], input=dumps(version).decode(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Onnx" if version.engine.name == ONNXRUNTIME else "Trees"]


def test_an_engine_that_this_almanac_does_not_know_is_refused(version: Bundle) -> None:
    newer = replace(version, engine=replace(version.engine, name="torch"))

    with pytest.raises(Drifted) as refused:
        engines.open_engine(newer)

    assert str(refused.value) == (
        f"Version {version.version}: expected one of the engines 'scikit-learn', 'onnxruntime', 'numpy'; got 'torch'. Use the "
        "version of Almanac that trained it, or retrain."
    )


def test_a_load_reads_the_golden_rows_the_pipeline_and_its_export_where_there_is_one(version: Bundle) -> None:
    slow = replace(version, engine=replace(version.engine, name=SCIKIT_LEARN))

    assert version.engine.name == ONNXRUNTIME
    assert engines.files_of(version) == [version.files[name] for name in (GOLDEN, MODEL, ONNX)]
    assert engines.files_of(slow) == [version.files[name] for name in (GOLDEN, MODEL)]


def test_an_export_whose_trees_numpy_scores_is_kept_beside_them(tmp_path: Path) -> None:
    """It serves others than Almanac, such as a service."""
    version = audited(tmp_path, HistGradientBoostingClassifier(max_iter=20).fit(ROWS, LABEL), ROWS)

    assert {ONNX, TREES} <= version.files.keys()
    assert engines.files_of(version) == [version.files[name] for name in (GOLDEN, MODEL, TREES)]
