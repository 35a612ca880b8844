"""The picture of a race, from its results: rows a second, a bar for each contestant. `python -m benchmarks.picture`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import short

TITLES = {
    "limit": "by hand: 2 processes, pyarrow, onnxruntime",
    "almanac": "Almanac",
    "spark_ml": "Spark ML (its own models)",
    "pandas_udf": "pandas_udf, broadcast model",
    "mlflow_onnx": "mlflow spark_udf, ONNX",
    "mlflow": "mlflow spark_udf, scikit-learn",
}
OURS, OTHERS, INK = "#1b6ca8", "#b8c4cc", "#30363d"


def main() -> None:
    here = Path(__file__).resolve().parent / "results"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=here / "scoring.json")
    parser.add_argument("picture", type=Path, nargs="?", default=here / "scoring.svg")
    asked = parser.parse_args()
    found = json.loads(asked.results.read_text()) if asked.results.exists() else {"parts": {}}
    if not found["parts"].get("race", {}).get("models"):
        sys.exit(f"{asked.results} holds no race yet. Measure one first: python -m benchmarks.scoring --parts race")
    draw(found["parts"]["race"], found["about"], asked.picture)


def bars(contestants: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """Title and rows a second of each contestant, the slowest first; of several batch sizes the fastest stands for all."""
    best: dict[str, Mapping[str, float]] = {}
    for name, measured in contestants.items():
        key, rate = name.split("-")[0], measured["rows_per_s"]
        if key not in best or rate["value"] > best[key]["value"]:
            best[key] = rate
    return sorted(((TITLES[key], rate) for key, rate in best.items()), key=lambda bar: bar[1]["value"])


def draw(race: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    # The same picture of the same results, byte for byte.
    matplotlib.rcParams.update({"svg.hashsalt": "almanac", "font.size": 9, "svg.fonttype": "none", "text.color": INK})
    from matplotlib import pyplot

    models = race["models"]
    figure, axes = pyplot.subplots(len(models), 1, figsize=(8, 0.6 + 2.1 * len(models)), squeeze=False, layout="constrained")
    for axis, (model, contestants) in zip(axes[:, 0], models.items(), strict=True):
        titles, rates = zip(*bars(contestants), strict=True)
        values = [rate["value"] / 1000 for rate in rates]
        spread = [
            [(rate["value"] - rate["low"]) / 1000 for rate in rates],
            [(rate["high"] - rate["value"]) / 1000 for rate in rates],
        ]
        colours = [OURS if title == TITLES["almanac"] else OTHERS for title in titles]
        axis.barh(titles, values, color=colours, xerr=spread, error_kw={"ecolor": INK, "elinewidth": 0.8, "capsize": 2})
        for place, rate in enumerate(rates):
            axis.text(rate["high"] / 1000, place, f"  {rate['value'] / 1000:,.0f}", va="center")
        axis.set_title(f"{model} pipeline", loc="left", fontsize=10)
        axis.set_xlim(0, max(rate["high"] for rate in rates) / 1000 * 1.12)
        axis.spines[["top", "right"]].set_visible(False)
    measured = f"{short(race['rows'])} rows of 28 columns, {about['cores']} cores"
    figure.supxlabel(f"thousand rows a second, median and range of rounds; {measured}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
