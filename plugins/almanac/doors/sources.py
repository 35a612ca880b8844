"""The audit of sources: pinned files are checked before anything is built from them. Works in a Spark driver."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from almanac.core.canonical import decode, encode
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.provenance import feature_cuts, label_cuts
from almanac.core.receipts import Door, Output, Placed, Receipt, Thing, admit
from almanac.core.sources import Cut, Pin
from almanac.doors import calls, pin
from almanac.doors.job import Work
from almanac.errors import SHOWN_EXAMPLES
from almanac.store.home import Home
from almanac.store.sources import check_unchanged

if TYPE_CHECKING:
    from almanac.spark.quarantine import Inspected

# An audit's parameters: source to what of it a run may read, from the earliest low to the latest high; and to how it is audited.
SPANS, AUDITS = "spans", "audits"


def asked(home: Home, plan: RunPlan, pinned: str) -> list[Placed]:
    """The audit of what a run may read of its audited sources; none where it reads nothing of them."""
    pipeline, receipt = home.receipts.description(plan.description), home.receipts.read(pinned)
    audited = set(pipeline.audited) & receipt.order.inputs.keys()
    spans = {name: span for name, span in _spans(pipeline, plan, receipt).items() if name in audited}
    if not spans:
        return []
    audits = {name: encode(pipeline.sources[name].audit) for name in spans}
    order = receipt.order.next(
        Door.AUDIT, receipt.order.inputs, **{**receipt.order.parameters, SPANS: encode(spans), AUDITS: audits}
    )
    return [Placed(order=order, links={"pin": pinned, "description": plan.description})]


def built_from(pinned: str, audited: Mapping[str, str]) -> str:
    """What a run builds from: the receipt of the audit, where there was one, else of the pin. `audited`: as a job gives it."""
    return next(iter(audited.values()), pinned)


def _spans(pipeline: Pipeline, plan: RunPlan, receipt: Receipt) -> dict[str, Cut]:
    parts = (pipeline.population, *pipeline.features)
    cuts = [
        cut
        for period in plan.build
        for part in parts
        for cut in feature_cuts(pipeline, part, period, pin.until(receipt, period)).items()
    ]
    if plan.retrains:
        known = pipeline.period(plan.period).as_of
        cuts += [cut for period in (*plan.training, plan.holdout) for cut in label_cuts(pipeline, period, known).items()]
    names = {name for name, _ in cuts}
    return {name: _around(cut for other, cut in cuts if other == name) for name in sorted(names)}


def _around(cuts: Iterable[Cut]) -> Cut:
    lows, highs = zip(*((cut.low, cut.high) for cut in cuts), strict=True)
    low = None if None in lows else min(lows)
    return Cut(low=low, high=None if None in highs else max(highs))


def audit(work: Work) -> Receipt:
    """The user's suites of sources on the pinned files, by Great Expectations, and the pins that what is built reads: where rows
    failed that the description lets set aside, without these.

    Raises:
        SourceError: a file was replaced or removed while it was read.
        DescriptionError: suites and description do not agree.
    """
    from almanac.spark import checks, quarantine

    receipt = admit(work.linked("pin"), Thing.SOURCES, Door.PIN, pipeline=work.home.name)
    pins = dict(pin.pinned(work.home, receipt))
    suites = checks.suites(work.asked("checks"), work.pipeline)
    folder = work.home.layout.report(work.order.digest, uuid.uuid4().hex, "").rstrip("/")
    pages: list[Output] = []
    aside: list[Output] = []
    findings: list[str] = []
    warnings: list[str] = []
    facts = {}
    for name, span in ((name, decode(Cut, told)) for name, told in work.order.parameters[SPANS].items()):
        source, whole = work.pipeline.sources[name], calls.as_named_now(work.home.objects, pins[name])
        read = replace(whole, files=whole.within(span))
        if not read.files:
            continue
        try:
            found = quarantine.inspect(work.bench.session, source, read, suites[name], f"{work.home.name}_{name}")
        except Exception:
            check_unchanged(work.home.objects, read, read.files)  # another file in its place is told as such
            raise
        blocking = [f"Source {name!r}: {text}" for text in found.checked.blocking] + [text for text in [found.refused] if text]
        findings += blocking
        warnings += [f"warning: source {name!r}: {text}" for text in found.checked.warnings]
        facts[name] = {"checks": found.checked.checks, "rows": found.rows, "aside": found.aside}
        page = work.put(folder, f"{name}.html", found.checked.html.encode())
        pages.insert(0 if blocking else len(pages), page)  # the first one is what the UI's button opens
        if found.aside:
            aside += quarantine.keep(work.bench.session, source, found, folder)
            warnings.append(_told(name, found))
            pins[name] = _with(whole, found.pin)
        check_unchanged(work.home.objects, read, read.files)
    return work.receipt(
        passed=not findings,
        content=work.order.digest,
        outputs=[*pin.keep(work.home, work.order, pins), *pages, *aside],
        findings=[*findings, *warnings],
        facts={"checks": sum(fact["checks"] for fact in facts.values()), "sources": facts},
    )


def _with(pin: Pin, checked: Pin) -> Pin:
    """A pin, of whose files some were checked."""
    known = {file.uri: file for file in checked.files}
    return replace(pin, files=tuple(known.get(file.uri, file) for file in pin.files))


def _told(name: str, found: Inspected) -> str:
    reasons = Counter(reason for rows in found.reasons.values() for reason in rows.values())
    why = "; ".join(f"{count} by {reason}" for reason, count in reasons.most_common(SHOWN_EXAMPLES))
    return f"warning: source {name!r}: {found.aside} of {found.rows} rows ({found.aside / found.rows:.3g}) are set aside: {why}"
