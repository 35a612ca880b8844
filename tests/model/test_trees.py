"""Trees in numpy give what walking them gives, row by row; and what scikit-learn gives, on thresholds and beside them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from almanac.core.bundle import NUMPY, ONNX, ONNXRUNTIME, SCIKIT_LEARN, TREES
from almanac.core.target import MULTICLASS, REGRESSION, Target
from almanac.errors import Drifted, IntegrityError
from almanac.model import engines, parity, splits, training
from almanac.model.export import export
from almanac.model.splits import Splits
from almanac.model.trees import Cut, Ensemble, Unsupported
from tests.support.bundles import audited, file

DICE = np.random.default_rng(5)
COUNT = 2000
ROWS = pd.DataFrame({
    "visits": DICE.poisson(3, COUNT),
    "amount": DICE.normal(size=COUNT) * 100,
    "band": DICE.integers(0, 12, COUNT),
}).astype("float32")  # fmt: skip
NULLS = ROWS.assign(amount=ROWS.amount.where(DICE.random(COUNT) > 0.2))
ODDS = ROWS.visits / 3 + np.sin(ROWS.band * 2) + NULLS.amount.fillna(-80) / 100 + DICE.normal(size=COUNT)
LABEL = (ODDS > 1).astype(int)
TIERS = np.where(ODDS > 2, "high", np.where(ODDS < 0, "low", "middle"))
THREE = Target(MULTICLASS, ("low", "middle", "high"))
VALUE = Target(REGRESSION)
CATEGORIES: dict[str, Any] = {"categorical_features": ["band"]}


def grown(dice: np.random.Generator, trees: int, leaves: int, outputs: int, columns: int) -> Ensemble:
    """An ensemble of random trees. Leaves have whole values, so that sums are exact in any order."""
    nodes: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "missing", "yes", "no", "group")}
    members = dice.integers(0, 4, (3, 2)).astype("float32")
    members[0, 1] = np.nan
    thresholds = np.array([-np.inf, -1, -0.0, 0, 0.1, 1, 2, np.inf], "float32")

    def node(left: int) -> int:
        place = len(nodes["feature"])
        for name, value in {"feature": -1, "threshold": 0, "missing": False, "yes": -1, "no": -1, "group": -1}.items():
            nodes[name].append(value)
        if left > 1:
            under = int(dice.integers(1, left))
            by_group = dice.random() < 0.2
            nodes["feature"][place] = int(dice.integers(0, columns))
            nodes["group"][place] = int(dice.integers(0, 3)) if by_group else -1
            nodes["threshold"][place] = float(dice.choice(thresholds))
            nodes["missing"][place] = bool(dice.random() < 0.5) and not by_group
            nodes["yes"][place], nodes["no"][place] = node(under), node(left - under)
        return place

    roots = [node(int(dice.integers(1, leaves + 1))) for _ in range(trees)]
    kinds = {"feature": "int32", "threshold": "float32", "missing": "bool", "yes": "int32", "no": "int32", "group": "int32"}
    return Ensemble(
        roots=np.array(roots, "int32"),
        values=dice.integers(-9, 9, (len(nodes["feature"]), outputs)).astype(float),
        base=dice.integers(-9, 9, outputs).astype(float),
        members=members,
        link="NONE",
        binary=False,
        **{name: np.array(nodes[name], kind) for name, kind in kinds.items()},
    )


def walked(ensemble: Ensemble, row: np.ndarray) -> np.ndarray:
    """The sums of one row, of shape (outputs,)."""
    found = ensemble.base.copy()
    for node in ensemble.roots:
        while ensemble.feature[node] >= 0:
            value = row[ensemble.feature[node]]
            if ensemble.group[node] >= 0:
                yes = value in ensemble.members[ensemble.group[node]]
            else:
                yes = ensemble.missing[node] if np.isnan(value) else value <= ensemble.threshold[node]
            node = ensemble.yes[node] if yes else ensemble.no[node]
        found += ensemble.values[node]
    return found


@given(
    seed=some.integers(0, 2**32),
    trees=some.integers(1, 7),
    leaves=some.sampled_from([1, 2, 3, 9, 64, 65, 256]),
    outputs=some.integers(1, 3),
    rows=some.sampled_from([1, 63, 64, 200]),
)
def test_any_trees_give_the_sums_that_walking_them_gives(seed: int, trees: int, leaves: int, outputs: int, rows: int) -> None:
    dice = np.random.default_rng(seed)
    ensemble = grown(dice, trees, leaves, outputs, columns=3)
    values = np.array([-np.inf, -1, -0.0, 0, 1, 2, 3, np.inf, np.nan, 0.1], "float32")
    matrix = dice.choice(
        np.concatenate([values, np.nextafter(values, np.float32(9)), np.nextafter(values, np.float32(-9))]), (rows, 3)
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "BLOCK_ROWS", 64)
        found = Splits(ensemble).sums([np.ascontiguousarray(column) for column in matrix.T])

    assert np.array_equal(found.T, [walked(ensemble, row) for row in matrix])


def test_a_tree_with_more_leaves_than_a_byte_has_numbers_is_left_to_onnxruntime() -> None:
    chain = 257
    ensemble = grown(np.random.default_rng(0), 1, 1, 1, 1)
    many = replace(
        ensemble,
        feature=np.array([0, -1] * (chain - 1) + [-1], "int32"),
        yes=np.array([*range(1, 2 * chain - 1), -1], "int32"),
        no=np.array([*range(2, 2 * chain)], "int32"),
        **{name: np.zeros(2 * chain - 1, kind) for name, kind in {"threshold": "float32", "missing": "bool"}.items()},
        group=np.full(2 * chain - 1, -1, "int32"),
        values=np.zeros((2 * chain - 1, 1)),
    )
    with pytest.raises(Unsupported, match="a tree has 257 leaves, more than 256"):
        Splits(many)


def small(model: Any, **asked: Any) -> Any:
    return model(random_state=0, **asked)


MODELS: dict[str, tuple[Any, pd.DataFrame, Any, Target]] = {
    "two classes": (small(HistGradientBoostingClassifier, max_iter=30), NULLS, LABEL, Target()),
    "three classes": (small(HistGradientBoostingClassifier, max_iter=10), NULLS, TIERS, THREE),
    "a value": (small(HistGradientBoostingRegressor, max_iter=30), NULLS, ODDS, VALUE),
    "a count": (small(HistGradientBoostingRegressor, max_iter=30, loss="poisson"), NULLS, ROWS.visits, VALUE),
    "categories": (small(HistGradientBoostingClassifier, max_iter=30, **CATEGORIES), NULLS, LABEL, Target()),
    "one leaf": (small(HistGradientBoostingClassifier, max_iter=3, min_samples_leaf=COUNT), NULLS, LABEL, Target()),
    "one tree": (small(HistGradientBoostingClassifier, max_iter=1), NULLS, LABEL, Target()),
    "gradients": (small(GradientBoostingClassifier, n_estimators=20), ROWS, LABEL, Target()),
    "three gradients": (small(GradientBoostingClassifier, n_estimators=10), ROWS, TIERS, THREE),
    "gradients of a value": (small(GradientBoostingRegressor, n_estimators=20), ROWS, ODDS, VALUE),
    "forest": (small(RandomForestClassifier, n_estimators=10, max_depth=5), ROWS, LABEL, Target()),
    "three forests": (small(RandomForestClassifier, n_estimators=10, max_depth=5), ROWS, TIERS, THREE),
    "random splits": (small(ExtraTreesRegressor, n_estimators=10, max_depth=5), ROWS, ODDS, VALUE),
    "a decision tree": (small(DecisionTreeClassifier, max_depth=5), ROWS, LABEL, Target()),
}
FITTED: dict[str, Any] = {}


def fitted(name: str) -> tuple[Any, pd.DataFrame, Target]:
    model, rows, label, target = MODELS[name]
    if name not in FITTED:
        FITTED[name] = model.fit(rows, label)
    return FITTED[name], rows, target


def trees_of(model: Any, target: Target) -> engines.Trees:
    names = tuple(ROWS.columns)
    taken = parity.trees_of(model, export(model, names), "probabilities" if target.kind != REGRESSION else "variable")
    assert taken is not None
    return engines.Trees.of(taken, names, target, parity._columns(model, target))


@pytest.mark.parametrize("name", MODELS)
def test_values_on_thresholds_and_one_step_beside_them_are_scored_as_scikit_learn_scores_them(name: str) -> None:
    model, rows, target = fitted(name)
    found = trees_of(model, target)
    ensemble = found.ensemble
    rare = [np.nan, np.inf, -np.inf] if rows is NULLS else [np.float32(3e38), np.float32(-3e38)]
    parts = []
    for place, column in enumerate(rows.columns):
        cuts = np.unique(ensemble.threshold[(ensemble.feature == place) & np.isfinite(ensemble.threshold)])
        if name == "categories" and column == "band":
            rare = [np.nan]  # scikit-learn refuses an infinite category
        near = [cuts, *(np.nextafter(cuts, np.float32(side)) for side in (np.inf, -np.inf)), rare, np.arange(-1, 14) / 2]
        values = np.concatenate(near).astype("float32")
        others = rows.sample(len(values), replace=True, random_state=place).reset_index(drop=True)
        parts.append(others.assign(**{column: values}))
    asked = pd.concat(parts, ignore_index=True)

    scores = found.scores(pa.RecordBatch.from_pandas(asked, preserve_index=False))

    own = training.predict(model, asked, target)
    assert scores.shape == own.shape
    assert np.abs(scores - own).max() < 1e-6


def test_a_score_does_not_depend_on_the_rows_beside_it() -> None:
    model, rows, target = fitted("three classes")
    found = trees_of(model, target)
    whole = found.scores(pa.RecordBatch.from_pandas(rows, preserve_index=False))
    for part in (slice(0, 1), slice(700, 1333)):
        assert np.array_equal(found.scores(pa.RecordBatch.from_pandas(rows[part], preserve_index=False)), whole[part])


def encoded(model: Any) -> Any:
    encoder = OneHotEncoder(dtype=np.float32, handle_unknown="ignore", sparse_output=False)
    return make_pipeline(make_column_transformer((encoder, ["band"]), remainder="passthrough"), model)


def test_columns_that_are_encoded_before_the_trees_come_from_onnxruntime(tmp_path: Path) -> None:
    model = encoded(small(HistGradientBoostingClassifier, max_iter=20)).fit(NULLS, LABEL)
    version = audited(tmp_path, model, NULLS)
    found = engines.open_engine(version)

    assert isinstance(found, engines.Trees) and found.before is not None
    assert found.parts == (None, ("visits", "amount"))
    strange = NULLS.assign(band=np.where(NULLS.band > 5, 99, NULLS.band).astype("float32"))
    for rows in (NULLS, strange):
        own = training.predict(model, rows, Target())
        assert np.abs(found.scores(pa.RecordBatch.from_pandas(rows, preserve_index=False)) - own).max() < 1e-12


def test_splits_by_category_that_are_exported_wrongly_are_read_from_scikit_learn(tmp_path: Path) -> None:
    model, rows, target = fitted("categories")
    version = audited(tmp_path, model, rows)

    wrong = engines.Onnx.of(export(model, version.features), version.features, target, (1,))
    batch = pa.RecordBatch.from_pandas(rows, preserve_index=False)
    assert np.abs(wrong.scores(batch) - training.predict(model, rows, target)).max() > 0.1
    assert (version.engine.name, ONNX in version.files, version.engine.speedup) == (NUMPY, False, None)
    assert "; those of onnxruntime by 0." in version.engine.reason
    assert version.engine.worst is not None and version.engine.worst < 1e-12


def test_splits_by_category_that_nothing_here_can_read_are_left_to_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parity check finds that the export is wrong, whatever else is there."""

    def changed(estimator: Any) -> Any:
        raise AttributeError("_predictors")

    monkeypatch.setattr(parity.histograms, "read", changed)
    model, rows, _ = fitted("categories")
    version = audited(tmp_path, model, rows)
    assert (version.engine.name, {ONNX, TREES} & version.files.keys()) == (SCIKIT_LEARN, set())


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (AdaBoostClassifier(n_estimators=5), "expected the scores of one tree ensemble, got those of 5 and Div after them"),
        (CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=5), cv=2), "got those of 2 and Div after them"),
        (DecisionTreeClassifier(max_leaf_nodes=200), "trees: 1, distinct splits: "),
    ],
    ids=["several ensembles", "calibrated", "many splits"],
)
def test_trees_that_numpy_does_not_know_or_would_not_score_faster_stay_with_onnxruntime(
    tmp_path: Path, model: Any, why: str
) -> None:
    dice = np.random.default_rng(3)
    rows = pd.DataFrame(dice.normal(size=(COUNT, 3)).astype("float32"), columns=list(ROWS))
    label = (rows.visits + dice.normal(size=COUNT) > 0).astype(int)
    version = audited(tmp_path, model.fit(rows, label), rows)
    assert (version.engine.name, TREES in version.files) == (ONNXRUNTIME, False)
    assert "; onnxruntime keeps its trees: " in version.engine.reason and why in version.engine.reason


def test_trees_that_took_longer_stay_with_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "timed", lambda *_: 0.5)
    model, rows, _ = fitted("gradients")
    version = audited(tmp_path, model, rows)
    assert version.engine.name == ONNXRUNTIME
    assert version.engine.reason.endswith("; onnxruntime keeps its trees: numpy took 2.0 times as long")


def test_how_much_faster_is_recorded_beside_the_reason_which_is_the_same_in_every_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows, _ = fitted("gradients")
    found = []
    for speedup in (2.5, 4.5):
        monkeypatch.setattr(parity, "timed", lambda *_, speedup=speedup: speedup)
        found.append(audited(tmp_path, model, rows).engine)
    assert [engine.speedup for engine in found] == [2.5, 4.5]
    assert replace(found[0], speedup=None) == replace(found[1], speedup=None)


def test_trees_are_kept_as_they_are() -> None:
    ensemble = grown(np.random.default_rng(8), 3, 20, 2, 4)
    again = Cut.unpacked(Cut(ensemble=ensemble, parts=(("a", "b"), None), before=b"onnx").packed())
    assert (again.parts, again.before) == ((("a", "b"), None), b"onnx")
    for name in Ensemble.__slots__:
        assert np.array_equal(getattr(again.ensemble, name), getattr(ensemble, name), equal_nan=name == "members"), name


def test_altered_trees_are_not_used(tmp_path: Path) -> None:
    model, rows, _ = fitted("gradients")
    version = audited(tmp_path, model, rows)
    trees = Path(version.files[TREES].uri)
    whole = trees.read_bytes()

    trees.write_bytes(whole[:-1] + b" ")
    with pytest.raises(IntegrityError, match=r"trees\.npz: expected bytes with SHA-256 .+: the file was altered"):
        engines.open_engine(version)


def test_a_file_of_trees_is_never_unpickled(tmp_path: Path) -> None:
    model, rows, _ = fitted("gradients")
    version = audited(tmp_path, model, rows)
    body = io.BytesIO()
    np.savez(body, roots=np.array([object()]), allow_pickle=True)
    with pytest.raises(Drifted, match="Object arrays cannot be loaded when allow_pickle=False"):
        engines.open_engine(replace(version, files={**version.files, TREES: file(tmp_path, TREES, body.getvalue())}))


def test_trees_that_give_other_golden_scores_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    model, rows, _ = fitted("gradients")
    version = audited(tmp_path, model, rows)
    other = audited(tmp_path / "other", fitted("forest")[0], rows)
    with pytest.raises(Drifted, match=r"a golden row's score differs by 0\."):
        engines.open_engine(replace(version, files={**version.files, TREES: other.files[TREES]}))


def test_the_bounds_of_the_docs_are_those_of_the_code(repository: Path) -> None:
    text = " ".join((repository / "docs" / "scoring.md").read_text().split())
    assert f"a block of up to {splits.BLOCK_ROWS:,} rows" in text
    assert f"more than {splits.SPLITS_A_TREE} distinct splits each on average or {splits.SPLITS:,} in all" in text
    assert f"trees of more than {1 << splits.NUMBER_BITS} leaves" in text
