"""`make bench-retrain`: each second of a run is told once, and what is kept says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks import picture, retrain, shop, spans
from benchmarks.retrain import Round, Timed
from benchmarks.spans import RunTimes, TaskTimes

RUN_INFO = json.dumps({"dag": "shop_retrain", "run": "one", "task": "model.stage"})


def task(name: str, began: float, ended: float) -> TaskTimes:
    return TaskTimes(dag="shop_retrain", run="one", task=name, map_index=-1, began=began, ended=ended)


def run() -> RunTimes:
    """Two groups side by side, of which `b` ends last, then a job."""
    tasks = [task("a", 1.0, 3.0), task("b", 2.0, 5.0), task("model.stage", 6.0, 26.0)]
    return RunTimes(began=0.0, ended=27.0, tasks=tasks)


def span(process: int, kind: str, at: float, took: float, own: float | None = None, **more: Any) -> dict[str, Any]:
    line = {"kind": kind, "name": kind, "at": at, "took": took, "own": took if own is None else own, "main": True}
    return {"process": process, **line, **more}


def process(number: int, at: float, *argv: str, parent: int = 1) -> dict[str, Any]:
    return {"process": number, "kind": "process", "at": at, "pid": 100 + number, "parent": parent, "argv": list(argv)}


def lines() -> list[dict[str, Any]]:
    """What a worker, its job and the job's Python worker left behind."""
    executed = {"task": "model.stage", "run": "one", "dag": "shop_retrain", "map": -1}
    return [
        process(0, 6.5, "airflow", "scheduler"),
        span(0, "import", 6.5, 0.4),  # before the task's own work
        span(0, "s3", 7.5, 1.0),
        span(0, "submit", 9.0, 15.0),
        span(0, "task", 7.0, 18.0, 2.0, **executed),
        process(1, 12.0, "python", "run.py", "model.stage", "--run-info", RUN_INFO, parent=7),
        span(1, "import", 12.0, 3.0),
        span(1, "s3", 15.0, 1.0),
        span(1, "s3", 15.5, 4.0, main=False),
        span(1, "fit", 16.0, 4.0),
        span(1, "job", 13.0, 9.0, 1.0),
        process(2, 13.0, "python", "-m", "pyspark.daemon", parent=7),
        process(3, 14.0, "python", "-m", "pyspark.daemon", parent=102),
        span(3, "read", 14.0, 2.5),
        process(4, 14.0, "python", "-m", "pyspark.daemon", parent=999),
        span(4, "read", 14.0, 90.0),
        {"process": 4, "kind": "missing", "name": "almanac.jobs.run.gone"},
    ]


def test_the_critical_path_goes_back_from_the_task_that_ended_last() -> None:
    assert [one.task for one in spans.critical_path(run())] == ["model.stage", "b"]


def test_each_second_of_a_task_is_of_one_kind() -> None:
    found = spans.of_run(run(), lines())[-1]

    assert found.kinds == {"process": 2.0, "submit": 5.0, "import": 3.0, "s3": 2.0, "fit": 4.0, "other": 4.0}
    assert sum(found.kinds.values()) == found.seconds == 20.0
    assert (found.waited, found.application, found.critical) == (1.0, True, True)


def test_calls_of_all_threads_are_counted_and_reading_is_that_of_the_jobs_own_workers() -> None:
    found = spans.of_run(run(), lines())[-1]

    assert (found.calls, found.calls_seconds, found.reading) == (3, 6.0, 2.5)


def test_the_kinds_along_the_critical_path_sum_to_the_runs_wall_time() -> None:
    tasks = spans.of_run(run(), lines())
    found = spans.along(run(), tasks)

    assert sum(found.values()) == run().seconds
    # Before b, between b and the job, after the job; b left no trace, so all of it is its process's.
    assert (found["scheduling"], found["process"]) == (4.0, 5.0)


def test_a_function_that_is_gone_is_named() -> None:
    assert spans.missing(lines()) == ["almanac.jobs.run.gone"]


def test_copies_of_a_household_have_ids_of_their_own_and_products_stay_as_they_are() -> None:
    rows = pa.table({shop.HOUSEHOLD: [7, 8], shop.TIME: [2, 1]})

    assert shop.copied(rows, 2).to_pydict() == {shop.HOUSEHOLD: [8, 10008, 7, 10007], shop.TIME: [1, 1, 2, 2]}
    assert shop.copied(pa.table({"product_id": [1]}), 2).num_rows == 1


def turn(almanac: float, script: float) -> Round:
    """A round whose score took 10 seconds."""
    timed = [Timed(seconds=seconds, kinds={"fit": seconds}, tasks=spans.of_run(run(), lines())) for seconds in (almanac - 10, 10)]
    told = {"wall": script, "seconds": {"fit": script}, "estimator": "boosted", "rows": 3}
    return Round(retrain=timed[0], score=timed[1], script=told, roc_auc=0.91234)


def test_the_figures_come_first_and_the_tasks_are_those_of_the_round_in_the_middle() -> None:
    measured = retrain.part("nothing", 20, [turn(90.0, 30.0), turn(40.0, 20.0), turn(60.0, 20.0)])
    kept = retrain.report({"nothing-20": measured}, {"cores": 2})

    assert list(kept)[:2] == ["time_vs_script.nothing-20", "score_seconds.nothing-20"]
    assert (kept["time_vs_script.nothing-20"], kept["score_seconds.nothing-20"]) == (3.0, 10.0)
    assert kept["spread"]["time_vs_script.nothing-20"] == {"value": 3.0, "low": 2.0, "high": 3.0}
    assert (measured["roc_auc"], measured["retrain"]["seconds"], measured["retrain"]["applications"]) == (0.9123, 50.0, 1)
    assert json.loads(json.dumps(kept)) == kept
    assert "model.stage" in retrain.told(measured)


def test_the_bars_of_the_picture_are_as_long_as_what_they_stand_for() -> None:
    measured = retrain.part("nothing", 20, [turn(60.0, 20.0)])
    found = {title: sum(kinds.values()) for title, kinds in picture.stacks(measured)}

    assert found["Almanac: retrain"] == 50.0
    assert found["script: both"] == 20.0
    assert found["retrain: model.stage"] == 21.0  # with its wait


TRACED = """
import json, sys, threading, types, os
import sitecustomize
from sitecustomize import spans, wrapped

inner = wrapped(lambda: sum(range(200_000)), "fit", "inner")
outer = wrapped(lambda: [inner(), inner()], "job", "outer")
outer()
list(wrapped(lambda: iter([1, 2]), "read", "pulled")())
if not (child := os.fork()):
    inner()
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.fixture
def traces(repository: Path, tmp_path: Path) -> list[list[dict[str, Any]]]:
    """The lines of a process and of its fork."""
    where = {"TRACED": str(tmp_path), "PYTHONPATH": str(repository / "benchmarks" / "tracing")}
    subprocess.run([sys.executable, "-c", TRACED], env=where, check=True, timeout=60)
    files = sorted(tmp_path.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in files]


def test_a_process_and_its_fork_each_trace_their_spans_without_those_within(traces: list[list[dict[str, Any]]]) -> None:
    parent, fork = traces
    timed = [line for line in parent if line["kind"] in ("fit", "job", "read")]

    assert parent[0]["kind"] == fork[0]["kind"] == "process" and fork[0]["parent"] == parent[0]["pid"]
    assert [line["name"] for line in timed[:3]] == ["inner", "inner", "outer"]
    one, two, around = timed[:3]
    assert around["own"] == pytest.approx(around["took"] - one["took"] - two["took"], abs=1e-9)
    assert sum(line["kind"] == "read" for line in timed) >= 2
    assert [line["name"] for line in fork[1:]] == ["inner"]
