"""Garbage: which objects are candidates at all, and which of them may be deleted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almanac.core.garbage import RETENTION, GarbageKind, Item, Total, check_age, garbage, kind_of, totals
from almanac.core.layout import Layout, staged_file
from tests.support.records import NOON

LAYOUT = Layout("s3://bucket/almanac", "shop")
ORDER = "ea02faee" * 8
STAGED = staged_file("2017-06", ORDER, "u")


def item(uri: str, age: timedelta, kind: GarbageKind = GarbageKind.PARTS, size: int = 10) -> Item:
    return Item(kind=kind, uri=uri, bytes=size, modified=NOON - age)


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        (f"{LAYOUT.predictions}/{STAGED}", GarbageKind.PREDICTIONS),
        (f"{LAYOUT.features('d1')}/{STAGED}", GarbageKind.FEATURES),
        (f"{LAYOUT.part(ORDER, 'unique')}/habits-1.parquet", GarbageKind.PARTS),
        (f"{LAYOUT.model('2017-06-ea02faee', 'unique')}/model.joblib", GarbageKind.MODELS),
    ],
)
def test_data_files_of_four_kinds_are_candidates(uri: str, kind: GarbageKind) -> None:
    assert kind_of(LAYOUT, uri) is kind


@pytest.mark.parametrize(
    "uri",
    [
        f"{LAYOUT.predictions}/_delta_log/00000000000000000000.json",
        f"{LAYOUT.predictions}/_delta_log/00000000000000000100.checkpoint.parquet",
        f"{LAYOUT.features('d1')}/_delta_log/00000000000000000100.checkpoint.parquet",
        f"{LAYOUT.features('d1')}/_delta_log/_last_checkpoint",
        f"{LAYOUT.predictions}/readme.parquet",
        f"{LAYOUT.predictions}/period=2017-06/notes.txt",
        LAYOUT.part(ORDER, "visits-0123456789abcdef.json"),
        LAYOUT.manifest("2017-06-ea02faee"),
        f"{LAYOUT.models}2017-06-ea02faee/manifest.sig",
        LAYOUT.description("d1"),
        LAYOUT.module("m1"),
        LAYOUT.order(ORDER),
        LAYOUT.receipt("features", "stage", ORDER, 0),
        LAYOUT.receipt("model", "note", ORDER, 0),
        LAYOUT.report(ORDER, "U", "checks.json"),
        LAYOUT.promotion(1),
        LAYOUT.rollback("d"),
        f"{Layout(LAYOUT.root, 'shop2').predictions}/{STAGED}",
        f"s3://elsewhere/predictions/{STAGED}",
    ],
)
def test_everything_that_says_where_a_thing_is_from_is_no_candidate(uri: str) -> None:
    assert kind_of(LAYOUT, uri) is None


def test_what_is_older_and_named_by_nothing_goes_and_nothing_else() -> None:
    week = timedelta(days=7)
    listed = [
        item("kept", 10 * week),
        item("old", week + timedelta(seconds=1)),
        item("just a week", week),
        item("young", timedelta(0)),
        item("from a clock that is ahead", -week),
    ]

    assert [found.uri for found in garbage(listed, {"kept"}, NOON)] == ["old"]
    assert garbage(listed, {"kept"}, NOON, 2 * week) == ()
    assert garbage([], set(), NOON) == ()


@given(ages=st.lists(st.integers(-50, 50)), kept=st.sets(st.integers(0, 20)), older=st.integers(7, 30))
def test_nothing_kept_and_nothing_young_is_ever_garbage(ages: list[int], kept: set[int], older: int) -> None:
    listed = [item(f"file {number}", timedelta(days=age)) for number, age in enumerate(ages)]
    found = garbage(listed, {f"file {number}" for number in kept}, NOON, timedelta(days=older))

    assert set(found) == {one for number, one in enumerate(listed) if number not in kept and ages[number] > older}


@pytest.mark.parametrize(("days", "told"), [(6.5, "6.5"), (0, "0"), (-8, "-8")])
def test_an_age_below_a_week_is_refused_with_the_reason(days: float, told: str) -> None:
    for ask in (check_age, lambda older: garbage([], set(), NOON, older)):
        with pytest.raises(ValueError) as refused:
            ask(timedelta(days=days))

        assert str(refused.value) == (
            f"expected an age of 7 days or more, got {told} days: running jobs, and readers of an earlier state of a table, "
            "still need younger files. Use 7d or more."
        )


def test_an_age_of_a_week_or_more_is_allowed() -> None:
    assert check_age(RETENTION) == RETENTION
    assert check_age(timedelta(days=28)) == timedelta(days=28)


def test_totals_count_files_and_bytes_of_each_kind_and_know_the_oldest() -> None:
    old, older = timedelta(days=8), timedelta(days=9)
    found = totals([item("a", old), item("b", older, size=5), item("c", old, GarbageKind.MODELS)])

    assert found == (
        Total(kind=GarbageKind.PREDICTIONS, files=0, bytes=0, oldest=None),
        Total(kind=GarbageKind.FEATURES, files=0, bytes=0, oldest=None),
        Total(kind=GarbageKind.PARTS, files=2, bytes=15, oldest=NOON - older),
        Total(kind=GarbageKind.MODELS, files=1, bytes=10, oldest=NOON - old),
    )
