"""Pins: the exact source files that a run may read, observed once. The receipt that features begin with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from almanac.core.canonical import digest, dumps, encode, sha256
from almanac.core.degrade import LACKING, check_sources
from almanac.core.late import LATEST
from almanac.core.pipeline import Group, Pipeline, Population
from almanac.core.plan import RunPlan
from almanac.core.receipts import Door, Order, Output, Placed, Receipt, Thing, Witness, admit
from almanac.core.schema import schema_changes
from almanac.core.sources import UNTIL, Pin
from almanac.doors import late
from almanac.errors import IntegrityError, NotAdmitted, NotFound, SourceError
from almanac.settings import VERSION
from almanac.store.home import Home
from almanac.store.provenance import read_pins


def needed(pipeline: Pipeline, plan: RunPlan) -> list[str]:
    """The sources that a run reads: those of the features when any are built, those of the label when it retrains."""
    parts = [*((pipeline.population, *pipeline.features) if plan.build else ()), *((pipeline.label,) if plan.retrains else ())]
    return sorted({name for part in parts for name in part.reads})


def pin(home: Home, plan: RunPlan, witness: Witness) -> str:
    """Pins what a run reads, as it is now, and gives the receipt's URI. Equal files give the same receipt. A source that the run
    can do without, because it may leave out what reads it, is not pinned when it is not as it must be.

    Raises:
        SourceError: a source is missing, not as the description says, or not complete where it must be.
        DataError: it is, and what reads it weighs more than the run may leave out.
    """
    pipeline = home.receipts.description(plan.description)
    pins, lacking = _observed(home, pipeline, plan)
    check_sources(pipeline, plan, lacking)
    notes = [note for found in pins.values() for note in found.notes]
    policies, until = late.policies(pipeline, pins), late.consistent(home, pipeline, plan.build, pins)
    order = Order(
        pipeline=home.name,
        thing=Thing.SOURCES,
        door=Door.PIN,
        period=plan.period,
        description=plan.definition,
        module=plan.module,
        almanac=VERSION,
        inputs={name: found.content for name, found in pins.items()},
        parameters={
            **({"late": policies} if policies else {}),
            **({UNTIL: encode(until)} if until else {}),
            **({LACKING: sorted(lacking)} if lacking else {}),
            **({"notes": digest(notes)} if notes else {}),  # else the receipt of before would stand, which tells nothing of them
        },
    )
    receipt = Receipt(
        order=order,
        passed=True,
        witness=witness,
        content=order.digest,
        outputs=tuple(keep(home, order, pins)),
        findings=(
            *_changed(home, pins),
            *notes,
            *_older(pins, plan.known_at),
            *(f"What reads source {name!r} is left out: {error}" for name, error in lacking.items()),
            *(f"Consistent sources of {period} are cut at {moment.isoformat()}." for period, moment in until.items()),
        ),
        facts={
            name: {
                "files": len(found.files),
                "freshness": found.freshness.isoformat() if found.freshness else None,
                "late": policies.get(name, LATEST),
            }
            for name, found in pins.items()
        }
        | {name: {"files": 0, "freshness": None, "late": "degrade"} for name in lacking},
    )
    home.receipts.place(Placed(order=order))
    return home.receipts.uri(home.receipts.keep(receipt))


def _observed(home: Home, pipeline: Pipeline, plan: RunPlan) -> tuple[dict[str, Pin], dict[str, SourceError]]:
    """What a run reads, and why some of it cannot be read as it must be."""
    pins, lacking = {}, {}
    for name in needed(pipeline, plan):
        try:
            observed = late.observed(home, pipeline, plan, name)
            late.check_complete(home, pipeline, plan, name, observed)
            if plan.degrade:  # a consistent one without any event is no reason to fail where others are cut
                late.consistent(home, pipeline, plan.build, {name: observed})
            pins[name] = observed
        except SourceError as error:
            lacking[name] = error
    return pins, lacking


def keep(home: Home, order: Order, pins: Mapping[str, Pin]) -> Iterator[Output]:
    """Keeps the pins that an order gave, a file each."""
    for name, found in pins.items():
        body = dumps(found)
        uri = home.layout.part(order.digest, f"{name}-{sha256(body)[:16]}.json")
        home.objects.put_if_absent(uri, body)
        yield Output(name=name, uri=uri, bytes=len(body), sha256=sha256(body), rows=sum(file.rows for file in found.files))


def _changed(home: Home, pins: Mapping[str, Pin]) -> Iterator[str]:
    """How the columns of sources differ from those that were pinned last, whichever run that was."""
    kept = home.objects.walk(home.layout.receipts(Thing.SOURCES.value, Door.PIN.value))
    last = max(kept, key=lambda item: item.modified, default=None)
    before: Mapping[str, Pin] = {}
    if last is not None:
        with contextlib.suppress(IntegrityError, NotFound):  # of an old pin that was altered `verify` tells
            before = read_pins(home, home.receipts.read(last.uri))
    for name in sorted(before.keys() & pins.keys()):
        if changes := schema_changes(before[name].columns, pins[name].columns):
            yield f"Source {name!r} is not as it was when it was pinned last: {'; '.join(changes)}."


def _older(pins: Mapping[str, Pin], known_at: str) -> Iterator[str]:
    """Which sources are read as they were."""
    for name, found in pins.items():
        if older := sum(bool(file.version) for file in found.files):
            yield f"Source {name!r} is read as it was at {known_at}: {older} of {len(found.files)} files in an older version."


def until(receipt: Receipt, period: str) -> datetime | None:
    """Where the consistent sources of a period are cut, by the receipt of a pin; None where none was behind."""
    found = receipt.order.parameters.get(UNTIL, {}).get(period)
    return datetime.fromisoformat(found) if found else None


def pinned(home: Home, receipt: Receipt) -> Mapping[str, Pin]:
    """The pins of a receipt: of what pinned sources, or of their audit. Raises: IntegrityError when one was altered."""
    door = Door.AUDIT if receipt.order.door is Door.AUDIT else Door.PIN
    admit(receipt, Thing.SOURCES, door, pipeline=home.name)
    return read_pins(home, receipt)


def check_pinned(receipt: Receipt, part: Group | Population) -> None:
    """What a feature group or the population reads was pinned. Raises: NotAdmitted."""
    if absent := [name for name in part.reads if name in receipt.order.parameters.get(LACKING, ())]:
        raise NotAdmitted(
            f"{part.name!r} reads source {absent[0]!r}, which was not as it must be when the sources were pinned, so it is left "
            "out. The findings of sources.pin say why."
        )


def check_audited(receipt: Receipt, pipeline: Pipeline, names: Iterable[str]) -> None:
    """Sources that are to be audited were. Raises: NotAdmitted."""
    asked = [name for name in names if name in pipeline.audited]
    if asked and receipt.order.door is not Door.AUDIT:
        raise NotAdmitted(
            f"Source {asked[0]!r} was pinned and not audited, which its description asks for. Run the task sources.audit first."
        )
