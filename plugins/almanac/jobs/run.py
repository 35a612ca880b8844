"""A Spark job: takes the URIs of orders, calls the function of each order's step, keeps receipts. Started by
`almanac/steps/run.py`.

A job that builds feature groups can also combine them, and a job that stages can also audit what it staged: the orders of that
follow from the receipts. The tasks of these steps then find them answered and submit no job of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from almanac.core.canonical import decode
from almanac.core.receipts import PART, Artifact, Order, PlacedOrder, Receipt, RunInfo, Step, alike, with_parts
from almanac.errors import AlmanacError, Conflict, NotAdmitted, StoreError
from almanac.jobs.context import JobContext, SparkJob, context_of, environment_digest
from almanac.jobs.failures import class_of, lost_store, plain, user_lines
from almanac.settings import GARBAGE, Settings
from almanac.store.home import Home
from almanac.store.objects import Objects
from almanac.store.receipts import read_order

# Steps that always need a Spark session; the others may find that their rows fit into the driver.
DISTRIBUTED = ("features.stage", "model.stage", "predictions.stage")


def function_for(order: Order) -> Callable[[JobContext], Receipt]:
    """The function that runs an order. Its module is imported here, so that a step does not load what only others need.

    Raises:
        NotAdmitted: no Spark job runs the order's step.
    """
    match order.artifact, order.step:
        case Artifact.SOURCES, Step.AUDIT:
            from almanac.jobs import sources

            return sources.audit
        case Artifact.FEATURES, Step.STAGE | Step.AUDIT:
            from almanac.jobs import features

            return features.stage if order.step is Step.STAGE else features.audit
        case Artifact.MODEL, Step.STAGE | Step.AUDIT:
            from almanac.jobs import model

            return model.stage if order.step is Step.STAGE else model.audit
        case Artifact.CHAMPION, Step.STAGE | Step.AUDIT:
            from almanac.jobs import champion

            return champion.stage if order.step is Step.STAGE else champion.audit
        case Artifact.PREDICTIONS, Step.STAGE | Step.AUDIT:
            from almanac.jobs import predictions

            return predictions.stage if order.step is Step.STAGE else predictions.audit
    raise NotAdmitted(f"{order}: expected an order that a Spark job runs, a stage or an audit.")


def import_ahead(step: str, *, audits: bool) -> None:
    """Imports what a step needs after its first query, while that runs: some seconds."""
    if step == "model.stage":
        from almanac.model import importance, reports  # noqa: F401

        if audits:
            from almanac.model import parity  # noqa: F401
    elif audits:
        from almanac.spark import checks

        checks.import_great_expectations()


def run_order(home: Home, placed: PlacedOrder, job: SparkJob, run_info: RunInfo) -> Receipt:
    """Runs an order once: if it already has a receipt, returns that. A failure gets a receipt too.

    Raises:
        StoreError, Conflict: these say nothing about the order, so no receipt is kept.
    """
    done = home.receipts.done(placed.order)
    if done is not None:
        return done
    began = dataclasses.replace(run_info, began=datetime.now(UTC))
    try:
        with context_of(home, placed, job, began) as context:
            receipt = function_for(placed.order)(context)
    except (StoreError, Conflict):
        raise
    except Exception as error:
        if lost := lost_store(error):
            raise lost from error
        job.failed.append((placed.order, error))
        receipt = Receipt(
            order=placed.order,
            passed=False,
            run_info=dataclasses.replace(began, ended=datetime.now(UTC)),
            findings=(plain(error),),
            error=class_of(error),
        )
    return home.receipts.keep(receipt)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs orders and keeps their receipts. If one is not answered, the others still run and the exit code is 1.

    Raises:
        StoreError, Conflict: after the other orders, if one has no receipt because of the store.

    What comes of combining and of audits is their own tasks' matter: it does not change the exit code.
    """
    parser = argparse.ArgumentParser(description="Runs Almanac orders; started by spark-submit.")
    parser.add_argument("step", help="the step of all the orders, such as features.stage")
    parser.add_argument("orders", nargs="+", metavar="ORDER_URI", help="s3://.../orders/DIGEST.json")
    parser.add_argument("--combine", action="append", default=[], metavar="ORDER_URI", help="combine feature groups afterwards")
    parser.add_argument("--audit", action="store_true", help="audit what was staged as well")
    parser.add_argument("--run-info", default="{}", help="who runs the orders, as JSON: dag, run, task, attempt, actor")
    given = parser.parse_args(arguments)
    # Most objects of a short job belong to imported modules; looking for garbage among them took a fifth of its time.
    gc.set_threshold(GARBAGE)
    root = Settings.from_environment().root
    job = SparkJob(given.step)
    if given.step in DISTRIBUTED:
        job.begin()
        job.later = partial(import_ahead, given.step, audits=given.audit)
    objects = Objects()
    job.orders = tuple(read_order(objects, uri) for uri in given.orders)
    run_info = decode(RunInfo, {**json.loads(given.run_info), "environment": environment_digest()})
    (pipeline,) = {placed.order.pipeline for placed in job.orders}
    home = Home.of(root, pipeline, objects)
    receipts, lost = [], list[AlmanacError]()
    for number, placed in enumerate(job.orders, start=1):
        try:
            receipts.append(_run_and_tell(home, placed, job, run_info, f"{number} of {len(job.orders)}"))
        except (StoreError, Conflict) as error:
            print(f"almanac: {placed.order} has no receipt: {error}", flush=True)
            lost.append(error)
    tell_failures(job, pipeline)
    if lost:
        raise lost[0]
    if not all(receipt.answered for receipt in receipts):
        sys.exit(1)
    if given.combine:
        receipts = _along(home, job, run_info, "combine", [partial(_to_combine, home, uri) for uri in given.combine])
    if given.audit:
        audits = [partial(home.receipts.audit_of, home.receipts.uri(receipt)) for receipt in receipts if receipt.passed]
        _along(home, job, run_info, "audit", audits)


def _along(
    home: Home, job: SparkJob, run_info: RunInfo, name: str, placing: Iterable[Callable[[], PlacedOrder]]
) -> list[Receipt]:
    """Runs orders of later tasks. One that cannot be run here is left to its task."""
    orders = []
    for place in placing:
        with _left_to_its_task(name):
            home.receipts.place(placed := place())
            orders.append(placed)
    job.orders += tuple(orders)
    receipts = []
    for placed in orders:
        with _left_to_its_task(name):
            receipts.append(_run_and_tell(home, placed, job, run_info, name))
    return receipts


@contextlib.contextmanager
def _left_to_its_task(name: str) -> Iterator[None]:
    """Tells that something could not be done here."""
    try:
        yield
    except AlmanacError as error:
        print(f"almanac: {name}: not done here ({error}). Its own task does it.", flush=True)


def _to_combine(home: Home, uri: str) -> PlacedOrder:
    """The order to combine feature groups; the one at `uri` names the orders of the groups. Raises: NotAdmitted, NotFound."""
    waiting, parts = read_order(home.objects, uri), {}
    for name, order in waiting.links.items():
        if name.startswith(PART):
            placed = read_order(home.objects, order)
            if (receipt := home.receipts.done(placed.order)) is None:
                raise NotAdmitted(f"{placed.order} was not built.")
            parts[name.removeprefix(PART)] = (receipt.content, home.receipts.uri(receipt))
    return with_parts(waiting, parts)


def _run_and_tell(home: Home, placed: PlacedOrder, job: SparkJob, run_info: RunInfo, which: str) -> Receipt:
    """Runs an order, and prints what came of it to the job's log."""
    print(f"almanac: {which}: {placed.order}", flush=True)
    receipt = run_order(home, placed, job, run_info)
    came = "passed" if receipt.passed else "failed" if receipt.error else "did not pass"
    print(f"almanac: {came}: {home.receipts.uri(receipt)}", flush=True)
    for finding in receipt.findings if not receipt.error else ():  # an error is told at the end of the job
        print(f"almanac: {finding}", flush=True)
    return receipt


def tell_failures(job: SparkJob, name: str) -> None:
    """Prints the errors of a job's orders, each once, with the lines of the user's module that led to it. An error that came from
    elsewhere and is not Almanac's own has its whole traceback.
    """
    users = re.compile(rf".*/{re.escape(name)}(-[0-9a-f]+)?\.zip/{re.escape(name)}\.py")
    for what, error in alike((order, plain(error), error) for order, error in job.failed):
        print(f"almanac: {what} failed:", flush=True)
        lines = user_lines(error, lambda file: f"spark_jobs/{name}.py" if users.fullmatch(file) else "")
        if not lines and not isinstance(error, AlmanacError):
            lines = "".join(traceback.format_exception(error)).splitlines()
        said = f"{class_of(error)}: {plain(error)}" if isinstance(error, AlmanacError) else plain(error)
        for line in (*lines, said):
            print(f"  {line}", flush=True)
    job.failed.clear()
