"""Where the seconds of a process go. Python imports this file at its start if its folder is on PYTHONPATH.

If TRACED names a folder, imports are timed, and so are the functions in SPANS, when their module is imported; neither Almanac nor
Airflow knows about it. Each process appends to a file of its own, a line of JSON for each span:

    kind, name, at      when it began, in seconds since 1970
    took, own           seconds in all, and without those of the spans within it
    main                whether it ran in the process's main thread

The first line tells what the process is. `benchmarks.spans` reads the files.
"""

from __future__ import annotations

import functools
import importlib.machinery
import json
import os
import sys
import threading
import time
import zipimport
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = os.environ.get("TRACED", "")
SHORTEST = 0.0005  # seconds; shorter imports are counted with what imported them

# Module to its functions, each with the kind of its time.
SPANS = {
    "almanac.airflow.operators": {"WorkerTask.execute": "task", "SparkOrders.execute": "task", "Publish.execute": "task"},
    "airflow.providers.apache.spark.hooks.spark_submit": {"SparkSubmitHook.submit": "submit"},
    "almanac.airflow.library": {"library_zip": "zip"},
    "botocore.client": {"BaseClient._make_api_call": "s3"},
    "almanac.jobs.run": {"main": "job"},
    "almanac.jobs.context": {"SparkJob.spark": "session", "SparkJob.ship": "ship"},
    "almanac.jobs.user_functions": {"call_part": "user"},
    "almanac.jobs.aggregates": {"features": "user"},
    "almanac.jobs.features": {"_group": "user", "_combined": "combine"},
    "almanac.jobs.model": {"_labels": "user", "_skew": "parity"},
    "almanac.jobs.predictions": {"stage": "score"},
    "almanac.spark.arrow": {"table": "read"},
    "almanac.chunks": {"read_chunks": "read", "schema_of": "read"},
    "almanac.model.training": {"fit": "fit", "predict": "fit", "pickled": "write"},
    "almanac.model.reports": {"report": "report"},
    "almanac.model.importance": {"shares": "report"},
    "almanac.model.loading": {"open_model": "load"},
    "almanac.model.parity": {"decide": "parity"},
    "almanac.spark.checks": {"run": "checks", "import_great_expectations": "import"},
    "almanac.spark.profiles": {"profile": "checks"},
    "almanac.spark.spreads": {"spread": "checks", "counted": "checks"},
    "almanac.store.sources": {"observe": "read"},
    "almanac.store.packs": {"read": "read"},
    "almanac.store.tables": {"Table.publish": "commit", "Table.create": "commit", "Table._ask": "commit"},
}


class Spans:
    """The open spans of each thread, and the file that finished ones are written to."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets what belongs to the parent of a process that was just forked."""
        self.open, self.file = threading.local(), -1

    def write(self, **line: Any) -> None:
        if self.file < 0:
            path = Path(FOLDER) / f"{os.getpid()}-{time.time_ns()}.jsonl"
            self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self.write(kind="process", at=time.time(), pid=os.getpid(), parent=os.getppid(), argv=sys.orig_argv)
        os.write(self.file, json.dumps(line).encode() + b"\n")

    def timed(self, kind: str, name: str, call: Callable[[], Any], shortest: float = 0.0, **more: Any) -> Any:
        if not hasattr(self.open, "within"):
            self.open.within = []
        within: list[float] = self.open.within
        within.append(0.0)
        at, began = time.time(), time.perf_counter()
        try:
            return call()
        finally:
            took = time.perf_counter() - began
            inside = within.pop()
            if took >= shortest:
                if within:
                    within[-1] += took
                main = threading.current_thread() is threading.main_thread()
                self.write(kind=kind, name=name, at=at, took=took, own=took - inside, main=main, **more)
            elif within:
                within[-1] += inside


spans = Spans()


def wrapped(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        label, more = name, {}
        if kind == "s3":
            label = str(args[1])
        elif kind == "task":
            instance = (kwargs.get("context") or args[1])["ti"]
            more = {"task": instance.task_id, "run": instance.run_id, "dag": instance.dag_id, "map": instance.map_index}
        found = spans.timed(kind, label, lambda: function(*args, **kwargs), **more)
        return pulled(found, kind, label) if isinstance(found, Iterator) else found

    return timed


def pulled(items: Iterator[Any], kind: str, name: str) -> Iterator[Any]:
    """A generator's items, with the time that each takes."""
    end = object()
    while (item := spans.timed(kind, name, lambda: next(items, end))) is not end:
        yield item


def instrument(module: Any) -> None:
    for path, kind in SPANS.get(module.__name__, {}).items():
        holder, _, name = path.rpartition(".")
        of = getattr(module, holder, None) if holder else module
        found = vars(of).get(name) if of is not None else None
        if found is None:
            spans.write(kind="missing", name=f"{module.__name__}.{path}")
        elif isinstance(found, functools.cached_property):
            found.func = wrapped(found.func, kind, path)
        else:
            setattr(of, name, wrapped(found, kind, path))


def importing(loader: type, method: str) -> None:
    """Times a loader's step, and instruments a module after it ran."""
    original = getattr(loader, method)

    def timed(self: Any, given: Any) -> Any:
        name = getattr(given, "__name__", None) or given.name
        found = spans.timed("import", name, lambda: original(self, given), SHORTEST)
        if method == "exec_module":
            instrument(given)
        return found

    setattr(loader, method, timed)


if FOLDER:
    os.register_at_fork(after_in_child=spans.reset)
    importing(importlib.machinery.SourceFileLoader, "exec_module")
    importing(importlib.machinery.ExtensionFileLoader, "create_module")
    importing(importlib.machinery.ExtensionFileLoader, "exec_module")
    importing(zipimport.zipimporter, "exec_module")
    if {"--run-info", "pyspark.daemon"} & set(sys.orig_argv):
        spans.write(kind="started")  # now, because the first line tells when a process began
