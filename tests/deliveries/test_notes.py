"""Deliveries as nouns: what can be described, and the rules that need no place."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from almanac import ParquetDelivery, PostgresDelivery
from almanac.core.canonical import decode, dumps
from almanac.core.deliveries import named
from almanac.core.pipeline import Pipeline
from almanac.deliveries.notes import (
    Applied,
    Delivered,
    DeliveryAction,
    DeliveryFile,
    DeliveryManifest,
    DeliveryNote,
    Position,
    action,
    check_source,
    data_file,
    left_over,
    outstanding,
)
from almanac.errors import DeliveryError, DescriptionError
from tests.support.shop import pipeline

LAKE, WAREHOUSE = ParquetDelivery("lake", "s3://reports/scores"), PostgresDelivery("warehouse", "marketing.scores")
OLD, NEW = "0" * 64, "f" * 64


def note(fence: int, order: str = OLD, rows: int = 5, source: str = "s3://a/predictions") -> DeliveryNote:
    return DeliveryNote(source=source, position=Position(fence=fence, order=order, rows=rows))


# --- the description ---


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: ParquetDelivery("Lake", "s3://b/c"),
            "ParquetDelivery.name: expected lower-case letters, digits and _, got 'Lake'.",
        ),
        (
            lambda: PostgresDelivery("", "scores"),
            "PostgresDelivery.name: expected lower-case letters, digits and _, got ''.",
        ),
        *(
            (
                lambda uri=uri: ParquetDelivery("lake", uri),
                "ParquetDelivery('lake').uri: expected a folder on S3 such as s3://bucket/scores, or an absolute path such as "
                f"/data/scores; got {uri!r}.",
            )
            for uri in ("scores", "", "s3://", "s3:///x", "gs://bucket/x", "./x", "/", "//x", None)
        ),
        *(
            (
                lambda table=table: PostgresDelivery("warehouse", table),
                "PostgresDelivery('warehouse').table: expected lower-case letters, digits and _, optionally after a schema and "
                f"a dot, such as marketing.scores; got {table!r}. almanac_deliveries is reserved.",
            )
            for table in (
                "",
                "Scores",
                "a.b.c",
                "a b",
                "scores; drop table x",
                "almanac_deliveries",
                "x.almanac_deliveries",
                None,
            )
        ),
        (
            lambda: PostgresDelivery("warehouse", "scores", " "),
            "PostgresDelivery('warehouse').connection: expected the name of an Airflow connection, got ' '.",
        ),
    ],
)
def test_a_delivery_that_cannot_be_is_refused_by_name(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        make()

    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("deliveries", "text"),
    [
        (
            LAKE,
            f"Pipeline.deliveries: expected a tuple of ParquetDelivery and PostgresDelivery, got {LAKE!r}. A single one "
            "needs its comma.",
        ),
        (
            ("lake",),
            "Pipeline.deliveries: expected a tuple of ParquetDelivery and PostgresDelivery, got ('lake',). A single one "
            "needs its comma.",
        ),
        (
            (LAKE, PostgresDelivery("lake", "scores")),
            "Pipeline.deliveries: expected a different name for each delivery, got 'lake' twice.",
        ),
        (
            (LAKE, ParquetDelivery("pond", "s3://reports/scores/")),
            "Pipeline.deliveries: expected a different destination for each delivery, got 's3://reports/scores' twice.",
        ),
        (
            (WAREHOUSE, PostgresDelivery("other", "marketing.scores")),
            "Pipeline.deliveries: expected a different destination for each delivery, got 'marketing.scores of "
            "almanac_deliveries' twice.",
        ),
    ],
)
def test_deliveries_that_are_no_tuple_or_share_a_name_or_a_place_are_refused(deliveries: Any, text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        pipeline("s3://shop", deliveries=deliveries)

    assert str(refused.value) == text


def test_a_description_with_deliveries_is_read_as_it_was_written() -> None:
    other = PostgresDelivery("elsewhere", "marketing.scores", connection="elsewhere")
    written = pipeline("s3://shop", deliveries=(LAKE, WAREHOUSE, other))

    assert decode(Pipeline, json.loads(dumps(written))) == written
    assert WAREHOUSE.connection == "almanac_deliveries"


def test_a_description_without_deliveries_keeps_its_digest_and_is_read() -> None:
    """Those that were kept before there were deliveries have no such field."""
    plain = pipeline("s3://shop")
    kept = json.loads(dumps(plain))

    assert "deliveries" not in kept
    assert decode(Pipeline, kept).deliveries == ()
    assert pipeline("s3://shop", deliveries=(LAKE,)).digest != plain.digest


def test_deliveries_shape_no_features() -> None:
    assert pipeline("s3://shop", deliveries=(LAKE,)).definition("m") == pipeline("s3://shop").definition("m")


def test_a_delivery_is_found_by_its_name_and_all_are_found_without_one() -> None:
    assert named((LAKE, WAREHOUSE), "warehouse") == (WAREHOUSE,)
    assert named((LAKE, WAREHOUSE), None) == (LAKE, WAREHOUSE)
    with pytest.raises(DescriptionError) as refused:
        named((LAKE, WAREHOUSE), "pond")
    assert str(refused.value) == "Delivery 'pond' is unknown (there are: lake, warehouse). Name one."


# --- what is done ---


@pytest.mark.parametrize(
    ("standing", "fence", "order", "done"),
    [
        (None, 1, OLD, DeliveryAction.APPLY),
        (note(1), 1, OLD, DeliveryAction.KEEP),
        (note(1), 2, NEW, DeliveryAction.APPLY),
        (note(2), 1, NEW, DeliveryAction.STALE),
        (note(2), 1, OLD, DeliveryAction.STALE),
        (note(1), 1, NEW, DeliveryAction.APPLY),  # a bucket that was restored and went on otherwise
        (note(2, order=""), 1, OLD, DeliveryAction.STALE),  # removed, and somebody comes late
        (note(2, order=""), 3, OLD, DeliveryAction.APPLY),
    ],
)
def test_a_newer_publish_is_never_overwritten_by_an_older(
    standing: DeliveryNote | None, fence: int, order: str, done: DeliveryAction
) -> None:
    assert action(standing, Position(fence=fence, order=order, rows=5)) is done


def test_what_differs_is_outstanding_and_what_neither_shows_is_not() -> None:
    shown = Position(fence=2, order=NEW, rows=5)
    table = dict.fromkeys(("new", "moved", "same"), shown) | {"removed": Position(fence=3), "gone": Position(fence=3)}
    notes = {
        "moved": note(1),
        "same": note(2, NEW),
        "removed": note(2),
        "gone": note(3, order="", rows=0),
        "lost": note(1),
    }

    assert outstanding(table, notes) == ["lost", "moved", "new", "removed"]
    assert outstanding({"never": Position(fence=0)}, {}) == []
    assert outstanding({}, {"gone": note(1, order="", rows=0)}) == []


def test_a_place_of_another_table_is_refused() -> None:
    check_source(LAKE, {"2017-06": note(1)}, "s3://a/predictions")
    with pytest.raises(DeliveryError) as refused:
        check_source(LAKE, {"2017-06": note(1)}, "s3://b/predictions")

    assert str(refused.value) == (
        "Delivery 'lake': s3://reports/scores is already filled from s3://a/predictions, but this run would fill it from "
        "s3://b/predictions. Nothing was written. Give each pipeline and each ALMANAC_ROOT a place of its own. If the "
        "predictions were moved, see docs/deliveries.md."
    )


def test_a_data_file_is_named_by_its_order_and_its_publish() -> None:
    assert data_file(Position(fence=3, order=NEW, rows=1), 7) == "ffffffffffff-3-007.parquet"


def test_only_files_of_an_older_publish_are_left_over() -> None:
    names = [
        "_manifest.json",
        "000000000000-1-000.parquet",
        "000000000000-2-000.parquet",
        "ffffffffffff-2-000.parquet",
        "eeeeeeeeeeee-3-000.parquet",
        "part-00000.parquet",
        "README.md",
    ]

    assert left_over(names, note(2, NEW)) == ["000000000000-1-000.parquet", "000000000000-2-000.parquet"]


def test_a_manifest_tells_its_note() -> None:
    files = tuple(DeliveryFile(name=f"{number}", rows=number, bytes=1, sha256="x") for number in (2, 3))
    when = datetime(2017, 8, 1, tzinfo=UTC)
    manifest = DeliveryManifest(source="s3://a", period="2017-07", order=NEW, fence=4, files=files, run="r", delivered_at=when)

    assert manifest.note == note(4, NEW, 5, "s3://a")


def test_what_was_done_is_told_in_few_words() -> None:
    done = [Applied(period=f"2017-{month:02d}", fence=1, order=OLD, rows=month) for month in range(1, 13)]
    removed = Applied(period="2018-01", fence=2, order="", rows=0)

    assert Delivered(delivery="lake").in_words == "delivery lake: nothing to do"
    assert Delivered(delivery="lake", applied=(done[0], removed)).in_words == "delivery lake: 2017-01 (1 rows), 2018-01 (removed)"
    assert Delivered(delivery="lake", applied=(*done, removed)).in_words.endswith("2017-12 (12 rows) (and 1 more)")
