"""One world for all tests of doors; each of them finds it as it was made."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from demo import seaweed
from tests.world import World


@pytest.fixture(scope="session")
def made(store: seaweed.Store, spark: object) -> World:
    return World.make(f"s3://almanac/{uuid.uuid4().hex}", spark)


@pytest.fixture
def world(made: World) -> Iterator[World]:
    """A shop that has been at work, restored after the test."""
    yield made.restored()
    made.restored()
