"""Late data at the pin: which spans of a source must be complete, whether they are, and where consistent sources are cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from almanac import pinning
from almanac.core import late
from almanac.core.late import LATEST, Span
from almanac.core.period import Period
from almanac.core.pins import Pin
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.sources import EventSource
from almanac.errors import SourceMissing
from almanac.store import pinned_files
from almanac.store.contents import PointInTime
from almanac.store.copies import StoredCopies
from almanac.store.home import Home


def spans(pipeline: Pipeline, plan: RunPlan, name: str) -> Iterator[Span]:
    """The spans of an event source that must be complete: each period to build features for, and what the newest label reads."""
    source = pipeline.sources[name]
    if not isinstance(source, EventSource):
        return
    if name in pipeline.read_by_features:
        yield from (_of_features(source, pipeline.period(key)) for key in plan.build)
    if plan.retrains and name in pipeline.label.reads:
        holdout = pipeline.period(plan.holdout)
        high = holdout.as_of + pipeline.label.horizon
        yield Span(
            period=Period.holding(high - late.STEP, pipeline.calendar).key,
            reader=f"the label of {plan.holdout}",
            low=holdout.as_of,
            high=high,
            known=_known(source, pipeline.period(plan.period).as_of),
            whole=False,
        )


def _of_features(source: EventSource, period: Period) -> Span:
    low, high = period.start - source.behind, period.as_of - source.behind
    return Span(period=period.key, reader=f"the features of {period}", low=low, high=high, known=_known(source, period.as_of))


def _known(source: EventSource, moment: datetime) -> datetime | None:
    return moment if source.knowledge_time else None


def observed(home: Home, pipeline: Pipeline, plan: RunPlan, name: str) -> Pin:
    """A source as a run sees it: as it is now; or as it was at `known_at`, if the run has one and the source tells its past.

    Raises:
        SourceError: as `pinning.observe`.
    """
    source, then = pipeline.sources[name], None
    if plan.known_at and source.tells_its_past:
        then = PointInTime(moment=datetime.fromisoformat(plan.known_at), copies=home.layout.version)
    copies = StoredCopies(home.objects, home.layout)
    return pinning.observe(home.objects, copies, name, source, then, pipeline.columns_read(name), home.addresses)


def lacking(home: Home, pipeline: Pipeline, plan: RunPlan, name: str, pin: Pin | None = None) -> list[str]:
    """Why a source is not complete for a run, in plain words; empty if it is. `pin`: pass it if the source was observed already.

    Raises:
        SourceError: the source does not match its description; waiting does not fix that.
    """
    source = pipeline.sources[name]
    if not isinstance(source, EventSource) or not source.late.asks_for_all:
        return []
    needed = list(spans(pipeline, plan, name))
    if not needed:
        return []
    try:
        found = pin or observed(home, pipeline, plan, name)
    except SourceMissing as missing:
        return [str(missing)]
    return [
        reason
        for span in needed
        for reason in late.lacking(source.late, span, pinned_files.look(home.objects, source, found, span))
    ]


def check_complete(home: Home, pipeline: Pipeline, plan: RunPlan, name: str, pin: Pin) -> None:
    """Raises: SourceError, if a source that a run needs complete is not."""
    if reasons := lacking(home, pipeline, plan, name, pin):
        raise late.refusal(name, reasons, "Nothing was built from it.")


def policies(pipeline: Pipeline, pins: Mapping[str, Pin]) -> dict[str, str]:
    """Source to its policy, for sources whose policy is not the default."""
    return {name: source.late.policy for name, source in _events(pipeline, pins) if source.late.policy != LATEST}


def _events(pipeline: Pipeline, names: Iterable[str]) -> Iterator[tuple[str, EventSource]]:
    for name in names:
        if isinstance(source := pipeline.sources[name], EventSource):
            yield name, source


def consistent(home: Home, pipeline: Pipeline, periods: Iterable[str], pins: Mapping[str, Pin]) -> dict[str, datetime]:
    """Period to where its consistent sources are cut, for the periods in which one of them is behind.

    Raises:
        SourceError: a source holds no event before a period's end.
    """
    chosen = {name: source for name, source in _events(pipeline, pins) if source.late.does.cuts}
    found = {}
    for key in periods if chosen else ():
        needed = {name: _of_features(source, pipeline.period(key)) for name, source in chosen.items()}
        looked = {
            name: (source.late, needed[name], pinned_files.look(home.objects, source, pins[name], needed[name]))
            for name, source in chosen.items()
        }
        until = late.consistent_until(looked)
        if until is not None:
            found[key] = until
    return found
