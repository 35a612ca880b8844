"""How versions score: the description's noun, and the choice of an engine by what was measured."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from almanac import chunks
from almanac.core import scoring, shift
from almanac.core.bundle import ONNXRUNTIME, SCIKIT_LEARN
from almanac.core.canonical import decode, encode
from almanac.core.period import Calendar, Every, Period
from almanac.core.scoring import Parity, Scoring
from almanac.errors import DescriptionError, PeriodError
from almanac.runs import plan
from almanac.store.home import Home


def parity(**changed: float) -> Parity:
    return Parity(**{"rows": 1000, "worst": 1e-6, "tail": 1e-7, "golden": 1e-7, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"engine": "torch"}, "Scoring.engine: expected one of 'auto', 'scikit-learn'; got 'torch'."),
        ({"tail": -1}, "Scoring.tail: expected a number of 0 or more, such as 1e-5; got -1."),
        ({"worst": float("nan")}, "Scoring.worst: expected a number of 0 or more, such as 1e-5; got nan."),
        ({"keep": "visits"}, "Scoring.keep: expected a tuple of feature names, got 'visits'."),
        ({"keep": ("a", "a")}, "Scoring.keep: expected each feature once, got ('a', 'a')."),
    ],
)
def test_what_is_not_allowed_is_told(given: dict[str, Any], text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Scoring(**given)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("measured", "engine"),
    [
        ({}, ONNXRUNTIME),
        ({"tail": 1e-5, "worst": 1e-3, "golden": 1e-5}, ONNXRUNTIME),
        ({"tail": 1.1e-5}, SCIKIT_LEARN),
        ({"worst": 1.1e-3}, SCIKIT_LEARN),
        ({"golden": 1.1e-5}, SCIKIT_LEARN),
        ({"worst": float("nan")}, SCIKIT_LEARN),
    ],
)
def test_onnxruntime_is_chosen_only_where_every_difference_is_allowed(measured: dict[str, float], engine: str) -> None:
    chosen = Scoring().choose(parity(**measured), (1,))
    assert (chosen.name, chosen.rows) == (engine, 1000)
    assert chosen.reason.startswith("on 1000 rows the engines' scores differ by")


def test_a_golden_score_may_later_differ_by_what_the_choice_allowed() -> None:
    assert Scoring(tail=1e-4).choose(parity(), (1,)).golden == 1e-4
    assert Scoring().choose(parity(tail=1.0), (1,)).golden == 1e-6


def test_the_example_of_the_docs_is_the_default_with_a_column_that_is_kept(repository: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (repository / "docs" / "scoring.md").read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(block, "scoring", "exec"), names)
    assert names["scoring"] == Scoring(keep=("visits",))


def test_the_figures_of_the_docs_are_those_of_the_code(repository: Path) -> None:
    text = " ".join((repository / "docs" / "scoring.md").read_text().split())
    assert f"up to {scoring.COMPARED_ROWS:,}, and the golden rows" in text
    assert f"population stability index above {shift.MUCH} over the earlier" in text
    assert f"at most {chunks.HAND_ROWS:,} and {chunks.HAND_BYTES // 2**20} MiB" in text
    assert f"the version needs, {chunks.BATCH_ROWS:,} rows at a time" in text


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan"), True, "0.1"])
def test_a_share_that_may_be_left_out_is_a_share(share: Any) -> None:
    with pytest.raises(DescriptionError, match=r"^Scoring\.degrade: expected a share of the importance, 0 or more and"):
        Scoring(degrade=share)


def test_a_description_without_degrade_is_what_it_was() -> None:
    assert "degrade" not in encode(Scoring())
    assert decode(Scoring, encode(Scoring(degrade=0.25))).degrade == 0.25


def test_the_page_quotes_the_refusal_of_a_period_that_is_still_running(repository: Path) -> None:
    period = Period.parse("2017-09", Calendar(Every.MONTH))
    home = Home.of("s3://almanac/a", "shop", cast(Any, SimpleNamespace(now=lambda _: datetime(2017, 9, 28, tzinfo=UTC))))

    with pytest.raises(PeriodError) as refused:
        plan.check_ended(home, period)

    assert str(refused.value) in " ".join((repository / "docs" / "scoring.md").read_text().split())
