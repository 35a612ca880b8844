"""Calling user functions: each gets its sources, cut in time, and its failure becomes an error in plain words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from almanac.core.cuts import reach, seen
from almanac.core.functions import Part, arguments, call, function_of
from almanac.core.pins import Pin, check_audited
from almanac.core.pipeline import FeatureGroup, Population
from almanac.core.sources import Cut
from almanac.errors import AlmanacError, DescriptionError, SourceError, StoreError
from almanac.jobs.context import JobContext, Pins
from almanac.jobs.failures import plain
from almanac.store.pinned_files import as_named_now, check_unchanged
from almanac.store.pins import admitted_pins

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def cuts(context: JobContext) -> dict[str, Cut]:
    """The cut of each source that the order of a feature group or of the population reads."""
    return dict(reach(context.order, context.pipeline))


def frame(context: JobContext, part: FeatureGroup | Population, pins: Mapping[str, Pin]) -> DataFrame:
    """The result of a feature group's or the population's function for the order's period. Raises: as `call_part`."""
    return call_part(context, part, pins, cuts(context), context.order.period)


def call_part(context: JobContext, part: Part, pins: Mapping[str, Pin], cut: Mapping[str, Cut], period: str) -> DataFrame:
    """The result of a part's function for a period, with its pinned sources cut.

    Raises:
        DescriptionError: the function is missing, its arguments do not fit, or it failed.
    """
    from almanac.spark import sources

    function = function_of(context.module, part.name)
    arguments(function, part, context.pipeline)
    available: dict[str, Any] = dict(sources.read_all(context.job.spark, context.pipeline.sources, pins, cut))
    available["as_of"] = context.pipeline.period(period).as_of
    try:
        found: DataFrame = call(function, part, context.pipeline, available)
    except AlmanacError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() would end the job, and with it the other orders
        raise DescriptionError(
            f"Function {part.name!r} of {context.pipeline.name!r} failed for {period}: {plain(error)}. "
            "Correct it in the user's module; the next run uses the corrected one."
        ) from error
    return found


@contextlib.contextmanager
def reading(context: JobContext, pins: Mapping[str, Pin]) -> Iterator[None]:
    """Checks that the files that the order reads inside are still those that were pinned. If they are not, that is the error,
    whatever reading failed with.

    Raises:
        SourceError: one was replaced or removed.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        try:
            _check_sources(context, pins)
        except SourceError as changed:
            raise changed from error
        raise
    _check_sources(context, pins)


def _check_sources(context: JobContext, pins: Mapping[str, Pin]) -> None:
    for name, files in seen(context.order, context.pipeline, pins).items():
        check_unchanged(context.home.objects, pins[name], files)


def pins_of(context: JobContext) -> dict[str, Pin]:
    """The pins of the sources that the order reads. A file that is gone is looked up under another name: orders identify files by
    content, so the pin of an earlier run may hold an older name. A pin is read once per job.
    """
    names = list(cuts(context))
    uri = context.placed.links["pin"]
    if uri not in context.job.pins:
        receipt = context.linked("pin")
        context.job.pins[uri] = Pins(receipt, admitted_pins(context.home, receipt))
    pins = context.job.pins[uri]
    check_audited(pins.receipt, context.pipeline, names)
    for name in names:
        if name not in pins.named:
            pins.named[name] = as_named_now(context.home.objects, pins.all[name])
    return {name: pins.named[name] for name in names}
