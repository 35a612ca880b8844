"""Charts from the results: a bar for each contestant or task. `python -m benchmarks.picture scoring features retrain`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import short
from benchmarks.spans import KINDS

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
CASES = {"nothing": "from an empty lake", "there": "with features there"}
# Phases of the script, as kinds of a task's time.
PHASES = {
    "imports": "import",
    "session": "session",
    "read": "read",
    "features": "user",
    "labels": "user",
    "fit": "fit",
    "metrics": "report",
    "export": "parity",
    "write": "commit",
    "score": "score",
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
            sys.exit(f"{results}: expected the part {part!r}, got none. Measure it first: make bench-{name}")
        drawn(found["parts"], found["about"], results.with_suffix(".svg"))


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


def draw(parts: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Rows a second of each contestant, a panel for each model."""
    pyplot = _pyplot()
    race = parts["race"]
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


def draw_features(parts: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Seconds of each contestant for nine periods."""
    pyplot = _pyplot()
    contestants = sorted(parts["nine"]["contestants"].items(), key=lambda one: -one[1]["median_seconds"])
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


def draw_retrain(parts: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Where the seconds of a retrain and a score went, by task, beside the script's; a panel for each case and size."""
    pyplot = _pyplot()
    from matplotlib.patches import Patch

    panels = [(part, stacks(part)) for part in parts.values()]
    colours = dict(zip(KINDS, pyplot.get_cmap("tab20").colors, strict=False))
    heights = [len(found) for _, found in panels]
    figure, axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(8, 1.2 + 0.24 * sum(heights) + 0.5 * len(panels)),
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    for axis, (part, found) in zip(axes[:, 0], panels, strict=True):
        for place, (_, kinds) in enumerate(reversed(found)):
            left = 0.0
            for kind in (kind for kind in KINDS if kinds.get(kind, 0.0) > 0):
                axis.barh(place, kinds[kind], left=left, color=colours[kind])
                left += kinds[kind]
            axis.text(left, place, f"  {left:.1f}", va="center", fontsize=7)
        axis.set_yticks(range(len(found)), [title for title, _ in reversed(found)], fontsize=8)
        axis.set_title(f"{CASES[part['case']]}, times {part['times']}", loc="left", fontsize=10)
        axis.margins(x=0.08, y=0.02)
        axis.spines[["top", "right"]].set_visible(False)
    patches = [Patch(color=colours[kind], label=title) for kind, title in KINDS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    axes[-1, 0].set_xlabel(f"seconds of the round in the middle; a task's with its wait before it; {about['cores']} cores")
    _save(figure, path)


def stacks(part: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """Title and seconds by kind of each bar: Almanac's runs along their critical paths, the script, then each task."""
    script: dict[str, float] = {}
    for phase, seconds in part["script"].items():
        script[PHASES[phase]] = script.get(PHASES[phase], 0.0) + seconds
    script["submit"] = part["script_wall"] - sum(script.values())
    bars: list[tuple[str, Mapping[str, float]]] = [(f"Almanac: {run}", part[run]["kinds"]) for run in ("retrain", "score")]
    bars.append(("script: both", script))
    for run in ("retrain", "score"):
        for task in part[run]["tasks"]:
            bars.append((f"{run}: {task['task']}", {**task["kinds"], "scheduling": task["waited"]}))
    return bars


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


# Benchmark to the part that is drawn, and how.
PICTURES = {"scoring": ("race", draw), "features": ("nine", draw_features), "retrain": ("nothing-1", draw_retrain)}


if __name__ == "__main__":
    main()
