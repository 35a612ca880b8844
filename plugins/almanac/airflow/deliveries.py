"""The functions of the tasks that deliver. A database's address comes from Airflow's connection and stays in this process.

Only running tasks import this module; DAG parsing does not.
"""

from __future__ import annotations

import logging

from airflow.sdk.exceptions import AirflowSkipException

from almanac.airflow.connections import address_of
from almanac.airflow.context import TaskContext
from almanac.core.deliveries import Delivery, PostgresDelivery
from almanac.deliveries.places import keep_described
from almanac.deliveries.projection import deliver, showing
from almanac.errors import AlmanacError, DeliveryError, StoreError

log = logging.getLogger(__name__)


def deliver_all(context: TaskContext) -> dict[str, list[str]]:
    """Brings all deliveries of the pipeline up to date; maps each delivery to the periods that were delivered. If one fails,
    the others still run.

    Raises:
        StoreError: some failed, one of them because its place does not answer; a retry may help.
        DeliveryError: some failed.
    """
    keep_described(context.home, context.pipeline)
    done, failed = {}, []
    for one in context.pipeline.deliveries:
        try:
            found = deliver(context.home, context.pipeline, one, address(one), context.run_info)
        except AlmanacError as error:
            log.error("%s", error)
            failed.append(error)
            continue
        log.info(found.in_words)
        done[one.name] = [applied.period for applied in found.applied]
    if failed:
        kind = StoreError if any(isinstance(error, StoreError) for error in failed) else DeliveryError
        reasons = "\n".join(map(str, failed))
        raise kind(f"{reasons}\nPublished periods stay published; the next run of the score DAG delivers what is missing.")
    return done


def deliver_in_rollback(context: TaskContext) -> dict[str, list[str]]:
    """As `deliver_all`, but a failure skips the task: the rollback's last task delivers again and must still run."""
    if context.params.get("dry_run"):
        raise AirflowSkipException("Dry run. Nothing was delivered.")
    try:
        return deliver_all(context)
    except AlmanacError as error:
        raise AirflowSkipException(f"{error} The task verify retries it.") from None


def verify(context: TaskContext, withdrawn: str) -> None:
    """Delivers what is left after a rollback, and checks that no delivery still shows the withdrawn version.

    Raises:
        StoreError, DeliveryError: a delivery may still show it.
    """
    if not context.pipeline.deliveries:
        return
    deliver_all(context)
    for one in context.pipeline.deliveries:
        if shown := showing(context.home, one, address(one), withdrawn):
            raise DeliveryError(
                f"Delivery {one.name!r} still shows {', '.join(shown)} as written by the withdrawn version {withdrawn}: the "
                "predictions changed while they were delivered. Clear the task verify; it delivers again."
            )


def address(delivery: Delivery) -> str:
    """The URI of a delivery's database, from Airflow's connection; empty for a delivery without a database.

    Raises:
        DescriptionError: Airflow has no such connection, or it is not a PostgreSQL connection.
    """
    if not isinstance(delivery, PostgresDelivery):
        return ""
    return address_of(delivery.connection, f"delivery {delivery.name!r}", "PostgresDelivery(connection=...)")
