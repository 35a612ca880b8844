"""A feature group gives the same columns in every period of a definition, and keys of the population's type."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from almanac.core.receipts import Receipt, RunInfo
from almanac.errors import AlmanacError, DescriptionError
from almanac.runs import feature_orders, pin, plan
from almanac.store import compatibility
from tests.support.shop import Shop, people
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def built(world: World, period: str) -> Receipt:
    planned = world.planned(period)
    (placed,) = feature_orders.groups(world.shop.home, planned, world.pin(planned), "traits")
    return world.shop.attempt(placed)


def test_a_pivot_that_gives_other_columns_for_another_period_is_refused_by_name(world: World) -> None:
    world.shop.code(**{'return people.select("customer", "band")': 'return people.groupBy("customer").pivot("band").count()'})
    first = built(world, "2017-05")
    assert first.passed, first.findings

    more = people().to_pandas()
    more.loc[0, "band"] = 7
    more = more[more["band"] != 2]
    world.shop.put("people", "all.parquet", pa.Table.from_pandas(more, preserve_index=False))
    second = built(world, "2017-06")

    assert not second.passed
    assert second.findings[0].startswith(
        "Function 'traits' returned other columns for 2017-06 than for 2017-05: new are 7, missing are 2. Features of one "
        "definition must have the same columns in every period."
    )
    assert "pivot('category', ['food', 'toys'])" in second.findings[0]


def test_of_two_periods_that_are_built_at_once_one_decides(world: World) -> None:
    made = (world.group("traits", period).order for period in ("2017-05", "2017-06"))
    order, later = (replace(one, description="another definition") for one in made)
    compatibility.keep_columns(world.shop.home, order, ["band"])
    compatibility.keep_columns(world.shop.home, order, ["band"])
    with pytest.raises(
        DescriptionError, match="returned other columns for 2017-06 than for 2017-05: new are tier, missing are band"
    ):
        compatibility.keep_columns(world.shop.home, later, ["tier"])


def test_a_period_that_was_wrong_is_built_again_with_other_columns_while_nobody_sees_another_one(world: World) -> None:
    first = replace(world.group("traits", "2017-05").order, description="another definition")
    home, later = world.shop.home, replace(first, period="2017-06")
    compatibility.keep_columns(home, first, ["fod"])
    with pytest.raises(DescriptionError, match=r"If the data of 2017-05 was wrong, correct it and rebuild that period first\."):
        compatibility.check_columns(home, later, ["food"])

    compatibility.keep_columns(home, first, ["food"])
    compatibility.check_columns(home, later, ["food"])

    seen = replace(first, description=world.standing("2017-05").order.description, part="another group")
    compatibility.keep_columns(home, seen, ["food"])
    with pytest.raises(DescriptionError, match=r"for 2017-05 than before: new are fod, missing are food"):
        compatibility.check_columns(home, seen, ["fod"])


def test_a_reference_whose_keys_are_text_is_not_matched_with_numbers(shop: Shop) -> None:
    """Spark would make numbers of them: '048' would be the customer 48."""
    keys = pa.array([f"{one:03}" for one in range(0, 80, 2)])
    shop.put("people", "all.parquet", people().set_column(0, "customer", keys))
    made = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module)
    planned = replace(made, build=("2017-05",))
    with pytest.raises(AlmanacError) as refused:
        shop.build(planned, pin.pin(shop.home, planned, RunInfo()))

    assert "Feature group 'traits': expected customer as bigint, as in the population; got string." in str(refused.value)
    assert not shop.home.features(planned.definition).visible()
