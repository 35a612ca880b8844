"""Sources on a real S3 server: observed once into a pin, and held against it after they were read."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.core.pins import Pin
from almanac.core.sources import Cut, EventSource, ReferenceSource
from almanac.errors import SourceError
from almanac.store.objects import Objects
from almanac.store.pinned_files import check_unchanged
from tests.support.observing import observe

pytestmark = pytest.mark.store

NAIVE = pa.timestamp("us")
ZONED = pa.timestamp("us", tz="UTC")


@pytest.fixture
def visits(store: object, root: str) -> EventSource:
    return EventSource(f"{root}/visits/", event_time="at", timezone="UTC")


@pytest.fixture
def deliver(objects: Objects, root: str) -> Callable[..., str]:
    """Puts a Parquet file of these columns below `visits/` and gives its URI."""

    def put(name: str, columns: dict[str, Any], **how: Any) -> str:
        body = io.BytesIO()
        pq.write_table(pa.table(columns), body, **how)
        objects.put(f"{root}/visits/{name}", body.getvalue())
        return f"{root}/visits/{name}"

    return put


Deliver = Callable[..., str]


def at(*days: int, kind: pa.DataType = NAIVE) -> pa.Array:
    return pa.array([datetime(2017, 6, day) for day in days], kind)


def utc(day: int, hour: int = 0) -> datetime:
    return datetime(2017, 6, day, hour, tzinfo=UTC)


def test_a_pin_holds_every_file_with_its_size_rows_and_bounds(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    first = deliver("a.parquet", {"customer": [1, 2, 3, 4, 5], "at": at(9, 3, 1, 7, 5)}, row_group_size=2)
    second = deliver("deep/b.parquet", {"customer": [6], "at": at(20)})
    pin = observe(objects, "visits", visits)

    assert (pin.source, pin.uri, pin.columns) == ("visits", visits.uri, {"customer": "int64", "at": "timestamp[us]"})
    assert [(file.uri, file.groups, file.low, file.high) for file in pin.files] == [
        (first, (2, 2, 1), utc(1), utc(9)),
        (second, (1,), utc(20), utc(20)),
    ]
    assert [file.size for file in pin.files] == [len(objects.get(uri)) for uri in (first, second)]
    assert pin.freshness == utc(20)
    assert [file.uri for file in pin.within(Cut(low=utc(10)))] == [second]


def test_bounds_are_read_in_the_declared_time_zone(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"at": at(1, 9)})
    file = observe(objects, "visits", replace(visits, timezone="America/New_York")).files[0]

    assert (file.low, file.high) == (utc(1, 4), utc(9, 4))


def test_a_file_tells_when_the_first_of_it_became_known_where_the_source_does(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver("a.parquet", {"at": at(1, 9), "known": at(7, 5)})
    known = observe(objects, "visits", replace(visits, knowledge_time="known"))

    assert (known.files[0].known, observe(objects, "visits", visits).files[0].known) == (utc(5), None)
    assert known.within(Cut(high=utc(20), known=utc(6))) == known.files
    assert known.within(Cut(high=utc(20), known=utc(5))) == ()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_bounds_are_read_whatever_the_unit_and_with_a_zone_of_their_own(
    objects: Objects, visits: EventSource, deliver: Deliver, unit: str
) -> None:
    deliver("a.parquet", {"at": at(1, 9, kind=pa.timestamp(unit, tz="America/New_York"))})
    file = observe(objects, "visits", replace(visits, timezone=None)).files[0]

    assert (file.low, file.high) == (utc(1), utc(9))


@pytest.mark.parametrize(
    ("columns", "how"),
    [
        ({"at": at(1, 9)}, {"write_statistics": False}),
        ({"at": at(1, 9)}, {"use_deprecated_int96_timestamps": True}),
        ({"at": pa.array([None, None], NAIVE)}, {}),
        ({"at": pa.array([], NAIVE)}, {}),
    ],
)
def test_a_file_whose_statistics_do_not_tell_has_no_bounds_and_is_never_cut_away(
    objects: Objects, visits: EventSource, deliver: Deliver, columns: dict[str, Any], how: dict[str, Any]
) -> None:
    deliver("a.parquet", columns, **how)
    pin = observe(objects, "visits", visits)

    assert (pin.files[0].low, pin.files[0].high, pin.freshness) == (None, None, None)
    assert pin.within(Cut(low=utc(20), high=utc(21))) == pin.files


def test_a_file_in_which_no_row_has_a_time_is_known_to_hold_no_event(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver("a.parquet", {"at": pa.array([None, None], NAIVE)})
    deliver("b.parquet", {"at": pa.array([datetime(2017, 6, 1), None], NAIVE)})
    assert [file.undated for file in observe(objects, "visits", visits).files] == [True, False]


def test_one_row_group_that_does_not_tell_silences_the_file(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"at": pa.array([datetime(2017, 6, 1), None], NAIVE)}, row_group_size=1)

    assert observe(objects, "visits", visits).files[0].low is None


def test_a_reference_source_has_files_and_no_bounds(objects: Objects, root: str, deliver: Deliver) -> None:
    deliver("a.parquet", {"band": [1], "at": at(1)})
    pin = observe(objects, "people", ReferenceSource(f"{root}/visits/"))

    assert (pin.files[0].low, pin.files[0].rows, pin.columns) == (None, 1, {"band": "int64", "at": "timestamp[us]"})


def test_the_same_bytes_under_other_names_have_the_same_content(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    uri = deliver("a.parquet", {"at": at(1)})
    before = observe(objects, "visits", visits).content
    objects.put(uri.replace("/a.", "/moved/x."), objects.get(uri))
    objects.delete(uri)

    assert observe(objects, "visits", visits).content == before


def test_only_parquet_files_that_hold_something_are_pinned(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    uri = deliver("a.parquet", {"at": at(1)})
    for name, body in {
        "_SUCCESS": b"",
        "readme.txt": b"text that is longer than that",
        "ready/2017-06": b"",
        "deep/": b"",
    }.items():
        objects.put(f"{visits.uri}{name}", body)

    assert [file.uri for file in observe(objects, "visits", visits).files] == [uri]


# --- refusals ---


def test_a_source_without_files_is_missing(objects: Objects, visits: EventSource) -> None:
    with pytest.raises(SourceError) as refused:
        observe(objects, "visits", visits)

    assert str(refused.value) == (
        f"Source 'visits' is missing: there is no Parquet file below {visits.uri}. Deliver it, or correct the source's uri."
    )


def test_a_source_in_an_unknown_bucket_is_missing(objects: Objects) -> None:
    with pytest.raises(SourceError) as refused:
        observe(objects, "visits", EventSource("s3://nowhere/visits/", event_time="at"))

    assert str(refused.value) == (
        "Source 'visits' is missing: s3://nowhere/visits/: bucket 'nowhere' does not exist. Create it, or change the URI."
    )


def test_a_missing_column_is_refused_with_those_that_there_are(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"who": [1], "at": at(1)})
    with pytest.raises(SourceError) as refused:
        observe(objects, "visits", replace(visits, columns=("customer",)))

    assert str(refused.value) == (
        f"Source 'visits' ({visits.uri}) has no column customer (it has: at, who). "
        "Deliver the column, or change the source's description."
    )


def test_a_column_that_is_missing_in_a_later_file_is_refused(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"customer": [1], "at": at(1)})
    deliver("b.parquet", {"customer": [1], "when": at(1)})

    with pytest.raises(SourceError, match=r"/b\.parquet has no column 'at', .*/a\.parquet has it as timestamp"):
        observe(objects, "visits", visits)


@pytest.mark.parametrize("named", [("amount",), ()])
def test_files_that_disagree_about_a_type_are_refused_whether_columns_are_named_or_not(
    objects: Objects, visits: EventSource, deliver: Deliver, named: tuple[str, ...]
) -> None:
    first = deliver("a.parquet", {"amount": [1], "at": at(1)})
    second = deliver("b.parquet", {"amount": ["1"], "at": at(1)})
    with pytest.raises(SourceError) as refused:
        observe(objects, "visits", replace(visits, columns=named))

    assert str(refused.value) == (
        f"Source 'visits': {second} has amount as string, {first} has it as int64. "
        "Files of one source must agree: deliver one of them again, or leave the column out with columns=(...)."
    )


def test_files_that_disagree_about_the_time_zone_are_refused(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"at": at(1)})
    deliver("b.parquet", {"at": at(1, kind=ZONED)})

    with pytest.raises(SourceError, match=r"has at as timestamp\[us, tz=UTC\], .* has it as timestamp\[us\]"):
        observe(objects, "visits", visits)


@pytest.mark.parametrize(("more", "less"), [("a", "b"), ("b", "a")])
def test_a_column_that_only_some_files_have_is_refused_when_all_are_read(
    objects: Objects, visits: EventSource, deliver: Deliver, more: str, less: str
) -> None:
    deliver(f"{more}.parquet", {"amount": [1], "at": at(1)})
    deliver(f"{less}.parquet", {"at": at(1)})
    with pytest.raises(SourceError) as refused:
        observe(objects, "visits", visits)

    assert f"/{more}.parquet has it as int64" in str(refused.value)
    assert f"/{less}.parquet has no column 'amount'" in str(refused.value)


def test_a_column_that_nobody_reads_may_differ(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"customer": [1], "amount": [1], "at": at(1)})
    deliver("b.parquet", {"customer": [1], "amount": ["1"], "at": at(1)})

    assert len(observe(objects, "visits", replace(visits, columns=("customer",))).files) == 2


def test_naive_timestamps_without_a_time_zone_are_refused(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"at": at(1)})
    with pytest.raises(SourceError) as refused:
        observe(objects, "visits", replace(visits, timezone=None))

    assert str(refused.value) == (
        "Source 'visits': column 'at' is timestamp[us], a timestamp without a time zone. "
        "Declare how to read it with EventSource(..., timezone='UTC')."
    )


@pytest.mark.parametrize("damage", [lambda body: b"not parquet", lambda body: body[:-20], lambda body: body[: len(body) // 2]])  # noqa: ARG005
def test_a_file_that_is_no_parquet_is_refused_by_name(
    objects: Objects, visits: EventSource, deliver: Deliver, damage: Callable[[bytes], bytes]
) -> None:
    deliver("a.parquet", {"at": at(1)})
    broken = deliver("b.parquet", {"at": at(2)})
    objects.put(broken, damage(objects.get(broken)))
    with pytest.raises(SourceError) as refused:
        observe(objects, "visits", visits)

    assert str(refused.value).startswith(f"Source 'visits': {broken} cannot be read as Parquet (")
    assert str(refused.value).endswith("). Deliver it again.")


# --- held against the pin ---


@pytest.fixture
def pinned(objects: Objects, visits: EventSource, deliver: Deliver) -> Pin:
    for name in "abc":
        deliver(f"{name}.parquet", {"at": at(1)})
    return observe(objects, "visits", visits)


def changed(*uris: str) -> str:
    return (
        f"Source 'visits' changed while it was read: {', '.join(uris)} no longer matches the pin. "
        "Nothing was published. Start the run again to pin the current files."
    )


def test_files_that_were_left_alone_are_let_through(objects: Objects, pinned: Pin, deliver: Deliver) -> None:
    deliver("a.parquet", {"at": at(1)})  # the same bytes once more
    deliver("d.parquet", {"at": at(2)})  # a new file is for the next run

    check_unchanged(objects, pinned, pinned.files)


def test_a_replaced_file_is_found(objects: Objects, pinned: Pin, deliver: Deliver) -> None:
    uri = deliver("b.parquet", {"at": at(2)})
    with pytest.raises(SourceError) as refused:
        check_unchanged(objects, pinned, pinned.files)

    assert str(refused.value) == changed(uri)


def test_a_removed_file_is_found(objects: Objects, pinned: Pin) -> None:
    objects.delete(pinned.files[0].uri)
    objects.delete(pinned.files[2].uri)
    with pytest.raises(SourceError) as refused:
        check_unchanged(objects, pinned, pinned.files)

    assert str(refused.value) == changed(pinned.files[0].uri, pinned.files[2].uri)


def test_a_file_that_was_not_read_may_change(objects: Objects, pinned: Pin, deliver: Deliver) -> None:
    deliver("b.parquet", {"at": at(2)})

    check_unchanged(objects, pinned, [pinned.files[0], pinned.files[2]])
