"""Calling the user's functions: each is given its sources, cut, and its failure is told in plain words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from almanac.core.functions import Part, arguments, call, function_of
from almanac.core.pipeline import FeatureGroup, Population
from almanac.core.provenance import reach
from almanac.core.sources import Cut, Pin
from almanac.doors import job
from almanac.doors.job import Work
from almanac.doors.pin import check_audited, pinned
from almanac.errors import AlmanacError, DescriptionError, SourceError, StoreError
from almanac.store.objects import Objects
from almanac.store.sources import check_unchanged

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def cuts(work: Work) -> dict[str, Cut]:
    """What the order of a feature group or of the population may see of each source that it reads."""
    return dict(reach(work.order, work.pipeline))


def given(work: Work, part: FeatureGroup | Population) -> DataFrame:
    """What a feature group or the population gives for the order's period. Raises: as `ask`."""
    return ask(work, part, cuts(work), work.order.period)


def ask(work: Work, part: Part, cut: Mapping[str, Cut], period: str) -> DataFrame:
    """What a part's function gives for a period, its sources cut.

    Raises:
        DescriptionError: the function is missing, its arguments do not fit, or it failed.
    """
    from almanac.spark import sources

    function = function_of(work.module, part.name)
    arguments(function, part, work.pipeline)
    pins = pins_of(work, cut)
    offered: dict[str, Any] = dict(sources.read_all(work.bench.spark, work.pipeline.sources, pins, cut))
    offered["as_of"] = work.pipeline.period(period).as_of
    try:
        found: DataFrame = call(function, part, work.pipeline, offered)
    except AlmanacError:
        raise
    except Exception as error:
        raise DescriptionError(
            f"Function {part.name!r} of {work.pipeline.name!r} failed for {period}: {job.plain(error)}. "
            "Correct it in the user's module; the next run takes the new one."
        ) from error
    return found


@contextlib.contextmanager
def reading(work: Work, cut: Mapping[str, Cut]) -> Iterator[None]:
    """The files that are read inside are at the end still those that were pinned. Where they are not, reading may have
    failed of it, in whatever words: then that is told.

    Raises:
        SourceError: one was replaced or removed.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        try:
            _check_sources(work, cut)
        except SourceError as changed:
            raise changed from error
        raise
    _check_sources(work, cut)


def _check_sources(work: Work, cut: Mapping[str, Cut]) -> None:
    pins = pins_of(work, cut)
    for name, part in cut.items():
        check_unchanged(work.home.objects, pins[name], pins[name].within(part))


def pins_of(work: Work, names: Iterable[str]) -> dict[str, Pin]:
    """The order's pins of some sources. A file that is gone is looked for under another name: orders tell files by what
    they hold, so the pin of an earlier run may know one by a name of before.
    """
    names = list(names)
    receipt = work.linked("pin")
    check_audited(receipt, work.pipeline, names)
    pins = pinned(work.home, receipt)
    return {name: as_named_now(work.home.objects, pins[name]) for name in names}


def as_named_now(objects: Objects, pin: Pin) -> Pin:
    """The pin with the names that its files have now."""
    listed = list(objects.walk(pin.uri))
    there = {item.uri for item in listed}
    named = {(item.etag, item.size): item.uri for item in listed}
    files = (f if f.copy or f.uri in there else replace(f, uri=named.get((f.etag, f.size), f.uri)) for f in pin.files)
    return replace(pin, files=tuple(files))
