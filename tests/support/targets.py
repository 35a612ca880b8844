"""What tests of deliveries share: a PostgreSQL server for the whole run, and published predictions for each test."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from almanac.core.deliveries import ParquetDelivery, PostgresDelivery
from almanac.store.home import Home
from almanac.store.objects import Objects
from tests.support.scores import Ask, Scores, Target


@pytest.fixture
def address(postgres: Path) -> str:
    """A place in the database that no other test uses."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"postgresql://postgres@/postgres?host={postgres}", autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"postgresql://postgres@/postgres?host={postgres}&options=-csearch_path%3D{name}"


@pytest.fixture
def ask(address: str) -> Ask:
    """Asks the database."""

    def asked(query: str, *values: Any) -> list[Any]:
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    return asked


@pytest.fixture
def scores(objects: Objects, root: str) -> Scores:
    """A pipeline whose predictions are published by hand."""
    return Scores(Home.of(f"{root}/kept", "shop", objects))


@pytest.fixture
def in_postgres(address: str, objects: Objects) -> Target:
    return Target(PostgresDelivery("warehouse", "scores"), address, objects)


@pytest.fixture
def on_s3(root: str, objects: Objects) -> Target:
    return Target(ParquetDelivery("lake", f"{root}/lake"), "", objects)


@pytest.fixture
def on_disk(tmp_path: Path, objects: Objects) -> Target:
    return Target(ParquetDelivery("disk", str(tmp_path / "scores")), "", objects)


@pytest.fixture(params=["on_s3", "on_disk", "in_postgres"])
def target(request: pytest.FixtureRequest) -> Target:
    """A delivery of each kind: what holds, holds for all of them."""
    found: Target = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["on_s3", "on_disk"])
def folder(request: pytest.FixtureRequest) -> Target:
    """A Parquet delivery at each kind of place."""
    found: Target = request.getfixturevalue(request.param)
    return found
