"""Where the seconds of a DAG run went, from Airflow's times and the traces of its tasks and jobs.

A run's critical path is its last task, the one that ended last before that began, and so on: its tasks and the gaps between them
are the run's wall time. Each task's time is divided into kinds, by what its process or the main thread of its Spark driver did.
Standard library only.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Line = Mapping[str, Any]
# Kinds, in the order in which they are drawn, and what they are called.
KINDS = {
    "scheduling": "Airflow: scheduling",
    "process": "Airflow: task process",
    "submit": "spark-submit, JVM start and stop",
    "session": "Spark session",
    "import": "imports",
    "s3": "S3 calls",
    "read": "reading",
    "user": "user functions",
    "combine": "combining groups",
    "checks": "Great Expectations",
    "fit": "fitting",
    "report": "report",
    "parity": "parity",
    "score": "scoring",
    "commit": "commit",
    "other": "other",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTimes:
    """A task's attempt as Airflow tells it, in seconds since 1970."""

    dag: str
    run: str
    task: str
    map_index: int
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """A DAG run, from when it was asked for to its end, with its tasks in the order in which they began."""

    began: float
    ended: float
    tasks: Sequence[TaskTimes]

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSeconds:
    """A task: seconds by kind, which sum to `seconds`; its S3 calls by boto3; and what its Spark tasks spent reading.

    Args:
        application: whether a Spark application was submitted.
        reading: seconds that Spark's Python workers read source and feature files, summed over workers that read side by side.
    """

    task: str
    waited: float
    seconds: float
    kinds: Mapping[str, float]
    application: bool
    calls: int
    calls_seconds: float
    reading: float
    critical: bool = False


@dataclass(slots=True)
class _Process:
    """The lines of one process."""

    argv: Sequence[str] = ()
    pid: int = 0
    parent: int = 0
    began: float = 0.0
    spans: list[Line] = field(default_factory=list)
    tasks: list[Line] = field(default_factory=list)

    @property
    def run_info(self) -> Mapping[str, Any]:
        """Who runs a job, from its command line; empty for other processes."""
        words = list(self.argv)
        return json.loads(words[words.index("--run-info") + 1]) if "--run-info" in words else {}


def _processes(lines: Iterable[Line]) -> list[_Process]:
    found: dict[int, _Process] = defaultdict(_Process)
    for line in lines:
        one = found[line["process"]]
        match line["kind"]:
            case "process":
                one.argv, one.pid, one.parent, one.began = line["argv"], line["pid"], line["parent"], line["at"]
            case "started" | "missing":
                pass
            case "task":
                one.tasks.append(line)
            case _:
                one.spans.append(line)
    return list(found.values())


def missing(lines: Iterable[Line]) -> list[str]:
    """The functions to be timed that were not found: their time is counted as something else's."""
    return sorted({line["name"] for line in lines if line["kind"] == "missing"})


def of_run(run: RunTimes, lines: Iterable[Line]) -> list[TaskSeconds]:
    """The run's tasks in the order in which they began."""
    processes = _processes(lines)
    path = critical_path(run)
    found = []
    for task in run.tasks:
        before = max([run.began, *(one.ended for one in run.tasks if one.ended <= task.began)])
        found.append(_task(task, task.began - before, processes, task in path))
    return found


def critical_path(run: RunTimes) -> list[TaskTimes]:
    """The tasks whose times, with the gaps before them, sum to the run's wall time; the last one first."""
    path: list[TaskTimes] = []
    left = sorted(run.tasks, key=lambda one: one.ended)
    while left:
        path.append(left[-1])
        left = [one for one in left if one.ended <= path[-1].began]
    return path


def along(run: RunTimes, tasks: Sequence[TaskSeconds]) -> dict[str, float]:
    """The run's wall time by kind, along the critical path."""
    total = dict.fromkeys(KINDS, 0.0)
    for task in tasks:
        if task.critical:
            total["scheduling"] += task.waited
            for kind, seconds in task.kinds.items():
                total[kind] += seconds
    total["scheduling"] += run.seconds - sum(total.values())  # after the last task
    return {kind: seconds for kind, seconds in total.items() if seconds}


def _task(task: TaskTimes, waited: float, processes: Sequence[_Process], critical: bool) -> TaskSeconds:
    kinds: dict[str, float] = defaultdict(float)
    identity = (task.dag, task.run, task.task)
    calls: list[Line] = []
    reading, application = 0.0, False
    for process in processes:
        for execute in process.tasks:
            if (execute["dag"], execute["run"], execute["task"], execute["map"]) != (*identity, task.map_index):
                continue
            inside = [span for span in process.spans if execute["at"] <= span["at"] <= execute["at"] + execute["took"]]
            _add(kinds, inside)
            kinds["other"] += execute["own"]
            calls += [span for span in inside if span["kind"] == "s3"]
    for job in processes:
        info = job.run_info
        if (info.get("dag"), info.get("run"), info.get("task")) != identity or not task.began <= job.began <= task.ended:
            continue
        application = True
        inside = job.spans
        # What follows its main function is the end of the session and of the JVM.
        alive = max((span["at"] + span["took"] for span in inside), default=job.began) - job.began
        kinds["submit"] -= alive
        known = sum(span["own"] for span in inside if span["main"] and span["kind"] != "job")
        _add(kinds, [span for span in inside if span["kind"] != "job"])
        kinds["other"] += alive - known
        calls += [span for span in inside if span["kind"] == "s3"]
        reading += _reading(job, processes)
    kinds["process"] = task.ended - task.began - sum(kinds.values())
    return TaskSeconds(
        task=task.task if task.map_index < 0 else f"{task.task}[{task.map_index}]",
        waited=waited,
        seconds=task.ended - task.began,
        kinds={kind: kinds[kind] for kind in KINDS if kinds.get(kind)},
        application=application,
        calls=len(calls),
        calls_seconds=sum(span["took"] for span in calls),
        reading=reading,
        critical=critical,
    )


def _add(kinds: dict[str, float], spans: Iterable[Line]) -> None:
    for span in spans:
        if span["main"]:
            kinds[span["kind"] if span["kind"] in KINDS else "other"] += span["own"]


def _reading(job: _Process, processes: Sequence[_Process]) -> float:
    """What the Python workers of a job's JVM spent reading. They are forks of a daemon; the JVM started that and the job."""
    daemons = {one.pid for one in processes if one.parent == job.parent and "pyspark.daemon" in one.argv}
    workers = [one for one in processes if one.parent in daemons or one.pid in daemons]
    return float(sum(span["took"] for one in workers for span in one.spans if span["kind"] == "read"))
