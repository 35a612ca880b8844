"""Deliveries of every kind, at real places: they show exactly what the predictions table shows, whatever happened before."""

from __future__ import annotations

import sys
from functools import partial

import pytest

from almanac.core.deliveries import ParquetDelivery
from almanac.core.layout import Layout
from almanac.deliveries import projection
from almanac.errors import DeliveryError, DescriptionError
from almanac.store.home import Home
from tests.support.scores import WITNESS, Scores, Target
from tests.support.shop import parquet
from tests.support.threads import at_one_moment

pytestmark = pytest.mark.store


def test_every_visible_period_is_brought_with_exactly_its_rows(scores: Scores, target: Target) -> None:
    first, second = scores.publish("2017-06", customers=5), scores.publish("2017-07", customers=3)
    assert target.outstanding(scores) == ["2017-06", "2017-07"]

    assert target.deliver(scores) == {"2017-06": (first, 5, ""), "2017-07": (second, 3, "")}
    assert target.seen() == scores.seen()
    assert len(target.seen()) == 8
    assert target.outstanding(scores) == []


def test_a_second_run_has_nothing_to_do_and_writes_nothing(scores: Scores, target: Target) -> None:
    scores.publish("2017-06")
    target.deliver(scores)
    before = target.state()

    assert target.deliver(scores) == {}
    assert target.state() == before


def test_a_period_that_was_published_again_is_replaced_and_the_others_are_left(scores: Scores, target: Target) -> None:
    old, _ = scores.publish("2017-06", customers=6), scores.publish("2017-07")
    target.deliver(scores)
    new = scores.publish("2017-06", customers=3)
    assert target.outstanding(scores) == ["2017-06"]

    assert target.deliver(scores) == {"2017-06": (new, 3, old)}
    assert target.seen() == scores.seen()


def test_what_was_staged_and_not_published_is_not_delivered(scores: Scores, target: Target) -> None:
    scores.publish("2017-06")
    scores.stage("2017-06")
    scores.stage("2017-07")
    target.deliver(scores)

    assert target.seen() == scores.seen()


def test_an_empty_period_is_there_with_no_rows(scores: Scores, target: Target) -> None:
    order = scores.publish("2017-06", scores.rows("", 0))

    assert target.deliver(scores) == {"2017-06": (order, 0, "")}
    assert target.seen() == []
    assert target.outstanding(scores) == []
    full = scores.publish("2017-06", customers=2)
    assert target.deliver(scores) == {"2017-06": (full, 2, order)}
    assert len(target.seen()) == 2


def test_a_period_that_is_not_visible_any_more_is_removed(scores: Scores, target: Target) -> None:
    order, _ = scores.publish("2017-06"), scores.publish("2017-07")
    target.deliver(scores)
    scores.remove("2017-06")
    assert target.outstanding(scores) == ["2017-06"]

    assert target.deliver(scores) == {"2017-06": ("", 0, order)}
    assert {period for period, _, _ in target.seen()} == {"2017-07"}
    assert target.seen() == scores.seen()
    assert target.outstanding(scores) == []
    again = scores.publish("2017-06")
    assert target.deliver(scores) == {"2017-06": (again, 4, "")}


def test_where_nothing_was_ever_published_there_is_nothing_to_deliver(scores: Scores, target: Target) -> None:
    assert target.outstanding(scores) == []
    assert target.deliver(scores) == {}
    assert target.seen() == []


def test_a_table_that_is_gone_empties_no_delivery(scores: Scores, target: Target) -> None:
    """A table that was deleted by mistake is no reason to delete what was delivered."""
    scores.publish("2017-06")
    target.deliver(scores)
    before = target.seen()
    for item in list(scores.home.objects.walk(f"{scores.home.predictions.uri}/")):
        scores.home.objects.delete(item.uri)

    with pytest.raises(DeliveryError) as refused:
        target.deliver(scores)
    assert (
        f"2017-06: the delivery shows publish 1, but {scores.home.predictions.uri} is only at publish 0. Was the bucket restored "
        "to an earlier state? See docs/deliveries.md."
    ) in str(refused.value)
    assert target.seen() == before


# --- deliverers that meet ---


def overtaken(scores: Scores, target: Target, monkeypatch: pytest.MonkeyPatch, publish_again: str = "2017-06") -> list[str]:
    """A deliverer looks at the table; before it writes, the period is published again and delivered by another one."""
    look, orders = projection._standing, [scores.publish("2017-06", customers=6)]

    def meanwhile(*asked: object) -> object:
        found = look(*asked)  # type: ignore[arg-type]
        if len(orders) == 1:
            orders.append(scores.publish(publish_again, customers=2))
            with monkeypatch.context() as patch:
                patch.setattr(projection, "_standing", look)
                target.deliver(scores)
        return found

    monkeypatch.setattr(projection, "_standing", meanwhile)
    return orders


def test_a_stale_deliverer_never_overwrites_a_newer_publish(
    scores: Scores, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race without luck: first for a period that is new at the place, then for one that is there."""
    for _ in range(2):
        with monkeypatch.context() as patch:
            orders = overtaken(scores, target, patch)
            assert target.deliver(scores) == {}
        assert target.seen() == scores.seen()
        assert {order for _, _, order in target.seen()} == {orders[1]}
        assert target.outstanding(scores) == []


def test_two_deliverers_at_one_moment_both_end_right(scores: Scores, target: Target) -> None:
    for lap in range(2):
        for period in ("2017-06", "2017-07"):
            scores.publish(period, customers=3 + lap)
        raised = at_one_moment(*[partial(target.deliver, scores)] * 3)

        assert raised == [None] * 3
        assert target.seen() == scores.seen()
        assert target.outstanding(scores) == []


def test_a_period_published_while_it_is_delivered_is_delivered_too(scores: Scores, target: Target) -> None:
    scores.publish("2017-06")
    later: list[str] = []

    def told(_: object) -> None:
        if not later:
            later.append(scores.publish("2017-06", customers=2))

    target.deliver(scores, told)
    assert target.seen() == scores.seen()
    assert {order for _, _, order in target.seen()} == set(later)


def test_a_period_that_is_published_without_end_is_told_as_such(scores: Scores, target: Target) -> None:
    scores.publish("2017-06")

    with pytest.raises(DeliveryError) as refused:
        target.deliver(scores, lambda _: scores.publish("2017-06") and None)
    assert "2017-06: it was published repeatedly while it was delivered. Run the delivery again." in str(refused.value)
    target.deliver(scores)
    assert target.seen() == scores.seen()


# --- bytes, and what cannot be delivered ---


def test_a_file_that_was_altered_is_not_delivered_and_keeps_no_other_period_back(scores: Scores, target: Target) -> None:
    old = scores.publish("2017-06")
    target.deliver(scores)
    scores.publish("2017-06")
    whole = scores.publish("2017-07")
    uri = scores.file("2017-06")
    scores.home.objects.put(uri, scores.home.objects.get(uri).replace(b"PAR1", b"PAR2", 1))

    with pytest.raises(DeliveryError) as refused:
        target.deliver(scores)
    text = str(refused.value)
    assert text.startswith(
        f"Delivery {target.delivery.name!r}: 2017-06 could not be delivered (other periods delivered: 1). The "
        f"published predictions are unaffected, and the next run delivers what is missing.\n- 2017-06: {uri}: expected SHA-256 "
    )
    assert "The file was altered and is not delivered." in text
    assert {period: order for period, _, order in target.seen()} == {"2017-06": old, "2017-07": whole}
    assert target.outstanding(scores) == ["2017-06"]

    scores.publish("2017-06")
    target.deliver(scores)
    assert target.seen() == scores.seen()


def test_a_file_of_other_rows_than_the_table_says_is_not_delivered(scores: Scores, target: Target) -> None:
    """A publisher that died before its receipt leaves no digest; the table still knows how many rows there are."""
    order = scores.publish("2017-06", receipt=False)
    scores.home.objects.put(scores.file("2017-06"), parquet(scores.rows(order, 7, first=100)))

    with pytest.raises(DeliveryError) as refused:
        target.deliver(scores)
    assert f"{scores.home.predictions.uri}: expected 4 rows in the files of 2017-06, as the table says; got 9." in str(
        refused.value
    )
    assert target.seen() == []


def test_a_file_that_is_no_parquet_is_not_delivered(scores: Scores, target: Target) -> None:
    scores.publish("2017-06", receipt=False)
    scores.home.objects.put(scores.file("2017-06"), b"not Parquet")

    with pytest.raises(DeliveryError, match="expected a complete Parquet file"):
        target.deliver(scores)
    assert target.seen() == []


def test_a_period_whose_publisher_died_before_the_receipt_is_delivered(scores: Scores, target: Target) -> None:
    scores.publish("2017-06", receipt=False)
    target.deliver(scores)

    assert target.seen() == scores.seen()


def test_a_place_is_filled_from_one_table_alone(scores: Scores, target: Target) -> None:
    scores.publish("2017-06")
    target.deliver(scores)
    before = target.state()
    other = Scores(Home(scores.home.objects, Layout(scores.home.layout.root, "other")))
    other.publish("2017-06")

    for ask in (target.deliver, target.outstanding):
        with pytest.raises(DeliveryError) as refused:
            ask(other)
        assert (
            f"is already filled from {scores.home.predictions.uri}, but this run would fill it from {other.home.predictions.uri}."
            in str(refused.value)
        )
    assert target.state() == before


def test_a_folder_below_almanacs_root_is_refused(scores: Scores) -> None:
    scores.publish("2017-06")
    before = [item.uri for item in scores.home.objects.walk(scores.home.layout.root)]
    for uri in (f"{scores.home.layout.root}/delivered", scores.home.layout.root, f"{scores.home.predictions.uri}/"):
        inside = ParquetDelivery("lake", uri)
        with pytest.raises(DescriptionError) as refused:
            projection.deliver(scores.home, scores.described, inside, "", WITNESS)
        assert str(refused.value) == (
            f"ParquetDelivery.uri: expected a folder outside ALMANAC_ROOT ({scores.home.layout.root}), which only Almanac writes "
            f"to; delivery 'lake' has {uri}. Give it a folder elsewhere, such as one beside ALMANAC_ROOT."
        )
    assert [item.uri for item in scores.home.objects.walk(scores.home.layout.root)] == before


def test_the_version_that_a_delivery_still_shows_is_known(scores: Scores, target: Target) -> None:
    scores.publish("2017-06", version="bad")
    scores.publish("2017-07", version="good")
    target.deliver(scores)
    assert projection.showing(scores.home, target.delivery, target.address, "bad") == []  # so does the table
    scores.publish("2017-06", version="good")
    scores.publish("2017-07", version="good")

    assert projection.showing(scores.home, target.delivery, target.address, "bad") == ["2017-06"]
    target.deliver(scores)
    assert projection.showing(scores.home, target.delivery, target.address, "bad") == []


def test_a_database_without_its_package_is_refused_with_what_to_install(
    scores: Scores, in_postgres: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores.publish("2017-07")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "almanac.deliveries.postgres", raising=False)
    monkeypatch.delattr("almanac.deliveries.postgres", raising=False)

    with pytest.raises(DeliveryError, match=r"needs the package psycopg, .* Install it: pip install 'psycopg\[binary\]'"):
        projection.outstanding(scores.home, in_postgres.delivery, in_postgres.address)
