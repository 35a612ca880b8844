"""A pipeline: the description of one model's life. It only composes nouns; each noun has its own rules."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

from almanac.core.aggregates import Aggregates
from almanac.core.canonical import digest, encode, later
from almanac.core.deliveries import Delivery, check_deliveries
from almanac.core.entity import Entity, check_entity, keys_of
from almanac.core.gate import Gate
from almanac.core.label import Label
from almanac.core.period import Calendar, Every, Period
from almanac.core.scoring import Scoring
from almanac.core.sources import KNOWN_AT, EventSource, ReferenceSource, Source
from almanac.core.window import MovingWindow
from almanac.errors import DescriptionError, PeriodError

# Columns that Almanac writes besides those of the label: no feature may have their names.
WRITTEN = ("as_of", "period", "label", "snapshot", "model_version", "order")
NAME = re.compile(r"[a-z][a-z0-9_]*")
TAKEN = ("as_of",)
# What a job imports besides the user's module, which has the pipeline's name and must not shadow these.
IMPORTED = frozenset(sys.stdlib_module_names) | {
    *("almanac", "almanac_plugin", "airflow", "boto3", "botocore", "cloudpickle", "deltalake", "great_expectations", "joblib"),
    *("lightgbm", "matplotlib", "numpy", "onnx", "onnxruntime", "pandas", "polars", "pyarrow", "pyspark", "py4j", "scipy"),
    *("skl2onnx", "sklearn", "steps", "xgboost"),
}


@dataclass(frozen=True, slots=True)
class Population:
    """The function that gives the entities of a period, each once: the columns that name one; others are ignored.

    Args:
        name: its function in the user's module.
        reads: the sources it is given.
        lookback: how far before as_of it sees events; without limit when None.
        may_be_empty: a period without entities is published, empty; else it is refused, because its sources may be missing.
    """

    name: str
    _: KW_ONLY
    reads: tuple[str, ...]
    lookback: timedelta | None = None
    may_be_empty: bool = later(False)

    def __post_init__(self) -> None:
        _check_function("Population", self.name, self.reads, self.lookback)


@dataclass(frozen=True, slots=True)
class FeatureGroup:
    """A function from cut sources to one row for each entity: the columns that name it, and numeric columns.

    Args:
        name: its function in the user's module.
        reads: the sources it is given.
        lookback: how far before as_of it sees events; without limit when None.
    """

    name: str
    _: KW_ONLY
    reads: tuple[str, ...]
    lookback: timedelta | None = None
    kind: Literal["function"] = later("function")

    def __post_init__(self) -> None:
        _check_function("FeatureGroup", self.name, self.reads, self.lookback)


Group = FeatureGroup | Aggregates


def _check_function(noun: str, name: str, reads: tuple[str, ...], lookback: timedelta | None) -> None:
    if not name.isidentifier():
        raise DescriptionError(f"{noun}.name: expected the name of a function, got {name!r}.")
    if isinstance(reads, str) or not reads:
        raise DescriptionError(f"{noun}({name!r}).reads: expected a tuple of source names, at least one; got {reads!r}.")
    if lookback is not None and lookback <= timedelta(0):
        raise DescriptionError(f"{noun}({name!r}).lookback: expected more than zero, or None; got {lookback}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The description of one model's life. Its functions live in `spark_jobs/NAME.py`.

    Args:
        name: also the name of the user's module and the beginning of the DAGs' ids.
        entity: the column that names what is predicted for, or a tuple of columns that name it together, such as
            `("customer_id", "shop_id")`. Each holds whole numbers or text; a row with a null in one of them has no entity.
        every: the length of a period: `day`, `week`, `month` or `quarter`.
        timezone: the zone in which periods begin at midnight, such as `Europe/London`. How naive timestamps are read is another
            question, which `EventSource.timezone` answers. Lookbacks, windows and horizons are of 24-hour days in any zone.
        week_starts: the day with which a week begins, `monday` or `sunday`; only with `every="week"`.
        first_period: the first one whose features can be built.
        last_period: the last one, if the data has ended; runs for later periods have nothing to do.
        sources: name to source. The name is the argument by which functions take it.
        population: which entities a period has.
        features: the feature groups, functions or aggregates; each is a Spark job of its own.
        label: what is predicted.
        window: which periods train.
        gate: what a candidate must show to be promoted.
        scoring: how versions score.
        parameters: values passed to the functions that take them by name.
        description, tags: shown in the Airflow UI.
        deliveries: where predictions are copied to after they are published.

    Raises:
        DescriptionError: a field is invalid; the message names it.
    """

    name: str
    entity: Entity
    first_period: str
    sources: Mapping[str, Source]
    population: Population
    features: tuple[Group, ...]
    label: Label
    window: MovingWindow
    every: str = "month"
    last_period: str | None = None
    gate: Gate = field(default_factory=Gate)
    scoring: Scoring = later(Scoring())
    parameters: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    tags: tuple[str, ...] = ()
    deliveries: tuple[Delivery, ...] = later(())
    timezone: str = later("UTC")
    week_starts: str = later("monday")

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DescriptionError(f"Pipeline.name: expected lower-case letters, digits and _, got {self.name!r}.")
        if self.name in IMPORTED:
            raise DescriptionError(
                f"Pipeline.name: expected a name that is not a package's, got {self.name!r}, which its jobs import: the user's "
                f"module {self.name}.py would shadow it. Rename it, such as {self.name}_model."
            )
        self._check_periods()
        self._check_nouns()
        check_entity(self.entity, (*WRITTEN, *self.label.target.columns))
        self._check_names()
        self._check_parameters()
        check_deliveries(self.deliveries)
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def _check_periods(self) -> None:
        every = Every.of(self.every)
        try:
            calendar = Calendar(every, self.timezone, self.week_starts)
        except DescriptionError as error:
            raise DescriptionError(f"Pipeline.{error}") from None
        for name, key in (("first_period", self.first_period), ("last_period", self.last_period)):
            try:
                if key is not None:
                    Period.parse(key, calendar)
            except PeriodError as error:
                raise DescriptionError(f"Pipeline.{name}: {error}") from None
        if self.last_period is not None and self.last_period < self.first_period:
            raise DescriptionError(
                f"Pipeline.last_period: expected first_period ({self.first_period}) or later, got {self.last_period}."
            )

    def _check_nouns(self) -> None:
        for name, noun in (
            ("population", Population),
            ("label", Label),
            ("window", MovingWindow),
            ("gate", Gate),
            ("scoring", Scoring),
        ):
            if not isinstance(found := getattr(self, name), noun):
                raise DescriptionError(f"Pipeline.{name}: expected {noun.__name__}(...), got {type(found).__name__}.")
        if not isinstance(self.features, tuple) or any(not isinstance(group, Group) for group in self.features):
            raise DescriptionError(
                f"Pipeline.features: expected a tuple of FeatureGroup and Aggregates, got {self.features!r}. A single one needs "
                "its comma."
            )
        if self.gate.metric not in (metrics := self.label.target.metrics):
            expected = ", ".join(map(repr, metrics))
            raise DescriptionError(
                f"Gate.metric: expected one of {expected} for a {self.label.kind} label; got {self.gate.metric!r}."
            )

    def _check_names(self) -> None:
        if not self.sources:
            raise DescriptionError("Pipeline.sources: expected at least one, got none.")
        for name, source in self.sources.items():
            if not name.isidentifier() or name in TAKEN:
                raise DescriptionError(f"Pipeline.sources: expected the name of an argument other than as_of, got {name!r}.")
            if not isinstance(source, EventSource | ReferenceSource):
                raise DescriptionError(
                    f"Pipeline.sources[{name!r}]: expected EventSource or ReferenceSource, got {type(source).__name__}."
                )
        if not self.features:
            raise DescriptionError("Pipeline.features: expected at least one FeatureGroup or Aggregates, got none.")
        parts: tuple[Population | Group | Label, ...] = (self.population, *self.features, self.label)
        names = [part.name for part in parts]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise DescriptionError(f"Pipeline.features: expected different names, got {', '.join(map(repr, doubled))} twice.")
        for part in parts:
            if unknown := [name for name in part.reads if name not in self.sources]:
                raise DescriptionError(
                    f"{type(part).__name__}({part.name!r}).reads: expected the pipeline's sources, "
                    f"{', '.join(map(repr, self.sources))}; got {', '.join(map(repr, unknown))}."
                )
        for group in self.features:
            if isinstance(group, Aggregates):
                self._check_aggregates(group)
        if clash := sorted(set(self.parameters) & {*self.sources, *TAKEN}):
            raise DescriptionError(
                f"Pipeline.parameters: expected names other than those of sources and as_of, got {', '.join(map(repr, clash))}."
            )
        if not any(isinstance(self.sources[name], EventSource) for name in self.population.reads):
            raise DescriptionError(
                f"Population({self.population.name!r}).reads: expected an EventSource, got none. A population without a time "
                "would know entities that appeared after as_of."
            )

    def _check_aggregates(self, group: Aggregates) -> None:
        first, *others = (self.sources[name] for name in group.reads)
        if not isinstance(first, EventSource) or any(isinstance(source, EventSource) for source in others):
            raise DescriptionError(
                f"Aggregates({group.name!r}).reads: expected an EventSource and, if there is a second, a ReferenceSource; got "
                f"{', '.join(group.reads)}."
            )
        if first.knowledge_time:
            raise DescriptionError(
                f"Aggregates({group.name!r}).reads: {group.reads[0]} has a knowledge time, and partial sums do not record when "
                "rows became known. Write a FeatureGroup for it."
            )

    def _check_parameters(self) -> None:
        for name, value in self.parameters.items():
            if not name.isidentifier():
                raise DescriptionError(f"Pipeline.parameters: expected the name of an argument, got {name!r}.")
            if not _is_plain(value):
                raise DescriptionError(
                    f"Pipeline.parameters[{name!r}]: expected text, a finite number, True, False, None, or a list or dict of "
                    f"these; got {value!r}. The description is stored as JSON, and jobs read it from there."
                )

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that name an entity, in the order of the description."""
        return keys_of(self.entity)

    @property
    def parts(self) -> tuple[Population | FeatureGroup | Label, ...]:
        """Everything that has a function in the user's module."""
        written = (group for group in self.features if isinstance(group, FeatureGroup))
        return (self.population, *written, self.label)

    @property
    def digest(self) -> str:
        """The digest of the whole description."""
        return digest(self)

    @property
    def calendar(self) -> Calendar:
        """How time is divided into the pipeline's periods."""
        return Calendar(Every.of(self.every), self.timezone, self.week_starts)

    def period(self, key: str) -> Period:
        return Period.parse(key, self.calendar)

    def range(self, first: str | None, last: str | None) -> tuple[Period, ...]:
        """The periods from one to another, both included. Raises: PeriodError."""
        if not first or not last:
            raise PeriodError(
                f"From {first or 'nothing'} to {last or 'nothing'}: expected the first and the last period, both included."
            )
        begin, end = self.period(first), self.period(last)
        if end.start < begin.start:
            raise PeriodError(f"From {begin} to {end}: the last period is before the first. Swap them.")
        if begin.start < self.first.start or (self.last_period is not None and end.key > self.last_period):
            known = f"{self.first_period} to {self.last_period}" if self.last_period else f"{self.first_period} and later"
            raise PeriodError(f"From {begin} to {end}: expected periods of {self.name}, {known}.")
        return tuple(begin.until(end))

    @property
    def first(self) -> Period:
        return self.period(self.first_period)

    @property
    def label_lag(self) -> timedelta:
        """How late the sources of the label are: what happens until the end of its horizon is not known sooner."""
        read = (self.sources[name] for name in self.label.reads)
        return max((source.behind for source in read if isinstance(source, EventSource)), default=timedelta(0))

    def group(self, name: str) -> Group:
        return next(group for group in self.features if group.name == name)

    def zeros(self, without: Collection[str] = ()) -> list[str]:
        """The features that are 0 for an entity without events in the sources, of all groups except `without`."""
        described = (group for group in self.features if isinstance(group, Aggregates) and group.name not in without)
        return [name for group in described for name in group.zeros]

    @property
    def read_by_features(self) -> list[str]:
        """The sources that the population and the feature groups read, sorted."""
        return sorted({*self.population.reads, *(name for group in self.features for name in group.reads)})

    def columns_read(self, name: str) -> tuple[str, ...]:
        """The columns of a source that are read; empty for all: functions and audits get all columns if the source names none."""
        source = self.sources[name]
        described = [group for group in self.features if isinstance(group, Aggregates) and name in group.reads]
        if not source.columns and (source.audit is not None or any(name in part.reads for part in self.parts)):
            return ()
        summed = (column for group in described for column in (*self.keys, group.on, group.split, *group.columns))
        return tuple(dict.fromkeys(column for column in (*source.needed, *source.times, *source.tested, *summed) if column))

    @property
    def telling_their_past(self) -> list[str]:
        """The sources that can be read as they were at an earlier time."""
        return [name for name, source in self.sources.items() if source.tells_its_past]

    @property
    def audited(self) -> list[str]:
        """The sources that are checked before anything is built from them."""
        return [name for name, source in self.sources.items() if source.audit is not None]

    def shape_of_features(self) -> dict[str, Any]:
        """The part of the description that shapes features: with the user's module, it defines them."""
        return {
            "entity": encode(self.entity),
            "every": self.every,
            **self._zoned,
            "sources": {name: encode(self.sources[name].shape) for name in self.read_by_features},
            "population": encode(self.population),
            "features": encode(self.features),
            "parameters": encode(self.parameters),
        }

    @property
    def _zoned(self) -> dict[str, str]:
        """What places periods besides their length. What has its default is left out: definitions from before have no zones."""
        placed = {"timezone": self.timezone, "week_starts": self.week_starts}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in placed.items() if value != defaults[name]}

    def definition(self, module: str, known_at: str = "") -> str:
        """The identity of the features: the part of the description that shapes them, and the user's module (its digest).

        `known_at`: for features built from sources as they were at a time. They have a definition and a table of their own.
        """
        identity = {"shape": self.shape_of_features(), "module": module}
        return digest({**identity, **({KNOWN_AT: known_at} if known_at else {})})[:16]


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)
