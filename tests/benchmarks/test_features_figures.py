"""`make bench-features`: a time counts only when every value is right, and what is kept says what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import events, features
from benchmarks.features import Session, built, compare, ratios
from benchmarks.race import Failed, Run

NAMES = [name for name, *_ in events.features()]


def table(entities: list[int], names: list[str], value: float = 1.0) -> pa.Table:
    columns = {name: pa.array([value] * len(entities), pa.float32()) for name in names}
    return pa.table({events.ENTITY: pa.array(entities, pa.int64()), **columns})


def test_there_are_36_features_of_different_names() -> None:
    assert len(set(NAMES)) == len(NAMES) == 36


def test_what_was_written_in_parts_or_whole_is_the_same_and_no_event_is_zero(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    one = table([1, 2], NAMES).set_column(20, NAMES[19], pa.array([1.0, None], pa.float32()))
    whole.mkdir()
    pq.write_table(one, whole / "2017-04.parquet")
    for name, columns, entities in (("shopping", NAMES[:12], [2, 1]), ("by", NAMES[12:], [1, 2])):
        (parts / name / "2017-04").mkdir(parents=True)
        rows = one.select([events.ENTITY, *columns]).take([place - 1 for place in entities])
        pq.write_table(rows, parts / name / "2017-04" / "part.parquet")

    assert compare(built(whole), built(parts), "parts") == "2 rows of 36 features, all within 0.0e+00 of DuckDB's"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (table([1, 2, 3], NAMES), "almanac: expected the periods and entities of 2 rows, got 3 rows with others"),
        (table([1, 2], NAMES, 1.1), "almanac: shopping_count_7d of household_id 1: expected 1.0, got 1.1"),
    ],
)
def test_other_entities_or_values_make_a_time_worthless(changed: pa.Table, told: str) -> None:
    def of(rows: pa.Table) -> pa.Table:
        return rows.add_column(0, "period", pa.array(["2017-04"] * len(rows)))

    with pytest.raises(Failed, match=told):
        compare(of(table([1, 2], NAMES)), of(changed), "almanac")


def part(**seconds: list[float]) -> dict[str, Any]:
    """A part; the contestants' Python processes held 2 bytes, 3 bytes and so on."""
    found = {}
    for size, (name, told) in enumerate(seconds.items(), 2):
        found[name] = {"seconds": told, "times": 60 if name == "large" else 20, "peak_bytes": {"java": 9, "python": size}}
    return {"contestants": found}


def test_ratios_are_taken_round_by_round_and_memory_is_that_of_python() -> None:
    found = ratios(
        {
            "nine": part(almanac=[2.0, 4.0], duckdb=[1.0, 4.0], spark_sql=[8.0, 8.0]),
            "next": part(almanac=[3.0, 3.0], scan=[2.0, 1.0]),
            "growth": part(small=[1.0, 1.0], large=[3.0, 3.2]),
        }
    )

    assert {name: (one.value, one.low, one.high) for name, one in found.items()} == {
        "time_vs_duckdb": (1.5, 1.0, 2.0),
        "time_vs_spark_sql": (0.375, 0.25, 0.5),
        "next_month_vs_scan": (2.25, 1.5, 3.0),
        "growth_60_vs_20.time": (3.1, 3.0, 3.2),
        "growth_60_vs_20.memory": (1.5, 1.5, 1.5),
    }


def test_a_contestant_that_fails_takes_no_more_turns_and_the_others_are_kept(tmp_path: Path) -> None:
    class Stage:
        def run(self, contestant: Any, case: str, times: int) -> Run:  # noqa: ARG002 - the signature of a stage
            if contestant is features.POLARS:
                raise Failed("no")
            return Run(rows=times, seconds=2.0, agreement="all", peak={"python": 1})

    session = Session(tmp_path / "found.json", 2, {})
    turns = [(one.name, one, "nine", 20) for one in (features.ALMANAC, features.DUCKDB, features.POLARS)]
    session.race("nine", Stage(), turns)  # type: ignore[arg-type]

    assert session.failed == {"polars": "no"}
    assert session.parts["nine"]["contestants"]["duckdb"]["seconds"] == [2.0, 2.0]
    assert '"time_vs_duckdb": 1.0' in (tmp_path / "found.json").read_text()
