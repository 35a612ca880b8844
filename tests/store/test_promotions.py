"""The promotion log on a real S3 server: the next number is the lock, and the chain is held against what is read."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from almanac.core.canonical import dumps, sealed
from almanac.core.layout import Layout
from almanac.core.promotions import GENESIS, Entry, Log
from almanac.errors import Conflict, IntegrityError, LogMoved
from almanac.store.objects import Listed, Objects
from almanac.store.promotions import Promotions
from tests.support.records import altered, promote, promoted

pytestmark = pytest.mark.store

PROMOTERS = 8
ENTRIES = 500


@pytest.fixture
def promotions(objects: Objects, root: str) -> Promotions:
    return Promotions(objects, Layout(root, "shop"))


def kept(promotions: Promotions, log: Log) -> Log:
    for entry in log.entries:
        promotions.append(entry)
    return log


def next_entry(log: Log, version: str, **changes: object) -> Entry:
    return promote(log, version, "2017-07", **changes).entries[-1]


def test_a_pipeline_without_promotions_has_an_empty_log(promotions: Promotions) -> None:
    assert promotions.read() == Log()


def test_entries_are_read_as_they_were_appended_in_the_order_of_their_numbers(promotions: Promotions) -> None:
    log = promoted([(f"v{number}", "2017-04") for number in range(11)])

    assert kept(promotions, log) == promotions.read()
    assert [item.uri.rsplit("/", 1)[1] for item in promotions.objects.walk(promotions.layout.promotions)] == [
        f"{number:08d}.json" for number in range(1, 12)
    ]


def test_who_comes_second_is_told_what_came_first_and_nothing_of_theirs_is_kept(promotions: Promotions) -> None:
    log = kept(promotions, promoted([("A", "2017-04")]))
    promotions.append(next_entry(log, "B", reason="a better one"))
    with pytest.raises(Conflict) as refused:
        promotions.append(next_entry(log, "C"))

    assert str(refused.value) == (
        "Entry 2 of the promotion log was written by another run meanwhile: promote B (a better one). "
        "Nothing was appended. Review that entry and decide again."
    )
    assert promotions.read().versions == ("A", "B")


def test_two_entries_that_say_the_same_are_told_apart_by_their_nonce(promotions: Promotions) -> None:
    """Without it the second writer would take the first one's bytes for its own."""
    log = kept(promotions, promoted([("A", "2017-04")]))
    promotions.append(next_entry(log, "B", nonce="one"))

    with pytest.raises(Conflict):
        promotions.append(next_entry(log, "B", nonce="other"))


def test_an_append_whose_answer_was_lost_is_done_again_without_harm(promotions: Promotions) -> None:
    entry = next_entry(Log(), "A")
    promotions.append(entry)

    promotions.append(entry)
    assert promotions.read() == Log((entry,))


@pytest.mark.slow
def test_of_eight_promoters_one_gets_each_number_and_no_number_is_left_out(promotions: Promotions) -> None:
    start, lost, won = threading.Barrier(PROMOTERS), [], []

    def promoter(name: str) -> None:
        start.wait()
        log = promotions.read()
        while log.position < ENTRIES:
            entry = next_entry(log, name, nonce=uuid.uuid4().hex, reason=f"{name} was here")
            try:
                promotions.append(entry)
                won.append(entry)
                log = Log((*log.entries, entry))
            except LogMoved as refused:
                lost.append((entry, str(refused)))
                # Who lost is given the entry that won, and needs no other look.
                log = Log((*log.entries, refused.entry))

    with ThreadPoolExecutor(PROMOTERS) as pool:
        list(pool.map(promoter, [f"promoter-{number}" for number in range(PROMOTERS)]))
    log = promotions.read()
    by_number = {entry.sequence: entry for entry in log.entries}

    # Reading it has held the chain.
    assert [entry.sequence for entry in log.entries] == list(range(1, ENTRIES + 1))
    assert log.entries[0].before == GENESIS
    assert sorted(entry.nonce for entry in won) == sorted(entry.nonce for entry in log.entries)
    assert lost, "nobody ever met another one: this was no race"
    for entry, text in lost:
        winner = by_number[entry.sequence]
        assert winner.nonce != entry.nonce
        assert f"Entry {entry.sequence} of the promotion log was written by another run meanwhile" in text
        assert f"promote {winner.version} ({winner.version} was here)" in text


class Counting(Objects):
    """The real store, asked with a tally."""

    listings = 0
    reads = 0

    def walk(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        self.listings += 1
        return super().walk(prefix, after=after)

    def get(self, uri: str) -> bytes:
        self.reads += 1
        return super().get(uri)


def test_the_fold_over_five_hundred_entries_costs_one_listing_and_the_new_entries(promotions: Promotions) -> None:
    log = promoted([(f"v{number}", "2017-04") for number in range(500)])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda e: promotions.objects.put(promotions.layout.promotion(e.sequence), sealed(e)), log.entries))
    counting = Counting()
    reader = Promotions(counting, promotions.layout)

    assert reader.read() == log
    assert (counting.listings, counting.reads) == (1, 500)
    for entry in promoted([(f"v{number}", "2017-04") for number in range(503)]).entries[500:]:
        promotions.objects.put(promotions.layout.promotion(entry.sequence), sealed(entry))
    assert reader.read().position == 503
    assert (counting.listings, counting.reads) == (2, 503)
    assert reader.read().champion == "v502"
    assert (counting.listings, counting.reads) == (3, 503)


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_an_entry_altered_in_the_bucket_is_found_by_its_seal(promotions: Promotions, sequence: int) -> None:
    kept(promotions, promoted([("A", "2017-04"), ("B", "2017-05"), ("C", "2017-06")]))
    uri = promotions.layout.promotion(sequence)
    promotions.objects.put(uri, promotions.objects.get(uri).replace(b'"reason":"better"', b'"reason":"worse"'))

    with pytest.raises(IntegrityError, match=r"valid Entry, got other bytes \(its seal") as refused:
        promotions.read()
    assert str(refused.value).startswith(uri)


@pytest.mark.parametrize("sequence", [1, 2])
def test_an_entry_altered_and_sealed_anew_is_found_by_the_entry_after_it(promotions: Promotions, sequence: int) -> None:
    log = kept(promotions, promoted([("A", "2017-04"), ("B", "2017-05"), ("C", "2017-06")]))
    promotions.objects.put(promotions.layout.promotion(sequence), sealed(altered(log, sequence, reason="worse")[sequence - 1]))

    with pytest.raises(IntegrityError, match=f"Entry {sequence + 1} of the promotion log does not hold the digest"):
        promotions.read()


def test_an_entry_removed_from_the_bucket_is_found_when_the_log_is_read(promotions: Promotions) -> None:
    kept(promotions, promoted([("A", "2017-04"), ("B", "2017-05"), ("C", "2017-06")]))
    promotions.objects.delete(promotions.layout.promotion(2))

    with pytest.raises(IntegrityError, match="has entry 3 where 2 belongs"):
        promotions.read()


def test_an_entry_that_is_none_is_found_when_the_log_is_read(promotions: Promotions) -> None:
    log = kept(promotions, promoted([("A", "2017-04")]))
    uri = promotions.layout.promotion(1)
    fields = json.loads(dumps(log.entries[0]))
    fields["once"] = fields.pop("nonce")
    promotions.objects.put(uri, sealed(fields))

    with pytest.raises(IntegrityError, match="expected a valid Entry, got other bytes \\(Entry has no field once") as refused:
        promotions.read()
    assert str(refused.value).startswith(uri)
