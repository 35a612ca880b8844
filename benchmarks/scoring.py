"""Benchmarks batch scoring: Almanac against its peers and a program written for this one job. `make bench-scoring`.

race    all contestants on the same rows with the same models, in turns
cores   Almanac on one core and on two
scale   Almanac on many rows and on four times as many
fixed   the cost of a job with nothing to score, with plain spark-submit and as Almanac's embedded default
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import kept, race, report
from benchmarks.figures import short
from benchmarks.models import MODELS
from benchmarks.race import PEERS, REPOSITORY, Contestant, Failed, Run, Stage, Turn, Turns, alternate
from benchmarks.report import CORES, FIXED, PARTS, RACE, SCALE

RESULTS = REPOSITORY / "benchmarks" / "results" / "scoring.json"
DEFAULT_BATCH, BATCHES = 10_000, (10_000, 50_000, 100_000)
TUNING_ROWS = 1_000_000
ALMANAC = Contestant(name="almanac", program="almanac_scoring")
ONE_CORE = Contestant(name="almanac-1", program="almanac_scoring", arguments=("--cores=1",))
LIMIT = Contestant(name="limit", program="limit")
LIMIT_APART = Contestant(name="limit_apart", program="limit", arguments=("--apart",))
OWN = {"almanac": ALMANAC, "limit": LIMIT, "limit_apart": LIMIT_APART}  # they need no environment of their own
SPARK_ML = Contestant(name="spark_ml", program="spark_ml", peer=True, same_model=False)
# Spark passes these contestants batches, whose size they choose.
BATCHED = {
    "mlflow": Contestant(name="mlflow", program="mlflow_udf", arguments=("--flavour=sklearn",), peer=True),
    "mlflow_onnx": Contestant(name="mlflow_onnx", program="mlflow_udf", arguments=("--flavour=onnx",), peer=True),
    "pandas_udf": Contestant(name="pandas_udf", program="pandas_udf", peer=True),
}
ALL = (*OWN, *BATCHED, "spark_ml")
EXAMPLES = """examples:
  python -m benchmarks.scoring                                     everything; most of an hour on two cores
  python -m benchmarks.scoring --rows 1000000 --rounds 3 --parts race
  python -m benchmarks.scoring --rows 1000000 --parts race --only almanac,limit --results /tmp/try.json
  python -m benchmarks.scoring --parts fixed --rounds 10
"""


def main() -> int:
    """Exit code 1 if a contestant failed or its scores were wrong, 130 after Ctrl-C; finished measurements are saved."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, interrupt)
    session = Session(asked.results, asked.rounds)
    try:
        with closing(Stage.open(asked.folder, session.tell)) as stage:
            _measure(session, stage, asked)
    except KeyboardInterrupt:
        session.tell(f"Stopped. The turns so far are in {asked.results}.")
        return 130
    session.tell(f"saved in {asked.results}")
    for name, figure in report.ratios(session.parts).items():
        print(f"{name:40} {figure.value:8.3f}   ({figure.low:.3f} to {figure.high:.3f})")
    for name, text in session.failed.items():
        print(f"failed: {name}: {text}", file=sys.stderr)
    return 1 if session.failed else 0


def _measure(session: Session, stage: Stage, asked: argparse.Namespace) -> None:
    if RACE in asked.parts:
        _race(session, stage, asked.only, asked.models, asked.rows)
        stage.close()
    if CORES in asked.parts:
        session.turns(CORES, stage, (ALMANAC, ONE_CORE), asked.models, asked.rows)
    if SCALE in asked.parts:
        _scale(session, stage, asked.models, asked.rows, asked.large)
        stage.close()
    if FIXED in asked.parts:
        _fixed(session, stage)


@dataclass
class Session:
    """A running measurement: the clock, and the results, which are saved after every turn."""

    results: Path
    rounds: int
    parts: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.results.exists():
            self.parts = json.loads(self.results.read_text())["parts"]

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def keep(self, name: str, part: dict[str, Any]) -> None:
        self.parts[name] = report.beside(part, self.parts.get(name))
        kept.results(self.results, report.report(self.parts, about()))

    def turns(self, name: str, stage: Stage, contestants: Sequence[Contestant], models: Sequence[str], rows: int) -> None:
        """Measures a part in which contestants take turns on the same rows."""
        failed: dict[str, str] = {}

        def heard(turn: Turn) -> None:
            self.heard(f"{name} {turn.number}/{self.rounds}", turn.model, turn.contestant, turn.run, failed)
            self.keep(name, report.part(today(), rows, turn.turns, failed))

        alternate(stage, contestants, models, rows, self.rounds, heard)

    def heard(self, what: str, model: str, one: Contestant, run: Run | Failed, failed: dict[str, str]) -> None:
        if isinstance(run, Failed):
            failed[f"{one.name}, {model}"] = self.failed[f"{one.name}, {model}"] = str(run)
            self.tell(f"{what}  {model:8} {one.name:20} FAILED: {run}")
        else:
            rate = f"{run.rows / run.seconds:12,.0f} rows/s"
            self.tell(f"{what}  {model:8} {one.name:20} {run.seconds:8.2f} s {rate}  {run.agreement}")


def _race(session: Session, stage: Stage, only: Sequence[str], models: Sequence[str], rows: int) -> None:
    known = {**OWN, "spark_ml": SPARK_ML}
    contestants: list[Contestant] = []
    for name in only:
        contestants += [known[name]] if name in known else _tuned(session, stage, BATCHED[name], models, min(rows, TUNING_ROWS))
    session.turns(RACE, stage, contestants, models, rows)


def _tuned(session: Session, stage: Stage, one: Contestant, models: Sequence[str], rows: int) -> list[Contestant]:
    """The contestant with Spark's own batch size, and with the fastest of a few sizes for each model."""
    sizes = {size: race.with_batch(one, size) for size in BATCHES}
    best = {DEFAULT_BATCH}
    failed: dict[str, str] = {}
    for model in models:
        seconds: dict[int, float] = {}
        for size, tried in sizes.items():
            run: Run | Failed
            try:
                run = ran = stage.run(tried, model, rows)
                seconds[size] = ran.seconds
            except Failed as error:
                run = error
            session.heard("tuning", model, tried, run, failed)
        best |= {min(seconds, key=lambda size: seconds[size])} if seconds else set()
    return [sizes[size] for size in sorted(best)]


def _scale(session: Session, stage: Stage, models: Sequence[str], rows: int, large: int) -> None:
    """Measures both sizes in turns. The part has them as two contestants, `rows` and `large`."""
    both: Turns = {model: {} for model in models}
    failed: dict[str, str] = {}
    for number in range(1, session.rounds + 1):
        for model in models:
            for name, count in (("rows", rows), ("large", large)):
                run: Run | Failed
                try:
                    run = ran = stage.run(ALMANAC, model, count)
                    both[model].setdefault(name, []).append(ran)
                except Failed as error:
                    run = error
                session.heard(f"scale {number}/{session.rounds} {short(count)}", model, ALMANAC, run, failed)
                session.keep(SCALE, {**report.part(today(), rows, both, failed), "large": large})


def _fixed(session: Session, stage: Stage) -> None:
    from benchmarks import fixed_cost

    def heard(number: int, way: str, costs: Any) -> None:
        cost = costs[way][-1]
        session.tell(f"fixed {number}/{session.rounds}  {way:8} {cost.wall:8.2f} s, CPU {cost.cpu:.2f} s")
        if all(costs.values()):
            session.keep(FIXED, fixed_cost.part(today(), costs))

    try:
        fixed_cost.measure(stage, session.rounds, heard)
    except Failed as error:
        session.failed["fixed"] = str(error)


def interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def about() -> dict[str, Any]:
    """The machine, and the packages of both environments."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": today(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {"almanac": _packages(race.OWN), "peers": _packages(PEERS)},
    }


_PACKAGES: dict[Path, dict[str, str]] = {}


def _packages(python: Path) -> dict[str, str]:
    """The distributions of an environment and their versions; empty if it does not exist."""
    if python not in _PACKAGES:
        listing = (
            "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
        )
        done = subprocess.run([python, "-c", listing], capture_output=True, text=True, check=True) if python.exists() else None
        _PACKAGES[python] = dict(sorted(json.loads(done.stdout).items())) if done else {}
    return _PACKAGES[python]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scoring",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=4_000_000, help="number of rows to score (default: %(default)s)")
    parser.add_argument("--large", type=int, default=16_000_000, help="number of rows of the part scale (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: %(default)s)")
    parser.add_argument("--only", type=some_of(ALL), default=ALL, help=f"contestants of the race, of {','.join(ALL)}")
    parser.add_argument("--models", type=some_of(tuple(MODELS)), default=tuple(MODELS), help=f"of {','.join(MODELS)}")
    parser.add_argument("--parts", type=some_of(PARTS), default=PARTS, help=f"what to measure, of {','.join(PARTS)}")
    parser.add_argument(
        "--folder", type=Path, default=Path(".almanac/bench"), help="rows, models and logs (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results; measured parts replace those in it")
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.rows < 1 or asked.large < 1:
        parser.error("--rounds, --rows, --large: expected 1 or more")
    wanted = set(asked.only) - set(OWN)
    if RACE in asked.parts and wanted and not PEERS.exists():
        parser.error(
            f"{', '.join(sorted(wanted))} need the peers' environment. Run make .venv-bench/bench.stamp, or use "
            "--only almanac,limit"
        )
    return asked


def some_of(known: tuple[str, ...]) -> Any:
    """An argparse type: names from a list, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name for name in text.split(",") if name)
        if strange := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(f"expected names of {', '.join(known)}; got {', '.join(strange)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
