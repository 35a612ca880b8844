"""A bucket as a released version wrote it is read, explained, verified, scored again and rolled back by this one."""

from __future__ import annotations

from typing import Any

import pytest

from almanac.core.canonical import encode
from almanac.core.receipts import RunInfo
from almanac.deliveries import projection
from almanac.lineage import trail, verify
from almanac.lineage.explain import explain
from almanac.runs import redo
from tests.formats import bucket
from tests.support.shop import Shop

pytestmark = [pytest.mark.store, pytest.mark.spark, pytest.mark.slow]

RELEASED = sorted(path.stem for path in bucket.FOLDER.glob("*.zip"))


@pytest.fixture(params=RELEASED)
def kept(request: pytest.FixtureRequest, store: object, spark: object) -> tuple[Shop, dict[str, Any]]:
    """The shop of a released version, and what is expected of it."""
    return bucket.unpack(request.param, spark)


def test_a_released_bucket_is_read_explained_and_verified_and_nothing_is_stale(kept: tuple[Shop, dict[str, Any]]) -> None:
    shop, expected = kept
    assert bucket.standing(shop) == expected["standing"]

    verified = verify.verify(shop.home)
    assert verified.findings == ()
    assert verified.checked["receipts"] > 50

    tree = encode(explain(trail.evidence(shop.home, trail.shown(shop.home, "2017-10"))))
    assert tree["facts"]["left_out"] == ["traits"]

    assert [one.left_out for one in redo.found(shop.home).features] == [("traits",)]
    delivered = projection.deliver(shop.home, shop.pipeline, shop.pipeline.deliveries[0], "", RunInfo())
    assert not delivered.applied, "the delivery is up to date"


def test_a_released_bucket_is_scored_trained_on_and_rolled_back_with_the_same_digests(kept: tuple[Shop, dict[str, Any]]) -> None:
    shop, expected = kept
    assert bucket.go_on(shop) == expected["after"]
    assert verify.verify(shop.home).findings == ()
