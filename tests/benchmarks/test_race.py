"""Taking turns, and the interface that every contestant has."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.race import Contestant, Failed, Run, Stage, Turn, alternate, with_batch

# A contestant that copies its first file, prints what nobody asked for, and falls over a model that it does not know.
COPIES = """
import shutil
from benchmarks.contestants.answering import answer

def carry(task):
    print("a library's greeting")
    if task.name != "linear":
        raise ValueError(f"what is {task.name}?")
    shutil.copy(task.files[0], task.out)

answer(carry)
"""


@dataclass
class Played(Stage):
    """A stage on which each turn is noted, and some contestants fail."""

    fails: frozenset[tuple[str, str]] = frozenset()
    noted: list[str] = field(default_factory=list)

    def run(self, contestant: Contestant, model: str, count: int) -> Run:
        self.noted.append(f"{contestant.name} {model}")
        if (contestant.name, model) in self.fails:
            raise Failed("its scores are wrong")
        return Run(rows=count, seconds=2.0, agreement="all agree")


A, B = (Contestant(name=name, program=name) for name in "ab")


def test_contestants_take_turns_within_each_round(tmp_path: Path) -> None:
    stage = Played(tmp_path, {})
    turns = alternate(stage, (A, B), ("linear",), 10, 2, [].append)
    assert stage.noted == ["a linear", "b linear", "a linear", "b linear"]
    assert {name: len(runs) for name, runs in turns["linear"].items()} == {"a": 2, "b": 2}


def test_a_contestant_that_fails_has_no_times_with_that_model_and_no_more_turns(tmp_path: Path) -> None:
    stage = Played(tmp_path, {}, fails=frozenset({("b", "linear")}))
    heard: list[Turn] = []

    turns = alternate(stage, (A, B), ("linear", "boosted"), 10, 2, heard.append)

    assert list(turns["linear"]) == ["a"]
    assert {name: len(runs) for name, runs in turns["boosted"].items()} == {"a": 2, "b": 2}
    assert stage.noted.count("b linear") == 1
    assert [str(turn.run) for turn in heard].count("its scores are wrong") == 1


def test_a_batch_size_is_part_of_a_contestants_name_and_goes_with_its_tasks() -> None:
    assert with_batch(A, 50_000) == Contestant(name="a-50000", program="a", options={"batch": 50_000})


def test_a_contestant_answers_each_task_with_a_line_and_goes_on_after_one_that_failed(tmp_path: Path, repository: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"entity_id": [1, 2, 3]}), tmp_path / "in.parquet")
    tasks = [
        {"files": [str(tmp_path / "in.parquet")], "model": f"models/model-{name}", "out": str(tmp_path / "out")}
        for name in ("linear", "other", "linear")
    ]

    done = subprocess.run(
        [sys.executable, "-c", COPIES],
        input="".join(json.dumps(task) + "\n" for task in tasks),
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    ready, first, second, third = map(json.loads, done.stdout.splitlines())
    assert ready == {"ready": True}
    assert first["rows"] == third["rows"] == 3 and first["seconds"] > 0
    assert second == {"error": "ValueError: what is other?"}
    assert "a library's greeting" in done.stderr


@pytest.mark.slow
def test_the_command_says_what_is_allowed_and_gives_examples(repository: Path) -> None:
    def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "benchmarks.scoring", *arguments]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120, check=False)

    assert "python -m benchmarks.scoring --parts fixed --rounds 10" in asked("--help").stdout
    refused = asked("--only", "almanac,nobody")
    assert refused.returncode == 2
    assert "expected names of almanac, limit, limit_apart, mlflow, mlflow_onnx, pandas_udf, spark_ml; got" in refused.stderr
    assert "--rounds, --rows, --large: expected 1 or more" in asked("--rounds", "0").stderr
