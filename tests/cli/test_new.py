"""`almanac new`: what it writes runs as it is, and it refuses in plain words."""

from __future__ import annotations

import importlib.util
import random
import shlex
import sys
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
    assert described.timezone == "UTC", "the zone of event times does not say when a team's day begins"
    text = (folder / "dags" / "buying.py").read_text()
    assert '# Periods begin at midnight in UTC. For midnight of another zone:\n        # timezone="Europe/London",' in text


def test_quarters_are_drafted_as_far_as_the_data_reach(folder: Path, ask: Asking) -> None:
    errors = drafted(ask, rows(1050), *COLUMNS, "--every", "quarter")
    described = Project(Path()).described("buying")
    assert (described.every, described.first_period, described.last_period) == ("quarter", "2017-Q3", "2019-Q4")
    assert "--period 2019-Q3`" in errors


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
        (
            (*COLUMNS[:4], "--timezone", "Lundon"),
            "--timezone: expected a name such as 'UTC' or 'America/New_York', got 'Lundon'.",
        ),
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


def drafted(ask: Asking, table: pa.Table, *options: str, data: str = "own.parquet") -> str:
    """Drafts `buying` from a table, which must succeed and be accepted; gives what the command complains of."""
    pq.write_table(table, data)
    code, _, errors = ask("new", "buying", "--data", data, *options)
    assert code == 0, errors
    for file in ("dags/buying.py", "spark_jobs/buying.py", "tests/test_buying.py"):
        compile(Path(file).read_text(), file, "exec")
    code, _, failed = ask("check", "buying")
    assert code == 0, failed
    return errors


def refused(ask: Asking, *options: str, data: str = "own.parquet", name: str = "buying") -> str:
    """What the command says when it writes nothing."""
    code, output, errors = ask("new", name, "--data", data, *options)
    assert (code, output, "Traceback" in errors, Path("dags").exists()) == (1, "", False, False)
    return errors


HOSTILE = [
    'x" + str(__import__("pathlib").Path("taken").touch()) + "y',
    'quote"s',
    '"""',
    "two\nlines\r",
    "back\\",
    "tick`s",
    "$name {LANDING}",
    "\u2028\u202e\x00",
    "😀 ½",
]


@pytest.mark.parametrize("place", ["Price", "at", "Customer ID", "buyer"])
@pytest.mark.parametrize("entity", ["buyer", "Customer ID"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_columns_name_stays_a_name(hostile: str, entity: str, place: str, folder: Path, ask: Asking) -> None:
    names = {place: hostile}
    table = rows().rename_columns([names.get(one, one) for one in rows().column_names])
    key, time = names.get(entity, entity), names.get("at", "at")
    drafted(ask, table, "--entity", key, "--event-time", time, "--timezone", "UTC")
    assert not Path("taken").exists()
    source = Project(Path()).described("buying").sources["own"]
    assert source.columns[0] == key
    assert source.times == (time,)


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("label", "entity_label"),
        ("As_Of", "entity_as_of"),
        ("score", "entity_score"),
        ("123", "entity_123"),
        ("!!", "entity"),
        ("events!", "entity_events"),
        ("price!", "price_2"),
        ("½", "entity"),
    ],
)
def test_the_key_is_a_name_that_nothing_else_has(column: str, key: str, folder: Path, ask: Asking) -> None:
    table = rows().rename_columns([column if one == "buyer" else one for one in rows().column_names])
    drafted(ask, table, "--entity", column, *COLUMNS[2:])
    assert Project(Path()).described("buying").entity == key


def test_sums_of_columns_with_similar_names_differ(folder: Path, ask: Asking) -> None:
    table = rows()
    for name in ("a b", "a-b", "€", "$"):
        table = table.append_column(name, table["Price"])
    drafted(ask, table.drop_columns(["buyer", "Price"]), "--entity", "Customer ID", *COLUMNS[2:])
    text = Path("spark_jobs/buying.py").read_text()
    for name, alias in {"a b": "a_b_sum", "a-b": "a_b_sum_2", "€": "column_sum", "$": "column_sum_2"}.items():
        assert f'F.sum("`{name}`").alias("{alias}")' in text
        assert f'ExpectColumnValuesToBeBetween(column="{alias}", min_value=0)' in text


@pytest.mark.parametrize("names", [("Price", "price"), ("Price", "Price")])
def test_columns_that_spark_takes_for_one_are_refused(names: tuple[str, str], folder: Path, ask: Asking) -> None:
    table = rows()
    pq.write_table(table.append_column(names[1], table["note"]), "own.parquet")
    assert f"differ in more than case, got {names[0]} and {names[1]}, " in refused(ask, *COLUMNS)


@pytest.mark.parametrize("name", ["class", "import", "pytest", "conftest"])
def test_a_pipeline_whose_module_cannot_be_imported_is_refused(name: str, folder: Path, ask: Asking) -> None:
    assert f"PIPELINE: expected lower-case letters, digits and _, got {name!r}, a name " in refused(
        ask, *COLUMNS, data="purchases", name=name
    )


@pytest.mark.parametrize("source", ["class", "None", "as_of", "F", "spark", "request", "DataFrame", "days", "len", "ﬁ"])
def test_a_source_whose_name_cannot_be_an_argument_is_refused(source: str, folder: Path, ask: Asking) -> None:
    errors = refused(ask, *COLUMNS, "--source", source, data="purchases")
    assert "--source: expected a name " in errors
    assert f"got {source!r}" in errors


@pytest.mark.parametrize("name", ["purchases", "spark", "functions"])
def test_a_pipeline_may_have_the_name_of_a_source_or_a_fixture(name: str, folder: Path, ask: Asking) -> None:
    assert ask("new", name, "--data", "purchases", *COLUMNS)[0] == 0
    text = Path(f"tests/test_{name}.py").read_text()
    assert f"\nimport {name} as functions\n" in text
    assert "functions.active(purchases)" in text
    assert ask("check", name)[0] == 0


@pytest.mark.parametrize(
    ("values", "cast"),
    [
        ([1.0, 2.0, None], "long"),
        ([Decimal("1.00"), Decimal("2.00")], "long"),
        ([Decimal("1.25"), Decimal("1.75")], "string"),
        ([Decimal(2**63), Decimal(1)], "string"),
        (pa.array([2**64 - 1, 1], pa.uint64()), "string"),
        (pa.array([2**63 - 1, 1], pa.uint64()), "long"),
    ],
)
def test_a_key_keeps_entities_apart(values: Any, cast: str, folder: Path, ask: Asking) -> None:
    drafted(ask, with_buyers(values), *COLUMNS)
    assert f'F.col("`buyer`").cast("{cast}")' in Path("spark_jobs/buying.py").read_text()


@pytest.mark.parametrize(
    "values",
    [
        [1.25, 1.75],
        [2.0**53, 1.0],
        [float("nan"), 1.0],
        [float("inf"), 1.0],
        pa.array([2.0**24, 1.0], pa.float32()),
        pa.array([1.5, 1.0], pa.float16()),
    ],
)
def test_doubles_that_are_no_keys_are_refused(values: Any, folder: Path, ask: Asking) -> None:
    pq.write_table(with_buyers(values), "own.parquet")
    assert "--entity: expected whole numbers or text, got buyer (" in refused(ask, *COLUMNS)


def with_buyers(values: Any) -> pa.Table:
    """The purchases with these values as buyers, again and again."""
    table, buyers = rows(), pa.array(values) if isinstance(values, list) else values
    return table.set_column(0, "buyer", buyers.take(pa.array([row % len(buyers) for row in range(len(table))])))


def test_numbers_of_16_bits_are_summed(folder: Path, ask: Asking) -> None:
    table = rows()
    table = table.append_column("half", table["Price"].cast(pa.float16()))
    drafted(ask, table, *COLUMNS)
    assert Project(Path()).described("buying").sources["own"].columns == ("buyer", "Price", "half")


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("odd", [datetime(9999, 12, 31), datetime(1, 1, 1), datetime(1970, 1, 1), datetime(2999, 1, 1)])
def test_placeholders_for_times_are_left_out(odd: datetime, zone: str | None, folder: Path, ask: Asking) -> None:
    table = rows()
    times = [odd, *table["at"].cast(pa.timestamp("us")).to_pylist()[1:]]
    table = table.set_column(2, "at", pa.array(times, pa.timestamp("us", zone)))
    errors = drafted(ask, table, *COLUMNS)
    assert f"warning: at has 1 of {len(table)} times up to 1970-01-01 or in the future" in errors
    assert "rows from 2017-01-01 to 2017-11-2" in errors
    assert "--period 2017-10`" in errors


def test_a_column_of_placeholders_is_refused(folder: Path, ask: Asking) -> None:
    table = rows()
    pq.write_table(table.set_column(2, "at", pa.array([datetime(9999, 12, 31)] * len(table), pa.timestamp("us"))), "own.parquet")
    assert "--event-time: at has no time between 1970 and today in " in refused(ask, *COLUMNS)


def test_no_period_lies_in_the_future(folder: Path, ask: Asking) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    times = [now + timedelta(hours=23) - timedelta(days=number % 60) for number in range(len(rows()))]
    table = rows().set_column(2, "at", pa.array(times, pa.timestamp("us")))
    errors = drafted(ask, table, *COLUMNS[:4], "--timezone", "Pacific/Honolulu", "--every", "day")
    assert errors.split("--period ")[1][:10] < datetime.now(UTC).strftime("%Y-%m-%d")


@pytest.mark.parametrize(
    ("column", "change", "told"),
    [
        ("at", lambda times: times.cast(pa.timestamp("us", "UTC")), "expected at of one type in all files, timestamp[ns] as in"),
        ("at", lambda times: times.cast(pa.string()), "got string."),
        ("at", None, "got no such column."),
        (
            "buyer",
            lambda buyers: buyers.cast(pa.string()),
            "expected buyer of one type in all files, int64 as in all.parquet; got",
        ),
    ],
)
def test_files_that_differ_are_refused_by_name(column: str, change: Any, told: str, folder: Path, ask: Asking) -> None:
    table = rows(3)
    place = table.column_names.index(column)
    table = table.remove_column(place) if change is None else table.set_column(place, column, change(table[column]))
    pq.write_table(table, folder / "purchases" / "a.parquet")
    errors = refused(ask, *COLUMNS, data="purchases")
    assert "purchases/a.parquet: " in errors
    assert told in errors


def test_a_column_that_files_do_not_share_is_not_summed(folder: Path, ask: Asking) -> None:
    pq.write_table(rows(3).drop_columns(["Price"]), folder / "purchases" / "a.parquet")
    assert ask("new", "buying", "--data", "purchases", *COLUMNS)[0] == 0
    assert Project(Path()).described("buying").sources["purchases"].columns == ("buyer",)
    assert "Price (not the same in all files" in Path("dags/buying.py").read_text()


@pytest.mark.parametrize("size", [9, 3000])
def test_a_corrupt_file_is_named_wherever_it_is(size: int, folder: Path, ask: Asking) -> None:
    whole = (folder / "purchases" / "all.parquet").read_bytes()
    broken = whole[:9] if size == 9 else whole[:4] + b"\xff" * size + whole[4 + size :]  # no footer; or no first pages
    (folder / "purchases" / "a.parquet").write_bytes(broken)
    assert "purchases/a.parquet cannot be read as Parquet (" in refused(ask, *COLUMNS, data="purchases")


def test_entity_and_event_time_are_two_columns(folder: Path, ask: Asking) -> None:
    assert "--entity: expected another column than --event-time" in refused(
        ask, "--entity", "at", "--event-time", "at", "--timezone", "UTC", data="purchases"
    )


def test_the_next_commands_can_be_copied(folder: Path, ask: Asking) -> None:
    (folder / "purchases").rename(folder / "it's all")
    options = ("--source", "bought", "--folder", "my project")
    code, _, errors = ask("new", "buying", "--data", "it's all", *COLUMNS, *options)
    assert code == 0
    up, put, tried = (shlex.split(one) for one in errors.split("Next: ")[1].split("`")[1::2])
    assert up == ["almanac", "up", *options[2:]]
    assert put == ["almanac", "put", "it's all", "bought", *options[2:]]
    assert tried == ["almanac", "try", "buying", "--period", "2017-10", *options[2:]]


@pytest.mark.spark
def test_what_it_writes_reads_columns_of_any_name(folder: Path, ask: Asking, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "".join(HOSTILE)
    names = {"Price": hostile, "Customer ID": f"{hostile} 2", "at": f"{hostile} 3"}
    table = rows().rename_columns([names.get(one, one) for one in rows().column_names])
    drafted(ask, table, "--entity", names["Customer ID"], "--event-time", names["at"], "--timezone", "UTC")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "buying", raising=False)
    test = _imported(folder / "tests" / "test_buying.py")
    monkeypatch.delitem(sys.modules, "buying")
    events = test.own.__wrapped__(spark)
    test.test_the_population_has_each_entity_once(events)
    test.test_whoever_has_an_event_returns(events)
    found = test.functions.activity(events, datetime(2024, 2, 1))
    assert found.count() == 2
    assert {one.column for one in test.functions.checks()["features"]} <= set(found.columns)


def _imported(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "buying", raising=False)
    module = _imported(folder / "tests" / "test_buying.py")
    monkeypatch.delitem(sys.modules, "buying")
    events = module.purchases.__wrapped__(spark)
    module.test_the_population_has_each_entity_once(events)
    module.test_whoever_has_an_event_returns(events)
