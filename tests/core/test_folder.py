"""A source's folder: what is data by its name, and what gives a table with a log away."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almanac.core.folder import FileKind, is_hidden, is_named_like, kind, logs_above, table

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)


@pytest.mark.parametrize(
    "path",
    [
        "_temporary/0/_temporary/attempt_1/part-0.parquet",
        ".2017-05.parquet",
        ".spark-staging-7/part-0.parquet",
        "_tmp.part-0.parquet",
        "month=2017-05/.part-0.parquet.crc",
        "month=2017-05/_SUCCESS",
        "_started_123/part-0.parquet",
        "2017-05.parquet._COPYING_",
        ".x=1/part-0.parquet",
        "2017/",
        "",
    ],
)
def test_what_sparks_readers_pass_over_is_nothing(path: str) -> None:
    assert kind(path, 1000) is FileKind.NOTHING


@pytest.mark.parametrize("path", ["a.parquet", "_x=1/a.parquet", "x=_1/a.parquet", "a/b/c.snappy.parquet"])
def test_files_named_as_parquet_are_data_in_folders_of_partitions_too(path: str) -> None:
    assert kind(path, 1000) is FileKind.DATA


@pytest.mark.parametrize("path", ["a.PARQUET", "a.Parquet", "a.parq", "a.pq"])
def test_other_spellings_of_the_ending_are_data_of_whatever_size(path: str) -> None:
    assert kind(path, 1000) is FileKind.DATA and kind(path, 0) is FileKind.DATA


@pytest.mark.parametrize(
    ("path", "size", "found"),
    [
        ("part-00005", 1000, FileKind.UNNAMED),
        ("2017.05/000000_0", 1000, FileKind.UNNAMED),
        ("ready/2017-07", 0, FileKind.NOTHING),
        ("2017_$folder$", 0, FileKind.NOTHING),
        ("2017-05.parquet.bak", 1000, FileKind.OTHER),
        ("2017-05.csv", 1000, FileKind.OTHER),
        ("2017-05.csv", 11, FileKind.NOTHING),
    ],
)
def test_of_other_names_the_bytes_decide_where_there_are_enough(path: str, size: int, found: FileKind) -> None:
    assert kind(path, size) is found


@settings(derandomize=True)
@given(parts=st.lists(NAMES, min_size=1, max_size=4), place=st.integers(0, 3), mark=st.sampled_from(["_", "."]))
def test_a_mark_at_the_beginning_of_any_part_hides_a_file_unless_it_is_a_partitions_value(
    parts: list[str], place: int, mark: str
) -> None:
    path = [*parts, "a.parquet"]
    assert not is_hidden("/".join(path))

    marked = [mark + part if number == place % len(path) else part for number, part in enumerate(path)]
    assert is_hidden("/".join(marked))

    partition = [f"{mark}{part}=1" if number == place % len(path) else part for number, part in enumerate(path)]
    assert is_hidden("/".join(partition)) is (mark == ".")


@pytest.mark.parametrize("path", ["2017-05.parquet.gz", "a.parq.bak", "deep.parquet/x.PARQUET.tmp"])
def test_an_ending_behind_that_of_parquet_is_seen(path: str) -> None:
    assert is_named_like(path)
    assert not is_named_like("deep.parquet/x.csv")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("_delta_log/00000000000000000000.json", "a Delta table"),
        ("eu/_delta_log/_last_checkpoint", "a Delta table"),
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("month=2017-05/.hoodie_partition_metadata", "a Hudi table"),
        ("metadata/v3.metadata.json", "an Iceberg table"),
        ("metadata/00001-4b.gz.metadata.json", "an Iceberg table"),
        ("eu/metadata/version-hint.text", "an Iceberg table"),
        ("_spark_metadata/0", "the sink of a Spark stream"),
    ],
)
def test_a_log_gives_a_table_away(path: str, told: str) -> None:
    assert table(["a.parquet", path]) == (told, path)


@pytest.mark.parametrize(
    "path",
    ["metadata/a.parquet", "metadata/readme.json", "_delta_log.parquet", "_delta_log_old/0.json", "_staging/_delta_log/0.json"],
)
def test_what_only_resembles_a_log_does_not(path: str) -> None:
    assert table(["a.parquet", path]) is None


def test_the_log_of_a_table_is_looked_for_in_every_folder_above() -> None:
    found = dict(reversed(one) for one in logs_above("s3://lake/shop/visits/data/month=2017-05/"))

    assert found["s3://lake/shop/visits/_delta_log/"] == "s3://lake/shop/visits/"
    assert found["s3://lake/.hoodie/"] == "s3://lake/"
    assert [log for log in found if log.endswith("/metadata/")] == ["s3://lake/shop/visits/metadata/"]
    assert "s3://lake/shop/visits/data/month=2017-05/_delta_log/" not in found
