"""What a load needs of a version, and how a drift of libraries is told."""

from __future__ import annotations

import pytest

from almanac.core.bundle import drift

THEN = {"python": "3.11.9", "scikit-learn": "1.7.0", "numpy": "2.1"}


def test_the_distributions_that_differ_are_named_with_both_versions() -> None:
    assert drift(THEN, {**THEN, "scikit-learn": "1.9.1", "pandas": "9"}) == (
        "These differ from the training environment: scikit-learn was 1.7.0, is 1.9.1. Install the recorded versions, or retrain."
    )
    assert "numpy was 2.1, is missing." in drift(THEN, {"python": "3.11.9", "scikit-learn": "1.7.0"})


@pytest.mark.parametrize(("then", "named"), [(THEN, " (python, scikit-learn, numpy)"), ({}, "")])
def test_it_is_told_when_nothing_that_is_recorded_differs(then: dict[str, str], named: str) -> None:
    assert drift(then, {**then, "pandas": "9"}) == (
        f"None of the distributions that its manifest records{named} differs from the training environment; something else does, "
        "such as the processor or another library. Retrain it here."
    )
