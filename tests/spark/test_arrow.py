"""Files out: nothing is lost, counted wrongly or read after it was altered."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.core.canonical import decode
from almanac.core.receipts import Output
from almanac.errors import IntegrityError
from almanac.spark import arrow, digests, features
from almanac.spark.arrow import Sink

SCHEMA = pa.schema([("customer", pa.int64()), ("score", pa.float64()), ("order", pa.string())])
ROWS = pa.table({"customer": [1, 2, 3, 4], "score": [0.1, 0.2, None, 0.4], "order": ["a"] * 4}, SCHEMA)


def written(folder: Path, rows: pa.Table = ROWS, outside: tuple[str, ...] = ()) -> Output:
    (record,) = arrow.sink_batches(rows.to_batches(), str(folder), "stem", rows.schema, outside)
    return decode(Output, json.loads(record)[0])


# Files out


def test_a_sinks_bytes_and_digest_are_those_of_its_file(tmp_path: Path) -> None:
    sink = Sink(str(tmp_path / "rows.parquet"), SCHEMA)
    for batch in ROWS.to_batches(max_chunksize=3):
        sink.add(batch)
    output = sink.finish("rows.parquet", {"order": ["a", "a"]})
    body = (tmp_path / "rows.parquet").read_bytes()

    assert (output.bytes, output.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert (output.rows, output.stats) == (4, {"order": ["a", "a"]})
    assert pq.read_table(tmp_path / "rows.parquet").equals(ROWS)
    assert sink.sums == digests.of_batches(ROWS.to_batches(), SCHEMA)


def test_no_rows_give_no_file(tmp_path: Path) -> None:
    assert list(arrow.sink_batches([], str(tmp_path), "stem", SCHEMA)) == []
    assert list(arrow.sink_batches(ROWS[:0].to_batches() or [ROWS.to_batches()[0][:0]], str(tmp_path), "stem", SCHEMA)) == []
    assert list(tmp_path.iterdir()) == []


def test_empty_batches_among_others_are_passed_over(tmp_path: Path) -> None:
    (whole,) = ROWS.to_batches()
    (record,) = arrow.sink_batches([whole[:0], whole, whole[:0]], str(tmp_path), "stem", SCHEMA)
    output = decode(Output, json.loads(record)[0])
    assert output.rows == 4
    assert pq.ParquetFile(output.uri).num_row_groups == 1


def test_two_writes_of_one_order_never_share_a_name(tmp_path: Path) -> None:
    one, two = written(tmp_path), written(tmp_path)
    assert one.name != two.name
    assert one.name.startswith("stem-") and one.name.endswith(".parquet") and one.uri == f"{tmp_path}/{one.name}"
    assert len(list(tmp_path.iterdir())) == 2


def test_columns_outside_are_written_but_are_no_part_of_the_content(tmp_path: Path) -> None:
    other = ROWS.set_column(2, "order", pa.array(["b"] * 4))
    sums = []
    for rows in (ROWS, other):
        (record,) = arrow.sink_batches(rows.to_batches(), str(tmp_path), "stem", SCHEMA, ("order",))
        output, part = json.loads(record)
        assert pq.read_table(output["uri"]).column_names == SCHEMA.names
        sums.append(part)
    assert sums[0] == sums[1]
    assert sums[0]["columns"] == ["customer:int64", "score:double"]


def test_batches_are_brought_to_the_schema_in_its_order(tmp_path: Path) -> None:
    narrow = {"customer": pa.array([1], pa.int32()), "score": pa.array([0.5], pa.float32())}
    loose = pa.table({"order": ["a"], "extra": [1], **narrow})
    (record,) = arrow.sink_batches(loose.to_batches(), str(tmp_path), "stem", SCHEMA)
    found = pq.read_table(json.loads(record)[0]["uri"])
    assert found.schema.equals(SCHEMA)
    assert found.to_pylist() == [{"customer": 1, "score": 0.5, "order": "a"}]


# Files in


def test_a_table_is_the_rows_of_its_files(tmp_path: Path) -> None:
    outputs = [written(tmp_path, ROWS[:1]), written(tmp_path, ROWS[1:])]
    assert arrow.table(outputs).equals(ROWS)
    assert arrow.table(outputs, ["score"]).column_names == ["score"]


def test_an_altered_file_is_not_read(tmp_path: Path) -> None:
    good, altered = written(tmp_path), written(tmp_path)
    pq.write_table(ROWS.set_column(1, "score", pa.array([0.9] * 4)), altered.uri)

    with pytest.raises(IntegrityError) as refused:
        arrow.table([good, altered])

    assert str(refused.value) == f"{altered.uri}: the file was altered since it was written, so it is not used. Build it again."


def test_rows_are_sorted_by_their_keys_in_turn() -> None:
    rows = pa.table({"snapshot": ["b", "a", "a"], "customer": [1, 3, 2]})
    assert arrow.sort(rows, ["snapshot", "customer"]).to_pylist() == [
        {"snapshot": "a", "customer": 2},
        {"snapshot": "a", "customer": 3},
        {"snapshot": "b", "customer": 1},
    ]


# Through Spark


@pytest.mark.spark
def test_what_spark_writes_can_be_read_again_and_has_the_digest_of_its_rows(spark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    frame = spark.range(1000).selectExpr("id AS customer", "id / 7 AS score", "'a' AS order").repartition(3)

    result = arrow.write(frame, str(tmp_path), "stem", SCHEMA, {"order": ["a", "a"]})

    rows = arrow.sort(arrow.table(result.outputs), ["customer"])
    assert rows["customer"].to_pylist() == list(range(1000))
    assert result.rows == sum(output.rows or 0 for output in result.outputs) == 1000
    assert result.sums == digests.of_batches(rows.to_batches(), SCHEMA)
    assert [output.name for output in result.outputs] == sorted(path.name for path in tmp_path.iterdir())
    assert {tuple(output.stats["order"]) for output in result.outputs} == {("a", "a")}
    again = features.of_files(spark, result.outputs, ["customer"])
    assert again.selectExpr("count(*)", "sum(customer)", "count(DISTINCT customer)").first()[:] == (1000, 499500, 1000)


@pytest.mark.spark
def test_a_frame_without_rows_writes_nothing(spark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    frame = spark.range(0).selectExpr("id AS customer", "id / 7 AS score", "'a' AS order")
    result = arrow.write(frame, str(tmp_path), "stem", SCHEMA)
    assert (result.rows, result.outputs, list(tmp_path.iterdir())) == (0, (), [])
    assert result.sums == digests.nothing(SCHEMA)
