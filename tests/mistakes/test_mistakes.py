"""Mistakes that people make with their first pipelines: each is found at the first place that can know it, in plain words.

The table in docs/errors.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from almanac import user_module
from almanac.core.receipts import RunInfo
from almanac.errors import AlmanacError
from almanac.jobs import trial
from almanac.project import Project
from almanac.runs import pin, plan
from almanac.store.home import Home
from almanac.store.objects import Objects
from almanac.user_module import module_zip
from tests.support.shop import MODULE, MONTHS, parquet, people, visits

pytestmark = [pytest.mark.spark, pytest.mark.store]

PARSE, PLAN, PIN, TRY = "DAG file", "`plan`", "`sources.pin`", "first job"
PERIOD = "2017-08"
DAG = """\
from datetime import timedelta

from almanac import Aggregates, EventSource, FeatureGroup, Gate, Label, MovingWindow, Pipeline, Population, ReferenceSource
from almanac.airflow import build_dags

QUARTER = timedelta(days=90)

build_dags(
    Pipeline(
        name="shop",
        entity="customer",
        first_period="2017-03",
        sources={
            "visits": EventSource("LANDING/visits/", event_time="at", timezone="UTC"),
            "people": ReferenceSource("LANDING/people/"),
        },
        population=Population("customers", reads=("visits",), lookback=QUARTER),
        features=(
            FeatureGroup("habits", reads=("visits",), lookback=QUARTER),
            FeatureGroup("traits", reads=("people",)),
            Aggregates("sums", reads=("visits",), windows=(QUARTER,), columns={"amount": ("max",)}),
        ),
        label=Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=0),
        window=MovingWindow(2),
        gate=Gate(metric="roc_auc", min_gain=-0.2, floor=0.5),
    )
)
"""


@dataclass
class Files:
    """A project and its data."""

    folder: Path
    objects: Objects
    landing: str
    period: str = PERIOD

    def dag(self, old: str, new: str) -> None:
        self._change(self.folder / "dags" / "shop.py", old, new)

    def module(self, old: str, new: str) -> None:
        self._change(self.folder / "spark_jobs" / "shop.py", old, new)

    def _change(self, file: Path, old: str, new: str) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def deliver(self, change: Callable[[pa.Table], pa.Table] = lambda rows: rows) -> None:
        for month in MONTHS:
            self.objects.put(f"{self.landing}/visits/{month:%Y-%m}.parquet", parquet(change(visits(month))))

    def clear(self) -> None:
        for item in list(self.objects.walk(f"{self.landing}/visits/")):
            self.objects.delete(item.uri)


@pytest.fixture
def files(root: str, objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALMANAC_SPARK_JOBS", raising=False)
    landing = f"{root}/landing"
    for name, text in (("dags", DAG.replace("LANDING", landing)), ("spark_jobs", MODULE.read_text())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop.py").write_text(text)
    found = Files(tmp_path, objects, landing)
    found.deliver()
    objects.put(f"{landing}/people/all.parquet", parquet(people()))
    return found


def _leak(files: Files) -> None:
    """A table of who came back, described as a reference: today's state, which knows the future."""
    back = pa.table({"customer": list(range(80)), "band": [int(number >= 40) for number in range(80)]})
    files.objects.put(f"{files.landing}/people/all.parquet", parquet(back))
    files.module('visits.select("customer").distinct().with', 'visits.sparkSession.range(40, 80).toDF("customer").with')


def _twice(files: Files) -> None:
    files.module('return visits.select("customer").distinct().withColumn', 'return visits.select("customer").withColumn')


@dataclass(frozen=True)
class Mistake:
    """A mistake: what it is, where it is found, words of the message, and how it is made."""

    what: str
    place: str
    words: str
    make: Callable[[Files], Any]


MISTAKES = [
    Mistake(
        "a typo in `reads`",
        PARSE,
        "FeatureGroup('traits').reads: expected the pipeline's sources, 'visits', 'people'; got 'peple'.",
        lambda f: f.dag('reads=("people",)', 'reads=("peple",)'),
    ),
    Mistake(
        "an unknown time zone",
        PARSE,
        "EventSource.timezone: expected a name such as 'UTC' or 'America/New_York', got 'Lundon'.",
        lambda f: f.dag('timezone="UTC"', 'timezone="Lundon"'),
    ),
    Mistake("a period of another form", PARSE, "Pipeline.first_period: ", lambda f: f.dag('"2017-03"', '"March 2017"')),
    Mistake(
        "no module file",
        PARSE,
        "Pipeline 'shop' has no module: shop.py is not in spark_jobs.",
        lambda f: (f.folder / "spark_jobs" / "shop.py").unlink(),
    ),
    Mistake(
        "a syntax error",
        PARSE,
        "spark_jobs/shop.py, line 7: expected ':'",
        lambda f: f.module("def customers(visits: DataFrame) -> DataFrame:", "def customers(visits: DataFrame)"),
    ),
    Mistake(
        "a missing import",
        PARSE,
        "Name 'F' is used and not defined. Import or define it.",
        lambda f: f.module("from pyspark.sql import functions as F\n", "\n"),
    ),
    Mistake(
        "a wrong argument name",
        PARSE,
        "Function 'habits' of pipeline 'shop' takes (visit, as_of), but its description reads (visits).",
        lambda f: f.module(
            "def habits(visits: DataFrame, as_of) -> DataFrame:",
            "def habits(visit: DataFrame, as_of) -> DataFrame:\n    visits = visit",
        ),
    ),
    Mistake(
        "a retrain that is too early",
        PLAN,
        "The first period that can be retrained is 2017-06.",
        lambda f: setattr(f, "period", "2017-04"),
    ),
    Mistake("naive times without `timezone`", PIN, "timezone", lambda f: f.dag(', timezone="UTC"', "")),
    Mistake(
        "a wrong `event_time`",
        PIN,
        "has no column when (it has: amount, at, customer).",
        lambda f: f.dag('event_time="at"', 'event_time="when"'),
    ),
    Mistake("an empty folder", PIN, "Source 'visits' is missing: there is no Parquet file below", lambda f: f.clear()),
    Mistake(
        "a folder of CSV files",
        PIN,
        "files that are not Parquet are not read (1): ",
        lambda f: (f.clear(), f.objects.put(f"{f.landing}/visits/2017-05.csv", b"customer,at\n" * 9)),
    ),
    Mistake(
        "a column that `Aggregates` needs and the source lacks",
        PIN,
        "Aggregates('sums'): visits have no column amunt (they have: amount, at, customer).",
        lambda f: f.dag('"amount": ("max",)', '"amunt": ("max",)'),
    ),
    Mistake(
        "an entity of type double",
        PIN,
        "Aggregates('sums'): expected customer as whole numbers or text, got double in source 'visits'.",
        lambda f: f.deliver(lambda rows: rows.set_column(0, "customer", rows["customer"].cast(pa.float64()))),
    ),
    Mistake("a wrong column in a feature", TRY, "amont", lambda f: f.module('F.sum("amount")', 'F.sum("amont")')),
    Mistake(
        "a division by zero",
        TRY,
        "DIVIDE_BY_ZERO",
        lambda f: f.module(
            'F.sum("amount").alias("amount")', '(F.sum("amount") / (F.count("*") - F.count("*"))).alias("amount")'
        ),
    ),
    Mistake(
        "a text feature",
        TRY,
        "Function 'traits' returned columns that are not numeric: band (string).",
        lambda f: f.module(
            'people.select("customer", "band")', 'people.select("customer", F.col("band").cast("string").alias("band"))'
        ),
    ),
    Mistake(
        "a check on an unknown column",
        TRY,
        "ExpectColumnValuesToBeBetween is about column 'visit', which features do not have",
        lambda f: f.module('column="visits"', 'column="visit"'),
    ),
    Mistake(
        "a label that names an entity twice",
        TRY,
        "Function 'returns': expected one row per entity, got several for customer",
        _twice,
    ),
    Mistake(
        "nulls for an estimator that takes none",
        TRY,
        "Features with nulls: band (",
        lambda f: f.module("make_pipeline(SimpleImputer(), ", "make_pipeline("),
    ),
    Mistake(
        "an infinity",
        TRY,
        "Function 'habits': feature 'amount' is infinite in ",
        lambda f: f.module('F.sum("amount").alias("amount")', '(F.sum("amount") * F.lit(1e300)).alias("amount")'),
    ),
    Mistake("a leak through a reference", TRY, "suspect: feature 'band' alone tells the label with a ROC AUC of 1.000.", _leak),
]


class NoSession(Future[Any]):
    """What finds a mistake before any job starts no Spark."""

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        raise AssertionError("a Spark session was used")


def tried(files: Files, session: Future[Any], capsys: pytest.CaptureFixture[str]) -> str:
    """What `almanac try` says."""
    told = trial.Told()
    try:
        trial.run(Project(files.folder), "shop", files.period, whole=True, session=session, told=told)
    except trial.Stopped:
        return capsys.readouterr().out
    except AlmanacError as error:
        return str(error)
    return capsys.readouterr().out


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.what)
def test_a_mistake_is_found_at_the_first_place_that_can_know_it(
    mistake: Mistake, files: Files, spark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    mistake.make(files)
    if mistake.place == PARSE:
        with pytest.raises(AlmanacError) as refused:
            user_module.check(files.folder / "spark_jobs", Project(files.folder).described("shop"))
        assert mistake.words in str(refused.value)
        return
    described = Project(files.folder).described("shop")
    user_module.check(files.folder / "spark_jobs", described)
    home, module = Home.of(f"{files.landing}/kept", "shop", files.objects), module_zip(files.folder / "spark_jobs", "shop")
    home.receipts.describe(described, module)
    if mistake.place in (PLAN, PIN):
        with pytest.raises(AlmanacError) as refused:
            planned = plan.retrain(home, described, described.period(files.period), module)
            assert mistake.place == PIN, "the plan lets it through"
            pin.pin(home, planned, RunInfo())
        assert mistake.words in str(refused.value)
        assert mistake.words in tried(files, NoSession(), capsys)
        return
    planned = plan.retrain(home, described, described.period(files.period), module)
    pin.pin(home, planned, RunInfo())
    session = Future[Any]()
    session.set_result(spark)
    assert mistake.words in " ".join(tried(files, session, capsys).split())


def test_what_lies_beside_the_files_is_told(files: Files, spark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`_SUCCESS`, CSV files and `dt=` folders: the first is no data, the others are told by the pin and go on."""
    files.objects.put(f"{files.landing}/visits/_SUCCESS", b"")
    files.objects.put(f"{files.landing}/visits/2017-05.csv", b"customer,at\n" * 9)
    files.objects.put(f"{files.landing}/visits/dt=2018-01-01/a.parquet", parquet(visits(datetime(2018, 1, 1))))
    session = Future[Any]()
    session.set_result(spark)
    output = " ".join(tried(files, session, capsys).split())
    assert "_SUCCESS" not in output
    assert "files that are not Parquet are not read (1): " in output
    assert "files lie in folders that are named for dt." in output
    assert "holdout 2017-07: roc_auc" in output
    assert "Nothing was stored." in output


def test_the_page_lists_them(repository: Path) -> None:
    page = " ".join((repository / "docs" / "errors.md").read_text().split())
    for mistake in MISTAKES:
        assert f"| {mistake.what} | {mistake.place} |" in page
    places = [mistake.place for mistake in MISTAKES]
    assert sum(place != TRY for place in places) + 1 >= 14, "with what lies beside the files"


def test_a_line_of_the_user_s_module_is_named(files: Files, spark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    files.module('F.sum("amount")', 'F.sum("amont")')
    session = Future[Any]()
    session.set_result(spark)
    output = tried(files, session, capsys)
    lines = (files.folder / "spark_jobs" / "shop.py").read_text().splitlines()
    first = next(number for number, text in enumerate(lines, 1) if "return visits.groupBy" in text)  # of the statement
    assert f"spark_jobs/shop.py, line {first}, in habits:" in output


def test_nothing_is_stored(files: Files, spark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = [(item.uri, item.etag) for item in files.objects.walk(files.landing.rsplit("/", 1)[0] + "/")]
    session = Future[Any]()
    session.set_result(spark)
    output = tried(files, session, capsys)
    assert "checks(): 1 on features of 2017-07, 0 failed" in output
    assert [(item.uri, item.etag) for item in files.objects.walk(files.landing.rsplit("/", 1)[0] + "/")] == before
