"""Runs contestants in turns, A B C A B C ..., so that a disturbance of the machine affects all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from almanac.local import java
from benchmarks import agreement, models, rows

REPOSITORY = Path(__file__).resolve().parent.parent
OWN, PEERS = REPOSITORY / ".venv/bin/python", REPOSITORY / ".venv-bench/bin/python"
WARM_UP_ROWS = 100_000
# Spark ends Python workers that were idle for a minute, so a contestant cools down while others take their turns.
IDLE_SECONDS = 20
# One thread for each task: libraries that use all cores for one task would compete with each other.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Failed(RuntimeError):
    """A contestant failed at its task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A way to score: the program, and the options that it gets with each task.

    Args:
        options: sent with each task; contestants that differ only in these share a process.
        peer: whether it runs in the peers' environment.
        same_model: whether its scores must agree with scikit-learn's. Spark's own models are other models.
    """

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    peer: bool = False
    same_model: bool = True


def with_batch(contestant: Contestant, size: int) -> Contestant:
    """The contestant with a batch size: the number of rows that Spark passes at once."""
    return replace(contestant, name=f"{contestant.name}-{size}", options={"batch": size})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One turn: rows, seconds, how well the output agrees, and the most memory (bytes) that one process of each command has
    held so far.
    """

    rows: int
    seconds: float
    agreement: str
    peak: Mapping[str, int] = field(default_factory=dict)


class Racer:
    """A contestant's process. It is started once, warmed up, and then gets one task after another."""

    def __init__(self, contestant: Contestant, stage: Stage) -> None:
        self.name, self._stage = f"{contestant.program}{''.join(contestant.arguments)}", stage
        self._warm: dict[str, float] = {}
        self.log = stage.cache / "logs" / f"{self.name}.txt"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.out = stage.cache / "out" / self.name
        python = PEERS if contestant.peer else OWN
        with self.log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, "-m", f"benchmarks.contestants.{contestant.program}", *contestant.arguments],
                cwd=REPOSITORY,
                env={**stage.environment, "PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": str(python)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._answer()

    def run(self, contestant: Contestant, model: str, count: int) -> Run:
        """Scores `count` rows, after a small warm-up task if the last task is a while ago. Raises: Failed."""
        key = f"{model} {dict(contestant.options)}"
        if key not in self._warm or time.monotonic() - self._warm[key] > IDLE_SECONDS:
            self.ask(contestant, model, min(self._stage.warm_up, count))
        answer = self.ask(contestant, model, count)
        self._warm[key] = time.monotonic()
        agreement = self._stage.held(contestant, model, count, self.out)
        return Run(rows=count, seconds=answer["seconds"], agreement=agreement, peak=answer["peak"])

    def ask(self, contestant: Contestant, model: str, count: int) -> dict[str, Any]:
        task = self._stage.task(contestant, model, count, self.out)
        assert self._process.stdin is not None
        try:
            print(json.dumps(task), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Failed(f"{self.name} exited. See {self.log}.") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} exited. See {self.log}.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']} (see {self.log})")
        return answer

    def stop(self) -> None:
        """Stops the process and removes its output."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        shutil.rmtree(self.out, ignore_errors=True)


@dataclass
class Stage:
    """Where contestants run: the folder of rows, models and logs, their environment, and the running processes."""

    cache: Path
    environment: Mapping[str, str]
    tell: Callable[[str], None] = print
    warm_up: int = WARM_UP_ROWS
    _racers: dict[str, Racer] = field(default_factory=dict)
    _truth: tuple[str, agreement.Scores] | None = None

    @classmethod
    def open(cls, cache: Path, tell: Callable[[str], None] = print) -> Self:
        cache.mkdir(parents=True, exist_ok=True)
        cache = cache.resolve()
        own = {
            "JAVA_HOME": str(java.java_home(cache)),
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'plugins'}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{cache}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        return cls(cache, {**os.environ, **ONE_THREAD, **own}, tell)

    def run(self, contestant: Contestant, model: str, count: int) -> Run:
        """One turn of a contestant; starts its process if it is not running. Raises: Failed."""
        key = f"{contestant.program}{contestant.arguments}"
        if key not in self._racers:
            self.tell(f"starting {contestant.program} {' '.join(contestant.arguments)}")
            self._racers[key] = Racer(contestant, self)
        try:
            return self._racers[key].run(contestant, model, count)
        except Failed:
            self._racers.pop(key).stop()
            raise

    def task(self, contestant: Contestant, model: str, count: int, out: Path) -> dict[str, Any]:
        """A task as JSON; creates rows and models that do not exist."""
        return {
            "files": rows.files(self.cache, count, self.tell),
            "model": str(models.folder_of(self.cache, model, self.tell)),
            "out": str(out),
            "options": dict(contestant.options),
        }

    def truth(self, model: str, count: int) -> agreement.Scores:
        """scikit-learn's own scores of the rows, computed once and kept. Raises: Failed."""
        kept = self.cache / f"truth-{rows.EDITION}.{models.EDITION}-{count}-{model}"
        if self._truth is None or self._truth[0] != kept.name:
            if not kept.exists():
                self.tell(f"{model}: scoring {count:,} rows with scikit-learn, to compare the others with")
                racer = Racer(TRUTH, self)
                racer.ask(TRUTH, model, count)
                racer.out.rename(kept)
                racer.stop()
            self._truth = (kept.name, agreement.scores(kept))
        return self._truth[1]

    def held(self, contestant: Contestant, model: str, count: int, out: Path) -> str:
        """How well a contestant's scores agree with scikit-learn's. Raises: Failed, if they do not."""
        written = agreement.scores(out)
        if len(written[0]) != count:
            raise Failed(f"{contestant.name}: expected {count} rows, got {len(written[0])}")
        if not contestant.same_model:
            return "not compared: another model"
        found = agreement.compare(self.truth(model, count), written)
        if not found.holds:
            raise Failed(f"{contestant.name}, {model}: {found}. Its time does not count.")
        return str(found)

    def close(self) -> None:
        for racer in self._racers.values():
            racer.stop()
        self._racers.clear()


TRUTH = Contestant(name="truth", program="limit", arguments=("--engine=sklearn",))
# By model and contestant.
Turns = dict[str, dict[str, list[Run]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A finished turn: which one, its result, and all turns so far."""

    number: int
    model: str
    contestant: Contestant
    run: Run | Failed
    turns: Turns


def alternate(
    stage: Stage,
    contestants: Sequence[Contestant],
    names: Iterable[str],
    count: int,
    rounds: int,
    tell: Callable[[Turn], None],
) -> Turns:
    """Runs contestants in turns, round after round; returns the runs by model and contestant.

    A contestant that fails at a model takes no more turns at it, and has no times there. Calls `tell` after every turn.
    """
    turns: Turns = {model: {} for model in names}
    out: set[tuple[str, str]] = set()
    for number in range(1, rounds + 1):
        for model, found in turns.items():
            for one in contestants:
                if (model, one.name) in out:
                    continue
                run: Run | Failed
                try:
                    run = ran = stage.run(one, model, count)
                except Failed as error:
                    out.add((model, one.name))
                    found.pop(one.name, None)
                    run = error
                else:
                    found.setdefault(one.name, []).append(ran)
                tell(Turn(number=number, model=model, contestant=one, run=run, turns=turns))
    return turns
