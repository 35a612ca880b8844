"""How much each feature group contributes to a version: permutation importance of whole groups.

The rows of a group's columns are permuted together, so the joint information of its features is lost: permutation importance
(Breiman 2001, Random Forests, section 10) for groups (Gregorutti, Michel, Saint-Pierre 2015, Grouped variable importance with
random forests, definition 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from almanac.core.window import LABEL
from almanac.model.training import Fitted, chosen_by, predict

ROWS, ROUNDS, SEED = 20_000, 5, 0
LEADING_ROWS = 2_000


def shares(
    fitted: Fitted, holdout: pd.DataFrame, features: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Group to its share of the importance, from 0 to 1; together they are 1. `features`: in the model's order; `groups`: group
    to its columns.

    A group's importance is how much the figure that chooses estimators (`training.chosen_by`) falls on the holdout, up to 20,000
    rows of it, when the group's rows are permuted: the mean of five permutations, at least 0. A group whose nulls the model
    refuses has a share of 1, because it cannot be left out; so has every group if none has any importance.
    """
    rows = holdout.sample(min(ROWS, len(holdout)), random_state=SEED)
    given, falls = rows[list(features)], _falls(fitted, rows, features)
    fell = {name: falls(list(columns), ROUNDS) for name, columns in groups.items()}
    total = sum(fell.values())
    optional = {name for name, columns in groups.items() if total > 0 and _takes_nulls(fitted, given, columns)}
    return {name: fall / total if name in optional else 1.0 for name, fall in fell.items()}


def leading(fitted: Fitted, holdout: pd.DataFrame, features: Sequence[str]) -> tuple[str, float]:
    """The feature that holds the largest share of the importance, and that share when all others are one group.

    It is found by halving: a half whose joint permutation costs more holds it. So a model of 100 features scores the rows 24
    times, not 500. `features`: at least two. Only a share near 1 is reliable, and only that is asked for.
    """
    rows = holdout.sample(min(LEADING_ROWS, len(holdout)), random_state=SEED)
    falls, left = _falls(fitted, rows, features), list(features)
    while len(left) > 1:
        halves = left[: len(left) // 2], left[len(left) // 2 :]
        left = max(halves, key=lambda columns: falls(columns, 1))
    own, others = (falls(columns, ROUNDS) for columns in (left, [name for name in features if name != left[0]]))
    return left[0], own / (own + others) if own + others > 0 else 0.0


def _falls(fitted: Fitted, rows: pd.DataFrame, features: Sequence[str]) -> Callable[[list[str], int], float]:
    """What tells by how much the figure falls when columns are permuted together: the mean of some permutations, at least 0."""
    label, given = rows[LABEL], rows[list(features)]
    generator = np.random.default_rng(SEED)

    def figure(some: pd.DataFrame) -> float:
        return chosen_by(label, predict(fitted.model, some, fitted.target), fitted.target)

    def without(columns: list[str]) -> float:
        permuted = given.copy()
        permuted[columns] = given[columns].to_numpy()[generator.permutation(len(rows))]
        return whole - figure(permuted)

    whole = figure(given)
    return lambda columns, rounds: max(0.0, float(np.mean([without(columns) for _ in range(rounds)])))


def _takes_nulls(fitted: Fitted, given: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether the model scores rows in which a group is null."""
    empty = given.copy()
    empty[list(columns)] = np.float32(np.nan)
    try:
        found = predict(fitted.model, empty, fitted.target)
    except Exception:  # an estimator may refuse a null in any way
        return False
    return bool(np.isfinite(found).all())
