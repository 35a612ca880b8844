"""`almanac deliver`: delivers predictions to other systems, without Airflow."""

from __future__ import annotations

from typing import Annotated

import typer

from almanac.cli.console import AsJson, Name, app, by_hand, home_of, show_rows
from almanac.cli.gc import progress
from almanac.core.deliveries import Delivery, PostgresDelivery, named
from almanac.core.pipeline import Pipeline
from almanac.deliveries import places, projection
from almanac.deliveries.notes import Applied, Delivered
from almanac.errors import DescriptionError
from almanac.settings import delivery_address
from almanac.store.home import Home

Which = Annotated[str | None, typer.Option("--delivery", help="Only this delivery; default all.")]


@app.command(
    epilog="Examples: almanac deliver purchase_propensity --dry-run; almanac deliver purchase_propensity --delivery warehouse"
)
def deliver(
    name: Name,
    delivery: Which = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the periods that are not up to date; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Brings a pipeline's deliveries up to date: newly published periods, failed ones, and those that are no longer visible.

    The DAGs do this by themselves. The address of a delivery's database comes from the environment variable
    ALMANAC_DELIVERY_NAME, with the delivery's name in capitals: postgresql://user:password@host:5432/database.
    """
    home = home_of(name)
    pipeline = _described(home)
    chosen = [(one, _address(one)) for one in named(pipeline.deliveries, delivery)]
    if dry_run:
        left = {one.name: projection.outstanding(home, one, address) for one, address in chosen}
        rows = [[key, str(len(periods)), ", ".join(periods) or "up to date"] for key, periods in left.items()]
        show_rows(left, as_json, ["delivery", "outstanding", "periods"], rows)
        return
    done = [_delivered(home, pipeline, one, address) for one, address in chosen]
    columns = ["delivery", "period", "rows", "order", "replaced"]
    show_rows(done, as_json, columns, [_row(found.delivery, one) for found in done for one in found.applied])
    if not as_json:
        for found in done:
            typer.echo(found.in_words)


def _described(home: Home) -> Pipeline:
    found = places.described(home)
    if found is None or not found.deliveries:
        raise DescriptionError(
            f"No deliveries of pipeline {home.name!r} are recorded. Describe them in its DAG file, "
            "Pipeline(deliveries=(...)), and run its score DAG once; after that this command finds them."
        )
    return found


def _address(delivery: Delivery) -> str:
    return delivery_address(delivery.name) if isinstance(delivery, PostgresDelivery) else ""


def _delivered(home: Home, pipeline: Pipeline, delivery: Delivery, address: str) -> Delivered:
    left = projection.outstanding(home, delivery, address)
    with progress(f"delivering to {delivery.name}", len(left)) as advance:
        return projection.deliver(home, pipeline, delivery, address, by_hand(), lambda _: advance(1))


def _row(delivery: str, one: Applied) -> list[str]:
    return [delivery, one.period, str(one.rows) if one.order else "removed", one.order[:12], one.replaced[:12]]
