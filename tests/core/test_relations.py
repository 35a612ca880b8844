"""What is read from a database is named by a URI without credentials, and no message repeats a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac.core.relations import Query, Table, connection_of, relation_of
from almanac.errors import DescriptionError


@pytest.mark.parametrize(
    ("uri", "table"),
    [
        ("postgres://warehouse/visits", Table("public", "visits")),
        ("postgres://warehouse/shop.visits", Table("shop", "visits")),
        ("postgres://warehouse/Shop.Visits 2017", Table("Shop", "Visits 2017")),
        ("postgres://warehouse/shop.a%2Eb%40c", Table("shop", "a.b@c")),
        ("postgres://ware-house_2.eu/visités", Table("public", "visités")),
    ],
)
def test_a_uri_names_a_connection_and_a_table_which_is_public_by_default(uri: str, table: Table) -> None:
    assert relation_of(uri) == table
    assert connection_of(uri) == uri.split("/")[2]


def test_a_query_is_given_beside_a_uri_that_names_no_table() -> None:
    assert relation_of("postgres://warehouse/", "SELECT 1 AS a") == Query("SELECT 1 AS a")

    with pytest.raises(DescriptionError) as refused:
        relation_of("postgres://warehouse/visits", "SELECT 1")
    assert str(refused.value) == (
        "uri: expected postgres://CONNECTION/ beside a query, got 'postgres://warehouse/visits', which names a table as well. "
        "Leave one of the two out."
    )
    with pytest.raises(DescriptionError) as refused:
        relation_of("postgres://warehouse/")
    assert str(refused.value) == (
        "uri: expected postgres://CONNECTION/schema.table, or postgres://CONNECTION/ with a query; got 'postgres://warehouse/' "
        "without a query. Name the table, or give the query."
    )


@pytest.mark.parametrize(
    "uri",
    [
        "postgres://ann:s3cret@db:5432/shop",
        "postgresql://ann:s3cret@db/shop",
        "postgres://ann:s3/cret@db/shop",
        "postgres://db:5432/s3cret",
        "postgres://warehouse/visits?password=s3cret",
        "postgres://warehouse/visits#s3cret",
        "postgres://s3cret@warehouse/visits",
        "postgres://ann%3As3cret%40db/visits",
    ],
)
def test_credentials_ports_and_parameters_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        relation_of(uri)

    assert "s3cret" not in str(refused.value)
    assert str(refused.value) == (
        "uri: expected postgres://CONNECTION/schema.table, or postgres://CONNECTION/ with a query; got a URI with credentials, a "
        "port or parameters, which is not repeated here. Put user, password, host, port and database into an Airflow connection, "
        "and name the connection in the URI. If the password was stored, change it."
    )


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_no_form_of_a_password_is_repeated(password: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        relation_of(f"postgres://ann:<<{password}>>@db/shop.visits")

    assert f"<<{password}>>" not in str(refused.value)


@pytest.mark.parametrize(
    "uri", ["postgres://warehouse", "postgres:///visits", "postgresql://warehouse/visits", "postgres://a b/c"]
)
def test_a_uri_of_another_form_is_refused(uri: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        relation_of(uri)
    assert str(refused.value) == (
        f"uri: expected postgres://CONNECTION/schema.table, or postgres://CONNECTION/ with a query; got {uri!r}. CONNECTION is "
        "the id of an Airflow connection."
    )


@pytest.mark.parametrize("path", ["a.b.c", ".b", "a.", "a/b", "a;b", 'a"b'])
def test_other_characters_of_a_name_are_percent_encoded(path: str) -> None:
    with pytest.raises(DescriptionError, match="Percent-encode other characters of a name: %2E is a dot, %2F a slash"):
        relation_of(f"postgres://warehouse/{path}")


@pytest.mark.parametrize("name", ["", "x" * 64, "é" * 32, "a\0"])
def test_a_table_has_names_that_postgres_takes_whole(name: str) -> None:
    with pytest.raises(DescriptionError, match=r"Table\.name: expected a name of 1 to 63 bytes, got "):
        Table("public", name)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "select ';' AS a -- ; no end",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "(SELECT 1) UNION (SELECT 2)",
        'SELECT ";" FROM a /* ; */',
        "SELECT $$;$$, $x$;$$;$x$, E'\\';', 'it''s;'",
        "VALUES (1)",
        "-- what it is for\nSELECT 1",
    ],
)
def test_one_statement_that_reads_is_a_query(text: str) -> None:
    assert Query(text).text == text


def test_a_semicolon_at_the_end_of_a_query_is_dropped() -> None:
    assert Query(" SELECT 1 ;\n") == Query("SELECT 1")


@pytest.mark.parametrize("text", ["SELECT 1; DROP TABLE a", "SELECT ';';;", "SELECT 1; -- done", "SELECT 'a'; SELECT 'b'"])
def test_several_statements_are_refused(text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Query(text)
    assert str(refused.value) == (
        "Query.text: expected one statement, got a semicolon with text after it. Keep the SELECT alone; WITH names intermediate "
        "results."
    )


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_an_empty_query_is_refused(text: str) -> None:
    with pytest.raises(DescriptionError, match=r"Query\.text: expected a SELECT statement, got "):
        Query(text)


@pytest.mark.parametrize(("text", "word"), [("DELETE FROM a", "DELETE"), ("-- SELECT\nUPDATE a SET b = 1", "UPDATE")])
def test_a_statement_that_writes_is_refused(text: str, word: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Query(text)
    assert str(refused.value) == (
        f"Query.text: expected a statement that begins with SELECT or WITH, got {word!r}. A source is only read."
    )
