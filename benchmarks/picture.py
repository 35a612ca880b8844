"""Charts of the races, from their results: a bar for each contestant. `python -m benchmarks.picture scoring features`."""

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
    "limit_apart": "by hand, on Almanac's graph",
    "almanac": "Almanac",
    "spark_ml": "Spark ML (its own models)",
    "pandas_udf": "pandas_udf, broadcast model",
    "mlflow_onnx": "mlflow spark_udf, ONNX",
    "mlflow": "mlflow spark_udf, scikit-learn",
}
BUILDERS = {
    "almanac": "Almanac, partial sums kept",
    "duckdb": "DuckDB, from scratch",
    "polars": "Polars, from scratch",
    "spark_sql": "Spark SQL, from scratch",
}
OURS, OTHERS, INK = "#1b6ca8", "#b8c4cc", "#30363d"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=tuple(PICTURES), help="which benchmark")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).resolve().parent / "results", help="the folder of the results"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        part, drawn = PICTURES[name]
        results = arguments.folder / f"{name}.json"
        found = json.loads(results.read_text()) if results.exists() else {"parts": {}}
        if part not in found["parts"]:
            sys.exit(
                f"{results}: expected the part {part!r}, got none. Measure it first: python -m benchmarks.{name} --parts {part}"
            )
        drawn(found["parts"][part], found["about"], results.with_suffix(".svg"))


def bars(contestants: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """Title and rows a second of each contestant, the slowest first; of several batch sizes only the fastest."""
    best: dict[str, Mapping[str, float]] = {}
    for name, measured in contestants.items():
        key, rate = name.split("-")[0], measured["rows_per_s"]
        if key not in best or rate["value"] > best[key]["value"]:
            best[key] = rate
    return sorted(((TITLES[key], rate) for key, rate in best.items()), key=lambda bar: bar[1]["value"])


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    # The same results give the same file, byte for byte.
    matplotlib.rcParams.update({"svg.hashsalt": "almanac", "font.size": 9, "svg.fonttype": "none", "text.color": INK})
    from matplotlib import pyplot

    return pyplot


def draw(race: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Rows a second of each contestant, a panel for each model."""
    pyplot = _pyplot()
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
    _save(figure, path)


def draw_features(race: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Seconds of each contestant for nine periods."""
    pyplot = _pyplot()
    contestants = sorted(race["contestants"].items(), key=lambda one: -one[1]["median_seconds"])
    figure, axis = pyplot.subplots(figsize=(8, 2.4), layout="constrained")
    middle = [of["median_seconds"] for _, of in contestants]
    spread = [
        [value - min(of["seconds"]) for value, (_, of) in zip(middle, contestants, strict=True)],
        [max(of["seconds"]) - value for value, (_, of) in zip(middle, contestants, strict=True)],
    ]
    colours = [OURS if name == "almanac" else OTHERS for name, _ in contestants]
    axis.barh(
        [BUILDERS[name] for name, _ in contestants], middle, color=colours, xerr=spread, error_kw={"ecolor": INK, "capsize": 2}
    )
    for place, (_, of) in enumerate(contestants):
        axis.text(max(of["seconds"]), place, f"  {of['median_seconds']:,.1f}", va="center")
    axis.set_xlim(0, max(max(of["seconds"]) for _, of in contestants) * 1.12)
    axis.spines[["top", "right"]].set_visible(False)
    times = contestants[0][1]["times"]
    measured = f"nine months, 36 features, a year of purchases times {times}, {about['cores']} cores"
    figure.supxlabel(f"seconds, median and range of rounds; {measured}", fontsize=9)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


# Benchmark to the part that is drawn, and how.
PICTURES = {"scoring": ("race", draw), "features": ("nine", draw_features)}


if __name__ == "__main__":
    main()
