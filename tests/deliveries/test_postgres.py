"""Deliveries to a real PostgreSQL server: one transaction a period, and what a database can get wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from almanac.core.deliveries import PostgresDelivery
from almanac.deliveries import postgres
from almanac.errors import AccessRefused, DeliveryError, DescriptionError, Unreachable
from tests.support.scores import COLUMNS, Ask, Scores, Target

pytestmark = pytest.mark.store


COLUMNS_OF = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
KEYS_OF = """
    SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
    WHERE indrelid = to_regclass(%s) AND indisprimary ORDER BY array_position(indkey::int[], attnum::int)
"""


# --- the tables ---


def test_the_table_is_made_with_the_columns_of_the_predictions_and_a_primary_key(
    scores: Scores, in_postgres: Target, ask: Ask
) -> None:
    scores.publish("2017-07")
    in_postgres.deliver(scores)

    assert ask(COLUMNS_OF, "scores") == [
        ("period", "text"),
        ("customer", "bigint"),
        ("as_of", "timestamp with time zone"),
        ("score", "double precision"),
        ("model_version", "text"),
        ("order", "text"),
    ]
    assert ask(KEYS_OF, "scores") == [("period",), ("customer",)]


def test_the_note_of_a_period_is_its_publish_and_who_brought_it(scores: Scores, in_postgres: Target, ask: Ask) -> None:
    scores.publish("2017-07")
    order = scores.publish("2017-07", customers=3)
    in_postgres.deliver(scores)
    query = 'SELECT target_table, period, fence, "order", rows, source, run, delivered_at FROM almanac_deliveries'
    ((*note, at),) = ask(query)

    assert note == ["scores", "2017-07", 2, order, 3, scores.home.predictions.uri, "shop_score run-1"]
    assert timedelta(0) <= datetime.now(UTC) - at < timedelta(minutes=5)
    assert ask(KEYS_OF, "almanac_deliveries") == [("target_table",), ("period",)]


HARD = [
    "",
    'he said "no"',
    "a,b;c\td",
    "two\nlines\r\nmore",
    "\\N",
    "\\.",
    "x\n\\.\ny",
    "NULL",
    " spaces ",
    "né 漢字 🙂",
    "'; DROP TABLE scores; --",
]


def test_values_arrive_as_they_were(scores: Scores, in_postgres: Target, ask: Ask) -> None:
    numbers = [0.1, -0.0, 1e-300, 1.7976931348623157e308, math.nan, math.inf, -math.inf, 5e-324, 1 / 3, 2**53 + 1.0, None]
    when = [datetime(2017, 8, 1, tzinfo=UTC) + timedelta(microseconds=number) for number in range(len(HARD))]
    rows = pa.table(
        {
            "customer": pa.array(range(-5, 6), pa.int64()),
            "as_of": pa.array(when, pa.timestamp("us", tz="UTC")),
            "naive": pa.array([moment.replace(tzinfo=None) for moment in when], pa.timestamp("ms")),
            "score": pa.array(numbers, pa.float64()),
            "single": pa.array([0.1, 3.4028235e38, None] + [1 / 3] * 8, pa.float32()),
            "note": pa.array(HARD, pa.string()),
            "large": pa.array([None, *HARD[1:]], pa.large_string()),
            "big": pa.array([2**63 - 1, -(2**63), None] + [0] * 8, pa.int64()),
        }
    )
    scores.publish("2017-07", rows)
    in_postgres.deliver(scores)
    found = ask("SELECT customer, as_of, score, single, note, large, big FROM scores ORDER BY customer")
    expected = rows.drop_columns(["naive"]).to_pylist()

    for got, row in zip(found, expected, strict=True):
        for value, wanted in zip(got, row.values(), strict=True):
            both_nan = isinstance(wanted, float) and math.isnan(wanted) and math.isnan(value)
            assert both_nan or value == pytest.approx(wanted, rel=1e-7, abs=0) if isinstance(wanted, float) else value == wanted
    assert [row[2] for row in found][:4] == numbers[:4] and [row[2] for row in found][7:] == numbers[7:]
    moments = ask("SELECT date_trunc('milliseconds', as_of) = naive FROM scores")
    assert moments == [(True,)] * len(HARD)  # a time without a zone is UTC, whatever the server's zone


def test_a_file_of_many_batches_arrives_whole(scores: Scores, in_postgres: Target, ask: Ask) -> None:
    scores.publish("2017-07", scores.rows("a", 150_000), scores.rows("a", 7, first=150_000))
    in_postgres.deliver(scores)

    assert ask("SELECT count(*), count(DISTINCT customer), max(customer) FROM scores") == [(150_007, 150_007, 150_006)]


def test_a_new_column_of_the_predictions_is_added_and_older_periods_have_none(
    scores: Scores, in_postgres: Target, ask: Ask
) -> None:
    scores.publish("2017-06", customers=2)
    in_postgres.deliver(scores)
    scores.publish("2017-07", scores.rows("b", 2).append_column("rank", pa.array([1, 2], pa.int64())))
    scores.publish("2017-08", customers=2)
    in_postgres.deliver(scores)

    assert ask(COLUMNS_OF, "scores")[-1] == ("rank", "bigint")
    assert ask("SELECT period, rank FROM scores ORDER BY period, customer") == [
        ("2017-06", None),
        ("2017-06", None),
        ("2017-07", 1),
        ("2017-07", 2),
        ("2017-08", None),
        ("2017-08", None),
    ]


def test_a_column_that_others_added_stays(scores: Scores, in_postgres: Target, ask: Ask) -> None:
    scores.publish("2017-07")
    in_postgres.deliver(scores)
    ask("ALTER TABLE scores ADD COLUMN seen boolean DEFAULT false")
    scores.publish("2017-07")
    in_postgres.deliver(scores)

    assert ask("SELECT DISTINCT seen FROM scores") == [(False,)]


def test_a_table_in_a_schema_is_made_there_and_two_tables_have_notes_of_their_own(
    scores: Scores, in_postgres: Target, address: str, ask: Ask
) -> None:
    (schema,) = ask("SELECT current_schema()")[0]
    other = Target(PostgresDelivery("other", f"{schema}.copies"), address, in_postgres.objects)
    scores.publish("2017-07")
    in_postgres.deliver(scores)
    assert other.outstanding(scores) == ["2017-07"]

    other.deliver(scores)
    assert other.seen() == in_postgres.seen() == scores.seen()
    assert ask("SELECT target_table FROM almanac_deliveries ORDER BY 1") == [("scores",), (f"{schema}.copies",)]


def test_a_table_that_was_dropped_is_filled_again(scores: Scores, in_postgres: Target, ask: Ask) -> None:
    scores.publish("2017-06")
    scores.publish("2017-07")
    in_postgres.deliver(scores)
    ask("DROP TABLE scores")
    assert in_postgres.outstanding(scores) == ["2017-06", "2017-07"]

    in_postgres.deliver(scores)
    assert in_postgres.seen() == scores.seen()


# --- what is refused ---


def test_a_table_of_other_types_is_refused(scores: Scores, in_postgres: Target, ask: Ask) -> None:
    ask('CREATE TABLE scores (period text, customer integer, as_of timestamp, score real, model_version text, "order" text)')
    scores.publish("2017-07")
    with pytest.raises(DeliveryError) as refused:
        in_postgres.deliver(scores)

    assert (
        "Delivery 'warehouse': table scores has customer as integer, as_of as timestamp without time zone, score as real, "
        "expected customer as bigint, as_of as timestamp with time zone, score as double precision. Nothing was changed. Alter "
        "the table, or name another one, and it is created."
    ) in str(refused.value)
    assert ask("SELECT * FROM scores") == []


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            "period text, client bigint",
            "has no column customer (it has: period, client), but rows are identified by period and customer",
        ),
        ("customer bigint", "has no column period (it has: customer), but rows are identified by period and customer"),
        ("x text", "has no column period and no customer (it has: x), but rows are identified by period and customer"),
    ],
)
def test_a_table_without_the_entity_or_the_period_is_refused(
    columns: str, text: str, scores: Scores, in_postgres: Target, ask: Ask
) -> None:
    ask(f"CREATE TABLE scores ({columns})")
    scores.publish("2017-07")
    with pytest.raises(DeliveryError) as refused:
        in_postgres.deliver(scores)

    assert f"Delivery 'warehouse': table scores {text}. Nothing was changed. Name another table, and it is created." in str(
        refused.value
    )


@pytest.mark.parametrize(
    ("name", "column", "text"),
    [
        ("tags", pa.array([["a"]]), "a column 'tags' of type list<"),
        (
            "day",
            pa.array([1], pa.date32()),
            "a column 'day' of type date32[day], expected one of int64, string, float64 (double), ",
        ),
        ("period", pa.array(["x"]), "a column 'period' of type string, expected any name but 'period'. Nothing was changed."),
    ],
)
def test_a_column_that_the_table_cannot_hold_is_refused(
    name: str, column: pa.Array, text: str, scores: Scores, in_postgres: Target
) -> None:
    scores.publish("2017-07", scores.rows("a", 1).append_column(name, column))
    with pytest.raises(DeliveryError) as refused:
        in_postgres.deliver(scores)

    assert f"Delivery 'warehouse': the predictions have {text}" in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (lambda scores: scores.rows("a", 2).take([0, 0]), 'duplicate key value violates unique constraint "scores_pkey"'),
        (lambda scores: _renamed(scores, "a\0b"), 'invalid byte sequence for encoding "UTF8": 0x00'),
        (lambda scores: _renamed(scores, None).drop_columns(["customer"]), "does not exist"),
    ],
)
def test_rows_that_the_database_refuses_are_told_in_its_words(
    rows: Callable[[Scores], pa.Table], text: str, scores: Scores, in_postgres: Target
) -> None:
    scores.publish("2017-07", rows(scores))
    with pytest.raises(DeliveryError) as refused:
        in_postgres.deliver(scores)

    assert text in str(refused.value)
    assert "This period was not changed. Fix the table, or name another one, and it is created." in str(refused.value)
    assert in_postgres.seen() == []


def _renamed(scores: Scores, version: str | None) -> pa.Table:
    rows = scores.rows("a", 1)
    return rows.set_column(rows.schema.get_field_index("model_version"), "model_version", pa.array([version], pa.string()))


def test_a_user_who_may_not_create_the_table_is_told(scores: Scores, in_postgres: Target, ask: Ask) -> None:
    (schema,) = ask("SELECT current_schema()")[0]
    role = f"reader_{schema}"
    ask(f"CREATE ROLE {role} LOGIN")
    ask(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    scores.publish("2017-07")
    other = Target(in_postgres.delivery, in_postgres.address.replace("postgres@", f"{role}@"), in_postgres.objects)
    with pytest.raises(AccessRefused) as refused:
        other.deliver(scores)

    assert str(refused.value) == (
        f"Delivery 'warehouse': the database refused its user (permission denied for schema {schema}). Nothing was changed. Let "
        "the user create tables, or create scores and almanac_deliveries and make the user their owner."
    )


def test_a_schema_that_is_missing_is_told(scores: Scores, in_postgres: Target, address: str) -> None:
    scores.publish("2017-07")
    nowhere = Target(PostgresDelivery("warehouse", "nowhere.scores"), address, in_postgres.objects)
    with pytest.raises(DeliveryError, match=r'refused the rows of table nowhere\.scores \(schema "nowhere" does not exist\)'):
        nowhere.deliver(scores)


@pytest.mark.parametrize(
    "address",
    ["", "s3cret", "host=x password=s3cret", "mysql://ann:s3cret@host/x", "postgresql://ann:s3cret@host/x?nonsense=1"],
)
def test_an_address_that_is_none_is_refused_and_not_shown(scores: Scores, in_postgres: Target, address: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        Target(in_postgres.delivery, address, in_postgres.objects).outstanding(scores)

    assert str(refused.value) == (
        "Delivery 'warehouse': the address of its database is not valid. Expected a URI such as "
        "postgresql://user:password@host:5432/database, with special characters percent-encoded."
    )
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


def test_a_database_that_does_not_answer_is_told_without_the_password(scores: Scores, in_postgres: Target) -> None:
    gone = Target(in_postgres.delivery, "postgresql://ann:s3cret@127.0.0.1:1/s3cret", in_postgres.objects)
    with pytest.raises(Unreachable) as refused:
        gone.outstanding(scores)

    assert str(refused.value).startswith(
        "Delivery 'warehouse': the database does not answer, or refuses access (connection failed: "
    )
    assert str(refused.value).endswith("Nothing was delivered. Check the connection 'almanac_deliveries' and the server.")
    assert "s3cret" not in str(refused.value)


def test_every_type_of_a_prediction_file_has_a_column_type() -> None:
    kinds = {field.type for field in COLUMNS if not pa.types.is_timestamp(field.type)}

    assert kinds <= set(postgres.TYPES)
