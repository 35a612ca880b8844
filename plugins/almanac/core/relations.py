"""Relations of a database that a source reads: a table, or a query."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from almanac.errors import DescriptionError

POSTGRES, SCHEMA = "postgres://", "public"
CONNECTION = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Table:
    """A table or a view."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT."""

    text: str

    def __str__(self) -> str:
        return "its query"


Relation = Table | Query


def of(noun: str, uri: str, query: str) -> tuple[str, Relation]:
    """The connection's id, and what is read, of a source's `uri` and `query`.

    Raises:
        DescriptionError: they name neither a table nor a query, or the uri holds a password.
    """
    connection, slash, path = uri.removeprefix(POSTGRES).partition("/")
    if not CONNECTION.fullmatch(connection) or not slash:
        raise DescriptionError(
            f"{noun}.uri: expected postgres://CONNECTION/schema.table, with the id of an Airflow connection, got something else. "
            "Host, user and password belong to the connection."
        )
    if query:
        if path:
            raise DescriptionError(f"{noun}.query: expected the uri 'postgres://{connection}/' beside a query, got {uri!r}.")
        if not query.strip() or ";" in query.strip().removesuffix(";"):
            raise DescriptionError(f"{noun}.query: expected one SELECT without a semicolon, got {query!r}.")
        return connection, Query(query.strip().removesuffix(";").strip())
    parts = [unquote(part) for part in path.split(".")]
    if len(parts) > 2 or not all(parts) or "/" in path:
        raise DescriptionError(
            f"{noun}.uri: expected postgres://CONNECTION/schema.table, or postgres://CONNECTION/ with a query; got {uri!r}."
        )
    return connection, Table(parts[0] if len(parts) == 2 else SCHEMA, parts[-1])
