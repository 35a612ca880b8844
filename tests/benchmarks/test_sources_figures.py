"""docs/sources.md tells the figures that were measured, and each format is within what is promised."""

from __future__ import annotations

import json
import re
from pathlib import Path

MOST = 1.2  # times plain Parquet


def test_the_figures_in_the_docs_are_those_that_were_measured(repository: Path) -> None:
    measured = json.loads((repository / "benchmarks" / "results" / "sources.json").read_text())
    text = (repository / "docs" / "sources.md").read_text().split("## What each format costs")[1].split("\n## ")[0]
    shown = re.findall(r"\| ([0-9.]+) \(([0-9.]+) to ([0-9.]+)\) \| ([0-9.]+) s \| ([0-9.]+) s \|", text)
    found = measured["formats"].values()
    figures = [[*(one["features"][key] for key in ("value", "low", "high"))] for one in found]
    assert [list(map(float, row[:3])) for row in shown] == [[round(value, 2) for value in row] for row in figures]
    pins = [[one["first pin s"], one["second pin s"]] for one in found]
    assert [list(map(float, row[3:])) for row in shown] == [[round(value, 1) for value in row] for row in pins]
    assert f"the median of {measured['rounds']} rounds" in text and f"{measured['rows']:,} rows" in text
    assert max(value for value, *_ in figures) <= MOST
