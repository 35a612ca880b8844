"""The first draft of a pipeline, from a look at its data: the text of its two files, and of a test for its functions.

What it drafts runs as it is: will an entity that was active in the lookback be active again within the horizon? The comments say
what to change.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from string import Template

from almanac.core.aggregates import COUNT, RECENCY, SUM, Aggregates
from almanac.core.period import Calendar, Every, Period
from almanac.core.pipeline import WRITTEN
from almanac.errors import DataError, DescriptionError, examples

MOST_SUMMED = 4  # columns that the first aggregates sum
FLOATING = ("double", "float", "halffloat")
# By the length of a period: lookback and horizon in days, as far as the data reach.
SPANS = {Every.QUARTER: (270, 90), Every.MONTH: (90, 30), Every.WEEK: (28, 7), Every.DAY: (14, 3)}
MOST_PERIODS = 3
TAKEN = (*WRITTEN, "score")  # columns that Almanac writes itself for a binary label
EVENTS, DAYS = "events", "recency_days"  # features of a drafted function


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the data.

    Args:
        kind: its Arrow type, as text.
        nulls: the share of its values, from 0 to 1.
        least: the smallest value of a numeric column; None for others.
        whole: as an entity, its numbers are whole and small enough to be exact; True for what is not a number.
    """

    name: str
    kind: str
    nulls: float = 0.0
    least: float | None = None
    whole: bool = True

    @property
    def is_number(self) -> bool:
        return self.kind.startswith((*FLOATING, "decimal", "int", "uint"))

    @property
    def is_key(self) -> bool:
        """Whether an entity may have this type, and this name."""
        fits = self.name.isidentifier() and self.name.lower() not in TAKEN
        return fits and self.kind.startswith(("int", "uint8", "uint16", "uint32", "string", "large_string"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the data are like. `low`, `high`: their oldest and newest event, in UTC."""

    columns: Sequence[Column]
    rows: int
    files: int
    low: datetime
    high: datetime

    def column(self, name: str, option: str) -> Column:
        """Raises: DescriptionError, with the columns that there are."""
        found = next((one for one in self.columns if one.name == name), None)
        if found is None:
            raise DescriptionError(f"{option}: expected a column of the data, got {name!r} (they have: {self.listed}).")
        return found

    @property
    def listed(self) -> str:
        return examples((f"{one.name} ({one.kind})" for one in self.columns), 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A pipeline to be drafted. `source`: the name of its source; `timezone`: empty if event times have a zone of their own.
    `ended`: the data are a finished set, so scheduled runs for later periods have nothing to do.
    """

    name: str
    source: str
    entity: Column
    event_time: str
    timezone: str
    every: Every
    look: Look
    ended: bool = False

    @property
    def key(self) -> str:
        """The entity's column in features and predictions, whose names are Python names that nothing else has."""
        if self.entity.is_key:
            return self.entity.name
        plain = _plain(self.entity.name)
        if not plain.isidentifier() or plain in (*TAKEN, EVENTS, DAYS):
            plain = extended if plain and (extended := f"entity_{plain}").isidentifier() else "entity"
        return _free(plain, {one.lower() for one in (self.event_time, *(one.name for one in self.summed))})

    @property
    def summed(self) -> list[Column]:
        """The columns whose sums become features."""
        numbers = [one for one in self.look.columns if one.is_number and one.name not in (self.entity.name, self.event_time)]
        # Aggregates does not read names that begin with a dot, and takes a dot and a backtick for an underscore.
        fit = [one for one in numbers if not re.search(r"(?i)(^|[_ ])(id|no|code|number)$|^\.|^\s*$", one.name)]
        return list({re.sub(r"[.`]", "_", one.name).lower(): one for one in reversed(fit)}.values())[::-1][:MOST_SUMMED]

    @property
    def sums(self) -> list[str]:
        """The features of a drafted function that sum `summed`, in that order; no two have one name."""
        found: list[str] = []
        for one in self.summed:
            found.append(_free(f"{_plain(one.name) or 'column'}_sum", {*found, self.key.lower(), EVENTS, DAYS}))
        return found

    @property
    def calendar(self) -> Calendar:
        """Periods in UTC, also where event times are of another zone: only the team knows when its day begins."""
        return Calendar(self.every)

    @property
    def spans(self) -> tuple[int, int]:
        return SPANS[self.every]

    @property
    def first(self) -> Period:
        """The first period whose lookback the data cover, from their first day on."""
        begin = self.look.low.replace(hour=0, minute=0, second=0, microsecond=0)
        return Period.holding(begin + timedelta(days=self.spans[0]) - timedelta(microseconds=1), self.calendar)

    @property
    def periods(self) -> int:
        """How many periods can train, at most `MOST_PERIODS`. Raises: DataError, if the data are too short for one."""
        last = Period.holding(self.look.high, self.calendar).plus(-1)
        horizon = timedelta(days=self.spans[1])
        ended = list(self.first.until(last)) if self.first.start <= last.start else []
        holdout = next((one for one in reversed(ended) if one.as_of + horizon <= last.as_of), None)
        found = len([one for one in ended if holdout and one.as_of + horizon <= holdout.as_of])
        if not found:
            shorter = {Every.QUARTER: "month", Every.MONTH: "week", Every.WEEK: "day"}.get(self.every)
            raise DataError(
                f"--every {self.every.value}: the events from {self.look.low:%Y-%m-%d} to {self.look.high:%Y-%m-%d} are too few: "
                f"expected {self.spans[0]} days before the first period, and a period to train on, one to judge by and "
                f"{self.spans[1]} days after each. {f'Try --every {shorter}.' if shorter else 'Bring more data.'}"
            )
        return min(found, MOST_PERIODS)

    @property
    def retrain(self) -> Period:
        """The newest period that can be retrained."""
        return Period.holding(self.look.high, self.calendar).plus(-1)


DAG = Template(
    '''"""$name: will a $key of the last $lookback days be back within $horizon days?

Its functions are in `spark_jobs/$name.py`.
"""

import os
from datetime import timedelta

from almanac import $nouns
from almanac.airflow import build_dags

LANDING = os.environ.get("ALMANAC_LANDING", "s3://bucket/landing")
LOOKBACK = timedelta(days=$lookback)

build_dags(
    Pipeline(
        name="$name",
        entity="$key",
        every="$every",$local
        # The data begin on $low; this is the first period that has a whole lookback before its end.
        first_period="$first",$last
        sources={
            "$source": EventSource(
                f"{LANDING}/$source/",
                event_time=$event_time,$zone
                # What is read. The data have:
$listed
                columns=($columns),
            ),
        },
        # Who gets a score: a function of spark_jobs/$name.py, and how far back it looks.
        population=Population("active", reads=("$source",), lookback=LOOKBACK),
        features=(
$group
        ),
        # What is predicted. Change the function and the horizon to what you need to know in advance.
        label=Label("returns", reads=("$source",), horizon=timedelta(days=$horizon), absent=0),
        window=MovingWindow(periods=$periods),
        # A new version takes over unless it is clearly worse. Raise floor= once you know what a good figure is.
        gate=Gate(metric="roc_auc", min_gain=-0.01, floor=0.5),
    )
)
'''
)
AGGREGATES = Template(
    """\
            # Counts and sums over windows before the period's end, described instead of coded.
            Aggregates(
                "activity",
                reads=("$source",),
                windows=(timedelta(days=$third), LOOKBACK),
                events=("count", "recency"),
                columns={$sums},
            ),"""
)
FEATURE_GROUP = Template(
    """\
            # $entity ($kind) cannot be the key as it is, so a function makes one of it. If the files had
            # $key as whole numbers or text, Aggregates would describe these features without code.
            FeatureGroup("activity", reads=("$source",), lookback=LOOKBACK),"""
)
MODULE = Template(
    '''"""The functions that `dags/$name.py` names.

A source comes cut in time: no function sees what happened later than it may.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def active($source: DataFrame) -> DataFrame:
    """The population: every $key with an event in the last $lookback days."""
    return $known.select("$key").distinct()
$function

def returns($source: DataFrame) -> DataFrame:
    """The label: 1 for whoever has an event in the $horizon days from as_of. All others are 0 (`absent=0`)."""
    return $known.select("$key").distinct().withColumn("label", F.lit(1))


def estimators():
    """The candidates. The best on the newest training snapshot is fitted on the whole window."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000)),
        "boosted": HistGradientBoostingClassifier(
            max_iter=80, min_samples_leaf=40, early_stopping=False, random_state=0
        ),
    }


def checks():
    """What must hold before a period is published. Once some are, `almanac checks draft $name` drafts more."""
    import great_expectations.expectations as gxe

    return {
        "features": [
$checks
        ],
    }
$helper'''
)
FUNCTION = Template(
    '''

def activity($source: DataFrame, as_of) -> DataFrame:
    """How much and how recently: events, days since the last one, sums."""
    days = (F.unix_seconds(F.lit(as_of)) - F.unix_seconds($time_column)) / 86400
    return $known.groupBy("$key").agg(
        F.count("*").alias("events"),
        F.min(days).alias("recency_days"),
$sums    )
'''
)
HELPER = Template(
    '''

def _known($source: DataFrame) -> DataFrame:
    """The rows with a $entity, as `$key`."""
    known = $source.where(F.col($entity_column).isNotNull())
    return known.withColumn("$key", F.col($entity_column).cast("$cast"))
'''
)
TEST = Template(
    '''"""The functions of spark_jobs/$name.py: rows in, rows out, without Airflow and without S3."""

import sys
from datetime import datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "spark_jobs"))

import $name as functions


@pytest.fixture(scope="module")
def spark():
    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def $source(spark):
    rows = [
        ($one, datetime(2024, 1, 3)$values),
        ($one, datetime(2024, 1, 9)$values),
        ($two, datetime(2024, 1, 5)$values),
        (None, datetime(2024, 1, 6)$values),
    ]
    return spark.createDataFrame(rows, $schema)


def test_the_population_has_each_entity_once($source):
    found = [row["$key"] for row in functions.active($source).collect() if row["$key"] is not None]
    assert len(found) == len(set(found)) == 2


def test_whoever_has_an_event_returns($source):
    assert {row["label"] for row in functions.returns($source).collect()} == {1}
'''
)


def dag_file(draft: Draft) -> str:
    """The text of `dags/NAME.py`."""
    group = "Aggregates" if draft.entity.is_key else "FeatureGroup"
    nouns = sorted(["EventSource", group, "Gate", "Label", "MovingWindow", "Pipeline", "Population"])
    read = dict.fromkeys([draft.entity.name, *(one.name for one in draft.summed)])
    seen = [
        f"{_said(one.name)} ({_said(one.kind)}{f', {one.nulls:.0%} null' if one.nulls else ''})" for one in draft.look.columns
    ]
    return DAG.substitute(
        _words(draft),
        nouns=", ".join(nouns),
        low=f"{draft.look.low:%Y-%m-%d}",
        first=draft.first.key,
        last=_last(draft) if draft.ended else "",
        every=draft.every.value,
        local=_local(draft),
        zone=f"\n                timezone={_literal(draft.timezone)}," if draft.timezone else "",
        listed=_lines(seen),
        columns=", ".join(map(_literal, read)) + ("" if len(read) > 1 else ","),
        group=(AGGREGATES if draft.entity.is_key else FEATURE_GROUP).substitute(
            _words(draft),
            sums=", ".join(f'{_literal(one.name)}: ("sum",)' for one in draft.summed),
            kind=_said(draft.entity.kind),
        ),
        periods=draft.periods,
    )


def module_file(draft: Draft) -> str:
    """The text of `spark_jobs/NAME.py`."""
    words, fit = _words(draft), draft.entity.is_key
    summed = zip(draft.summed, draft.sums, strict=True)
    sums = "".join(f'        F.sum({_literal(_sql(one.name))}).alias("{alias}"),\n' for one, alias in summed)
    cast = "long" if draft.entity.is_number and draft.entity.whole else "string"
    return MODULE.substitute(
        words,
        function="" if fit else FUNCTION.substitute(words, sums=sums).rstrip("\n") + "\n",
        checks="\n".join(f"            {line}," for line in _checks(draft)),
        helper="" if fit else HELPER.substitute(words, cast=cast),
    )


def test_file(draft: Draft) -> str:
    """The text of `tests/test_NAME.py`."""
    others = [] if draft.entity.is_key else draft.summed
    kind = _spark_type(draft.entity.kind)
    one, two = {"string": ('"a"', '"b"'), "double": ("1.0", "2.0"), "long": ("1", "2")}[kind]
    kinds = {draft.entity.name: kind, draft.event_time: "timestamp", **{other.name: "double" for other in others}}
    schema = _literal(", ".join(f"{_sql(name)} {kind}" for name, kind in kinds.items()))
    return TEST.substitute(_words(draft), one=one, two=two, values=", 1.0" * len(others), schema=schema)


def _local(draft: Draft) -> str:
    if draft.timezone in ("", "UTC"):
        return ""
    return (
        "\n        # Periods begin at midnight in UTC. For midnight of another zone:"
        f"\n        # timezone={_literal(draft.timezone)},"
    )


def _last(draft: Draft) -> str:
    return (
        f"\n        # The newest event is of {draft.look.high:%Y-%m-%d}. Remove this line once new data arrive."
        f'\n        last_period="{Period.holding(draft.look.high, draft.calendar).key}",'
    )


def _lines(seen: Sequence[str]) -> str:
    """The columns of the data as comments, some to a line."""
    rows, indent = [seen[start : start + 4] for start in range(0, min(len(seen), 24), 4)], " " * 16
    more = [f"and {len(seen) - 24} more"] if len(seen) > 24 else []
    return "\n".join(f"{indent}#   {', '.join(row)}" for row in [*rows, *([more] if more else [])])


def _words(draft: Draft) -> dict[str, str]:
    lookback, horizon = draft.spans
    return {
        "name": draft.name,
        "source": draft.source,
        "entity": _said(draft.entity.name),
        "entity_column": _literal(_sql(draft.entity.name)),
        "key": draft.key,
        "event_time": _literal(draft.event_time),
        "time_column": _literal(_sql(draft.event_time)),
        "lookback": str(lookback),
        "third": str(lookback // 3),
        "horizon": str(horizon),
        "known": draft.source if draft.entity.is_key else f"_known({draft.source})",
    }


def _spark_type(kind: str) -> str:
    if kind.startswith((*FLOATING, "decimal")):
        return "double"
    return "long" if kind.startswith(("int", "uint")) else "string"


def _plain(name: str) -> str:
    """A name as part of a Python or SQL name."""
    return re.sub(r"\W+", "_", name.strip()).strip("_").lower()


def _free(name: str, taken: Collection[str]) -> str:
    """The name, with a number if it is taken."""
    return name if name not in taken else next(one for number in count(2) if (one := f"{name}_{number}") not in taken)


def _literal(text: str) -> str:
    """A text as a Python literal in double quotes, on one line."""
    signs = (f"\\{one}" if one in '"\\' else one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return f'"{"".join(signs)}"'


def _said(text: str) -> str:
    """A text as part of a comment or a docstring, which it cannot end."""
    return _literal(text)[1:-1]


def _sql(name: str) -> str:
    """A column's name as Spark parses it."""
    return f"`{name.replace('`', '``')}`"


def _checks(draft: Draft) -> list[str]:
    """Checks that hold by what the data are: counts, recency, and sums of what is never negative."""
    lookback = draft.spans[0]
    if draft.entity.is_key:
        described = Aggregates(
            "activity",
            reads=(draft.source,),
            windows=(timedelta(days=lookback),),
            events=(COUNT, RECENCY),
            columns={one.name: (SUM,) for one in draft.summed},
        )
        count, recency, *sums = (feature.name for feature in described.features)
    else:
        count, recency, *sums = (EVENTS, DAYS, *draft.sums)
    lines = [_between(count, 1), _between(recency, 0, lookback)]
    never_negative = [one.least is not None and one.least >= 0 for one in draft.summed]
    return [*lines, *(_between(name, 0) for name, positive in zip(sums, never_negative, strict=True) if positive)]


def _between(column: str, low: int, high: int | None = None) -> str:
    bound = "" if high is None else f", max_value={high}"
    return f"gxe.ExpectColumnValuesToBeBetween(column={_literal(column)}, min_value={low}{bound})"
