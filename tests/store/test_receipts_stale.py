"""Stages that nobody published within a day, on a real S3 server: they are carried out again, and never twice at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from almanac.core.layout import Layout
from almanac.core.receipts import Artifact, Order, PlacedOrder, Receipt, RunInfo, Step, publish_order
from almanac.store.objects import Objects
from almanac.store.receipts import Receipts
from tests.support.records import NOON, order, output, receipt

pytestmark = pytest.mark.store

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TOMORROW = NOON + DAY + HOUR


@pytest.fixture
def receipts(objects: Objects, root: str) -> Receipts:
    return Receipts(objects, Layout(root, "shop"))


def staged(receipts: Receipts, asked: Order | None = None, **changes: Any) -> Receipt:
    """The receipt of a stage at noon, with a file that is there."""
    uri = f"{receipts.layout.root}/{changes.get('content', 'file')}.parquet"
    receipts.objects.put(uri, b"rows")
    described = {"outputs": (output("file", uri=uri),), "run_info": RunInfo(run="run-1", ended=NOON)}
    return receipt(asked, **{**described, **changes})


def test_a_stage_answers_its_order_for_a_day_and_not_longer(receipts: Receipts) -> None:
    first = receipts.keep(staged(receipts), NOON)

    assert receipts.done(order(), NOON + DAY) == first
    assert receipts.done(order(), TOMORROW) is None
    assert receipts.find(order()) == first


def test_by_default_the_clock_says_whether_a_stage_is_too_old(receipts: Receipts) -> None:
    receipts.keep(staged(receipts))
    assert receipts.done(order()) is None

    again = receipts.keep(staged(receipts, run_info=RunInfo(ended=datetime.now(UTC))))
    assert receipts.done(order()) == again


def test_a_stage_that_was_published_answers_for_ever(receipts: Receipts) -> None:
    first = receipts.keep(staged(receipts), NOON)
    receipts.keep(receipt(publish_order(order())))

    assert receipts.is_published(first)
    assert receipts.done(order(), NOON + 1000 * DAY) == first
    assert receipts.keep(staged(receipts, content="again"), NOON + 1000 * DAY) == first


def test_a_training_is_published_once_its_manifest_is_there(receipts: Receipts) -> None:
    asked = order(artifact=Artifact.MODEL)
    first = receipts.keep(staged(receipts, asked, facts={"version": "2017-06-ea02faee"}), NOON)
    assert receipts.done(asked, TOMORROW) is None

    receipts.objects.put(receipts.layout.manifest("2017-06-ea02faee"), b"{}")
    assert receipts.done(asked, TOMORROW) == first


def test_a_stage_done_anew_is_the_next_attempt_and_answers(receipts: Receipts) -> None:
    first = receipts.keep(staged(receipts), NOON)
    second = receipts.keep(staged(receipts, content="again", run_info=RunInfo(ended=TOMORROW)), TOMORROW)
    late = receipts.keep(staged(receipts, content="late", run_info=RunInfo(ended=TOMORROW)), TOMORROW + HOUR)

    assert (first.attempt, second.attempt) == (0, 1)
    assert late == second == receipts.done(order(), TOMORROW + HOUR)
    assert receipts.read(receipts.uri(first)) == first


def test_of_two_that_do_a_stage_anew_one_wins_and_the_other_adopts(receipts: Receipts) -> None:
    receipts.keep(staged(receipts), NOON)
    start = threading.Barrier(4)

    def keep(number: int) -> Receipt:
        ours = staged(receipts, content=f"content {number}", run_info=RunInfo(run=f"run {number}", ended=TOMORROW))
        start.wait()
        return receipts.keep(ours, TOMORROW)

    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(keep, range(4)))

    assert all(found == kept[0] for found in kept)
    assert kept[0].attempt == 1
    assert receipts.find(order()) == kept[0]


def test_a_part_answers_while_its_files_are_there_and_gc_leaves_them_alone(receipts: Receipts) -> None:
    asked = order(part="habits")
    first = receipts.keep(staged(receipts, asked), NOON)

    assert receipts.done(asked, NOON + 6 * DAY) == first
    assert receipts.done(asked, NOON + 6 * DAY + HOUR) is None
    receipts.objects.delete(first.outputs[0].uri)
    assert receipts.done(asked, TOMORROW) is None
    assert receipts.done(asked, NOON + DAY) == first


def test_a_stage_without_files_answers_for_ever(receipts: Receipts) -> None:
    compared = order(artifact=Artifact.CHAMPION)
    first = receipts.keep(receipt(compared, run_info=RunInfo(ended=NOON)))

    assert receipts.done(compared, NOON + 1000 * DAY) == first


# --- orders whose links may be gone ---


def links(receipts: Receipts, asked: Order | None = None) -> object:
    return receipts.placed((asked or order()).digest).links


def place(receipts: Receipts, link: str, now: datetime, asked: Order | None = None) -> None:
    receipts.place(PlacedOrder(order=asked or order(), links={"part.habits": link}), now)


def test_an_order_that_nobody_carried_out_for_a_day_gets_the_links_of_who_asks_now(receipts: Receipts) -> None:
    now = datetime.now(UTC)
    place(receipts, "first", now)
    place(receipts, "second", now + DAY - HOUR)
    assert links(receipts) == {"part.habits": "first"}

    place(receipts, "third", now + DAY + HOUR)
    assert links(receipts) == {"part.habits": "third"}


def test_an_order_that_was_answered_keeps_its_links(receipts: Receipts) -> None:
    now, asked = datetime.now(UTC), order(step=Step.AUDIT)
    place(receipts, "first", now, asked)
    receipts.keep(receipt(asked))
    place(receipts, "second", now + 30 * DAY, asked)

    assert links(receipts, asked) == {"part.habits": "first"}
