"""Queries begun ahead: while an order's query runs, that of the job's next order is planned and begun. Planning keeps one core
busy, and a small query leaves the others idle.

A retry begins nothing ahead: an order whose function takes the whole job with it then leaves those before it their receipts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from almanac.core.pins import Pin
from almanac.core.receipts import Order
from almanac.jobs import user_functions
from almanac.jobs.context import JobContext, context_of

Result = TypeVar("Result")
# Calls the user's functions, and returns what is left to do. That runs in a thread, where the user's module is not importable.
Begin = Callable[[JobContext, Mapping[str, Pin]], Callable[[], Result]]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A query that runs, and the pins of what it reads."""

    pins: Mapping[str, Pin]
    result: Future[Any]


def result_of(context: JobContext, begin: Begin[Result], alike: Callable[[Order], bool]) -> Result:
    """The result of the order's query. `alike` tells of which other orders `begin` begins the query.

    Raises:
        SourceError: a source changed while it was read.
        Exception: whatever `begin`, and what it returns, raise. The next order's errors are raised at its own turn.
    """
    begun: _Begun | None = context.job.made.pop(context.order.digest, None)
    pins = user_functions.pins_of(context) if begun is None else begun.pins
    with user_functions.reading(context, pins):
        begun = begun or _begun(context, begin, pins)
        if not context.retried:
            with contextlib.suppress(Exception):
                _begin_next(context, begin, alike)
        found: Result = context.job.result(begun.result)
        return found


def _begun(context: JobContext, begin: Begin[Any], pins: Mapping[str, Pin]) -> _Begun:
    return _Begun(pins, context.job.background.submit(begin(context, pins)))


def _begin_next(context: JobContext, begin: Begin[Any], alike: Callable[[Order], bool]) -> None:
    placed = next((one for one in context.job.after(context.placed) if alike(one.order)), None)
    if placed is None or placed.order.digest in context.job.made or context.home.receipts.done(placed.order) is not None:
        return
    with context_of(context.home, placed, context.job, context.run_info) as following:
        pins = user_functions.pins_of(following)
        context.job.made[placed.order.digest] = _begun(following, begin, pins)
