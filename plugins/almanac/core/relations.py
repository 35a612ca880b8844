"""What is read from a database: a table or a query, named by a URI without credentials.

The URI names an Airflow connection, `postgres://CONNECTION/schema.table`; user, password, host and port are the connection's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from almanac.errors import DescriptionError

SCHEME = "postgres://"
PUBLIC = "public"
FORM = "postgres://CONNECTION/schema.table, or postgres://CONNECTION/ with a query"
MOST_BYTES = 63  # PostgreSQL cuts longer names
CONNECTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
NAME = re.compile(r"(?:[\w$ \-]|%[0-9A-Fa-f]{2})+")
# What may hold a semicolon that ends no statement: comments, texts, quoted names, dollar-quoted texts.
QUOTED = re.compile(
    r"""--[^\n]*|/\*.*?\*/|\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$""", re.DOTALL
)
BEGINNINGS = ("select", "with", "values", "table")


@dataclass(frozen=True, slots=True)
class Table:
    """A table, view or materialized view. Names are matched exactly, including case.

    Raises:
        DescriptionError: a name is empty or longer than PostgreSQL's names.
    """

    schema: str
    name: str

    def __post_init__(self) -> None:
        for field, value in (("schema", self.schema), ("name", self.name)):
            if not isinstance(value, str) or not value or "\0" in value or len(value.encode()) > MOST_BYTES:
                raise DescriptionError(f"Table.{field}: expected a name of 1 to {MOST_BYTES} bytes, got {value!r}.")

    def __str__(self) -> str:
        return f"table {self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT statement. Names without a schema are looked up in the schema `public`. A semicolon at its end is dropped.

    Raises:
        DescriptionError: the text is empty, has several statements, or is no SELECT.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise DescriptionError(f"Query.text: expected a SELECT statement, got {self.text!r}.")
        object.__setattr__(self, "text", self.text.strip().removesuffix(";").rstrip())
        bare = QUOTED.sub(lambda found: " " if found[0].startswith(("--", "/*")) else "''", self.text)
        if ";" in bare:
            raise DescriptionError(
                "Query.text: expected one statement, got a semicolon with text after it. Keep the SELECT alone; WITH names "
                "intermediate results."
            )
        words = bare.replace("(", " ").split(maxsplit=1)
        if not words or words[0].casefold() not in BEGINNINGS:
            raise DescriptionError(
                f"Query.text: expected a statement that begins with SELECT or WITH, got {words[0] if words else self.text!r}. "
                "A source is only read."
            )

    def __str__(self) -> str:
        return "the query"


Relation = Table | Query


def is_database(uri: str) -> bool:
    """Whether a source's URI names a database."""
    return uri.startswith((SCHEME, "postgresql://"))


def connection_of(uri: str) -> str:
    """The Airflow connection that a URI names.

    Raises:
        DescriptionError: the URI is not valid.
    """
    return _parts(uri)[0]


def relation_of(uri: str, query: str | None = None) -> Relation:
    """The table that a URI names, `postgres://CONNECTION/schema.table`, in the schema `public` if it names none; or the query
    given beside `postgres://CONNECTION/`. Other characters than letters, digits, `_ $ -` and space are percent-encoded.

    Raises:
        DescriptionError: the URI is not valid, has credentials or a port, or there is not exactly one of table and query.
    """
    _, path = _parts(uri)
    if query is not None:
        if path:
            raise DescriptionError(
                f"uri: expected postgres://CONNECTION/ beside a query, got {uri!r}, which names a table as well. Leave one "
                "of the two out."
            )
        return Query(query)
    if not path:
        raise DescriptionError(f"uri: expected {FORM}; got {uri!r} without a query. Name the table, or give the query.")
    names = path.split(".")
    if len(names) > 2 or not all(map(NAME.fullmatch, names)):
        raise DescriptionError(
            f"uri: expected {FORM}; got {uri!r}. Percent-encode other characters of a name: %2E is a dot, %2F a slash."
        )
    schema, name = map(unquote, names if len(names) == 2 else (PUBLIC, *names))
    return Table(schema, name)


def _parts(uri: str) -> tuple[str, str]:
    """The connection and the path of a URI. No message repeats a URI that may hold a password."""
    if not isinstance(uri, str) or not is_database(uri):
        raise DescriptionError(f"uri: expected {FORM}; got a text that does not begin with {SCHEME}")
    connection, slash, path = uri.split("://", 1)[1].partition("/")
    if "%" in connection or any(mark in connection + path for mark in "@:?#"):
        raise DescriptionError(
            f"uri: expected {FORM}; got a URI with credentials, a port or parameters, which is not repeated here. Put user, "
            "password, host, port and database into an Airflow connection, and name the connection in the URI. If the password "
            "was stored, change it."
        )
    if not uri.startswith(SCHEME) or not slash or not CONNECTION.fullmatch(connection):
        raise DescriptionError(f"uri: expected {FORM}; got {uri!r}. CONNECTION is the id of an Airflow connection.")
    return connection, path
