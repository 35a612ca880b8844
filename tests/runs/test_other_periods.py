"""A pipeline whose periods are described otherwise than before."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from almanac.errors import DescriptionError, PeriodError
from almanac.runs import plan
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def test_another_length_of_periods_is_refused_since_keys_would_be_mixed(world: World) -> None:
    shop = world.shop
    shop.describe(every="quarter", first_period="2017-Q1")
    with pytest.raises(DescriptionError) as refused:
        plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-Q3"), shop.module)
    assert str(refused.value) == (
        "Pipeline.every: expected a month, as the versions of shop have; got a quarter. Keys of both would be mixed in the "
        "promotion log and in tables. Describe the change in a pipeline with another name; it gets its own tables."
    )
    with pytest.raises(DescriptionError, match="expected a month, as version 2017-06-"):
        plan.score(shop.home, shop.pipeline.period("2017-Q4"), version=world.old)


def test_a_period_that_has_not_ended_in_the_versions_own_zone_is_not_scored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = world.shop
    shop.describe(timezone="Australia/Sydney")
    monkeypatch.setattr(type(shop.home.objects), "now", lambda *_: datetime(2017, 8, 31, 16, tzinfo=UTC))  # September in Sydney
    with pytest.raises(PeriodError, match=r"Period 2017-08 of shop ends at 2017-09-01 00:00 UTC"):
        plan.score(shop.home, shop.pipeline.period("2017-08"), version=world.old)
