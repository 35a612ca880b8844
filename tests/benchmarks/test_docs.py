"""The figures that README and the pages below docs/ tell are those that were measured last."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

CASES = {"nothing": "from an empty lake", "there": "with features there"}
# The columns of the table of tasks, as kinds of seconds: starting processes, imports, S3, what the users wrote, the rest.
KINDS = (
    ("process", "submit", "session"),
    ("import",),
    ("s3", "read", "commit"),
    ("user", "combine", "fit", "checks"),
    ("report", "parity", "score", "other"),
)


@pytest.fixture(scope="module")
def measured(repository: Path) -> Any:
    return json.loads((repository / "benchmarks" / "results" / "scoring.json").read_text())


def flat(repository: Path, name: str) -> str:
    return " ".join((repository / name).read_text().split())


def test_rows_a_second_and_ratios_are_as_measured(repository: Path, measured: Any) -> None:
    race = measured["parts"]["race"]
    rates = [round(race["models"][model]["almanac"]["rows_per_s"]["value"], -3) for model in ("linear", "boosted")]
    told = [f"{rate:,.0f} rows a second with a linear pipeline" for rate in rates[:1]] + [f"{rates[1]:,.0f} with a boosted one"]
    mlflow, onnx, limit = (measured[f"ratio_vs_{name}"] for name in ("mlflow", "mlflow_onnx", "limit"))
    for page in ("README.md", "docs/scoring.md"):
        for text in (*told, f"{mlflow['linear']:.1f} and {mlflow['boosted']:.1f} times"):
            assert text in flat(repository, page), (page, text)
    page = flat(repository, "docs/scoring.md")
    assert f"of {race['rows']:,} rows of 28 columns on {('no', 'one', 'two')[measured['about']['cores']]} cores" in page
    assert f"{onnx['linear']:.1f} and {onnx['boosted']:.1f} times the same with mlflow's ONNX flavour" in page
    assert f"and {limit['linear']:.2f} and {limit['boosted']:.2f} of what a program does" in page
    assert f"the linear model taken apart {measured['ratio_vs_limit_apart']['linear']:.2f}." in page
    spread = measured["spread"]
    one, two = (spread[f"speedup_2_cores.{model}"]["value"] for model in ("linear", "boosted"))
    large, small = (spread[f"rows_per_s_16M_vs_4M.{model}"]["value"] for model in ("linear", "boosted"))
    assert f"16,000,000 rows are scored {large:.1f} and {small:.1f} times as fast, row by row, as 4,000,000" in page
    assert f"takes {measured['fixed_cost_vs_plain_submit']:.2f} of what plain `spark-submit`" in page
    assert f"it is {one:.1f} times as fast with the linear pipeline and {two:.1f} times with the boosted one" in page


def test_what_building_features_costs_is_as_measured(repository: Path) -> None:
    found = json.loads((repository / "benchmarks" / "results" / "features.json").read_text())
    page, nine = flat(repository, "docs/features.md"), found["parts"]["nine"]["contestants"]
    versions = {
        "Polars": found["about"]["packages"]["peers"]["polars"],
        "DuckDB": found["about"]["packages"]["peers"]["duckdb"],
        "Spark SQL": found["about"]["packages"]["peers"]["pyspark"],
    }
    for title, name in (("Polars", "polars"), ("DuckDB", "duckdb"), ("Spark SQL", "spark_sql")):
        assert f"| {title} {versions[title]}, one query for each period | {nine[name]['median_seconds']:.1f} |" in page
    assert f"| **Almanac**, partial sums made and kept | {nine['almanac']['median_seconds']:.1f} |" in page
    following, growth = found["parts"]["next"]["contestants"]["almanac"], found["growth_60_vs_20"]
    assert (
        f"One more month then takes Almanac {following['median_seconds']:.1f} s, {found['next_month_vs_scan']:.1f} times" in page
    )
    assert f"take {growth['time']:.1f} times as long" in page and f"holds {growth['memory']:.2f} times as much memory" in page
    checked = found["parts"]["checks"]["contestants"]["checks"]
    told = f"take {checked['median_seconds']:.1f} s on two cores, {found['checks_vs_scan']:.1f} times a scan of all columns"
    assert told in flat(repository, "docs/checks.md")


def test_where_the_seconds_of_a_run_go_is_as_measured(repository: Path) -> None:
    found = json.loads((repository / "benchmarks" / "results" / "retrain.json").read_text())
    page, parts = (repository / "docs" / "seconds.md").read_text(), found["parts"]
    for name, part in parts.items():
        seconds = {who: median(part["seconds"][who]) for who in ("retrain", "score", "script")}
        times = found[f"time_vs_script.{name}"]
        row = [CASES[part["case"]], f"{part['times']}", *(f"{seconds[who]:.0f}" for who in seconds), f"{times:.2f}"]
        assert f"| {' | '.join(row)} |" in page
    assert f"A score from features that exist takes {median(parts['there-1']['seconds']['score']):.0f} s." in page
    for run in ("retrain", "score"):
        for task in parts["nothing-1"][run]["tasks"]:
            kinds = (sum(task["kinds"].get(kind, 0.0) for kind in kinds) for kinds in KINDS)
            row = [f"{run}: {task['task']}", f"{task['seconds']:.1f}", *(f"{one:.1f}" for one in kinds), f"{task['calls']}"]
            assert f"| {' | '.join(row)} |" in page
