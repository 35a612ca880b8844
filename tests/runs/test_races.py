"""Crashes and races: of two who publish one period one wins, and a retry never does a thing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from almanac.core.receipts import Artifact, PlacedOrder, Receipt, RunInfo, Step, publish_order
from almanac.errors import Conflict, IntegrityError, NotAdmitted, Unreachable
from almanac.jobs.run import run_order
from almanac.runs import orders, plan, publish
from almanac.store.receipts import Receipts
from almanac.store.tables import Table
from tests.support.shop import Shop, renamed
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


def at_once(*publishers: Callable[[], Receipt]) -> list[Receipt | Exception]:
    """What publishers gave or raised that had all opened the table before any of them committed."""
    gate, came = threading.Barrier(len(publishers), timeout=60), threading.local()
    real = Table._open

    def together(table: Table) -> Any:
        found = real(table)
        if not hasattr(came, "before"):
            came.before = True
            gate.wait()
        return found

    answers: list[Any] = [None] * len(publishers)

    def run(number: int) -> None:
        try:
            answers[number] = publishers[number]()
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(publishers))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "_open", together)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return answers


def once(failure: Exception, patch: pytest.MonkeyPatch, kind: type, name: str) -> None:
    """The next call of a method fails; the ones after it do what they always do."""
    real = getattr(kind, name)

    def fail(*_: object, **__: object) -> None:
        patch.setattr(kind, name, real)
        raise failure

    patch.setattr(kind, name, fail)


def both(world: World) -> tuple[tuple[Receipt, Receipt], tuple[Receipt, Receipt]]:
    """One new period, staged and audited by two runs that know nothing of each other."""
    return world.shop.stage_score("2017-08", version=world.old), world.shop.stage_score("2017-08", version=world.new)


def publishing(shop: Shop, staged: Receipt, audited: Receipt, run: str = "") -> Callable[[], Receipt]:
    return lambda: publish.predictions(shop.home, staged, audited, RunInfo(run=run))


def test_of_two_orders_for_one_new_period_one_is_published_and_the_other_gets_a_conflict(world: World) -> None:
    shop = world.shop
    by_old, by_new = both(world)
    before = shop.home.predictions.version()

    answers = at_once(publishing(shop, *by_old), publishing(shop, *by_new))

    (won,) = [answer for answer in answers if isinstance(answer, Receipt)]
    (lost,) = [answer for answer in answers if not isinstance(answer, Receipt)]
    visible = shop.home.predictions.visible()["2017-08"]
    assert isinstance(lost, Conflict)
    assert "another run published 2017-08 since this run staged it. Nothing from this run became visible." in str(lost)
    assert "Start the run again: it does only what is still missing." in str(lost)
    assert {path.split("/")[-1] for path in visible.paths} == {output.name.split("/")[-1] for output in won.outputs}
    assert shop.home.predictions.version() == before + 1
    assert {score[3] for score in shop.scores() if score[0] == "2017-08"} == {won.facts["version"]}
    loser = next(staged for staged, _ in (by_old, by_new) if staged.facts["version"] != won.facts["version"])
    assert shop.home.receipts.find(publish_order(loser.order)) is None


def test_who_comes_later_with_what_was_staged_before_gets_a_conflict_and_changes_nothing(world: World) -> None:
    shop = world.shop
    by_old, by_new = both(world)
    publish.predictions(shop.home, *by_old, RunInfo())
    before = shop.state()

    with pytest.raises(Conflict, match="another run published 2017-08 since this run staged it"):
        publish.predictions(shop.home, *by_new, RunInfo())
    assert shop.state() == before

    receipt = shop.score("2017-08", version=world.new)
    assert receipt.order.replaces == by_old[0].order.digest, "the next run stages behind what it sees"
    assert receipt.order.fence == 1


def test_of_two_publishers_of_one_order_the_second_adopts_the_firsts_receipt(world: World) -> None:
    shop = world.shop
    staged, audited = shop.stage_score("2017-08")
    before = shop.home.predictions.version()

    answers = at_once(*(publishing(shop, staged, audited, run) for run in ("one", "two")))

    assert [type(answer) for answer in answers] == [Receipt, Receipt]
    assert answers[0] == answers[1]
    assert shop.home.predictions.version() == before + 1
    assert publish.predictions(shop.home, staged, audited, RunInfo(run="three")) == answers[0]


def test_a_publisher_that_dies_between_commit_and_receipt_only_writes_the_receipt_when_it_is_started_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = world.shop
    staged, audited = shop.stage_score("2017-08")
    once(Unreachable("the store went away"), monkeypatch, Receipts, "keep")

    with pytest.raises(Unreachable):
        publish.predictions(shop.home, staged, audited, RunInfo())
    committed = shop.home.predictions.version()
    assert "2017-08" in shop.home.predictions.visible()
    assert shop.home.receipts.find(publish_order(staged.order)) is None

    receipt = publish.predictions(shop.home, staged, audited, RunInfo(run="again"))

    assert shop.home.predictions.version() == committed
    assert (receipt.content, receipt.outputs, receipt.run_info.run) == (staged.content, staged.outputs, "again")
    assert receipt.links["audit"] == shop.home.receipts.uri(audited)


def test_a_whole_new_run_after_such_a_death_finds_the_commit_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = world.shop
    once(Unreachable("the store went away"), monkeypatch, publish, "_receipt")
    with pytest.raises(Unreachable):
        shop.score("2017-08")
    committed = shop.home.predictions.version()

    receipt = shop.score("2017-08")

    assert shop.home.predictions.version() == committed
    assert receipt.passed and receipt.order.artifact is Artifact.PREDICTIONS and receipt.order.step is Step.PUBLISH


def test_features_whose_publisher_died_get_their_receipt_from_the_orders_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = world.shop
    planned = plan.score(shop.home, shop.pipeline.period("2017-09"))
    table = shop.home.features(planned.definition)
    once(Unreachable("the store went away"), monkeypatch, publish, "_receipt")
    with pytest.raises(Unreachable):
        shop.build(planned, world.pin(planned))
    committed = table.version()
    assert planned.build == ("2017-09",) and "2017-09" in table.visible()
    assert shop.home.published(table, ["2017-09"]) == {}

    again = plan.score(shop.home, shop.pipeline.period("2017-09"))
    orders.predictions(shop.home, again)

    receipt = shop.home.published(table, ["2017-09"])["2017-09"]
    assert again.build == ()
    assert table.version() == committed
    assert shop.home.receipts.read(receipt.links["staged"]).outputs == receipt.outputs
    assert shop.home.receipts.read(receipt.links["audit"]).passed


def test_nobody_publishes_a_staged_file_that_was_altered(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    planned = plan.score(shop.home, shop.pipeline.period("2017-08"))
    staged = shop.run([orders.predictions(shop.home, planned)])
    altered = shop.home.receipts.read(staged["2017-08"]).outputs[0].uri
    shop.home.objects.put(altered, shop.home.objects.get(altered) + b"!")
    (placed,) = orders.audits(shop.home, staged)

    audited = shop.attempt(placed)

    assert audited.error == IntegrityError.__name__
    assert audited.findings == (
        f"{altered}: the staged file was altered, so it is not published. Restore it from the bucket's versions, or delete its "
        f"receipt {staged['2017-08']} and start the run again, which stages it again.",
    )
    with pytest.raises(NotAdmitted, match="did not pass, so nothing is built on it"):
        publish.predictions(shop.home, shop.home.receipts.read(staged["2017-08"]), audited, RunInfo())
    assert shop.state() == before

    shop.home.objects.delete(staged["2017-08"])
    assert shop.score("2017-08").passed, "what the message says helps"


def test_the_audit_of_other_bytes_opens_no_door(world: World) -> None:
    shop = world.shop
    by_old, by_new = both(world)
    before = shop.state()

    with pytest.raises(NotAdmitted) as refused:
        publish.predictions(shop.home, by_old[0], by_new[1], RunInfo())

    assert "The audit of shop predictions.audit 2017-08 is for other bytes than the staged ones. Audit the staged files." in str(
        refused.value
    )
    assert shop.state() == before


def test_a_publish_is_given_a_stage_and_its_audit_of_its_own_thing_and_in_this_order(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    staged = shop.home.receipts.read(world.standing_receipt())
    published = shop.home.receipts.done(publish_order(staged.order))
    assert published is not None
    audited = shop.home.receipts.read(published.links["audit"])

    with pytest.raises(NotAdmitted, match=r"for shop features\.stage.*, got one for shop features\.audit 2017-05"):
        publish.features(shop.home, audited, staged, RunInfo())
    with pytest.raises(NotAdmitted, match=r"for shop model\.stage.*, got one for shop features\.stage 2017-05"):
        publish.model(shop.home, staged, audited, RunInfo())
    with pytest.raises(NotAdmitted, match="did not pass, so nothing is built on it:\n- too few rows"):
        publish.features(shop.home, staged, renamed(audited, passed=False, findings=("too few rows",)), RunInfo())
    assert shop.state() == before


def test_an_order_whose_job_fails_because_of_the_store_keeps_no_receipt_so_that_a_retry_begins_anew(world: World) -> None:
    placed = asked(world)

    def unreachable(_: Any) -> Receipt:
        raise Unreachable("s3://almanac: the object store does not answer.")

    with pytest.raises(Unreachable):
        world.shop.attempt(placed, unreachable)
    assert world.shop.home.receipts.find(placed.order) is None


def asked(world: World) -> PlacedOrder:
    placed = world.standing()
    placed = replace(placed, order=replace(placed.order, replaces="another"))
    world.shop.home.receipts.place(placed)
    return placed


def test_a_task_that_loses_the_store_keeps_no_receipt_either(world: World) -> None:
    world.shop.code(**{
        "def habits(": '@F.udf("double")\ndef lost(amount):\n    from almanac.errors import Unreachable\n\n'
        '    try:\n        open("/no/such/file")\n    except OSError as error:\n'
        '        raise Unreachable("s3://almanac: the file cannot be read.") from error\n\n\ndef habits(',
        'F.sum("amount")': 'F.sum(lost("amount"))',
    })  # fmt: skip
    placed = world.group("habits")
    world.shop.home.receipts.place(placed)

    with pytest.raises(Unreachable, match=r"^s3://almanac: the file cannot be read\.$"):
        run_order(world.shop.home, placed, world.shop.job, RunInfo())
    assert world.shop.home.receipts.find(placed.order) is None


def test_failed_attempts_are_counted_and_the_first_that_passes_is_the_last(world: World) -> None:
    placed = asked(world)
    answers = iter([ValueError("one"), ValueError("two"), None])

    def carry(work: Any) -> Receipt:
        if error := next(answers):
            raise error
        return work.receipt(content="made")

    receipts = [world.shop.attempt(placed, carry) for _ in range(4)]

    assert [(receipt.attempt, receipt.passed) for receipt in receipts] == [(0, False), (1, False), (2, True), (2, True)]
    assert [receipt.findings for receipt in receipts[:2]] == [("ValueError: one",), ("ValueError: two",)]
    assert receipts[3] == receipts[2], "the fourth start found the answer and asked nobody"


def test_of_two_jobs_that_carry_out_one_order_the_slower_one_adopts_the_receipt_of_the_other(world: World) -> None:
    shop, placed = world.shop, asked(world)

    def slow(work: Any) -> Receipt:
        shop.attempt(placed, lambda other: other.receipt(content="same", facts={"by": "quick"}))
        return work.receipt(content="same", facts={"by": "slow"})

    receipt = shop.attempt(placed, slow)

    assert receipt.facts == {"by": "quick"}
    kept = [uri for uri in world.changed() if placed.order.digest in uri and "/receipts/" in uri]
    assert kept == [shop.home.receipts.uri(receipt)]
