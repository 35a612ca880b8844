"""Described groups held against the columns of their sources, for an entity of several columns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from almanac import Aggregates
from almanac.columns import packed
from almanac.core.pins import Pin
from almanac.described import check
from almanac.errors import DescriptionError
from tests.support import branches

VISITS = {"customer": pa.int64(), "branch": pa.string(), "at": pa.timestamp("us"), "amount": pa.int64(), "city": pa.string()}
PLACES = {"branch": pa.string(), "size": pa.int64()}


def checked(visits: dict[str, pa.DataType], **changes: Any) -> None:
    asked: dict[str, Any] = {"reads": ("visits",), "windows": (timedelta(days=30),), "events": ("count",), **changes}
    pipeline = branches.pipeline("s3://landing", features=(Aggregates("agg", **asked),))
    pins = {
        name: Pin(
            source=name,
            uri=f"s3://landing/{name}/",
            files=(),
            columns={column: str(kind) for column, kind in columns.items()},
            schema=packed(pa.schema(columns)),
        )
        for name, columns in (("visits", visits), ("people", PLACES))
    }
    check(pipeline, pins)


def test_a_group_that_has_all_columns_of_the_entity_is_accepted_and_a_reference_needs_only_its_own() -> None:
    checked(VISITS, columns={"amount": ("sum",)})
    checked(VISITS, reads=("visits", "people"), on="branch", columns={"size": ("max",)})


@pytest.mark.parametrize(
    ("visits", "changes", "told"),
    [
        (
            {name: kind for name, kind in VISITS.items() if name != "branch"},
            {},
            "Aggregates('agg'): source 'visits' has no column branch (it has: amount, at, city, customer). Correct the",
        ),
        (
            {**VISITS, "branch": pa.float64()},
            {},
            "Aggregates('agg'): expected branch as whole numbers or text, got double in source 'visits'. Deliver it as one of",
        ),
        (
            VISITS,
            {"columns": {"branch": ("distinct",)}},
            "Aggregates('agg').columns: expected columns to aggregate, got a column of the entity, 'branch'. Remove it.",
        ),
    ],
)
def test_a_column_of_the_entity_that_is_missing_or_no_key_or_aggregated_is_refused(
    visits: dict[str, pa.DataType], changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(DescriptionError) as refused:
        checked(visits, **changes)
    assert str(refused.value).startswith(told)
