"""Bytes put over those that were read, on a real S3 server: of all who read the same, one puts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from almanac.errors import NotFound
from almanac.store.objects import Objects
from tests.support.s3_clients import Client, quick

pytestmark = pytest.mark.store

WRITERS = 6


def refusal(status: int, code: str) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")  # type: ignore[arg-type]


def etag(objects: Objects, uri: str) -> str:
    found = objects.tagged(uri)
    assert found is not None
    return found[1]


def test_bytes_come_with_their_etag_and_nothing_comes_where_nothing_is(objects: Objects, root: str) -> None:
    assert objects.tagged(f"{root}/a") is None
    objects.put(f"{root}/a", b"one")
    first = objects.tagged(f"{root}/a")
    objects.put(f"{root}/a", b"two")
    second = objects.tagged(f"{root}/a")

    assert first is not None and second is not None
    assert (first[0], second[0]) == (b"one", b"two")
    assert first[1] != second[1]


def test_of_writers_who_read_the_same_exactly_one_wins(objects: Objects, root: str) -> None:
    for lap in range(4):
        uri = f"{root}/{lap}"
        objects.put(uri, b"before")
        tag, start = etag(objects, uri), threading.Barrier(WRITERS)

        def write(number: int, uri: str = uri, tag: str = tag, start: threading.Barrier = start) -> bool:
            start.wait()
            return objects.put_if_match(uri, f"writer {number}".encode(), tag)

        with ThreadPoolExecutor(WRITERS) as pool:
            won = list(pool.map(write, range(WRITERS)))
        assert won.count(True) == 1, won
        assert objects.get(uri) == f"writer {won.index(True)}".encode()


def test_bytes_that_are_others_now_are_not_overwritten(objects: Objects, root: str) -> None:
    objects.put(f"{root}/a", b"one")
    tag = etag(objects, f"{root}/a")
    objects.put(f"{root}/a", b"two")

    assert not objects.put_if_match(f"{root}/a", b"three", tag)
    assert objects.get(f"{root}/a") == b"two"


def test_where_nothing_is_any_more_nothing_is_put(objects: Objects, root: str) -> None:
    objects.put(f"{root}/a", b"one")
    tag = etag(objects, f"{root}/a")
    objects.delete(f"{root}/a")

    assert not objects.put_if_match(f"{root}/a", b"two", tag)
    with pytest.raises(NotFound):
        objects.get(f"{root}/a")


def test_a_store_that_answers_404_there_means_the_same(objects: Objects, root: str) -> None:
    def put_object(**_: Any) -> Any:
        raise refusal(404, "NoSuchKey")

    assert not Objects(Client(quick(), put_object=put_object)).put_if_match(f"{root}/a", b"two", "x")


def test_a_write_whose_answer_was_lost_is_ours(objects: Objects, root: str) -> None:
    """What botocore sees when it tries again what it has done: its own bytes have another etag."""
    objects.put(f"{root}/a", b"one")
    real = quick()

    def put_object(**asked: Any) -> Any:
        real.put_object(**asked)
        raise refusal(412, "PreconditionFailed")

    through = Objects(Client(real, put_object=put_object))
    assert through.put_if_match(f"{root}/a", b"two", etag(objects, f"{root}/a"))
    assert objects.get(f"{root}/a") == b"two"
