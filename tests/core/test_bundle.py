"""What a load needs of a version, and how a drift of libraries is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from almanac.core.bundle import Bundle, drift
from tests.support.records import output

THEN = {"python": "3.11.9", "scikit-learn": "1.7.0", "numpy": "2.1"}


def test_a_load_reads_the_golden_rows_the_pipeline_and_its_export_where_there_is_one() -> None:
    model, golden, onnx = (output(name) for name in ("model.joblib", "golden.parquet", "model.onnx"))
    bundle = Bundle(version="2017-06-aaaaaaaa", model=model, golden=golden, features=("visits",), environment=THEN)

    assert bundle.files == (golden, model)
    assert replace(bundle, onnx=onnx).files == (golden, model, onnx)


def test_the_distributions_that_differ_are_named_with_both_versions() -> None:
    assert drift(THEN, {**THEN, "scikit-learn": "1.9.1", "pandas": "9"}) == (
        "These differ from where it was trained: scikit-learn was 1.7.0, is 1.9.1. Install the versions of then, or retrain."
    )
    assert "numpy was 2.1, is missing." in drift(THEN, {"python": "3.11.9", "scikit-learn": "1.7.0"})


@pytest.mark.parametrize(("then", "named"), [(THEN, " (python, scikit-learn, numpy)"), ({}, "")])
def test_it_is_told_when_nothing_that_is_recorded_differs(then: dict[str, str], named: str) -> None:
    assert drift(then, {**then, "pandas": "9"}) == (
        f"None of the distributions that its manifest records{named} differs from where it was trained: something else does, "
        "such as the processor or another library. Retrain it here."
    )
