"""The audit of sources: pinned files are checked before anything is built from them."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from almanac.core.canonical import decode
from almanac.core.facts import AuditedSource, AuditedSources
from almanac.core.pins import SPANS, Pin
from almanac.core.receipts import Artifact, Output, Receipt, Step
from almanac.core.sources import Cut
from almanac.errors import SHOWN_EXAMPLES
from almanac.jobs.context import JobContext
from almanac.store.pinned_files import as_named_now, check_unchanged
from almanac.store.pins import read_pins, write_pins

if TYPE_CHECKING:
    from almanac.spark.quarantine import Inspected


def audit(context: JobContext) -> Receipt:
    """The user's suites for sources, by Great Expectations on the pinned files. Writes the pins that features and labels read:
    without the rows that failed, if the description lets them be set aside.

    Raises:
        SourceError: a file was replaced or removed while it was read.
        DescriptionError: suites and description do not match.
    """
    from almanac.spark import checks, quarantine

    receipt = context.admitted("pin", Artifact.SOURCES, Step.PIN)
    pins = dict(read_pins(context.home, receipt))
    suites = checks.suites(context.call("checks"), context.pipeline)
    folder = context.home.layout.report(context.order.digest, uuid.uuid4().hex, "").rstrip("/")
    pages: list[Output] = []
    aside: list[Output] = []
    findings: list[str] = []
    warnings: list[str] = []
    audited: dict[str, AuditedSource] = {}
    for name, span in ((name, decode(Cut, span)) for name, span in context.order.parameters[SPANS].items()):
        source, whole = context.pipeline.sources[name], as_named_now(context.home.objects, pins[name])
        read = replace(whole, files=whole.within(span))
        if not read.files:
            continue
        try:
            found = quarantine.inspect(context.job.session, source, read, suites[name], f"{context.home.name}_{name}")
        except Exception:
            check_unchanged(context.home.objects, read, read.files)  # if a file was replaced, that is the error
            raise
        blocking = [f"Source {name!r}: {text}" for text in found.checked.blocking] + [text for text in [found.refused] if text]
        findings += blocking
        warnings += [f"warning: source {name!r}: {text}" for text in found.checked.warnings]
        audited[name] = AuditedSource(checks=found.checked.checks, rows=found.rows, aside=found.aside)
        page = context.put(folder, f"{name}.html", found.checked.html.encode())
        pages.insert(0 if blocking else len(pages), page)  # the UI's button opens the first one
        if found.aside:
            aside += quarantine.keep(context.job.session, source, found, folder)
            warnings.append(_set_aside(name, found))
            pins[name] = _with(whole, found.pin)
        check_unchanged(context.home.objects, read, read.files)
    return context.receipt(
        passed=not findings,
        content=context.order.digest,
        outputs=[*write_pins(context.home, context.order, pins), *pages, *aside],
        findings=[*findings, *warnings],
        facts=AuditedSources(checks=sum(one.checks for one in audited.values()), sources=audited),
    )


def _with(pin: Pin, checked: Pin) -> Pin:
    """A pin with the files that were checked put in their places."""
    known = {file.uri: file for file in checked.files}
    return replace(pin, files=tuple(known.get(file.uri, file) for file in pin.files))


def _set_aside(name: str, found: Inspected) -> str:
    reasons = Counter(reason for rows in found.reasons.values() for reason in rows.values())
    why = "; ".join(f"{count} by {reason}" for reason, count in reasons.most_common(SHOWN_EXAMPLES))
    return f"warning: source {name!r}: {found.aside} of {found.rows} rows ({found.aside / found.rows:.3g}) were set aside: {why}"
