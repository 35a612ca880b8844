"""The index of a pipeline's receipts, and what it is for: `impact`, the way downwards from whatever something depends on.

Receipts link upwards. The index holds a short step for each of them, so that the same links can be followed downwards
without reading ten thousand receipts. It is derived: lost or altered, it is built from the receipts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from almanac.core.promotions import Log
from almanac.errors import NotFound, examples

SCHEMA = 1


class SourceFile(NamedTuple):
    """A source file as some pin saw it. Delivered again under its name it is another one."""

    uri: str
    size: int
    etag: str


class Step(NamedTuple):
    """One receipt, in short.

    `key` is its name below receipts/ without the suffix, `THING/DOOR/ORDER-ATTEMPT`; `inputs` are the numbers of the steps
    that it depends on; `files` are the numbers of the source files that it could see, as spans: `0-3 7`.
    """

    key: str
    period: str
    part: str
    definition: str
    version: str
    dag: str
    run: str
    inputs: tuple[int, ...]
    files: str

    @property
    def thing(self) -> str:
        return self.key.split("/", 1)[0]

    @property
    def door(self) -> str:
        return self.key.split("/", 2)[1]

    @property
    def order(self) -> str:
        return self.key.rsplit("/", 1)[-1].rsplit("-", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Index:
    """The steps of a pipeline, each known by its number, and the tables that they point into.

    Args:
        files: the source files that any pin saw.
        versions: version to the number of the step that trained it.

    Raises:
        ValueError: it is of another schema.
    """

    steps: tuple[Step, ...] = ()
    files: tuple[SourceFile, ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"its schema is {self.schema}, this Almanac writes {SCHEMA}")
        object.__setattr__(self, "steps", tuple(Step(*step) for step in self.steps))
        object.__setattr__(self, "files", tuple(SourceFile(*file) for file in self.files))

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Key to number."""
        return {step.key: number for number, step in enumerate(self.steps)}

    @cached_property
    def published(self) -> frozenset[tuple[str, str]]:
        """Thing and stage order of everything whose publish is known: what a visible partition is known by."""
        return frozenset(
            (step.thing, self.steps[number].order)
            for step in self.steps
            if step.door == "publish"
            for number in step.inputs
            if self.steps[number].door == "stage"
        )

    @cached_property
    def dependants(self) -> Mapping[int, tuple[int, ...]]:
        """Step to the steps that depend on it directly."""
        found: dict[int, list[int]] = {}
        for number, step in enumerate(self.steps):
            for needed in step.inputs:
                found.setdefault(needed, []).append(number)
        return {number: tuple(listed) for number, listed in found.items()}

    def below(self, start: Iterable[int]) -> set[int]:
        """The steps themselves, and everything that depends on them."""
        found, left = set(start), list(start)
        while left:
            new = [number for number in self.dependants.get(left.pop(), ()) if number not in found]
            found.update(new)
            left.extend(new)
        return found

    def select(self, wanted: Callable[[Step], bool]) -> list[int]:
        return [number for number, step in enumerate(self.steps) if wanted(step)]


def spans(numbers: Iterable[int]) -> str:
    """Numbers as spans: `0-3 7`. Files that lie side by side in time mostly have numbers side by side."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(str(low) if low == high else f"{low}-{high}" for low, high in found)


def within(number: int, text: str) -> bool:
    """Whether spans hold a number."""
    return any(int(span.split("-")[0]) <= number <= int(span.split("-")[-1]) for span in text.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What readers see now: period to order of the predictions table, definition to the same of each features table; and
    the promotion log."""

    predictions: Mapping[str, str]
    features: Mapping[str, Mapping[str, str]]
    log: Log


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A published period of features or predictions. `state` is `visible` or `replaced`; `version` is the one that scored."""

    period: str
    order: str
    state: str
    definition: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A version. `state` is `in force`, `was in force`, `withdrawn` or `never promoted`."""

    version: str
    period: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run, and the things that it had a hand in."""

    dag: str
    run: str
    things: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A source file as it was at one time, and the feature periods that could see it."""

    uri: str
    size: int
    etag: str
    periods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """Everything that depends on something. The lists are sorted; what was staged and never published is not in them."""

    of: str
    features: tuple[Partition, ...]
    versions: tuple[Touched, ...]
    predictions: tuple[Partition, ...]
    runs: tuple[Ran, ...]
    deliveries: tuple[Delivery, ...] = ()


def of_source(index: Index, shown: Shown, uri: str) -> Impact:
    """What could see a source file: exactly the periods whose cut reaches it, and all that was made from these.

    Raises:
        NotFound: no pin holds it.
    """
    deliveries = [number for number, file in enumerate(index.files) if file.uri == uri]
    if not deliveries:
        folder = uri.rsplit("/", 1)[0]
        near = sorted({file.uri for file in index.files}, key=lambda known: (not known.startswith(folder), known))
        raise NotFound(f"Source file {uri!r} is in no pin (pinned are: {examples(near)}). Name one of them, with its whole URI.")
    told, start = [], []
    for number in deliveries:
        saw = index.select(lambda step, number=number: within(number, step.files))  # type: ignore[misc]
        start += saw
        file = index.files[number]
        periods = sorted({index.steps[one].period for one in saw if index.steps[one].thing == "features"})
        told.append(Delivery(uri=file.uri, size=file.size, etag=file.etag, periods=tuple(periods)))
    return _impact(index, shown, f"source file {uri}", start, tuple(told))


def of_features(index: Index, shown: Shown, period: str, definition: str = "") -> Impact:
    """What was made from a period of features, of one definition or of all.

    Raises:
        NotFound: no such features were published.
    """
    combined = index.select(lambda step: step.thing == "features" and not step.part)
    start = [
        number
        for number in combined
        if index.steps[number].period == period and definition in ("", index.steps[number].definition)
    ]
    if not start:
        there = sorted({(index.steps[number].period, index.steps[number].definition) for number in combined})
        listed = examples((f"{known} of {by}" for known, by in there), 12)
        of = f" of definition {definition}" if definition else ""
        raise NotFound(f"No features of {period!r}{of} are known (there are: {listed}). Name one of them.")
    return _impact(index, shown, f"features {period}", start)


def of_version(index: Index, shown: Shown, version: str) -> Impact:
    """What a version wrote.

    Raises:
        NotFound: there is no such version.
    """
    if version not in index.versions:
        raise NotFound(f"Version {version!r} is unknown (there are: {examples(sorted(index.versions), 12)}). Name one of them.")
    return _impact(index, shown, f"version {version}", [index.versions[version]])


def of_run(index: Index, shown: Shown, run: str) -> Impact:
    """What came of a run: what it made itself, and all that was made from that.

    Raises:
        NotFound: no receipt tells of it.
    """
    start = index.select(lambda step: step.run == run)
    if not start:
        there = sorted({step.run for step in index.steps if step.run}, reverse=True)
        raise NotFound(f"Run {run!r} is in no receipt (there are: {examples(there)}). Name one of them.")
    return _impact(index, shown, f"run {run}", start)


def _impact(index: Index, shown: Shown, of: str, start: list[int], deliveries: tuple[Delivery, ...] = ()) -> Impact:
    below = index.below(start)
    steps = [index.steps[number] for number in sorted(below)]
    published = {needed for step in steps if step.door == "publish" for needed in step.inputs}
    # What a run only published is there through it as much as what it made.
    numbers = sorted(below | published)
    trained = {number: version for version, number in index.versions.items()}
    return Impact(
        of=of,
        features=_partitions(index, numbers, "features", published, shown),
        predictions=_partitions(index, numbers, "predictions", published, shown),
        versions=tuple(
            Touched(version=trained[number], period=index.steps[number].period, state=_state(trained[number], shown.log))
            for number in sorted(set(numbers) & trained.keys(), key=lambda number: trained[number])
        ),
        runs=_runs(steps),
        deliveries=deliveries,
    )


def _partitions(index: Index, numbers: Iterable[int], thing: str, published: set[int], shown: Shown) -> tuple[Partition, ...]:
    found = []
    for number in numbers:
        step = index.steps[number]
        if step.thing != thing or step.door != "stage" or step.part:
            continue
        table = shown.predictions if thing == "predictions" else shown.features.get(step.definition, {})
        visible = table.get(step.period) == step.order
        if visible or number in published:
            state = "visible" if visible else "replaced"
            found.append(
                Partition(period=step.period, order=step.order, state=state, definition=step.definition, version=step.version)
            )
    return tuple(sorted(found, key=lambda one: (one.period, one.definition, one.state, one.order)))


def _state(version: str, log: Log) -> str:
    if version in log.withdrawn:
        return "withdrawn"
    if version in log.assignments().values():
        return "in force"
    return "was in force" if version in log.versions else "never promoted"


def _runs(steps: Iterable[Step]) -> tuple[Ran, ...]:
    found: dict[tuple[str, str], set[str]] = {}
    for step in steps:
        if step.run:
            found.setdefault((step.dag, step.run), set()).add(f"{step.thing}.{step.door}")
    return tuple(Ran(dag=dag, run=run, things=tuple(sorted(things))) for (dag, run), things in sorted(found.items()))
