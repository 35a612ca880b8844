"""docs/databases.md is true: its URIs are read as it says, its grants are enough, and its table of types is the mapping."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from almanac.core.relations import Query, Table, relation_of
from tests.support.databases import Database

# How a column is declared of what the page describes in words.
DECLARED = {"an enum": "mood", "arrays of these": "text[]", "a domain": "positive"}
KINDS = {"list": "list<element: string>", "what its base type is": "int64"}


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "databases.md").read_text()


def rows(text: str, heading: str) -> list[tuple[str, str]]:
    """The rows of the first table below a heading."""
    return re.findall(r"^\| (.*?) \| (.*?) \|$", text.split(heading)[1].split("\n## ")[0], re.MULTILINE)


def test_uris_name_what_the_page_says(text: str) -> None:
    table, public, query = (re.findall(r"`(postgres://.*?)`", uri)[0] for uri, _ in rows(text, "# Sources in PostgreSQL"))

    assert relation_of(table) == Table("shop", "visits")
    assert relation_of(public) == Table("public", "visits")
    assert relation_of(query, "SELECT 1") == Query("SELECT 1")


@pytest.mark.store
def test_the_grants_are_enough(text: str, database: Database) -> None:
    database.run("CREATE TABLE visits (id int)")
    role = f"almanac_{database.schema}"
    database.run(f"CREATE ROLE {role} LOGIN")
    grants = re.findall(r"^    (GRANT .*);$", text, re.MULTILINE)
    for grant in grants:
        database.run(grant.replace("shop", database.schema).replace("TO almanac", f"TO {role}"))

    assert len(grants) == 2
    assert database.rows("visits", address=database.address.replace("postgres@", f"{role}@")).num_rows == 0


@pytest.mark.store
def test_the_table_of_types_is_the_mapping(text: str, database: Database) -> None:
    database.run("CREATE TYPE mood AS ENUM ('sad')")
    database.run("CREATE DOMAIN positive AS bigint CHECK (value > 0)")
    told: dict[str, str] = {}
    for theirs, ours in rows(text, "## Which types are read")[1:]:
        declared = re.findall(r"`(.*?)`|(an enum|arrays of these|a domain)", theirs)
        found = re.findall(r"`(.*?)`", ours.split(";")[0]) or [ours]
        for place, (name, words) in enumerate(declared):
            kind = found[min(place, len(found) - 1)]
            told[name or DECLARED[words]] = KINDS.get(kind, kind)
    database.run(f"CREATE TABLE a ({', '.join(f'c{place} {kind}' for place, kind in enumerate(told))})")
    (file,) = database.extract("a").files

    assert len(told) == 20
    assert {kind: str(field.type) for kind, field in zip(told, pq.read_schema(file.uri), strict=True)} == told
