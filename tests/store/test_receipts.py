"""Orders and receipts on a real S3 server: the first is kept, of two results one wins, and altered bytes are found."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from almanac.core.canonical import sealed, sha256
from almanac.core.layout import Layout
from almanac.core.receipts import Artifact, Order, PlacedOrder, Receipt, RunInfo, Step
from almanac.errors import IntegrityError, NotFound
from almanac.store.objects import Objects
from almanac.store.receipts import Receipts, read_order
from tests.support.records import order, output, receipt
from tests.support.shop import pipeline

pytestmark = pytest.mark.store


@pytest.fixture
def receipts(objects: Objects, root: str) -> Receipts:
    return Receipts(objects, Layout(root, "shop"))


def keys(receipts: Receipts) -> list[str]:
    """What is kept, below the pipeline's home."""
    home = receipts.layout.home
    return [item.uri.removeprefix(f"{home}/") for item in receipts.objects.walk(f"{home}/")]


# --- orders ---


def test_a_placed_order_lies_under_its_digest(receipts: Receipts) -> None:
    placed = PlacedOrder(order=order(), links={"pin": "s3://almanac/pin"})
    uri = receipts.place(placed)

    assert keys(receipts) == [f"orders/{order().digest}.json"]
    assert receipts.placed(order().digest) == read_order(receipts.objects, uri) == placed


def test_placing_an_order_twice_keeps_the_first(receipts: Receipts) -> None:
    first = receipts.place(PlacedOrder(order=order(), links={"pin": "s3://almanac/first"}))
    second = receipts.place(PlacedOrder(order=order(), links={"pin": "s3://almanac/second"}))

    assert first == second
    assert receipts.placed(order().digest).links == {"pin": "s3://almanac/first"}


def test_an_order_that_was_never_placed_is_not_found(receipts: Receipts) -> None:
    with pytest.raises(NotFound, match=r"orders/nothing\.json: the object does not exist"):
        receipts.placed("nothing")


def test_an_order_altered_in_place_is_found_by_its_seal(receipts: Receipts) -> None:
    uri = receipts.place(PlacedOrder(order=order()))
    receipts.objects.put(uri, receipts.objects.get(uri).replace(b'"2017-06"', b'"2017-07"'))

    with pytest.raises(IntegrityError, match=r"valid PlacedOrder, got other bytes \(its seal"):
        receipts.placed(order().digest)


def test_another_order_under_an_orders_name_is_found(receipts: Receipts) -> None:
    uri = receipts.place(PlacedOrder(order=order()))
    receipts.objects.put(uri, sealed(PlacedOrder(order=order(period="2017-07"))))
    with pytest.raises(IntegrityError) as refused:
        receipts.placed(order().digest)

    assert str(refused.value) == f"{uri}: the order was altered and is not run. Place it again."


def test_an_order_whose_bytes_are_none_is_found(receipts: Receipts) -> None:
    uri = receipts.place(PlacedOrder(order=order()))
    receipts.objects.put(uri, receipts.objects.get(uri)[:-7])

    with pytest.raises(IntegrityError, match="expected a valid PlacedOrder, got other bytes"):
        receipts.placed(order().digest)


# --- receipts ---


def test_nothing_is_found_before_anything_is_kept(receipts: Receipts) -> None:
    assert receipts.find(order()) is None
    assert receipts.done(order()) is None


def test_a_kept_receipt_is_found_by_its_order(receipts: Receipts) -> None:
    ours = receipts.keep(receipt(outputs=(output("a.parquet", rows=3),)))

    assert keys(receipts) == [f"receipts/features/stage/{order().digest}-0.json"]
    assert receipts.uri(ours) == f"{receipts.layout.home}/{keys(receipts)[0]}"
    assert receipts.find(order()) == receipts.done(order()) == receipts.read(receipts.uri(ours)) == ours
    assert receipts.find(order(period="2017-07")) is None


def test_a_passed_receipt_is_final(receipts: Receipts) -> None:
    first = receipts.keep(receipt(content="first"))
    late = receipts.keep(receipt(content="late"))
    failed = receipts.keep(receipt(passed=False, findings=("too late",)))

    assert late == failed == first
    assert len(keys(receipts)) == 1


def test_a_failed_receipt_is_followed_by_the_next_attempt(receipts: Receipts) -> None:
    first = receipts.keep(receipt(passed=False, findings=("no rows",)))
    assert receipts.find(order()) == first
    assert receipts.done(order()) is None
    second = receipts.keep(receipt(passed=False, findings=("no rows again",)))
    third = receipts.keep(receipt())

    assert [first.attempt, second.attempt, third.attempt] == [0, 1, 2]
    assert receipts.done(order()) == third
    assert keys(receipts) == [f"receipts/features/stage/{order().digest}-{attempt}.json" for attempt in range(3)]


def test_the_newest_of_more_than_ten_attempts_is_found(receipts: Receipts) -> None:
    """Names sort 10 before 9."""
    for number in range(11):
        receipts.keep(receipt(passed=False, findings=(f"attempt {number}",)))
    found = receipts.find(order())

    assert found is not None
    assert (found.attempt, found.findings) == (10, ("attempt 10",))


def test_a_no_of_the_gate_is_an_answer_and_final(receipts: Receipts) -> None:
    asked = order(artifact=Artifact.CHAMPION, step=Step.AUDIT)
    no = receipts.keep(receipt(asked, passed=False, facts={"decision": {"verdict": "reject"}}))

    assert receipts.done(asked) == no
    assert receipts.keep(receipt(asked)) == no


def test_of_two_receipts_for_one_order_one_wins_and_the_other_is_adopted(receipts: Receipts) -> None:
    start = threading.Barrier(4)

    def keep(number: int) -> object:
        start.wait()
        return receipts.keep(receipt(content=f"content {number}", run_info=RunInfo(run=f"run {number}")))

    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(keep, range(4)))

    assert all(found == kept[0] for found in kept)
    assert receipts.find(order()) == kept[0]
    assert len(keys(receipts)) == 1


def test_a_receipt_that_came_between_our_look_and_our_write_is_adopted(receipts: Receipts) -> None:
    """The race without luck: the other one writes after we have found nothing."""
    winner = receipt(content="theirs")

    class Late(Receipts):
        def find(self, order: object) -> None:  # type: ignore[override]  # noqa: ARG002
            receipts.keep(winner)

    assert Late(receipts.objects, receipts.layout).keep(receipt(content="ours")) == winner
    assert receipts.find(order()) == winner


def test_a_success_does_not_adopt_a_failure_that_came_between(receipts: Receipts) -> None:
    """Two jobs carry out one order: one fails and writes first, the other one has done the work."""
    lost = iter([receipt(passed=False, content="", facts={"error": "OSError"}, findings=("no space left",))])

    class Late(Receipts):
        def find(self, order: Order) -> Receipt | None:
            for failure in lost:
                receipts.keep(failure)
                return None
            return receipts.find(order)

    kept = Late(receipts.objects, receipts.layout).keep(receipt(content="ours"))

    assert (kept.passed, kept.attempt, kept.content) == (True, 1, "ours")
    assert receipts.find(order()) == kept


def test_a_receipt_whose_bytes_are_none_is_found(receipts: Receipts) -> None:
    uri = receipts.uri(receipts.keep(receipt()))
    receipts.objects.put(uri, b'{"order": 1}')

    with pytest.raises(IntegrityError, match="expected a valid Receipt, got other bytes"):
        receipts.find(order())


def test_a_receipt_altered_in_place_is_found_by_its_seal(receipts: Receipts) -> None:
    uri = receipts.uri(receipts.keep(receipt(passed=False, findings=("no rows",))))
    receipts.objects.put(uri, receipts.objects.get(uri).replace(b'"passed":false', b'"passed":true'))

    with pytest.raises(IntegrityError, match=r"valid Receipt, got other bytes \(its seal"):
        receipts.read(uri)


def test_another_orders_receipt_under_a_receipts_name_is_found(receipts: Receipts) -> None:
    uri = receipts.uri(receipts.keep(receipt()))
    other = receipt(order(period="2017-07"))
    receipts.objects.put(uri, sealed(other))
    with pytest.raises(IntegrityError) as refused:
        receipts.read(uri)

    assert str(refused.value) == (
        f"{uri}: the receipt belongs at {receipts.uri(other)} (shop features.stage 2017-07). Restore the right one."
    )


# --- descriptions and modules ---


def test_a_description_and_a_module_are_kept_under_their_digests(receipts: Receipts) -> None:
    described = pipeline(f"{receipts.layout.root}/landing")
    digests = receipts.describe(described, b"zipped module")

    assert digests == (described.digest, sha256(b"zipped module"))
    assert keys(receipts) == [f"descriptions/{digests[0]}.json", f"modules/{digests[1]}.zip"]
    assert receipts.description(digests[0]) == described
    assert receipts.module(digests[1]) == b"zipped module"
    assert receipts.describe(described, b"zipped module") == digests


def test_an_altered_description_is_found(receipts: Receipts) -> None:
    digest, _ = receipts.describe(pipeline("s3://almanac/landing"), b"")
    uri = receipts.layout.description(digest)
    body = receipts.objects.get(uri)
    receipts.objects.put(uri, body.replace(f'"horizon":{timedelta(days=30).total_seconds()}'.encode(), b'"horizon":86400.0'))
    assert receipts.objects.get(uri) != body
    with pytest.raises(IntegrityError) as refused:
        receipts.description(digest)

    assert str(refused.value) == f"{uri}: the description was altered. Restore it from the bucket's versions."


def test_an_altered_module_is_found_before_it_is_run(receipts: Receipts) -> None:
    _, digest = receipts.describe(pipeline("s3://almanac/landing"), b"zipped module")
    uri = receipts.layout.module(digest)
    receipts.objects.put(uri, b"other module")
    with pytest.raises(IntegrityError) as refused:
        receipts.module(digest)

    assert str(refused.value) == f"{uri}: the module was altered and is not run. Restore it from the bucket's versions."


def test_a_description_or_module_that_was_never_kept_is_not_found(receipts: Receipts) -> None:
    for ask in (receipts.description, receipts.module):
        with pytest.raises(NotFound, match="the object does not exist"):
            ask("0" * 64)
