"""The parts of the benchmark that compute: medians, ratios, agreement, what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import agreement, figures, report, rows
from benchmarks.figures import Figure
from benchmarks.race import Run


def test_a_figure_is_a_median_with_the_lowest_and_the_highest() -> None:
    assert Figure.of([3.0, 1.0, 2.0, 10.0]) == Figure(value=2.5, low=1.0, high=10.0)


def test_a_ratio_is_taken_round_by_round_so_that_a_slow_round_of_both_does_not_count() -> None:
    assert figures.ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == Figure(value=2.0, low=2.0, high=2.0)


def test_a_round_that_one_of_two_lacks_is_left_out_of_their_ratio() -> None:
    assert figures.ratio([2.0, 4.0, 100.0], [1.0, 1.0]) == Figure(value=3.0, low=2.0, high=4.0)


@pytest.mark.parametrize(("count", "text"), [(16_000_000, "16M"), (4_000_000, "4M"), (250_000, "250k"), (1_234, "1234")])
def test_numbers_of_rows_are_short(count: int, text: str) -> None:
    assert figures.short(count) == text


def scored(*scores: float) -> agreement.Scores:
    return np.arange(len(scores)), np.array(scores)


def test_equal_scores_agree_and_so_do_scores_that_differ_within_the_tolerance() -> None:
    assert agreement.compare(scored(0.1, 0.2), scored(0.1, 0.2)).holds
    assert agreement.compare(scored(0.1, 0.2), scored(0.1, 0.200009)).holds


def test_a_few_scores_in_many_may_differ_more_but_none_beyond_the_largest_difference() -> None:
    expected, found = np.zeros(100_000), np.zeros(100_000)
    found[:5] = 9e-4
    assert agreement.compare(scored(*expected), scored(*found)).holds
    found[0] = 2e-3
    assert not agreement.compare(scored(*expected), scored(*found)).holds
    found[:20] = 9e-4
    assert not agreement.compare(scored(*expected), scored(*found)).holds


def test_scores_of_other_entities_and_scores_that_are_no_numbers_do_not_agree() -> None:
    other = agreement.compare(scored(0.1, 0.2), (np.array([0, 7]), np.array([0.1, 0.2])))
    assert not other.holds
    assert str(other) == "the entities differ from those to be scored"
    nothing = agreement.compare(scored(0.1, 0.2), scored(0.1, float("nan")))
    assert not nothing.holds
    assert str(nothing) == ("99.99 % of the scores differ by at most 1.0e+00 (1e-05 is allowed), all by at most 1.0e+00 (1e-03)")


def test_scores_are_read_by_entity_from_all_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name, entities in (("a.parquet", [5, 1]), ("deeper/b.parquet", [4, 2])):
        pq.write_table(pa.table({"entity_id": entities, "score": [one / 10 for one in entities]}), tmp_path / name)
    entities, scores = agreement.scores(tmp_path)
    assert entities.tolist() == [1, 2, 4, 5]
    assert scores.tolist() == [0.1, 0.2, 0.4, 0.5]


def test_a_large_set_of_rows_begins_with_a_small_one_and_has_each_entity_once(tmp_path: Path) -> None:
    (small,), (large,) = rows.files(tmp_path, 1_000), rows.files(tmp_path, 300_000)
    found = pq.ParquetFile(large)
    assert found.schema_arrow.equals(rows.SCHEMA)
    assert [found.metadata.row_group(number).num_rows for number in range(found.num_row_groups)] == [250_000, 50_000]
    table = found.read()
    assert len(set(table["entity_id"].to_pylist())) == 300_000
    assert pq.read_table(small).equals(table.slice(0, 1_000))


def runs(*seconds: float, count: int = 4_000_000) -> list[Run]:
    return [Run(rows=count, seconds=one, agreement="all agree") for one in seconds]


def measured() -> dict[str, dict[str, object]]:
    """Parts as three commands would have left them: of two rounds, and of both models where it matters."""
    race = {
        "almanac": runs(4, 4),
        "limit": runs(2, 4),
        "mlflow-10000": runs(40, 40),
        "mlflow-50000": runs(20, 20),
        "mlflow_onnx-10000": runs(12, 12),
    }
    cores = {"almanac": runs(4, 4), "almanac-1": runs(8, 6)}
    slower = {"almanac": runs(4, 4), "almanac-1": runs(5, 5)}
    scale = {"rows": runs(4, 4), "large": runs(20, 20, count=16_000_000)}
    return {
        "race": report.part("2026-11-21", 4_000_000, {"linear": race}, {"spark_ml, linear": "it fell"}),
        "cores": report.part("2026-11-21", 4_000_000, {"linear": cores, "boosted": slower}, {}),
        "scale": {**report.part("2026-11-21", 4_000_000, {"linear": scale}, {}), "large": 16_000_000},
        "fixed": {"date": "2026-11-21", "rows": 1_000, "seconds": {"plain": [10.0, 10.0], "almanac": [5.0, 6.0]}},
    }


def test_the_ratios_stand_on_top_of_what_is_kept() -> None:
    kept = report.report(measured(), {"cores": 2})
    assert kept["ratio_vs_mlflow"] == {"linear": 5.0}
    assert kept["ratio_vs_mlflow_default"] == {"linear": 10.0}
    assert kept["ratio_vs_mlflow_onnx"] == kept["ratio_vs_mlflow_onnx_default"] == {"linear": 3.0}
    assert kept["ratio_vs_limit"] == {"linear": 0.75}
    assert kept["spread"]["ratio_vs_limit.linear"] == {"value": 0.75, "low": 0.5, "high": 1.0}
    assert kept["rows_per_s_16M_vs_4M"] == 0.8
    assert kept["fixed_cost_vs_plain_submit"] == 0.55
    assert kept["about"] == {"cores": 2}
    assert json.loads(json.dumps(kept)) == kept


def test_of_a_figure_with_one_number_for_two_models_it_is_the_lower_one() -> None:
    kept = report.report(measured(), {})
    assert kept["speedup_2_cores"] == 1.25
    assert kept["spread"]["speedup_2_cores.linear"]["value"] == 1.75


def test_only_what_was_measured_has_a_ratio() -> None:
    kept = report.report({"fixed": measured()["fixed"]}, {})
    assert sorted(kept) == ["about", "fixed_cost_vs_plain_submit", "parts", "spread"]


def test_the_times_of_every_round_and_what_failed_are_kept() -> None:
    race = report.report(measured(), {})["parts"]["race"]
    assert race["models"]["linear"]["limit"] == {
        "rows": 4_000_000,
        "seconds": [2, 4],
        "median_seconds": 3.0,
        "rows_per_s": {"value": 1_500_000, "low": 1_000_000, "high": 2_000_000},
        "agreement": "all agree",
    }
    assert race["failed"] == {"spark_ml, linear": "it fell"}


def test_a_model_that_is_not_measured_again_stays_where_the_rows_are_as_many() -> None:
    before = {
        "dates": {"linear": "2026-11-21", "boosted": "2026-11-21"},
        "rows": 10,
        "models": {"linear": {}, "boosted": {"a": 1}},
    }
    new = {"dates": {"linear": "2026-11-22"}, "rows": 10, "models": {"linear": {"b": 2}}}
    assert report.beside(new, before) == {
        "dates": {"linear": "2026-11-22", "boosted": "2026-11-21"},
        "rows": 10,
        "models": {"linear": {"b": 2}, "boosted": {"a": 1}},
    }
    assert report.beside({**new, "rows": 20}, before) == {**new, "rows": 20}
    assert report.beside(new, None) == new
