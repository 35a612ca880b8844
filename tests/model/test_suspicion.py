"""What a feature tells of the label by itself: held against scikit-learn and scipy, and leaks that are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from almanac.core.suspicion import Sign
from almanac.core.target import MULTICLASS, REGRESSION, Target
from almanac.core.window import LABEL
from almanac.model import importance, suspicion
from almanac.model.training import Fitted

SIZES, AMOUNT = Target(MULTICLASS, ("low", "middle", "high")), Target(REGRESSION)
VALUES = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([np.nan, np.inf, -np.inf]), st.floats(width=32))
TABLES = st.integers(2, 30).flatmap(
    lambda rows: st.tuples(
        arrays.arrays(np.float32, (rows, 3), elements=VALUES), st.lists(st.integers(0, 1), min_size=rows, max_size=rows)
    )
)
LARGEST = float(np.finfo(np.float32).max)


def figures(values: Any, label: Any, target: Target = Target()) -> dict[tuple[str, Sign, str], float]:
    names = [f"f{place}" for place in range(values.shape[1])]
    rows = pd.DataFrame(values, columns=names).assign(**{LABEL: label})
    return {(one.feature, one.sign, one.told): one.figure for one in suspicion.evidence(rows, names, target)}


@given(TABLES)
def test_a_figure_is_scikit_learns_roc_auc_in_the_direction_that_tells_more(table: tuple[Any, list[int]]) -> None:
    values, label = table
    found = figures(values, label)
    if len(set(label)) < 2:
        assert found == {}
        return
    for place, column in enumerate(values.T):
        clipped = np.clip(column.astype(np.float64), -LARGEST, LARGEST)
        filled = [np.nan_to_num(clipped, nan=end) for end in (-np.inf, np.inf)]
        ranks = [stats.rankdata(one) for one in filled]
        both = [roc_auc_score(label, one) for one in ranks]
        name, nulls = f"f{place}", np.isnan(column)
        if len({str(one) for one in clipped}) == 1:
            assert (name, Sign.VALUE, "") not in found, "one value tells nothing"
            continue
        assert found[name, Sign.VALUE, ""] == pytest.approx(max(*both, *(1 - one for one in both)))
        if nulls.any():
            missing = roc_auc_score(label, nulls)
            assert found[name, Sign.NULLS, ""] == pytest.approx(max(missing, 1 - missing))
        else:
            assert (name, Sign.NULLS, "") not in found


def test_a_class_is_held_against_all_others() -> None:
    dice = np.random.default_rng(1)
    label = dice.choice(SIZES.classes, 300)
    values = np.column_stack([label == "high", dice.normal(size=300)]).astype(np.float32)

    found = figures(values, label, SIZES)

    assert found["f0", Sign.VALUE, "high"] == 1
    area = roc_auc_score(label == "low", values[:, 1])
    assert found["f1", Sign.VALUE, "low"] == pytest.approx(max(area, 1 - area))


def test_a_regressions_figure_is_scipys_rank_correlation_without_its_sign() -> None:
    dice = np.random.default_rng(2)
    values = dice.normal(size=(200, 2)).astype(np.float32)
    label = np.round(dice.normal(size=200) - values[:, 0], 1)

    found = figures(values, label, AMOUNT)

    for place in range(2):
        wanted = abs(stats.spearmanr(values[:, place], label).statistic)
        assert found[f"f{place}", Sign.VALUE, ""] == pytest.approx(wanted)


def test_a_feature_that_is_filled_in_only_where_there_is_an_amount_is_told_by_its_nulls() -> None:
    dice = np.random.default_rng(3)
    label = np.where(np.arange(200) % 2, dice.exponential(size=200), 0.0)
    filled = np.where(label > 0, dice.normal(size=200), np.nan).astype(np.float32)

    assert figures(filled[:, None], label, AMOUNT)["f0", Sign.NULLS, ""] == 1


def test_of_a_large_holdout_evenly_spaced_rows_of_each_class_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(4)
    values, label = dice.normal(size=(1000, 2)).astype(np.float32), np.tile([0, 1], 500)
    monkeypatch.setattr(suspicion, "ROWS", 100)

    kept = np.sort(np.concatenate([np.arange(0, 1000, 20), np.arange(1, 1000, 20)]))
    assert figures(values, label) == figures(values[kept], label[kept])


def test_a_rare_class_keeps_its_rows_in_a_large_holdout(monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.zeros(4000, dtype=int)
    label[37::100] = 1  # none of them is among every twentieth row
    values = np.stack([label, np.random.default_rng(4).normal(size=4000)], axis=1).astype(np.float32)
    monkeypatch.setattr(suspicion, "ROWS", 200)

    assert figures(values, label)["f0", Sign.VALUE, ""] == 1.0


# A candidate


def rows(count: int = 600) -> pd.DataFrame:
    """Three honest features, and a label that they tell with a ROC AUC of about 0.8."""
    dice = np.random.default_rng(5)
    honest = dice.normal(size=(count, 3)).astype(np.float32)
    label = (honest[:, 0] + honest[:, 1] + dice.normal(size=count) * 1.5 > 0).astype("int8")
    return pd.DataFrame(honest, columns=["a", "b", "c"]).assign(**{LABEL: label})


def suspected(table: pd.DataFrame) -> list[str]:
    names = [name for name in table.columns if name != LABEL]
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(table[names], table[LABEL])
    return [one.fact for one in suspicion.suspects(Fitted(name="boosted", model=model, choice={}), table, names)]


def test_honest_features_are_not_suspect() -> None:
    assert suspected(rows()) == []


def test_the_label_as_a_feature_is_suspect_with_a_few_wrong_values_too() -> None:
    table = rows()
    leak = table[LABEL].astype(np.float32)
    leak.iloc[::100] = 1 - leak.iloc[::100]

    assert suspected(table.assign(leak=leak)) == ["feature 'leak' alone tells the label with a ROC AUC of 0.990"]


def test_a_column_that_is_filled_in_later_is_suspect_by_its_nulls() -> None:
    table = rows()
    closed = pd.Series(np.random.default_rng(6).normal(size=len(table)).astype(np.float32)).where(table[LABEL] == 1)

    assert suspected(table.assign(closed=closed)) == [
        "feature 'closed' by its nulls alone tells the label with a ROC AUC of 1.000"
    ]


def test_a_leak_that_no_order_of_values_shows_is_found_by_its_importance() -> None:
    table = rows()
    dice = np.random.default_rng(7)
    far = np.where(table[LABEL] == 1, dice.uniform(2, 3, len(table)), dice.uniform(0, 1, len(table)))
    leak = (far * dice.choice([-1, 1], len(table))).astype(np.float32)

    (found,) = suspected(table.assign(leak=leak))
    assert found.startswith("feature 'leak' holds ") and found.endswith(" of the importance")


def test_the_only_feature_of_a_model_may_hold_all_importance() -> None:
    dice = np.random.default_rng(8)
    value = dice.normal(size=600).astype(np.float32)
    table = pd.DataFrame({"only": value, LABEL: (value + dice.normal(size=600) * 0.5 > 0).astype("int8")})

    assert suspected(table) == []


def test_a_few_rows_are_not_examined() -> None:
    table = rows(49)
    assert suspected(table.assign(leak=table[LABEL].astype(np.float32))) == []


def test_the_leading_feature_is_found_by_halving() -> None:
    dice = np.random.default_rng(9)
    names = [f"f{place}" for place in range(11)]
    table = pd.DataFrame(dice.normal(size=(400, 11)).astype(np.float32), columns=names)
    table[LABEL] = 3.0 * table["f7"] + table["f2"]
    fitted = Fitted(name="line", model=LinearRegression().fit(table[names], table[LABEL]), choice={}, target=AMOUNT)

    name, share = importance.leading(fitted, table, names)

    assert (name, share) == ("f7", pytest.approx(0.9, abs=0.03))
    assert importance.leading(fitted, table, names) == (name, share), "the same rows give the same share"
