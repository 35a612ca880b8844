"""The cost of a job with almost nothing to do: with plain spark-submit, and as Almanac's embedded default starts it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from almanac.local import spark_conf
from benchmarks import models, rows
from benchmarks.contestants.almanac_scoring import keep_scorer
from benchmarks.race import OWN, REPOSITORY, Failed, Stage

ROWS = 1_000
WAYS = ("plain", "almanac")
JOB = REPOSITORY / "benchmarks" / "empty_job.py"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one job: wall time from submit to end, and CPU time of all its processes."""

    wall: float
    cpu: float


Costs = Mapping[str, Sequence[Cost]]


def measure(stage: Stage, rounds: int, tell: Callable[[int, str, Costs], None]) -> None:
    """Submits in turns, after one warm-up for each way; calls `tell` after every turn with all costs so far. Raises: Failed."""
    features, model = stage.cache / "few.parquet", models.folder_of(stage.cache, "boosted", stage.tell)
    pq.write_table(rows.group(models.GOLDEN_GROUP, ROWS), features)
    keep_scorer(model)
    environments = _environments(stage)
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way in WAYS:
            cost = _submit(stage, environments[way], model, features)
            if number:
                costs[way].append(cost)
                tell(number, way, costs)


def part(date: str, costs: Costs) -> dict[str, Any]:
    """The part for the results file."""
    kept = {
        kind: {way: [round(getattr(one, kind), 3) for one in seen] for way, seen in costs.items()} for kind in ("wall", "cpu")
    }
    return {"date": date, "rows": ROWS, "seconds": kept["wall"], "cpu_seconds": kept["cpu"]}


def _environments(stage: Stage) -> dict[str, dict[str, str]]:
    """Plain has only what the programs need; Almanac's has the class archive and the settings of almanac/local/spark_conf.py."""
    own = {name: stage.environment[name] for name in ("JAVA_HOME", "PYTHONPATH")}
    shared = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))} | own
    quick = spark_conf.environment(stage.cache / "spark", Path(own["JAVA_HOME"]))
    return {"plain": shared | {"PYSPARK_PYTHON": str(OWN), "PYSPARK_DRIVER_PYTHON": str(OWN)}, "almanac": shared | quick}


def _submit(stage: Stage, environment: Mapping[str, str], model: Path, features: Path) -> Cost:
    out, log = stage.cache / "out" / "empty", stage.cache / "logs" / "empty.txt"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    log.parent.mkdir(exist_ok=True)
    command = [str(part) for part in (OWN.parent / "spark-submit", "--master", "local[2]", JOB, model, features, out)]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("w") as errors:
        done = subprocess.run(
            command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors, text=True, check=False
        )
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or done.stdout.split()[-1:] != [str(ROWS)]:
        raise Failed(
            f"The empty job: expected exit code 0 and {ROWS} rows, got {done.returncode} and {done.stdout[-200:]!r}. See {log}."
        )
    return Cost(took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
