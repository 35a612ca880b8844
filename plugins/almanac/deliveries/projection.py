"""Deliveries: copies published predictions to the systems that read them.

A delivery writes no receipt. The next step needs a receipt, but no step follows a delivery: nothing is built on it. It is a
projection. The place stores a note of what it shows, in the same write that shows it, so no second record can differ. To
deliver is to compare the notes with the table, whoever wrote either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import unquote

from almanac.core.deliveries import Delivery, ParquetDelivery
from almanac.core.facts import version_of
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Artifact, Output, RunInfo, Step, publish_order
from almanac.deliveries import notes
from almanac.deliveries.notes import Applied, Delivered, DeliveryAction, DeliveryNote, Position
from almanac.deliveries.places import Change, Place, opened
from almanac.errors import AlmanacError, DeliveryError, DescriptionError, NotFound, StoreError, bounded, examples
from almanac.store.home import Home
from almanac.store.tables import Visible

ROUNDS = 4
Told = Callable[[Applied], None]


def deliver(
    home: Home,
    pipeline: Pipeline,
    delivery: Delivery,
    address: str,
    run_info: RunInfo,
    told: Told = lambda _: None,
) -> Delivered:
    """Brings every period of a delivery up to date: those published since, those that failed before, and those that are no
    longer visible. If nothing differs, nothing is written.

    Periods that cannot be delivered do not hold up the others. `address`: the URI of the database; `told` is called with each
    period.

    Raises:
        StoreError: the predictions or the place do not answer. DescriptionError: the place is inside ALMANAC_ROOT.
        DeliveryError: some periods could not be delivered; the message says which and why. The published predictions are
            unaffected.
    """
    check_outside(home, delivery)
    applied: list[Applied] = []
    failed: dict[str, str] = {}
    with opened(home.objects, delivery, address) as place:
        for _ in range(ROUNDS):
            left, seen, positions, _ = _standing(home, delivery, place)
            left = [period for period in left if period not in failed]
            if not left:
                break
            for period in left:
                change = _change(home, pipeline.keys, period, positions[period], seen.get(period), run_info)
                try:
                    action, done = place.apply(change)
                except StoreError:
                    raise
                except AlmanacError as error:
                    failed[period] = f"{period}: {error}"
                    continue
                if action is DeliveryAction.APPLY and done is not None:
                    applied.append(done)
                    told(done)
        else:
            left, _, positions, notes = _standing(home, delivery, place)
            failed.update({period: _ahead(home, period, positions[period], notes.get(period)) for period in left})
        place.tidy()
    if failed:
        raise DeliveryError(
            f"Delivery {delivery.name!r}: {examples(sorted(failed), 12)} could not be delivered (other periods delivered: "
            f"{len(applied)}). The published predictions are unaffected, and the next run delivers what is missing.\n"
            + bounded([failed[period] for period in sorted(failed)])
        )
    return Delivered(delivery=delivery.name, applied=tuple(applied))


def outstanding(home: Home, delivery: Delivery, address: str) -> list[str]:
    """The periods of a delivery that are not up to date. Nothing is changed.

    Raises:
        StoreError: the predictions or the place do not answer. DeliveryError: the place is filled from another table.
    """
    with opened(home.objects, delivery, address) as place:
        return _standing(home, delivery, place)[0]


def showing(home: Home, delivery: Delivery, address: str, version: str) -> list[str]:
    """The periods for which a delivery still shows rows of a version that the predictions table no longer shows."""
    with opened(home.objects, delivery, address) as place:
        left, _, _, notes = _standing(home, delivery, place)
    return [period for period in left if period in notes and _version(home, notes[period].position.order) == version]


def check_outside(home: Home, delivery: Delivery) -> None:
    """Checks that a delivery is outside ALMANAC_ROOT. Raises: DescriptionError."""
    root = home.layout.root.rstrip("/") + "/"
    if isinstance(delivery, ParquetDelivery) and f"{delivery.uri.rstrip('/')}/".startswith(root):
        raise DescriptionError(
            f"ParquetDelivery.uri: expected a folder outside ALMANAC_ROOT ({home.layout.root}), which only Almanac writes to; "
            f"delivery {delivery.name!r} has {delivery.uri}. Give it a folder elsewhere, such as one beside ALMANAC_ROOT."
        )


def _standing(
    home: Home, delivery: Delivery, place: Place
) -> tuple[list[str], dict[str, Visible], dict[str, Position], Mapping[str, DeliveryNote]]:
    """The periods that differ, what is visible, the table's position for each visible or noted period, and the notes."""
    held = place.notes()
    notes.check_source(delivery, held, home.predictions.uri)
    seen, fences = home.predictions.standing(held)
    positions = {
        period: Position(fence=fence, order=seen[period].order, rows=seen[period].rows)
        if period in seen
        else Position(fence=fence)
        for period, fence in fences.items()
    }
    return notes.outstanding(positions, held), seen, positions, held


def _change(
    home: Home, keys: tuple[str, ...], period: str, position: Position, seen: Visible | None, run_info: RunInfo
) -> Change:
    source = home.predictions.uri
    files: tuple[Output, ...] = ()
    if seen is not None:
        known = _published(home, seen.order)
        uris = {path: f"{source}/{unquote(path)}" for path in seen.paths}
        files = tuple(known.get(uri) or Output(name=path, uri=uri, bytes=0, sha256="") for path, uri in uris.items())
    run = f"{run_info.dag} {run_info.run}".strip() or run_info.actor
    return Change(source=source, period=period, position=position, files=files, keys=keys, run=run)


def _published(home: Home, order: str) -> dict[str, Output]:
    """The files of a publish receipt, by URI; none if the publisher died before the receipt and no run has written it yet."""
    try:
        receipt = home.receipts.find(publish_order(home.receipts.placed(order).order))
    except NotFound:
        return {}
    return {output.uri: output for output in receipt.outputs} if receipt else {}


def _version(home: Home, order: str) -> str:
    receipt = home.receipts.find_digest(Artifact.PREDICTIONS.value, Step.STAGE.value, order) if order else None
    return version_of(receipt) if receipt else ""


def _ahead(home: Home, period: str, position: Position, note: DeliveryNote | None) -> str:
    if note is not None and note.position.fence > position.fence:
        return (
            f"{period}: the delivery shows publish {note.position.fence}, but {home.predictions.uri} is only at publish "
            f"{position.fence}. Was the bucket restored to an earlier state? See docs/deliveries.md."
        )
    return f"{period}: it was published repeatedly while it was delivered. Run the delivery again."
