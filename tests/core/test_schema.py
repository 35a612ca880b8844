"""What a source needs of its columns, and what became of them since they were pinned last."""

from __future__ import annotations

from dataclasses import replace

import pytest

from almanac.core.schema import check_columns, schema_changes
from almanac.core.sources import EventSource, ReferenceSource
from almanac.errors import SourceError

VISITS = EventSource("s3://shop/visits/", event_time="at")
PEOPLE = ReferenceSource("s3://shop/people/")


def test_a_missing_column_is_refused_and_the_message_lists_what_there_is() -> None:
    with pytest.raises(SourceError) as refused:
        check_columns("visits", replace(VISITS, columns=("customer", "amount")), {"at": "timestamp[us, tz=UTC]", "who": "int64"})

    assert str(refused.value) == (
        "Source 'visits' (s3://shop/visits/) has no column customer, amount (it has: at, who). "
        "Deliver the column, or change the source's description."
    )


@pytest.mark.parametrize("source", [VISITS, replace(VISITS, columns=("who",))])
def test_a_missing_time_column_is_refused_whether_columns_are_named_or_not(source: EventSource) -> None:
    with pytest.raises(SourceError, match=r"has no column at \(it has: who\)"):
        check_columns("visits", source, {"who": "int64"})


def test_a_naive_timestamp_without_a_time_zone_is_refused_and_told_how_to_declare_it() -> None:
    with pytest.raises(SourceError) as refused:
        check_columns("visits", VISITS, {"at": "timestamp[us]"})

    assert str(refused.value) == (
        "Source 'visits': column 'at' is timestamp[us], a timestamp without a time zone. "
        "Declare how to read it with EventSource(..., timezone='UTC')."
    )


def test_a_naive_knowledge_time_is_refused_as_well() -> None:
    source = replace(VISITS, knowledge_time="loaded")
    with pytest.raises(SourceError, match="column 'loaded' is timestamp"):
        check_columns("visits", source, {"at": "timestamp[us, tz=UTC]", "loaded": "timestamp[us]"})


@pytest.mark.parametrize("found", ["date32[day]", "string", "int64", "double", "decimal128(20, 0)", "null", "bool"])
def test_a_time_column_that_is_no_timestamp_is_refused(found: str) -> None:
    with pytest.raises(SourceError, match="a time column must be a timestamp") as refused:
        check_columns("visits", replace(VISITS, timezone="UTC"), {"at": found})

    assert str(refused.value).startswith(f"Source 'visits': column 'at' is {found}, but a time column must be a timestamp. ")
    advice = ("eliver it as a timestamp: ", "deliver the times", "cast={'at': 'timestamp'}", "cast={'at': 'timestamp_seconds'}")
    assert any(one in str(refused.value) for one in advice)


@pytest.mark.parametrize("source", [VISITS, replace(VISITS, timezone="UTC")])
def test_timestamps_that_carry_a_zone_need_no_declaration(source: EventSource) -> None:
    check_columns("visits", source, {"at": "timestamp[us, tz=America/New_York]"})


def test_a_naive_timestamp_whose_zone_is_declared_will_do() -> None:
    check_columns("visits", replace(VISITS, timezone="America/New_York"), {"at": "timestamp[us]"})


def test_a_reference_source_needs_only_its_named_columns() -> None:
    check_columns("people", PEOPLE, {"anything": "string"})
    with pytest.raises(SourceError, match=r"has no column band \(it has: customer\)"):
        check_columns("people", replace(PEOPLE, columns=("band",)), {"customer": "int64"})


def test_columns_that_came_went_or_became_others_are_told_in_words() -> None:
    before = {"a": "int64", "b": "string", "c": "double"}
    assert schema_changes(before, {"a": "double", "c": "double", "d": "bool"}) == [
        "column d (bool) is new",
        "column b (string) is gone",
        "column a was int64 and is double",
    ]
    assert schema_changes(before, before) == []
