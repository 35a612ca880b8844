"""Pins: the exact source files that a run may read, observed once. All features start from the receipt of a pin."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from almanac import described
from almanac.core.canonical import digest, encode
from almanac.core.cuts import feature_cuts
from almanac.core.degrade import LACKING, check_sources
from almanac.core.facts import PinnedSource
from almanac.core.late import LATEST
from almanac.core.period import Period
from almanac.core.pins import Pin
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.receipts import Artifact, Order, PlacedOrder, Receipt, RunInfo, Step
from almanac.core.schema import schema_changes
from almanac.core.sources import UNTIL, EventSource, ReferenceSource
from almanac.errors import DataEnded, IntegrityError, NotFound, SourceError, examples
from almanac.runs import completeness
from almanac.settings import VERSION
from almanac.store.home import Home
from almanac.store.pins import read_pins, write_pins

DEGRADE = "degrade"  # instead of the policy, for a source that a run does without


def needed(pipeline: Pipeline, plan: RunPlan) -> list[str]:
    """The sources that a run reads: those of the features if it builds any, those of the label if it retrains."""
    parts = [*((pipeline.population, *pipeline.features) if plan.build else ()), *((pipeline.label,) if plan.retrains else ())]
    return sorted({name for part in parts for name in part.reads})


def pin(home: Home, plan: RunPlan, run_info: RunInfo) -> str:
    """Pins what a run reads, as it is now, and returns the receipt's URI. Equal files give the same receipt. A source that is
    missing, unfit or incomplete is not pinned if the run may leave out the feature groups that read it.

    Raises:
        SourceError: a source is missing, does not match its description, or is incomplete.
        DescriptionError: a described feature group reads a column that its source lacks, or one of an unfit type.
        DataError: such a source is read by feature groups that weigh more than the run may leave out.
        DataEnded: the events of the population's sources end before the lookback of every period to build.
    """
    pipeline = home.receipts.description(plan.description)
    pins, lacking = _observed(home, pipeline, plan)
    check_sources(pipeline, plan, lacking)
    _check_ongoing(pipeline, plan, pins)
    _check_snapshots(pipeline, plan, pins)
    if plan.build and not plan.degrade:  # else the run may leave such a group out
        described.check(pipeline, pins)
    notes = [note for found in pins.values() for note in found.notes]
    policies, until = completeness.policies(pipeline, pins), completeness.consistent(home, pipeline, plan.build, pins)
    order = Order(
        pipeline=home.name,
        artifact=Artifact.SOURCES,
        step=Step.PIN,
        period=plan.period,
        description=plan.definition,
        module=plan.module,
        almanac=VERSION,
        inputs={name: found.content for name, found in pins.items()},
        parameters={
            **({"late": policies} if policies else {}),
            **({UNTIL: encode(until)} if until else {}),
            **({LACKING: sorted(lacking)} if lacking else {}),
            **_described(pipeline, pins),
            **({"notes": digest(notes)} if notes else {}),  # else an earlier receipt without the notes would be found
        },
    )
    receipt = Receipt(
        order=order,
        passed=True,
        run_info=run_info,
        content=order.digest,
        outputs=tuple(write_pins(home, order, pins)),
        findings=(
            *_changed(home, pins),
            *notes,
            *_read_as(pins, plan.known_at),
            *_undated(pipeline, plan, pins),
            *(f"Feature groups that read source {name!r} are left out: {error}" for name, error in lacking.items()),
            *(f"Consistent sources of {period} are cut at {moment.isoformat()}." for period, moment in until.items()),
        ),
        facts=encode(
            {
                name: PinnedSource(files=len(found.files), freshness=found.freshness, late=policies.get(name, LATEST))
                for name, found in pins.items()
            }
            | {name: PinnedSource(files=0, freshness=None, late=DEGRADE) for name in lacking}
        ),
    )
    home.receipts.place(PlacedOrder(order=order))
    return home.receipts.uri(home.receipts.keep(receipt))


def _described(pipeline: Pipeline, pins: Mapping[str, Pin]) -> dict[str, str]:
    """How sources that only the label reads are described, as a parameter of the order: the definition of the features does not
    cover that, and a pin depends on it.
    """
    others = {name: encode(pipeline.sources[name].shape) for name in pins if name not in pipeline.read_by_features}
    return {"described": digest(others)} if others else {}


def _observed(home: Home, pipeline: Pipeline, plan: RunPlan) -> tuple[dict[str, Pin], dict[str, SourceError]]:
    """The sources that a run reads, and the errors of those that are missing, unfit or incomplete."""
    pins, lacking = {}, {}
    for name in needed(pipeline, plan):
        try:
            observed = completeness.observed(home, pipeline, plan, name)
            completeness.check_complete(home, pipeline, plan, name, observed)
            if plan.degrade:  # only this source is left out, and the others are cut, if it has no events
                completeness.consistent(home, pipeline, plan.build, {name: observed})
            pins[name] = observed
        except SourceError as error:
            lacking[name] = error
    return pins, lacking


def _check_ongoing(pipeline: Pipeline, plan: RunPlan, pins: Mapping[str, Pin]) -> None:
    """Checks that the population can see an event in one of the periods to build; else its job would fail. Raises: DataEnded."""
    population = pipeline.population
    events = {name for name in population.reads if isinstance(pipeline.sources[name], EventSource)}
    if not plan.build or population.may_be_empty or not events <= pins.keys():
        return
    seen = [feature_cuts(pipeline, population, period) for period in plan.build]
    cuts = [one[name] for one in seen for name in events]
    ends = [(file.high, name) for name in events for file in pins[name].files if not file.undated]
    if not ends or any(end is None for end, _ in ends):
        return  # a file without statistics may hold newer events
    newest, name = max((end, name) for end, name in ends if end is not None)
    if all(cut.low is not None and newest < cut.low for cut in cuts):
        first = min(cut.low for cut in cuts if cut.low is not None)
        raise DataEnded(
            f"Source {name!r} ends at {newest:%Y-%m-%d %H:%M} UTC. The population of {examples(plan.build)} looks back to "
            f"{first:%Y-%m-%d}, so it is empty: there is nothing to learn or predict. Deliver newer events, or run an earlier "
            f'{pipeline.every}. If no more will come: last_period="{Period.holding(newest, pipeline.calendar)}".'
        )


def _changed(home: Home, pins: Mapping[str, Pin]) -> Iterator[str]:
    """How the columns of sources differ from the last pin, by whichever run."""
    kept = home.objects.walk(home.layout.receipts(Artifact.SOURCES.value, Step.PIN.value))
    last = max(kept, key=lambda item: item.modified, default=None)
    before: Mapping[str, Pin] = {}
    if last is not None:
        with contextlib.suppress(IntegrityError, NotFound):  # `verify` reports an old pin that was altered
            before = read_pins(home, home.receipts.read(last.uri))
    for name in sorted(before.keys() & pins.keys()):
        if changes := schema_changes(before[name].columns, pins[name].columns):
            yield f"Source {name!r} has changed since it was last pinned: {'; '.join(changes)}."


def _read_as(pins: Mapping[str, Pin], known_at: str) -> Iterator[str]:
    """Which state of a table was read, and which sources are read in older versions."""
    for name, found in pins.items():
        if found.version:
            yield f"Source {name!r} is read in version {found.version} of its table{f', as of {known_at}' if known_at else ''}."
        elif found.seen_at is not None:
            yield f"Source {name!r} was copied as its database held it at {found.seen_at.isoformat(timespec='seconds')}."
        elif older := sum(bool(file.version) for file in found.files):
            yield f"Source {name!r} is read as it was at {known_at}: {older} of {len(found.files)} files are older versions."


def _undated(pipeline: Pipeline, plan: RunPlan, pins: Mapping[str, Pin]) -> Iterator[str]:
    """Which references without a time hold times that the features to build must not know."""
    if not plan.build:
        return
    as_of = pipeline.period(max(plan.build)).as_of
    for name in pipeline.read_by_features:
        latest = (pins[name].latest or {}) if name in pins else {}
        for column, moment in latest.items():
            if moment >= as_of:
                yield (
                    f"warning: source {name!r} is read as it is today, and its column {column!r} holds times up to "
                    f"{moment:%Y-%m-%d %H:%M} UTC, after {as_of:%Y-%m-%d %H:%M} UTC: features of {examples(plan.build)} may "
                    "know the future. Declare valid_from= or snapshots=, or leave the column out with columns=(...)."
                )


def _check_snapshots(pipeline: Pipeline, plan: RunPlan, pins: Mapping[str, Pin]) -> None:
    """Checks that each period to build can see a copy of every reference with snapshots. Raises: SourceError."""
    for name in pipeline.read_by_features:
        source = pipeline.sources[name]
        if not isinstance(source, ReferenceSource) or not source.snapshots or name not in pins:
            continue
        kept = pins[name].snapshots
        if early := [period for period in plan.build if not kept or kept[0] >= pipeline.period(period).as_of]:
            first = f"its first is of {kept[0]:%Y-%m-%d %H:%M} UTC" if kept else "it holds none"
            raise SourceError(
                f"Source {name!r} has no snapshot before the end of {examples(early)}: {first} (column {source.snapshots!r}). "
                f"Deliver an older one, or let the pipeline begin later with first_period."
            )
