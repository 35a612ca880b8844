"""A run's plan in words, as a person reads it in the task's log."""

from __future__ import annotations

from typing import Any

from almanac.core.canonical import decode, encode
from almanac.core.plan import RunPlan


def run(**changes: Any) -> RunPlan:
    described: dict[str, Any] = {
        "pipeline": "shop",
        "period": "2017-07",
        "description": "d1",
        "module": "m1",
        "definition": "f1",
        "build": ("2017-05", "2017-06"),
        "position": 2,
    }
    return RunPlan(**{**described, **changes})


def test_a_retrain_says_what_it_builds_trains_on_and_is_judged_on() -> None:
    planned = run(training=("2017-04", "2017-05"), holdout="2017-06")

    assert planned.retrains
    assert planned.in_words == (
        "Retrain 2017-07: trained on 2017-04, 2017-05, judged on 2017-06; features of 2017-05, 2017-06 will be built."
    )


def test_a_score_run_says_which_version_it_uses() -> None:
    planned = run(build=(), version="2017-06-ea02faee")

    assert not planned.retrains
    assert planned.in_words == "Score 2017-07 with version 2017-06-ea02faee; no features need to be built."


def test_a_plan_is_read_as_it_was_written() -> None:
    planned = run(training=("2017-04",), holdout="2017-06", in_sample=True)

    assert decode(RunPlan, encode(planned)) == planned
