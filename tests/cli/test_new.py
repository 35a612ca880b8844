"""`almanac new`: what it writes runs as it is, and it refuses in plain words."""

from __future__ import annotations

import importlib.util
import random
import sys
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import user_module
from almanac.jobs import trial
from almanac.project import Project
from almanac.store.objects import Objects
from tests.support.command_line import Asking

COLUMNS = ("--entity", "buyer", "--event-time", "at", "--timezone", "Europe/London")


def rows(days: int = 330, *, buyers: int = 300) -> pa.Table:
    """Purchases from 2017-01-01 on; the key once as whole numbers, once as a double with nulls, as a spreadsheet gives it."""
    dice = random.Random(3)
    found = [
        (dice.randrange(buyers), datetime(2017, 1, 1) + timedelta(seconds=dice.randrange(days * 86400))) for _ in range(days * 12)
    ]
    buyer = [number * number // buyers for number, _ in found]
    return pa.table({
        "buyer": pa.array(buyer, pa.int64()),
        "Customer ID": pa.array([None if number % 7 == 0 else float(number) for number in buyer], pa.float64()),
        "at": pa.array([moment for _, moment in found], pa.timestamp("ns")),
        "Price": pa.array([dice.random() * 9 for _ in found]),
        "note": pa.array(["x"] * len(found)),
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALMANAC_SPARK_JOBS", raising=False)
    (tmp_path / "purchases").mkdir()
    pq.write_table(rows(), tmp_path / "purchases" / "all.parquet")
    return tmp_path


@pytest.fixture
def ask(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    return Asking(monkeypatch, capsys)


def test_it_writes_three_files_and_says_what_comes_next(folder: Path, ask: Asking) -> None:
    code, output, errors = ask("new", "buying", "--data", "purchases", *COLUMNS)
    assert (code, output.split()) == (0, ["dags/buying.py", "spark_jobs/buying.py", "tests/test_buying.py"])
    assert errors.endswith("Next: `almanac up`, `almanac put purchases purchases`, `almanac try buying --period 2017-10`.\n")
    assert ask("check", "buying")[0] == 0
    described = Project(Path()).described("buying")
    assert (described.entity, described.first_period, described.last_period) == ("buyer", "2017-03", "2017-11")
    assert described.sources["purchases"].columns == ("buyer", "Price")
    assert described.sources["purchases"].timezone == "Europe/London"


def test_it_never_overwrites(folder: Path, ask: Asking) -> None:
    ask("new", "buying", "--data", "purchases", *COLUMNS)
    (folder / "dags" / "buying.py").unlink()
    code, _, errors = ask("new", "buying", "--data", "purchases", *COLUMNS)
    assert (code, "spark_jobs/buying.py, tests/test_buying.py: expected no such file." in errors) == (1, True)
    assert not (folder / "dags" / "buying.py").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--entity", "customer", *COLUMNS[2:]),
            "--entity: expected a column of the data, got customer. They have: buyer (int64), ",
        ),
        ((*COLUMNS[:2],), "--event-time: expected a column of the data, got nothing. They have: buyer (int64), "),
        ((*COLUMNS[:2], "--event-time", "note"), "--event-time: expected a column of timestamps, got note (string)."),
        ((*COLUMNS[:4],), "--timezone: expected the zone of at, whose times have none, got nothing."),
        ((*COLUMNS[:4], "--timezone", "Lundon"), "--timezone: expected a name such as 'UTC' or 'Europe/London', got 'Lundon'."),
        ((*COLUMNS, "--every", "year"), "--every: expected one of "),
        ((*COLUMNS, "--source", "a b"), "--source: expected a name of letters, digits and _, got 'a b'."),
    ],
)
def test_what_does_not_fit_is_refused(ask: Asking, folder: Path, arguments: tuple[str, ...], told: str) -> None:
    code, output, errors = ask("new", "buying", "--data", "purchases", *arguments)
    assert (code, output) == (1, "")
    assert told in errors
    assert not (folder / "dags").exists()


def test_data_that_cannot_be_used_are_refused(ask: Asking, folder: Path) -> None:
    (folder / "text").mkdir()
    (folder / "text" / "a.csv").write_text("a,b\n")
    assert "expected a Parquet file or a folder with some, found: a.csv." in ask("new", "buying", "--data", "text", *COLUMNS)[2]
    assert "found: none." in ask("new", "buying", "--data", "nowhere", *COLUMNS)[2]
    (folder / "bad.parquet").write_bytes(b"PAR1 and no more")
    assert "bad.parquet cannot be read as Parquet" in ask("new", "buying", "--data", "bad.parquet", *COLUMNS)[2]
    pq.write_table(rows(100), folder / "short.parquet")
    assert "are too few: expected 90 days before the first period" in ask("new", "buying", "--data", "short.parquet", *COLUMNS)[2]
    assert "Try --every week." in ask("new", "buying", "--data", "short.parquet", *COLUMNS)[2]
    assert ask("new", "buying", "--data", "short.parquet", *COLUMNS, "--every", "week")[0] == 0
    assert "PIPELINE: expected lower-case letters" in ask("new", "Buying", "--data", "purchases", *COLUMNS)[2]
    assert "a name that a package has" in ask("new", "pandas", "--data", "purchases", *COLUMNS)[2]


@pytest.mark.spark
@pytest.mark.store
@pytest.mark.parametrize("entity", ["buyer", "Customer ID"])
def test_what_it_writes_can_be_tried_and_tested_as_it_is(
    entity: str,
    folder: Path,
    ask: Asking,
    spark: Any,
    root: str,
    objects: Objects,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ALMANAC_LANDING", root)
    assert ask("new", "buying", "--data", "purchases", "--entity", entity, *COLUMNS[2:])[0] == 0
    assert f"1 files copied to {root}/purchases/." in ask("put", "purchases", "purchases")[1]
    project = Project(folder)
    user_module.check(project.spark_jobs, project.described("buying"))

    session = Future[Any]()
    session.set_result(spark)
    told = trial.Told()
    trial.run(project, "buying", "2017-10", whole=False, session=session, told=told)
    output = capsys.readouterr().out
    assert "holdout 2017-09: roc_auc 0." in output
    assert " on features of 2017-09, 0 failed" in output

    # Its own test, with the session that is there.
    spec = importlib.util.spec_from_file_location("test_buying", folder / "tests" / "test_buying.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "buying", raising=False)
    spec.loader.exec_module(module)
    monkeypatch.delitem(sys.modules, "buying")
    events = module.purchases.__wrapped__(spark)
    module.test_the_population_has_each_entity_once(events)
    module.test_whoever_has_an_event_returns(events)
