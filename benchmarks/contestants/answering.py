"""The interface of every contestant: a task is a line of JSON on standard input, its answer a line on standard output.

A contestant says first that it is ready: starting up is not counted, nor is its first task, a small one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Score the rows of these Parquet files with the model in a folder; write Parquet files with entity and score to `out`.

    Or build features of their events: then `model` says which, and `options` of which periods.
    """

    files: tuple[str, ...]
    model: str
    out: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """linear or boosted."""
        return self.model.rsplit("-", 1)[-1]


def answer(carry: Callable[[Task], None], prepare: Callable[[Task], None] | None = None) -> None:
    """Carries out tasks until standard input ends. Whatever else the program prints goes to standard error.

    `prepare` is not timed: it brings about what a task finds there.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(what: Mapping[str, Any]) -> None:
        print(json.dumps(what), file=answers, flush=True)

    say({"ready": True})
    for line in sys.stdin:
        given = json.loads(line)
        task = Task(**{**given, "files": tuple(given["files"])})
        shutil.rmtree(task.out, ignore_errors=True)
        Path(task.out).mkdir(parents=True)
        try:
            if prepare is not None:
                prepare(task)
            began = time.perf_counter()
            carry(task)
        except Exception as error:
            traceback.print_exc()
            say({"error": f"{type(error).__name__}: {str(error).strip()[-500:]}"})
            continue
        seconds = time.perf_counter() - began
        rows = sum(pq.read_metadata(path).num_rows for path in Path(task.out).rglob("*.parquet"))
        say({"seconds": seconds, "rows": rows, "peak": peak(os.getpid())})


def peak(process: int) -> dict[str, int]:
    """The largest resident memory in bytes that a process, or one below it that still lives, has held: command to bytes."""
    status, found = Path(f"/proc/{process}/status"), dict[str, int]()
    if status.exists():
        said = dict(line.split(":", 1) for line in status.read_text().splitlines())
        found[said["Name"].strip()] = int(said.get("VmHWM", "0 kB").split()[0]) * 1024
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            for name, held in peak(int(child)).items():
                found[name] = max(held, found.get(name, 0))
    return found
