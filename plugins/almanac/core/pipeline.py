"""A pipeline: the description of one model's life. It only composes nouns; each rule lives with its own noun."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

from almanac.core.aggregates import Aggregates
from almanac.core.canonical import digest, encode, later
from almanac.core.deliveries import Delivery, check_deliveries
from almanac.core.gate import Gate
from almanac.core.period import Every, Period
from almanac.core.scoring import Scoring
from almanac.core.sources import KNOWN_AT, EventSource, ReferenceSource, Source
from almanac.core.window import Label, MovingWindow
from almanac.errors import DescriptionError, PeriodError

NAME = re.compile(r"[a-z][a-z0-9_]*")
TAKEN = ("as_of",)
# What a job imports before and beside the user's module, which has the pipeline's name.
IMPORTED = frozenset(sys.stdlib_module_names) | {
    *("almanac", "almanac_plugin", "airflow", "boto3", "botocore", "cloudpickle", "deltalake", "great_expectations", "joblib"),
    *("lightgbm", "matplotlib", "numpy", "onnx", "onnxruntime", "pandas", "polars", "pyarrow", "pyspark", "py4j", "scipy"),
    *("skl2onnx", "sklearn", "steps", "xgboost"),
}


@dataclass(frozen=True, slots=True)
class Population:
    """The function that says which entities a period has: one column, the entity, each once.

    Args:
        name: its function in the user's module.
        reads: the sources it is given.
        lookback: how far before as_of it sees events; everything when None.
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
    """A function from cut sources to one row an entity: the entity's column and numeric ones.

    Args:
        name: its function in the user's module.
        reads: the sources it is given.
        lookback: how far before as_of it sees events; everything when None.
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
        raise DescriptionError(f"{noun}.name: found {name!r}, allowed is the name of a function.")
    if isinstance(reads, str) or not reads:
        raise DescriptionError(f"{noun}({name!r}).reads: found {reads!r}, allowed is a tuple of source names, at least one.")
    if lookback is not None and lookback <= timedelta(0):
        raise DescriptionError(f"{noun}({name!r}).lookback: found {lookback}, allowed is more than zero, or None.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The description of one model's life. Its functions live in `spark_jobs/NAME.py`.

    Args:
        name: also the name of the user's module and the beginning of the DAGs' ids.
        entity: the column that names what is predicted for.
        every: the length of a period: `day`, `week` or `month`.
        first_period: the first one whose features can be built.
        last_period: the last one, when the data has ended; runs for later ones have nothing to do.
        sources: name to source. The name is the argument under which functions get it.
        population: which entities a period has.
        features: the feature groups, written or described; each is a Spark job of its own.
        label: what is predicted.
        window: which periods train.
        gate: what a candidate must show to be promoted.
        scoring: how versions score.
        parameters: values handed to the functions that ask for them by name.
        description, tags: shown in the Airflow UI.
        deliveries: where predictions are brought to after they are published.

    Raises:
        DescriptionError: a field is not as it must be; the message names it.
    """

    name: str
    entity: str
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

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DescriptionError(f"Pipeline.name: found {self.name!r}, allowed are lower-case letters, digits and _.")
        if self.name in IMPORTED:
            raise DescriptionError(
                f"Pipeline.name: expected a name of its own, got {self.name!r}, a package that its jobs import: the user's "
                f"module {self.name}.py would stand in its place. Rename it, such as {self.name}_model."
            )
        if not self.entity.isidentifier():
            raise DescriptionError(f"Pipeline.entity: found {self.entity!r}, allowed is the name of a column.")
        self._check_periods()
        self._check_nouns()
        self._check_names()
        self._check_parameters()
        check_deliveries(self.deliveries)
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def _check_periods(self) -> None:
        for name, key in (("first_period", self.first_period), ("last_period", self.last_period)):
            try:
                if key is not None:
                    Period.parse(key, Every.of(self.every))
            except PeriodError as error:
                raise DescriptionError(f"Pipeline.{name}: {error}") from None
        if self.last_period is not None and self.last_period < self.first_period:
            raise DescriptionError(
                f"Pipeline.last_period: found {self.last_period}, allowed is first_period ({self.first_period}) or later."
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
                raise DescriptionError(f"Pipeline.{name}: found {type(found).__name__}, allowed is {noun.__name__}(...).")
        if not isinstance(self.features, tuple) or any(not isinstance(group, Group) for group in self.features):
            raise DescriptionError(
                f"Pipeline.features: found {self.features!r}, allowed is a tuple of FeatureGroup or Aggregates, with its comma."
            )
        if self.gate.metric not in (allowed := self.label.target.metrics):
            raise DescriptionError(
                f"Gate.metric: found {self.gate.metric!r}, allowed for a {self.label.kind} label are {', '.join(allowed)}."
            )

    def _check_names(self) -> None:
        if not self.sources:
            raise DescriptionError("Pipeline.sources: found none, describe at least one.")
        for name, source in self.sources.items():
            if not name.isidentifier() or name in TAKEN:
                raise DescriptionError(f"Pipeline.sources: found the name {name!r}, allowed is an argument's name, not as_of.")
            if not isinstance(source, EventSource | ReferenceSource):
                raise DescriptionError(
                    f"Pipeline.sources[{name!r}]: found {type(source).__name__}, allowed are EventSource and ReferenceSource."
                )
        if not self.features:
            raise DescriptionError("Pipeline.features: found none, describe at least one FeatureGroup or Aggregates.")
        parts: tuple[Population | Group | Label, ...] = (self.population, *self.features, self.label)
        names = [part.name for part in parts]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise DescriptionError(f"Pipeline.features: {', '.join(doubled)} is named twice; each has its own name.")
        for part in parts:
            if unknown := [name for name in part.reads if name not in self.sources]:
                raise DescriptionError(
                    f"{type(part).__name__}({part.name!r}).reads: found {', '.join(unknown)}, "
                    f"the pipeline's sources are {', '.join(self.sources)}."
                )
        for group in self.features:
            if isinstance(group, Aggregates):
                self._check_aggregates(group)
        if clash := sorted(set(self.parameters) & {*self.sources, *TAKEN}):
            raise DescriptionError(f"Pipeline.parameters: {', '.join(clash)} is already the name of a source or of as_of.")
        if not any(isinstance(self.sources[name], EventSource) for name in self.population.reads):
            raise DescriptionError(
                f"Population({self.population.name!r}).reads: found no EventSource. A population without a time would know "
                "entities that appeared after as_of."
            )

    def _check_aggregates(self, group: Aggregates) -> None:
        first, *others = (self.sources[name] for name in group.reads)
        if not isinstance(first, EventSource) or any(isinstance(source, EventSource) for source in others):
            raise DescriptionError(
                f"Aggregates({group.name!r}).reads: found {', '.join(group.reads)}; the first must be an EventSource, the "
                "second a ReferenceSource."
            )
        if first.knowledge_time:
            raise DescriptionError(
                f"Aggregates({group.name!r}).reads: {group.reads[0]} has a knowledge time, and partial sums do not tell what was "
                "known when. Write a FeatureGroup for it."
            )

    def _check_parameters(self) -> None:
        for name, value in self.parameters.items():
            if not name.isidentifier():
                raise DescriptionError(f"Pipeline.parameters: found the name {name!r}, allowed is an argument's name.")
            if not _is_plain(value):
                raise DescriptionError(
                    f"Pipeline.parameters[{name!r}]: found {value!r}, allowed are text, finite numbers, True, False, None, and "
                    "lists and dicts of these: the description is kept as JSON, and a job reads it from there."
                )

    @property
    def parts(self) -> tuple[Population | FeatureGroup | Label, ...]:
        """What has a function in the user's module."""
        written = (group for group in self.features if isinstance(group, FeatureGroup))
        return (self.population, *written, self.label)

    @property
    def digest(self) -> str:
        """Of the whole description."""
        return digest(self)

    def period(self, key: str) -> Period:
        return Period.parse(key, Every.of(self.every))

    def range(self, first: str | None, last: str | None) -> tuple[Period, ...]:
        """The periods from one to another, both included. Raises: PeriodError."""
        if not first or not last:
            raise PeriodError(
                f"From {first or 'nothing'} to {last or 'nothing'}: give the first and the last period, both included."
            )
        begin, end = self.period(first), self.period(last)
        if end.start < begin.start:
            raise PeriodError(f"From {begin} to {end}: the last period lies before the first. Exchange them.")
        if begin.start < self.first.start or (self.last_period is not None and end.key > self.last_period):
            known = f"{self.first_period} to {self.last_period}" if self.last_period else f"{self.first_period} and later"
            raise PeriodError(f"From {begin} to {end}: the periods of {self.name} are {known}. Ask for those.")
        return tuple(begin.until(end))

    @property
    def first(self) -> Period:
        return self.period(self.first_period)

    @property
    def label_lag(self) -> timedelta:
        """How late the sources of the label are: what happens until its horizon's end is known no sooner."""
        read = (self.sources[name] for name in self.label.reads)
        return max((source.behind for source in read if isinstance(source, EventSource)), default=timedelta(0))

    def group(self, name: str) -> Group:
        return next(group for group in self.features if group.name == name)

    def zeros(self, without: Collection[str] = ()) -> list[str]:
        """The features that are 0 for an entity of which the sources hold no event, of all groups but some."""
        described = (group for group in self.features if isinstance(group, Aggregates) and group.name not in without)
        return [name for group in described for name in group.zeros]

    @property
    def read_by_features(self) -> list[str]:
        """The sources that the population and the feature groups read, sorted."""
        return sorted({*self.population.reads, *(name for group in self.features for name in group.reads)})

    def columns_read(self, name: str) -> tuple[str, ...]:
        """The columns of a source that somebody is given; empty for all, which are given to each function and to an audit where
        the source names none.
        """
        source = self.sources[name]
        described = [group for group in self.features if isinstance(group, Aggregates) and name in group.reads]
        if not source.columns and (source.audit is not None or any(name in part.reads for part in self.parts)):
            return ()
        summed = (column for group in described for column in (self.entity, group.on, group.split, *group.columns))
        return tuple(dict.fromkeys(column for column in (*source.needed, *source.times, *summed) if column))

    @property
    def versioned(self) -> list[str]:
        """The sources whose bucket keeps the versions of its objects."""
        return [name for name, source in self.sources.items() if source.versioned]

    @property
    def audited(self) -> list[str]:
        """The sources that are checked before anything is built from them."""
        return [name for name, source in self.sources.items() if source.audit is not None]

    def shape_of_features(self) -> dict[str, Any]:
        """The part of the description that shapes features: with the user's module it is their definition."""
        return {
            "entity": self.entity,
            "every": self.every,
            "sources": {name: encode(self.sources[name].shape) for name in self.read_by_features},
            "population": encode(self.population),
            "features": encode(self.features),
            "parameters": encode(self.parameters),
        }

    def definition(self, module: str, known_at: str = "") -> str:
        """The identity of the features: the description's part that shapes them, and the user's module (its digest).

        `known_at`: of those that are built of sources as they were at a time. They are others, in a table of their own.
        """
        told = {"shape": self.shape_of_features(), "module": module}
        return digest({**told, **({KNOWN_AT: known_at} if known_at else {})})[:16]


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)
