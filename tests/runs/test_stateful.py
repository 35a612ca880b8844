"""Any order of what people and DAGs do to versions and periods leaves the log and the table as a plain model says.

A few orders, the same in every run; `make fuzz` tries many more. One that failed is kept here, played by hand.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from almanac.core.promotions import Action
from almanac.core.receipts import RunInfo
from almanac.errors import IllegalTransition, PromotionError
from almanac.runs import promotions
from tests.support.lifecycle import Ground, Machine

FUZZED = not settings.default.derandomize
EXAMPLES = settings.default.max_examples if FUZZED else 12

pytestmark = [pytest.mark.store, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(0 if FUZZED else 900)]


@pytest.fixture(scope="module")
def ground(store: Any, spark: Any) -> Ground:
    return Ground.made(f"s3://almanac/{uuid.uuid4().hex}", spark)


@pytest.mark.hypothesis
def test_any_order_of_actions_leaves_the_log_and_the_table_as_they_should_be(ground: Ground) -> None:
    run_state_machine_as_test(
        lambda: Machine(ground),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=16,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # each step is real work: a failure is shown as it was met
        ),
    )


def test_a_rollback_is_finished_also_where_the_champion_was_another_version_all_the_time(ground: Ground) -> None:
    """Found by chance: the rollback was taken for one that had been overtaken by the champion."""
    with Machine(ground).by_hand() as machine:
        machine.roll_back(bad=1, to=2, finished=True)
        machine.promote(number=2)
        machine.backfill(months=["2017-08", "2017-07", "2017-10"])
        machine.promote(number=3)
        machine.roll_back(bad=2, to=1, finished=True)

        assert ground.shop.home.log().entries[-1].action is Action.ROLL_BACK
        assert machine.truth.table == {"2017-10": ground.versions[3]}


def test_the_refusals_that_the_machine_counts_on_are_typed(ground: Ground) -> None:
    shop = ground.shop
    shop.restore(ground.memory)

    with pytest.raises(PromotionError, match="No version of shop is in force for 2017-07"):
        shop.score("2017-07")
    with pytest.raises(IllegalTransition, match="Cannot reinstate"):
        promotions.reinstate(shop.home, ground.versions[0], reason="good", run_info=RunInfo())
