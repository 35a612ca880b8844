"""Benchmarks feature building: Almanac's described aggregates against the same features elsewhere. `make bench-features`.

nine    nine monthly periods from scratch, contestants in turns: Almanac, DuckDB, Polars, Spark SQL
next    one more month after these nine, against Spark's own scan of that month's rows
growth  nine periods of three times the rows: time, and the memory of the largest Python worker
checks  Great Expectations on the features of nine periods, against one full scan of them
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import events, figures, kept, report
from benchmarks.race import PEERS, REPOSITORY, Contestant, Failed, Run, Stage
from benchmarks.scoring import about, some_of, today

RESULTS = REPOSITORY / "benchmarks" / "results" / "features.json"
PARTS = NINE, NEXT, GROWTH, CHECKS = (events.NINE, events.NEXT, "growth", "checks")
ALMANAC = Contestant(name="almanac", program="features_almanac")
DUCKDB = Contestant(name="duckdb", program="features_duckdb", peer=True)
POLARS = Contestant(name="polars", program="features_polars", peer=True)
SPARK_SQL = Contestant(name="spark_sql", program="features_spark_sql", peer=True)
CHECKED = Contestant(name="checks", program="features_checks", same_model=False)
READ = Contestant(name="scan", program="features_checks", arguments=("--scan",), same_model=False)
SCAN = Contestant(name="scan", program="features_spark_sql", arguments=("--scan",), peer=True, same_model=False)
EXAMPLES = """examples:
  python -m benchmarks.features                             everything; half an hour on two cores
  python -m benchmarks.features --times 2 --parts nine --rounds 1 --results /tmp/try.json
"""
# Relative tolerance for float32: sums are added in another order.
RELATIVE = 1e-5


@dataclass
class Fields(Stage):
    """A stage for building features: `model` names the periods, `count` is the number of copies of the year of purchases."""

    warm_up: int = 1
    _expected: dict[tuple[str, int], pa.Table] = field(default_factory=dict)

    def task(self, contestant: Contestant, model: str, count: int, out: Path) -> dict[str, Any]:
        if contestant.program == CHECKED.program:
            return self._frame(count, out)
        files = events.files(self.cache, count, self.tell)
        return {"files": files, "model": model, "out": str(out), "options": {"products": events.products(self.cache)}}

    def _frame(self, count: int, out: Path) -> dict[str, Any]:
        """The features of nine periods as one frame, built by DuckDB if it does not exist; 0 for no event."""
        path = self.cache / f"frame-{events.EDITION}-{count}.parquet"
        if not path.exists():
            self.run(DUCKDB, events.NINE, count)
            rows = self._expected[events.NINE, count]
            numbers = {name: rows[name].fill_null(0) for name, *_ in events.features()}
            period = pa.array([float(one[-2:]) for one in rows["period"].to_pylist()], pa.float32())
            frame = pa.table({"row": pa.array(range(len(rows)), pa.int64()), "period": period, **numbers})
            pq.write_table(frame, path, row_group_size=100_000, compression="zstd")
        rows_in = pq.read_metadata(path).num_rows
        return {"files": [str(path)], "model": events.NINE, "out": str(out), "options": {"rows": rows_in}}

    def held(self, contestant: Contestant, model: str, count: int, out: Path) -> str:
        """Compares every value with DuckDB's. Raises: Failed, if one differs."""
        if not contestant.same_model:
            return "not compared: it builds nothing"
        if (model, count) not in self._expected and contestant is not DUCKDB:
            self.run(DUCKDB, model, count)
        found = built(out)
        expected = self._expected.setdefault((model, count), found)
        return compare(expected, found, contestant.name)


def built(out: Path) -> pa.Table:
    """All rows that a contestant wrote, in order: `period`, the entity and the 36 features, 0 for no event."""
    names = [name for name, *_ in events.features()]
    parts = []
    for period in sorted({path.stem if path.stem.startswith("20") else path.parent.name for path in out.rglob("*.parquet")}):
        tables = [pq.read_table(path) for path in sorted(out.rglob("*.parquet")) if period in (path.stem, path.parent.name)]
        whole = pa.table({events.ENTITY: pa.array([], pa.int64())})
        for columns in sorted({tuple(table.column_names) for table in tables}):
            same = pa.concat_tables([table for table in tables if tuple(table.column_names) == columns])
            whole = whole.join(same, events.ENTITY, join_type="full outer")
        whole = whole.sort_by(events.ENTITY).select([events.ENTITY, *names])
        parts.append(whole.add_column(0, "period", pa.array([period] * len(whole))))
    return pa.concat_tables(parts) if parts else pa.table({"period": pa.array([], pa.string())})


def compare(expected: pa.Table, found: pa.Table, name: str) -> str:
    """Raises: Failed, naming the first feature that differs."""
    for column in ("period", events.ENTITY):
        if expected[column].to_pylist() != found[column].to_pylist():
            raise Failed(f"{name}: expected the periods and entities of {len(expected)} rows, got {len(found)} rows with others")
    worst = 0.0
    for column in expected.column_names[2:]:
        one, other = (table[column].fill_null(0).to_numpy().astype(float) for table in (expected, found))
        apart = np.abs(one - other) / np.maximum(1.0, np.abs(one))
        worst = max(worst, float(apart.max(initial=0.0)))
        if not worst <= RELATIVE:
            row = int(np.argmax(apart))
            raise Failed(
                f"{name}: {column} of {events.ENTITY} {found[events.ENTITY][row]}: expected {one[row]}, got {other[row]}"
            )
    return f"{len(found)} rows of {len(expected.column_names) - 2} features, all within {worst:.1e} of DuckDB's"


@dataclass
class Session:
    """A running measurement; results are saved after every turn."""

    results: Path
    rounds: int
    parts: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def race(self, part: str, stage: Fields, turns: list[tuple[str, Contestant, str, int]]) -> None:
        """Runs the turns (name, contestant, case, times), round after round."""
        runs: dict[str, list[Run]] = {}
        for number in range(1, self.rounds + 1):
            for name, contestant, case, times in turns:
                if name in self.failed:
                    continue
                try:
                    run = stage.run(contestant, case, times)
                except Failed as error:
                    self.failed[name] = str(error)
                    self.tell(f"{part} {number}/{self.rounds}  {name:12} FAILED: {error}")
                    continue
                runs.setdefault(name, []).append(run)
                self.tell(f"{part} {number}/{self.rounds}  {name:12} {run.seconds:8.2f} s  {run.agreement}")
                self.parts[part] = {"date": today(), "contestants": {key: told(of) for key, of in runs.items()}}
                self.keep()

    def keep(self) -> None:
        kept.results(self.results, {**report.summary(ratios(self.parts)), "about": about(), "parts": self.parts})


def told(runs: list[Run]) -> dict[str, Any]:
    return {
        "times": runs[0].rows,
        "seconds": [round(run.seconds, 4) for run in runs],
        "median_seconds": round(median(run.seconds for run in runs), 4),
        "peak_bytes": dict(runs[-1].peak),
        "agreement": runs[-1].agreement,
    }


def ratios(parts: dict[str, Any]) -> dict[str, figures.Figure]:
    """Ratios of Almanac's time to the others', by name; lower is better."""
    found: dict[str, figures.Figure] = {}
    nine = parts.get(NINE, {}).get("contestants", {})
    found |= {
        f"time_vs_{name}": figures.ratio(nine[ALMANAC.name]["seconds"], of["seconds"])
        for name, of in nine.items()
        if name != ALMANAC.name and ALMANAC.name in nine
    }
    following = parts.get(NEXT, {}).get("contestants", {})
    if len(following) == 2:
        found["next_month_vs_scan"] = figures.ratio(*(following[one.name]["seconds"] for one in (ALMANAC, SCAN)))
    growth = parts.get(GROWTH, {}).get("contestants", {})
    if len(growth) == 2:
        small, large = sorted(growth.values(), key=lambda one: int(one["times"]))
        key = f"growth_{large['times']}_vs_{small['times']}"
        found[f"{key}.time"] = figures.ratio(large["seconds"], small["seconds"])
        held = [max(size for name, size in one["peak_bytes"].items() if name != "java") for one in (large, small)]
        found[f"{key}.memory"] = figures.ratio(held[:1], held[1:])
    checked = parts.get(CHECKS, {}).get("contestants", {})
    if len(checked) == 2:
        found["checks_vs_scan"] = figures.ratio(*(checked[one.name]["seconds"] for one in (CHECKED, READ)))
    return found


def main() -> int:
    """Exit code 1 if a contestant failed or built wrong features."""
    asked = _arguments()
    parts = json.loads(asked.results.read_text())["parts"] if asked.results.exists() else {}
    session = Session(asked.results, asked.rounds, parts)
    with closing(Fields.open(asked.folder, session.tell)) as stage:
        if NINE in asked.parts:
            turns = [(one.name, one, events.NINE, asked.times) for one in (ALMANAC, DUCKDB, POLARS, SPARK_SQL)]
            session.race(NINE, stage, turns)
            stage.close()
        if NEXT in asked.parts:
            session.race(NEXT, stage, [(one.name, one, events.NEXT, asked.times) for one in (ALMANAC, SCAN)])
            stage.close()
        if GROWTH in asked.parts:
            # The smaller one first, because a process reports the most memory that it ever held.
            session.race(GROWTH, stage, [(f"times {n}", ALMANAC, events.NINE, n) for n in (asked.times, 3 * asked.times)])
            stage.close()
        if CHECKS in asked.parts:
            session.race(CHECKS, stage, [(one.name, one, events.NINE, asked.times) for one in (CHECKED, READ)])
    for name, figure in ratios(session.parts).items():
        print(f"{name:24} {figure.value:8.3f}   ({figure.low:.3f} to {figure.high:.3f})")
    for name, text in session.failed.items():
        print(f"failed: {name}: {text}", file=sys.stderr)
    return 1 if session.failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--times", type=int, default=20, help="number of copies of the year of purchases (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: %(default)s)")
    parser.add_argument("--parts", type=some_of(PARTS), default=PARTS, help=f"what to measure, of {','.join(PARTS)}")
    parser.add_argument("--folder", type=Path, default=Path(".almanac/bench"), help="events and logs (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results; measured parts replace those in it")
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.times < 1:
        parser.error("--rounds, --times: expected 1 or more")
    if not PEERS.exists():
        parser.error("the other contestants need the peers' environment. Run make .venv-bench/bench.stamp")
    return asked


if __name__ == "__main__":
    sys.exit(main())
