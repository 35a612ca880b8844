"""The results file of a measurement: the ratios on top, below them the figures that they come from. Pure.

A part holds what one command measured for one question, by model, with its date; a new measurement replaces the old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks import figures
from benchmarks.figures import Figure

RACE, CORES, SCALE, FIXED = PARTS = ("race", "cores", "scale", "fixed")
# The name of a ratio, and the contestant that it compares with: of several, the fastest.
AGAINST = {
    "ratio_vs_mlflow": "mlflow-",
    "ratio_vs_mlflow_default": "mlflow-10000",
    "ratio_vs_mlflow_onnx": "mlflow_onnx-",
    "ratio_vs_mlflow_onnx_default": "mlflow_onnx-10000",
    "ratio_vs_pandas_udf": "pandas_udf-",
    "ratio_vs_spark_ml": "spark_ml",
    "ratio_vs_limit": "limit",
    "ratio_vs_limit_apart": "limit_apart",
}
Part = Mapping[str, Any]


def part(date: str, rows: int, turns: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]) -> dict[str, Any]:
    """A part: the seconds of each model and contestant, round by round. `turns` holds runs with rows, seconds, agreement."""
    found: dict[str, dict[str, Any]] = {}
    for model, contestants in turns.items():
        for name, runs in contestants.items():
            seconds = [run.seconds for run in runs]
            rate = Figure.of([run.rows / run.seconds for run in runs])
            found.setdefault(model, {})[name] = {
                "rows": runs[0].rows,
                "seconds": [round(one, 4) for one in seconds],
                "median_seconds": round(median(seconds), 4),
                "rows_per_s": {key: round(value) for key, value in asdict(rate).items()},
                "agreement": runs[-1].agreement,
            }
    return {"dates": dict.fromkeys(found, date), "rows": rows, "models": found, "failed": dict(failed)}


def beside(new: Part, before: Part | None) -> dict[str, Any]:
    """A part, plus the models of the previous one that were not measured again, if those had the same number of rows."""
    if before is None or "models" not in new or any(new.get(key) != before.get(key) for key in ("rows", "large")):
        return dict(new)
    return {**new, **{key: {**before[key], **new[key]} for key in ("dates", "models")}}


def ratios(parts: Mapping[str, Part]) -> dict[str, Figure]:
    """The ratios by name, such as `ratio_vs_limit.linear`, of the parts that exist."""
    found = dict(_against_others(parts.get(RACE)))
    for name, key, above, below in ((CORES, "speedup_2_cores", "almanac", "almanac-1"), (SCALE, "", "large", "rows")):
        if measured := parts.get(name):
            key = key or scale_key(measured)
            by_model = {
                model: _ratio(of[above], of[below]) for model, of in measured["models"].items() if {above, below} <= of.keys()
            }
            found |= {f"{key}.{model}": figure for model, figure in by_model.items()}
            if by_model:
                found[key] = min(by_model.values(), key=lambda figure: figure.value)
    if fixed := parts.get(FIXED):
        found["fixed_cost_vs_plain_submit"] = figures.ratio(fixed["seconds"]["almanac"], fixed["seconds"]["plain"])
    return found


def _against_others(race: Part | None) -> Iterator[tuple[str, Figure]]:
    for model, of in (race or {"models": {}})["models"].items():
        for key, prefix in AGAINST.items():
            others = [other for name, other in of.items() if name == prefix or (prefix.endswith("-") and name.startswith(prefix))]
            if others and "almanac" in of:
                best = min(others, key=lambda other: other["median_seconds"])
                yield f"{key}.{model}", _ratio(of["almanac"], best)


def _ratio(above: Part, below: Part) -> Figure:
    """The ratio of rows a second."""
    return figures.ratio(*(figures.rates(one["rows"], one["seconds"]) for one in (above, below)))


def scale_key(measured: Part) -> str:
    """rows_per_s_16M_vs_4M."""
    return f"rows_per_s_{figures.short(measured['large'])}_vs_{figures.short(measured['rows'])}"


def report(parts: Mapping[str, Part], about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole file: `ratio_vs_limit.linear` becomes `{"ratio_vs_limit": {"linear": ...}}`, the rest are numbers.

    A figure with a single number for several models has the lowest of them.
    """
    kept = {name: parts[name] for name in PARTS if name in parts}
    return {**summary(ratios(parts)), "about": dict(about), "parts": kept}


def summary(found: Mapping[str, Figure]) -> dict[str, Any]:
    """Rounded figures by name, nested at the dot; and `spread`, each figure with its lowest and highest."""
    top: dict[str, Any] = {}
    for name, figure in found.items():
        key, _, model = name.partition(".")
        if model and key not in found:
            top.setdefault(key, {})[model] = round(figure.value, 3)
        elif not model:
            top[key] = round(figure.value, 3)
    spread = {name: {key: round(value, 3) for key, value in asdict(figure).items()} for name, figure in found.items()}
    return {**top, "spread": spread}
