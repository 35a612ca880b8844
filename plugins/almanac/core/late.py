"""Late data: what a run does when a source may not hold all of a period yet, and when a source is complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from string import Formatter

from almanac.errors import SHOWN_EXAMPLES, DescriptionError, SourceError

LATEST, WAIT, FAIL, CONSISTENT, SHIFT = "latest", "wait", "fail", "consistent", "shift"
MEASURES = ("within", "rows", "marker")  # the fields that say when a source is complete
STEP = timedelta(microseconds=1)  # a cut is half-open: to keep an event, it ends one step after it
PERIOD = "period"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a late-data policy does.

    Args:
        measures: which of `MEASURES` it uses.
        needs_measure: at least one of them must be given.
        needs_complete: a run fails if the source is not complete by the measures that are given.
        waits: a task waits for the source to be complete.
        cuts: the features' view of all such sources ends at the newest time that all of them have.
        shifts: the features' view ends earlier, by `Late.by`.
    """

    measures: tuple[str, ...] = ()
    needs_measure: bool = False
    needs_complete: bool = False
    waits: bool = False
    cuts: bool = False
    shifts: bool = False


POLICIES: Mapping[str, Policy] = {
    LATEST: Policy(),
    WAIT: Policy(measures=MEASURES, needs_measure=True, needs_complete=True, waits=True),
    FAIL: Policy(measures=MEASURES, needs_measure=True, needs_complete=True),
    CONSISTENT: Policy(measures=("within",), cuts=True),
    SHIFT: Policy(measures=MEASURES, needs_complete=True, shifts=True),
}


@dataclass(frozen=True, slots=True)
class Late:
    """What a run does if a source's newest events may be missing.

    latest      reads what is there.
    wait        waits until the source is complete for what the run reads; fails if it is not after `timeout`.
    fail        fails at once if it is not complete.
    consistent  cuts the features' view of this source and of every other consistent one at the newest time that all have.
    shift       ends the features' view `by` before that of other sources, in every period, as if it always came that late.

    A source is complete when it meets all of `within`, `rows` and `marker` that are given; `wait` and `fail` need at least one
    of them. With `shift` they are optional: if given, the run fails when the source is later than that.

    Args:
        within: the newest event that the run may see is at most this old, at the end of what it reads. For `consistent`: a
            source whose newest event is this close to the end is complete.
        rows: each period whose features are built has at least this many events.
        marker: a file of this name exists below the source's uri; `{period}` in it stands for the period.
        by: how much earlier `shift` ends the view.
        timeout: how long `wait` waits.
        every: how often `wait` looks.

    Raises:
        DescriptionError: a field is invalid.
    """

    policy: str = LATEST
    _: KW_ONLY
    within: timedelta | None = None
    rows: int | None = None
    marker: str | None = None
    by: timedelta = timedelta(0)
    timeout: timedelta = timedelta(days=1)
    every: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise DescriptionError(f"Late.policy: expected one of {', '.join(map(repr, POLICIES))}; got {self.policy!r}.")
        given = self._measures
        if self.does.needs_measure and not given:
            raise DescriptionError(
                f"Late({self.policy!r}): expected within, rows or marker, got none of them. Say when the source is complete."
            )
        if unused := [name for name in given if name not in self.does.measures]:
            raise DescriptionError(
                f"Late({self.policy!r}): got {', '.join(unused)}, which this policy does not use. Leave it out."
            )
        if self.does.shifts != bool(self.by):
            raise DescriptionError(
                f"Late({self.policy!r}).by: expected how late the source comes with the policy 'shift', and zero with any other; "
                f"got {self.by}."
            )
        self._check_measures()

    def _check_measures(self) -> None:
        for name, given in (("within", self.within), ("by", self.by)):
            if given is not None and given < timedelta(0):
                raise DescriptionError(f"Late.{name}: expected zero or more, got {given}.")
        if self.rows is not None and self.rows < 1:
            raise DescriptionError(f"Late.rows: expected 1 or more, got {self.rows}.")
        if self.marker is not None and not _is_marker(self.marker):
            raise DescriptionError(
                f"Late.marker: expected a file's name below the uri, such as 'ready-{{period}}', got {self.marker!r}."
            )
        for name in ("timeout", "every"):
            if getattr(self, name) <= timedelta(0):
                raise DescriptionError(f"Late.{name}: expected more than zero, got {getattr(self, name)}.")

    @property
    def does(self) -> Policy:
        """What the policy does."""
        return POLICIES[self.policy]

    @property
    def asks_for_all(self) -> bool:
        """Whether a run needs the source complete."""
        return self.does.needs_complete and bool(self._measures)

    @property
    def _measures(self) -> list[str]:
        """The given fields that say when the source is complete."""
        return [name for name in MEASURES if getattr(self, name) is not None]


def _is_marker(text: str) -> bool:
    try:
        fields = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError:
        return False
    return bool(text) and not text.startswith("/") and fields <= {PERIOD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Events of a source that a run needs completely: those in `[low, high)`, known before `known`.

    Args:
        period: the one in the marker's name.
        reader: what reads them, in words: `the features of 2017-07`.
        whole: whether this is a whole period, so that `Late.rows` applies.
    """

    period: str
    reader: str
    low: datetime
    high: datetime
    known: datetime | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanContents:
    """What a source holds of a span.

    Args:
        rows: events inside.
        newest: the newest event before the span's end, inside or older; None when there is none.
        marked: whether the marker exists; True if none is required.
    """

    rows: int
    newest: datetime | None
    marked: bool = True


def lacking(late: Late, span: Span, found: SpanContents) -> list[str]:
    """Why a source is not complete for a span, in plain words; empty when it is.

    An event dated after the span's end says nothing about the events before it, so it is ignored.
    """
    reasons = []
    if late.within is not None and (found.newest is None or span.high - found.newest > late.within):
        newest = f"its newest event before {_day(span.high)} is from {_day(found.newest)}" if found.newest else "it has no event"
        reasons.append(f"{newest}, expected one from {_day(span.high - late.within)} or later")
    if late.rows is not None and span.whole and found.rows < late.rows:
        reasons.append(f"it has {found.rows} events from {_day(span.low)} to {_day(span.high)}, expected at least {late.rows}")
    if late.marker is not None and not found.marked:
        reasons.append(f"file {late.marker.format(period=span.period)} is missing")
    return [f"for {span.reader} {one}" for one in reasons]


def consistent_until(looked: Mapping[str, tuple[Late, Span, SpanContents]]) -> datetime | None:
    """Where features of a period cut their consistent sources: right after the newest event of the one that is furthest
    behind. None if none is behind. `looked`: source to its policy, what is read of it, and what it holds.

    Raises:
        SourceError: a source holds no event at all before the end.
    """
    if empty := [name for name, (_, _, found) in looked.items() if found.newest is None]:
        reader = looked[empty[0]][1].reader
        raise SourceError(
            f"Source {empty[0]!r} holds no event that {reader} could see, so the consistent sources have no time in common. "
            "Deliver it, or give it another policy."
        )
    behind = [
        found.newest
        for late, span, found in looked.values()
        if found.newest is not None and span.high - found.newest > max(late.within or STEP, STEP)
    ]
    return min(behind) + STEP if behind else None


def refusal(name: str, reasons: Iterable[str], ending: str) -> SourceError:
    """The error for a source that is not complete. `ending` says what was done about it."""
    listed, limit = list(reasons), SHOWN_EXAMPLES
    shown = "; ".join(listed[:limit]) + (f"; and {len(listed) - limit} more" if len(listed) > limit else "")
    return SourceError(
        f"Source {name!r} is not complete: {shown}. {ending} Deliver what is missing, or change the source's Late."
    )


def _day(moment: datetime) -> str:
    """A moment to the minute; the beginning of a day in UTC as the day."""
    return f"{moment:%Y-%m-%d}" if moment.hour == moment.minute == moment.second == 0 else f"{moment:%Y-%m-%d %H:%M} UTC"
