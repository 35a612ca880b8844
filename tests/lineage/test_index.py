"""The index of receipts: what depends on what, told from short steps alone."""

from __future__ import annotations

from typing import Any

import pytest

from almanac.core.canonical import opened, sealed
from almanac.core.promotions import Log
from almanac.errors import NotFound
from almanac.lineage.impact import Impact, SourceDelivery, TouchedRun, of_features, of_run, of_source, of_version
from almanac.lineage.index import Index, IndexedReceipt, Shown, SourceFile, spans, within
from tests.support.records import promote, roll_back

MAY, JUNE, ALL = (SourceFile(f"s3://landing/{name}.parquet", 10, f"etag-{name}") for name in ("may", "june", "all"))
JUNE_AGAIN = SourceFile(JUNE.uri, 12, "etag-june-again")


def step(key: str, period: str, *inputs: int, files: str = "", **given: Any) -> IndexedReceipt:
    described = {"period": period, "part": "", "definition": "f1", "version": "", "dag": "shop", "run": f"run of {period}"}
    return IndexedReceipt(**{**described, **given, "key": f"{key}-0", "inputs": inputs, "files": files})


# May's features saw May's file, June's saw both and were staged again when June's was delivered again; a version was
# trained on May and scored June twice, once with each features.
INDEX = Index(
    files=(MAY, JUNE, ALL, JUNE_AGAIN),
    versions={"v1": 6, "v2": 14},
    receipts=(
        step("sources/pin/p1", "2017-06"),
        step("features/stage/a", "2017-05", 0, files="0 2", part="habits"),
        step("features/stage/may", "2017-05", 1, files="0"),
        step("features/publish/may2", "2017-05", 2),
        step("features/stage/june", "2017-06", 0, files="0-1"),
        step("features/publish/june2", "2017-06", 4, run="another run"),
        step("model/stage/m", "2017-05", 3, 0, files="1", version="v1"),
        step("predictions/stage/s1", "2017-06", 5, 6, version="v1"),
        step("predictions/publish/s2", "2017-06", 7, version="v1"),
        step("sources/pin/p2", "2017-07"),
        step("features/stage/again", "2017-06", 9, files="0 3", run="repair"),
        step("features/publish/again2", "2017-06", 10, run="repair"),
        step("predictions/stage/s3", "2017-06", 11, 6, version="v1", run="repair"),
        step("predictions/publish/s4", "2017-06", 12, version="v1", run="repair"),
        step("model/stage/n", "2017-06", 11, version="v2", run="repair"),
        step("features/stage/never", "2017-07", 9, files="0", run="abandoned"),
    ),
)
SHOWN = Shown(predictions={"2017-06": "s3"}, features={"f1": {"2017-05": "may", "2017-06": "again"}}, log=Log())


def told(found: Impact) -> tuple[list[str], list[str], list[str]]:
    """Features, versions and predictions, each as period or version with its state."""
    return (
        [f"{one.period} {one.state}" for one in found.features],
        [f"{one.version} {one.state}" for one in found.versions],
        [f"{one.period} {one.version} {one.state}" for one in found.predictions],
    )


def test_a_source_file_touches_what_could_see_it_and_all_that_was_made_from_that():
    found = of_source(INDEX, SHOWN, ALL.uri)

    assert told(found) == (
        ["2017-05 visible"],
        ["v1 never promoted"],
        ["2017-06 v1 replaced", "2017-06 v1 visible"],
    )
    assert found.of == f"source file {ALL.uri}"
    assert found.deliveries == (SourceDelivery(uri=ALL.uri, size=10, etag="etag-all", periods=("2017-05",)),)


def test_a_file_that_was_delivered_again_is_shown_as_both_with_the_periods_that_saw_each():
    found = of_source(INDEX, SHOWN, JUNE.uri)

    assert [(one.etag, one.size, one.periods) for one in found.deliveries] == [
        ("etag-june", 10, ("2017-06",)),
        ("etag-june-again", 12, ("2017-06",)),
    ]
    assert told(found)[0] == ["2017-06 replaced", "2017-06 visible"]


def test_features_touch_the_predictions_and_versions_made_from_them_and_no_others():
    assert told(of_features(INDEX, SHOWN, "2017-06")) == (
        ["2017-06 replaced", "2017-06 visible"],
        ["v2 never promoted"],
        ["2017-06 v1 replaced", "2017-06 v1 visible"],
    )
    assert of_features(INDEX, SHOWN, "2017-06", "f1") == of_features(INDEX, SHOWN, "2017-06")


def test_a_version_touches_what_it_scored_and_not_what_it_was_made_from():
    assert told(of_version(INDEX, SHOWN, "v1")) == ([], ["v1 never promoted"], ["2017-06 v1 replaced", "2017-06 v1 visible"])
    assert told(of_version(INDEX, SHOWN, "v2")) == ([], ["v2 never promoted"], [])


def test_a_run_touches_what_it_made_and_what_it_only_published():
    assert told(of_run(INDEX, SHOWN, "repair"))[2] == ["2017-06 v1 visible"]
    found = of_run(INDEX, SHOWN, "another run")
    assert told(found) == (["2017-06 replaced"], [], ["2017-06 v1 replaced"])
    assert TouchedRun(dag="shop", run="another run", artifacts=("features.publish",)) in found.runs


def test_what_was_staged_and_never_published_is_not_told_of():
    assert told(of_run(INDEX, SHOWN, "abandoned")) == ([], [], [])


def test_a_version_is_told_as_the_log_has_it():
    log = promote(promote(Log(), "v1", "2017-06"), "v2", "2017-07")

    def state(log: Log, version: str) -> str:
        return of_version(INDEX, Shown(predictions={}, features={}, log=log), version).versions[0].state

    assert (state(log, "v1"), state(log, "v2")) == ("in force", "in force")
    back = roll_back(log, "v1", "2017-07")
    assert (state(back, "v1"), state(back, "v2")) == ("in force", "withdrawn")
    moved = promote(log, "v3", "2017-07")
    assert state(moved, "v2") == "was in force"


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            lambda: of_source(INDEX, SHOWN, "s3://landing/april.parquet"),
            "Source file 's3://landing/april.parquet' is in no pin (pinned: s3://landing/all.parquet, "
            "s3://landing/june.parquet, s3://landing/may.parquet). Name one of them by its full URI.",
        ),
        (
            lambda: of_features(INDEX, SHOWN, "2017-01", "f2"),
            "No features of '2017-01' of definition f2 are recorded (recorded: 2017-05 of f1, 2017-06 of f1, 2017-07 of f1). "
            "Name one of them.",
        ),
        (lambda: of_version(INDEX, SHOWN, "v9"), "Version 'v9' is unknown (known: v1, v2). Name one of them."),
        (
            lambda: of_run(INDEX, SHOWN, "x"),
            "Run 'x' is in no receipt (known: run of 2017-07, run of 2017-06, run of 2017-05, repair, another run (and 1 "
            "more)). Name one of them.",
        ),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_there(asked: Any, text: str):
    with pytest.raises(NotFound) as refused:
        asked()

    assert str(refused.value) == text


def test_spans_hold_exactly_their_numbers():
    numbers = [3, 1, 2, 7, 9, 10, 2]
    text = spans(numbers)

    assert text == "1-3 7 9-10"
    assert [number for number in range(12) if within(number, text)] == sorted(set(numbers))
    assert (spans([]), within(0, "")) == ("", False)


def test_an_index_is_the_same_after_it_was_kept():
    kept = opened(Index, sealed(INDEX))

    assert kept.files == INDEX.files
    assert sealed(kept) == sealed(INDEX)
    assert told(of_source(kept, SHOWN, ALL.uri)) == told(of_source(INDEX, SHOWN, ALL.uri))


def test_an_index_of_another_schema_is_not_read():
    with pytest.raises(ValueError, match="schema: expected 1, got 2"):
        Index(schema=2)
