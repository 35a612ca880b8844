from __future__ import annotations

import uuid
from pathlib import Path

import psycopg
import pytest

from tests.support.databases import Database


@pytest.fixture
def database(postgres: Path, tmp_path: Path) -> Database:
    """A schema that no other test uses."""
    address, name = f"postgresql://postgres@/postgres?host={postgres}", f"test_{uuid.uuid4().hex}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return Database(address, name, tmp_path / "kept")
