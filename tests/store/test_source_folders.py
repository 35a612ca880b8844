"""What lies in a source's folder on a real store: data, what is passed over, tables with a log, odd names, broken files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.core.sources import EventSource, ReferenceSource
from almanac.errors import SourceError, SourceMissing
from almanac.store.objects import Objects
from tests.support.observing import observe

pytestmark = pytest.mark.store

OPTIONS = {"AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
Deliver = Callable[..., str]


@pytest.fixture
def visits(store: object, root: str) -> EventSource:
    return EventSource(f"{root}/visits/", event_time="at", timezone="UTC")


@pytest.fixture
def deliver(objects: Objects, visits: EventSource) -> Deliver:
    """Puts a Parquet file of these columns, besides the time, below `visits/` and gives its URI."""

    def put(name: str, columns: dict[str, Any] | None = None, **how: Any) -> str:
        body = io.BytesIO()
        held = columns or {}
        rows = len(next(iter(held.values()), [None]))
        pq.write_table(pa.table({"at": pa.array([datetime(2017, 6, 1)] * rows, pa.timestamp("us")), **held}), body, **how)
        objects.put(f"{visits.uri}{name}", body.getvalue())
        return f"{visits.uri}{name}"

    return put


def names(objects: Objects, source: EventSource) -> list[str]:
    return [file.uri.removeprefix(source.uri) for file in observe(objects, "visits", source).files]


def refused(objects: Objects, source: EventSource | ReferenceSource, **how: Any) -> str:
    with pytest.raises(SourceError) as error:
        observe(objects, "visits", source, **how)
    return str(error.value)


# --- what is data ---


def test_hidden_files_and_those_of_unfinished_writes_are_not_pinned(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    for name in (
        "_temporary/0/part-0.parquet",
        ".a.parquet",
        "month=1/_tmp.parquet",
        ".staging/a.parquet",
        "a.parquet._COPYING_",
    ):
        deliver(name)
    deliver("month=1/a.parquet")
    deliver("_x=1/a.parquet")

    assert names(objects, visits) == ["_x=1/a.parquet", "month=1/a.parquet"]
    assert observe(objects, "visits", visits).notes == (
        "Source 'visits': files lie in folders that are named for _x, month. Such a column is not read from the folders' names. "
        "Declare it if it is needed: partitions={'_x': 'string'}, or another type.",
    )


def test_a_source_whose_own_folder_begins_with_a_mark_is_read(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("_landing/a.parquet")

    assert names(objects, replace(visits, uri=f"{visits.uri}_landing/")) == ["a.parquet"]


@pytest.mark.parametrize("name", ["b.PARQUET", "b.parq", "b.pq", "part-00005", "000000_0"])
def test_a_parquet_file_of_another_name_is_read_and_told(
    objects: Objects, visits: EventSource, deliver: Deliver, name: str
) -> None:
    deliver("a.parquet")
    uri = deliver(name)
    pin = observe(objects, "visits", visits)

    assert {file.uri for file in pin.files} == {f"{visits.uri}a.parquet", uri}
    assert pin.notes == (
        f"Source 'visits': Parquet files that do not end in '.parquet' are read (1): {uri}. Rename them, or move them out of "
        "the folder if they are no data.",
    )


def test_parquet_files_of_other_endings_are_passed_over_and_counted(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver("a.parquet")
    passed = [deliver("a.parquet.bak"), deliver("b.old")]
    objects.put(f"{visits.uri}c.parquet.gz", b"\x1f\x8b" + b"0" * 20)
    objects.put(f"{visits.uri}notes.csv", b"customer,amount\n1,2\n")
    objects.put(f"{visits.uri}ready/2017-06", b"that is a marker, and no data")
    pin = observe(objects, "visits", visits)

    assert len(pin.files) == 1
    assert pin.notes == (
        f"Source 'visits': Parquet files of another ending are not read (3): {passed[0]}, {passed[1]}, {visits.uri}c.parquet.gz. "
        "Rename them to end in '.parquet', or move them out of the folder if they are no data.",
        f"Source 'visits': files that are not Parquet are not read (1): {visits.uri}notes.csv. Read CSV or JSON lines with "
        "format=, deliver them as Parquet, or move them out of the folder if they are no data.",
    )


def test_where_only_files_of_other_endings_lie_the_source_is_missing_and_they_are_told(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver("a.dat")
    with pytest.raises(
        SourceMissing, match=r"no Parquet file below .* Parquet files of another ending are not read .*a\.dat\. Rename them"
    ):
        observe(objects, "visits", visits)


def test_an_empty_file_is_refused_by_name_and_a_folders_own_entry_is_none(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver("b.parquet/part-0.parquet")
    objects.put(f"{visits.uri}b.parquet/", b"")
    objects.put(f"{visits.uri}b.parquet", b"")  # as some tools mark a folder
    assert names(objects, visits) == ["b.parquet/part-0.parquet"]

    objects.put(f"{visits.uri}a.parquet", b"")
    assert refused(objects, visits) == (
        f"Source 'visits': {visits.uri}a.parquet is empty (0 bytes), expected a Parquet file. Deliver it again, or delete it."
    )


@pytest.mark.parametrize("name", ["a.parquet", "a.parq", "part-00005"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused_by_name(
    objects: Objects, visits: EventSource, deliver: Deliver, name: str, share: float
) -> None:
    deliver("whole.parquet")
    uri = deliver(name)
    body = objects.get(uri)
    objects.put(uri, body[: int(len(body) * share)])

    text = refused(objects, visits)
    assert text.startswith(f"Source 'visits': {uri} cannot be read as Parquet (") and text.endswith("Deliver it again.")


# --- tables with a log ---


def test_a_delta_table_is_refused_at_its_folder_above_and_below(objects: Objects, root: str, visits: EventSource) -> None:
    rows = pa.table({"at": pa.array([datetime(2017, 6, 1)], pa.timestamp("us", "UTC")), "month": ["2017-06"]})
    deltalake.write_deltalake(f"{root}/visits/eu", rows, partition_by=["month"], storage_options=OPTIONS)

    for uri in (f"{root}/visits/eu/", f"{root}/visits/", f"{root}/visits/eu/month=2017-06/"):
        text = refused(objects, replace(visits, uri=uri))
        assert "is a Delta table (found " in text and "_delta_log/00000000000000000000.json" in text
        copied = "Deliver a copy as plain Parquet files in a folder of its own."
        assert text.endswith("EventSource(..., format=Delta())." if uri.endswith("/eu/") else copied)
        assert refused(objects, ReferenceSource(uri)) == text.replace("EventSource(", "ReferenceSource(")


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("metadata/v1.metadata.json", "an Iceberg table"),
        ("_spark_metadata/0", "the sink of a Spark stream"),
    ],
)
def test_a_table_of_another_format_is_refused_by_its_name_from_its_data_folder_as_well(
    objects: Objects, visits: EventSource, deliver: Deliver, log: str, told: str
) -> None:
    deliver("data/a.parquet")
    objects.put(f"{visits.uri}{log}", b"{}")

    for uri in (visits.uri, f"{visits.uri}data/"):
        assert refused(objects, replace(visits, uri=uri)).startswith(f"Source 'visits': {visits.uri} is {told} (found {log}).")


# --- files that agree after the map ---


def test_files_that_differ_in_spelling_alone_agree_and_the_pin_tells_the_common_type(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver("a.parquet", {"key": pa.array(["x"], pa.large_string()), "n": pa.array([1], pa.uint8()), "k": pa.nulls(1)})
    deliver("b.parquet", {"key": pa.array(["x"]).dictionary_encode(), "n": pa.array([1], pa.int32()), "k": ["z"]})
    deliver("c.parquet", {"k": pa.nulls(1), "n": pa.array([1], pa.int8()), "key": pa.nulls(1)})

    assert observe(objects, "visits", visits).columns == {"at": "timestamp[us]", "key": "string", "n": "int32", "k": "string"}


def test_a_time_that_is_null_throughout_in_one_file_agrees_and_in_all_is_refused(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver("a.parquet", {"at": pa.nulls(1)})
    assert "column 'at' is null, but a time column must be a timestamp. It is null in every row" in refused(objects, visits)

    deliver("b.parquet")
    assert observe(objects, "visits", visits).files[0].low is None


def test_a_column_that_came_later_is_told_with_every_way_out(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    old, new = deliver("a.parquet"), deliver("b.parquet", {"channel": ["web"]})

    assert refused(objects, visits) == (
        f"Source 'visits': {old} has no column 'channel', while {new} has it as string. Files of one source must agree: leave "
        "the column out with columns=(...), declare that files may lack it with fill={'channel': None}, or deliver one of them "
        "again."
    )
    for way in (
        replace(visits, columns=("at",)),
        replace(visits, fill={"channel": None}),
        replace(visits, fill={"channel": "shop"}),
    ):
        assert len(observe(objects, "visits", way).files) == 2


def test_a_name_that_differs_in_case_between_files_is_told(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"Amount": [1]})
    deliver("b.parquet", {"amount": [1]})

    assert "columns 'Amount' and 'amount' differ only in case" in refused(objects, visits)
    assert "a.parquet has no column 'amount' (only 'Amount'), " in refused(objects, replace(visits, columns=("amount",)))


def test_a_fill_that_does_not_fit_or_that_no_file_has_is_refused(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet")
    deliver("b.parquet", {"rank": [1]})

    assert "fill for column 'rank': expected a value of type int64, or None, got 'first'" in refused(
        objects, replace(visits, fill={"rank": "first"})
    )
    assert "has no column chanel (it has: at, rank)" in refused(objects, replace(visits, fill={"rank": 0, "chanel": None}))


@pytest.mark.parametrize("other", ["amount", "AMOUNT", "Amount"])
def test_two_columns_of_one_name_are_refused_where_they_are_read(objects: Objects, visits: EventSource, other: str) -> None:
    body = io.BytesIO()
    at = pa.array([datetime(2017, 6, 1)], pa.timestamp("us"))
    pq.write_table(pa.Table.from_arrays([at, pa.array([1]), pa.array([2])], names=["at", "amount", other]), body)
    objects.put(f"{visits.uri}a.parquet", body.getvalue())

    text = refused(objects, visits)
    assert "'amount'" in text and "leave the column out with columns=(...)" in text
    assert observe(objects, "visits", replace(visits, columns=("at",)))


def test_a_column_that_spark_cannot_read_stops_nobody_until_it_is_asked_for(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver("a.parquet", {"opened": pa.array([1], pa.time64("us")), "a.b": [1], "c`d": [1]})

    assert observe(objects, "visits", visits).columns["opened"] == "time64[us]"
    assert refused(objects, replace(visits, columns=("opened",))) == (
        "Source 'visits': column 'opened' is time64[us], which cannot be read: Spark has no time of day. Deliver it as another "
        "type, or leave the column out with columns=(...)."
    )


@pytest.mark.parametrize("asked", [("at",), ("at", "customer")])
def test_columns_that_nobody_asks_for_may_differ(
    objects: Objects, visits: EventSource, deliver: Deliver, asked: tuple[str, ...]
) -> None:
    deliver("a.parquet", {"customer": [1], "amount": [1]})
    deliver("b.parquet", {"customer": [1], "amount": ["1"], "AMOUNT": [2]})

    assert len(observe(objects, "visits", visits, asked=asked).files) == 2


# --- statistics ---


def test_the_bounds_of_a_skipped_hour_are_those_of_its_rows(objects: Objects, visits: EventSource, deliver: Deliver) -> None:
    deliver("a.parquet", {"at": pa.array([datetime(2017, 3, 12, 2, 30), datetime(2017, 3, 12, 2, 59)], pa.timestamp("us"))})
    file = observe(objects, "visits", replace(visits, timezone="America/New_York")).files[0]

    jump = datetime(2017, 3, 12, 7, tzinfo=UTC)
    assert (file.low, file.high) == (jump, jump)


@pytest.mark.parametrize("year", [20_000, -5_000, 290_000])
def test_a_file_of_times_that_python_does_not_know_has_no_bounds(
    objects: Objects, visits: EventSource, deliver: Deliver, year: int
) -> None:
    seconds = int((year - 1970) * 365.2425 * 86_400)
    deliver("a.parquet", {"at": pa.array([seconds * 1_000_000, 0], pa.int64()).cast(pa.timestamp("us"))})

    assert observe(objects, "visits", visits).files[0].low is None


def test_bounds_are_found_beside_nested_columns_whose_path_is_the_same(
    objects: Objects, visits: EventSource, deliver: Deliver
) -> None:
    deliver(
        "a.parquet", {"t": pa.array([{"at": datetime(2001, 1, 1)}]), "t.at": pa.array([datetime(2017, 6, 9)], pa.timestamp("us"))}
    )
    file = observe(objects, "visits", replace(visits, event_time="t.at")).files[0]

    assert file.low == datetime(2017, 6, 9, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_infinite_values_are_told_where_statistics_tell_and_the_column_is_read(
    objects: Objects, visits: EventSource, deliver: Deliver, kind: str
) -> None:
    deliver("a.parquet", {"ratio": np.array([1, 2], kind)})
    uri = deliver("b.parquet", {"ratio": np.array([1, np.nan, -np.inf, 5], kind)}, row_group_size=2)

    assert observe(objects, "visits", visits).notes == (
        f"Source 'visits': column 'ratio' holds infinite values in {uri}. They are read as they are; deliver them as null if "
        "they stand for a missing value.",
    )
    assert observe(objects, "visits", replace(visits, columns=("at",))).notes == ()
