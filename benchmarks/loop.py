"""The loop that is measured: a store with the shop's files, and an Airflow whose tasks and jobs leave traces; all stopped at the
end. It runs Almanac's DAGs, and the script that does the same by hand.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from almanac.local import java, scheduler, seaweed, spark_conf
from almanac.local.processes import spawn, stop_leftovers
from almanac.local.scheduler import Airflow
from almanac.local.seaweed import Store
from benchmarks import shop
from benchmarks.race import REPOSITORY, Failed
from benchmarks.spans import RunTimes, TaskTimes
from demo import landing
from demo.story import PIPELINE

TRACING = REPOSITORY / "benchmarks" / "tracing"
SCRIPT = REPOSITORY / "benchmarks" / "contestants" / "retrain_script.py"
LAKE, BY_HAND = "almanac", "by-hand"  # folders of the bucket
LONGEST = 3600.0  # seconds of one run


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A running store and a running Airflow."""

    airflow: Airflow
    store: Store
    environment: Mapping[str, str]
    folder: Path

    @property
    def traces(self) -> Path:
        return self.folder / "traces"

    @property
    def untraced(self) -> dict[str, str]:
        """The environment of what leaves no traces."""
        return {name: value for name, value in self.environment.items() if name != "TRACED"}

    @classmethod
    @contextmanager
    def open(cls, folder: Path, times: int, tell: Callable[[str], None]) -> Iterator[Loop]:
        """Starts everything in a folder, new or existing, and stops it at the end. Airflow's home is new: an old one would go on
        with the runs that a stopped measurement left, beside those that are measured. The shop's files stay.
        """
        traces = folder / "traces"
        for old in (folder, folder / "airflow"):
            stop_leftovers(old)
        for old in (traces, folder / "airflow"):
            shutil.rmtree(old, ignore_errors=True)
        traces.mkdir(parents=True)
        given = {"TRACED": str(traces), "PYTHONPATH": os.pathsep.join(filter(None, (str(TRACING), os.environ.get("PYTHONPATH"))))}
        with ExitStack() as running:
            store = seaweed.start(folder / "store")
            running.callback(store.stop)
            tell(f"times {times}: delivering the shop's files")
            landing.deliver(store, partial(shop.copied, times=times))
            landing.days.cache_clear()
            spark = spark_conf.environment(folder.parent / "spark", java.java_home(folder.parent / "java"))
            tell(f"times {times}: starting Airflow")
            airflow, environment = scheduler.start(folder / "airflow", REPOSITORY, store, lambda: spark, given)
            running.callback(airflow.stop)
            airflow.wait_for_dags([f"{PIPELINE}_retrain", f"{PIPELINE}_score"])
            yield cls(airflow=airflow, store=store, environment=environment, folder=folder)

    def empty(self) -> None:
        """Deletes whatever Almanac and the script made."""
        client = seaweed.client(self.store)
        for prefix in (LAKE, BY_HAND):
            for key in landing.keys(self.store, f"{prefix}/"):
                client.delete_object(Bucket=landing.BUCKET, Key=key)

    def run(self, verb: str, **conf: Any) -> RunTimes:
        """Runs one of the pipeline's DAGs. Raises: Failed."""
        dag, run = f"{PIPELINE}_{verb}", f"bench-{time.time_ns()}"
        self.airflow.trigger(dag, run, conf)
        deadline = time.monotonic() + LONGEST
        # Each question takes some of the two cores, so it is asked seldom: the times are Airflow's.
        while (state := self.airflow.state(dag, run)) not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise Failed(f"{dag} {run} was still {state} after {LONGEST:.0f} s.")
            time.sleep(2.0)
        told, tasks = self.airflow.ask("GET", f"dags/{dag}/dagRuns/{run}").json(), self.airflow.tasks(dag, run)
        if state == "failed":
            failed = ", ".join(task["task_id"] for task in tasks if task["state"] == "failed")
            raise Failed(f"{dag} {run} failed in {failed}. See {self.folder / 'airflow' / 'logs'}.")
        if again := [task["task_id"] for task in tasks if task["try_number"] > 1]:
            raise Failed(f"{dag} {run} tried again: {', '.join(again)}. Its times say nothing.")
        done = [
            TaskTimes(
                dag=dag,
                run=run,
                task=task["task_id"],
                map_index=task["map_index"],
                began=seconds(task["start_date"]),
                ended=seconds(task["end_date"]),
            )
            for task in tasks
            if task["start_date"] and task["end_date"]
        ]
        done.sort(key=lambda one: one.began)
        return RunTimes(began=seconds(told["queued_at"]), ended=seconds(told["end_date"]), tasks=done)

    def script(self, **task: Any) -> dict[str, Any]:
        """Runs the script; returns what it told and its wall time, `wall`. Raises: Failed."""
        given = {
            "bucket": landing.BUCKET,
            "landing": landing.PREFIX,
            "folder": BY_HAND,
            "spark_jobs": str(REPOSITORY / "spark_jobs"),
            **{"period": None, "score": None, "training": [], "holdout": None, "champion": None, "build": [], **task},
        }
        host = json.loads(self.environment["AIRFLOW_CONN_SPARK_DEFAULT"])["host"]
        submit = str(Path(self.environment["SPARK_HOME"]) / "bin" / "spark-submit")
        (self.folder / "script.log").unlink(missing_ok=True)
        began = time.perf_counter()
        running = spawn(
            "script", [submit, "--master", host, str(SCRIPT), json.dumps(given)], environment=self.untraced, folder=self.folder
        )
        try:
            code = running.popen.wait(LONGEST)
            wall = time.perf_counter() - began
        except subprocess.TimeoutExpired:
            raise Failed(f"The script still ran after {LONGEST:.0f} s. See {running.log}.") from None
        finally:
            running.stop()
        answers = [line for line in running.log.read_text().splitlines() if line.startswith('{"seconds"')]
        if code or not answers:
            raise Failed(f"The script exited with {code}:\n{running.last_lines(15)}")
        return {**json.loads(answers[-1]), "wall": wall}

    def almanac(self, *arguments: str) -> Any:
        """What the command line tells about the pipeline, from JSON."""
        command = [
            str(Path(self.environment["PYSPARK_PYTHON"]).parent / "almanac"),
            arguments[0],
            PIPELINE,
            *arguments[1:],
            "--json",
        ]
        done = subprocess.run(command, env=self.untraced, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{' '.join(command)} exited with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def traced(self) -> Iterator[dict[str, Any]]:
        """Every line of every trace, with the number of its process; unfinished lines are left out."""
        for number, path in enumerate(sorted(self.traces.glob("*.jsonl"))):
            for line in path.read_text().splitlines():
                with suppress(ValueError):
                    yield {**json.loads(line), "process": number}


def seconds(moment: str) -> float:
    """A time of Airflow's API in seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()
