"""What a label may be, what its scores are called and between what they lie, and what they are measured by."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from almanac.core.canonical import decode, encode
from almanac.core.gate import METRICS
from almanac.core.target import BINARY, KINDS, LOWER_IS_BETTER, METRICS_OF, MULTICLASS, REGRESSION, Target
from almanac.errors import DescriptionError

SIZES = Target(MULTICLASS, ("low", "middle", "high"))
DEGREES = Target(MULTICLASS, (3, 1, 2))


def test_a_label_is_0_or_1_unless_it_says_otherwise() -> None:
    assert Target() == Target(BINARY, ())


@pytest.mark.parametrize(
    ("target", "columns", "bounds"),
    [
        (Target(), ("score",), (0.0, 1.0)),
        (Target(REGRESSION), ("score",), None),
        (SIZES, ("score_low", "score_middle", "score_high"), (0.0, 1.0)),
        (DEGREES, ("score_3", "score_1", "score_2"), (0.0, 1.0)),
    ],
)
def test_a_score_has_a_column_or_one_for_each_class_in_order(target: Target, columns: Any, bounds: Any) -> None:
    assert (target.columns, target.bounds) == (columns, bounds)


@pytest.mark.parametrize(
    ("target", "legal", "strange"),
    [
        (Target(), [0, 1, True, 1.0], [2, -1, 0.5, "1", None, math.nan]),
        (SIZES, ["low", "high"], ["Low", "", 0, None, math.nan]),
        (DEGREES, [1, 3, 2.0], [0, 4, 1.5, "1", None]),
        (Target(REGRESSION), [0, -1.5, 10**9, Decimal("2.5")], [math.nan, math.inf, Decimal("NaN"), "1", None, True]),
    ],
)
def test_a_label_is_legal_or_not(target: Target, legal: list[Any], strange: list[Any]) -> None:
    assert [label for label in legal if not target.holds(label)] == []
    assert [label for label in strange if target.holds(label)] == []


def test_a_target_is_told_in_plain_words() -> None:
    assert [str(one) for one in (Target(), SIZES, DEGREES, Target(REGRESSION))] == [
        "a binary label",
        "a multiclass label (low, middle, high)",
        "a multiclass label (3, 1, 2)",
        "a regression label",
    ]


def test_every_kind_has_metrics_and_a_gate_may_ask_for_each_of_them() -> None:
    assert set(METRICS_OF) == set(KINDS)
    assert {metric for metrics in METRICS_OF.values() for metric in metrics} == set(METRICS)
    assert len(set(METRICS)) == len(METRICS)
    assert set(LOWER_IS_BETTER) == {"log_loss", "brier_score", "rmse", "mae"}
    assert SIZES.metrics == ("log_loss", "accuracy", "f1_macro", "roc_auc_ovr")


@pytest.mark.parametrize(
    ("kind", "classes", "text"),
    [
        ("ordinal", (), "Label.kind: expected one of 'binary', 'multiclass', 'regression'; got 'ordinal'."),
        (
            MULTICLASS,
            (),
            "Label.classes: expected three or more, such as classes=('low', 'middle', 'high'), for a multiclass label; got ().",
        ),
        (BINARY, (0, 1), "Label.classes: expected none for a binary label; got (0, 1)."),
        (REGRESSION, (1, 2, 3), "Label.classes: expected none for a regression label; got (1, 2, 3)."),
        (
            MULTICLASS,
            ("low", "high"),
            "Label.classes: expected a tuple of three or more, all different; got ('low', 'high').",
        ),
        (
            MULTICLASS,
            ["low", "middle", "high"],
            "Label.classes: expected a tuple of three or more, all different; got ['low', 'middle', 'high'].",
        ),
        (
            MULTICLASS,
            ("low", "low", "high"),
            "Label.classes: expected a tuple of three or more, all different; got ('low', 'low', 'high').",
        ),
        (
            MULTICLASS,
            ("low", "very high", "a-b"),
            "Label.classes: expected whole numbers or words of letters, digits and _, got very high, a-b. Each names a "
            "column, such as score_low.",
        ),
        (
            MULTICLASS,
            (0.5, 1, 2),
            "Label.classes: expected whole numbers or words of letters, digits and _, got 0.5. Each names a column, such "
            "as score_low.",
        ),
        (
            MULTICLASS,
            (1, 2, "three"),
            "Label.classes: expected whole numbers or words, not both; got (1, 2, 'three').",
        ),
    ],
)
def test_a_target_that_cannot_be_is_refused(kind: str, classes: Any, text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Target(kind, classes)
    assert str(refused.value) == text


@pytest.mark.parametrize("target", [Target(), SIZES, DEGREES, Target(REGRESSION)])
def test_a_target_is_read_as_it_was_written(target: Target) -> None:
    assert decode(Target, encode(target)) == target
