"""Opening a model: nothing altered or planted is unpickled, and a model that scores otherwise than it did is not used."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from almanac.core.bundle import GOLDEN, MODEL, Bundle
from almanac.core.canonical import sha256
from almanac.core.target import Target
from almanac.errors import Drifted, IntegrityError, NotFound
from almanac.model import bundles, engines, loading
from almanac.model.training import predict
from tests.support.bundles import VERSION, unaudited

ROWS = pd.DataFrame({"visits": [0, 1, 8, 9], "band": [9, 8, 1, 0]}, dtype="float32")
HERE = {"python": platform.python_version(), "scikit-learn": metadata.version("scikit-learn")}


class Trap:
    """What somebody could put in a model's place: unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "sprung")


class Leaves:
    """What a pickle holds whose class was removed from its library since."""


def fitted(slope: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=slope).fit(ROWS, [0, 0, 1, 1])


def bundle(folder: Path, model: object, scores: Any = None, environment: dict[str, str] | None = None) -> Bundle:
    """A version's files: the model, and golden rows with the scores of it, or others."""
    return unaudited(folder, model, ROWS, scores, environment=HERE if environment is None else environment)


def test_a_model_that_gives_its_golden_scores_again_is_opened(tmp_path: Path) -> None:
    opened = loading.open_model(bundle(tmp_path, fitted()))

    assert (opened.golden_rows, opened.worst) == (4, 0.0)
    assert np.array_equal(predict(opened.model, ROWS, Target()), predict(fitted(), ROWS, Target()))


def test_a_model_in_an_altered_file_is_not_unpickled(tmp_path: Path) -> None:
    version, sprung = bundle(tmp_path, fitted()), tmp_path / "sprung"
    joblib.dump(Trap(sprung), version.files[MODEL].uri)

    with pytest.raises(IntegrityError) as refused:
        loading.open_model(version)

    found = sha256(Path(version.files[MODEL].uri).read_bytes())
    assert str(refused.value) == (
        f"{version.files[MODEL].uri}: expected bytes with SHA-256 {version.files[MODEL].sha256[:16]}..., "
        f"got {found[:16]}...: the file was altered. It is not used, and nothing was unpickled. "
        "Restore it from the bucket's versions, or build it again."
    )
    assert not sprung.exists()


def test_altered_golden_rows_keep_even_an_unaltered_model_from_being_unpickled(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    version = bundle(tmp_path, Trap(sprung), scores=0.5)
    Path(version.files[GOLDEN].uri).write_bytes(b"PAR1")

    with pytest.raises(IntegrityError, match=r"golden\.parquet: expected bytes with SHA-256 .* nothing was unpickled"):
        loading.open_model(version)
    assert not sprung.exists()


def test_the_trap_of_these_tests_springs_where_the_digests_hold(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    with pytest.raises(Drifted, match="AttributeError: 'int' object has no attribute 'predict_proba'"):
        loading.open_model(bundle(tmp_path, Trap(sprung), scores=0.5))
    assert sprung.exists()


def test_a_file_that_is_gone_is_not_found(tmp_path: Path) -> None:
    version = bundle(tmp_path, fitted())
    Path(version.files[GOLDEN].uri).unlink()

    with pytest.raises(NotFound) as refused:
        loading.open_model(version)
    assert str(refused.value) == (
        f"{version.files[GOLDEN].uri}: expected a file, found none. Restore it from the bucket's versions, or build it again."
    )


def test_a_model_that_scores_otherwise_names_the_distributions_that_differ(tmp_path: Path) -> None:
    scores = predict(fitted(), ROWS, Target()) - np.array([0, 0, 0.25, 0])
    version = bundle(tmp_path, fitted(), scores, {**HERE, "scikit-learn": "0.1", "long-gone": "2.0"})

    with pytest.raises(Drifted) as refused:
        loading.open_model(version)

    assert str(refused.value) == (
        f"Version {VERSION} does not score here as it did where it was trained: a golden row's score differs by 0.25, expected "
        f"at most 1e-06. Nothing is scored with it. These differ from the training environment: scikit-learn was 0.1, is "
        f"{HERE['scikit-learn']}; long-gone was 2.0, is missing. Install the recorded versions, or retrain."
    )


def test_a_drift_that_no_recorded_distribution_explains_says_so(tmp_path: Path) -> None:
    with pytest.raises(Drifted, match=r"None of the distributions that its manifest records \(python, scikit-learn\) differs"):
        loading.open_model(bundle(tmp_path, fitted(), predict(fitted(0.01), ROWS, Target())))


@pytest.mark.parametrize(("by", "drifts"), [(9e-7, False), (1.1e-6, True), (float("nan"), True)])
def test_the_tolerance_is_a_millionth(tmp_path: Path, by: float, drifts: bool) -> None:
    version = bundle(tmp_path, fitted(), predict(fitted(), ROWS, Target()) + by)

    if drifts:
        with pytest.raises(Drifted):
            loading.open_model(version)
    else:
        assert loading.open_model(version).worst == pytest.approx(9e-7)


def test_a_model_whose_class_is_not_there_any_more_names_the_distributions_that_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = bundle(tmp_path, Leaves(), 0.5, {**HERE, "python": "2.7.18"})
    monkeypatch.delattr(f"{__name__}.Leaves")

    with pytest.raises(Drifted) as refused:
        loading.open_model(version)

    text = str(refused.value)
    assert text.startswith(f"Version {VERSION} cannot be loaded here (AttributeError: ")
    assert "Nothing is scored with it. These differ from the training environment: python was 2.7.18, is 3." in text
    assert "\n" not in text, "of a task's error only one line is told"


def test_a_worker_opens_a_version_once_and_another_one_anew(tmp_path: Path) -> None:
    version = bundle(tmp_path, fitted())

    assert engines.opened_once(version) is engines.opened_once(replace(version))
    (tmp_path / "other").mkdir()
    assert engines.opened_once(bundle(tmp_path / "other", fitted(0.5))) is not engines.opened_once(version)


def test_what_is_installed_is_told_by_name_and_the_interpreter_is_python() -> None:
    assert bundles.installed(["python", "scikit-learn", "no-such-thing"]) == HERE


def test_a_versions_classes_are_those_of_the_pipeline_and_of_what_is_within_it() -> None:
    pipeline = make_pipeline(StandardScaler(), "passthrough", LogisticRegression())

    assert loading.class_names(pipeline) == ("Pipeline", "StandardScaler", "LogisticRegression")
    assert loading.class_names(LogisticRegression()) == ("LogisticRegression",)
    assert loading.class_names(CalibratedClassifierCV(pipeline)) == ("CalibratedClassifierCV", *loading.class_names(pipeline))


def test_the_distributions_of_every_class_in_a_pickle_are_recorded() -> None:
    """Not a fixed list: what a model of another library needs to be loaded again is what its pickle names."""
    plain = loading.libraries(fitted())
    assert {"scikit-learn", "numpy"} <= plain.keys() and "xgboost" not in plain
    assert plain["scikit-learn"] == HERE["scikit-learn"]

    held = loading.libraries({"within": [make_pipeline(FunctionTransformer(onnx.helper.make_node), fitted())]})
    assert held == {**plain, "onnx": metadata.version("onnx")}
