"""Objects on a real S3 server: one winner for each name, and what is said when the store refuses."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from almanac.errors import AccessRefused, NotFound, StoreError, Unreachable
from almanac.local import seaweed
from almanac.store.objects import Objects
from tests.support import faulty_store
from tests.support.s3_clients import Client, quick

pytestmark = pytest.mark.store

WRITERS = 8


@contextmanager
def losing_answers(store: seaweed.Store, count: int) -> Iterator[str]:
    """The address of a way to the store on which the first `count` answers to a PUT are lost after it was done."""
    lost = iter(range(count))
    with faulty_store.way(
        store, lambda command: faulty_store.LOST if command == "PUT" and next(lost, None) is not None else ""
    ) as address:
        yield address


# --- the first atomic primitive ---


def race(objects: Objects, uri: str) -> list[bool]:
    """Which of eight writers, who begin at one moment, were told that the name is theirs."""
    start = threading.Barrier(WRITERS)

    def write(number: int) -> bool:
        start.wait()
        return objects.put_if_absent(uri, f"writer {number}".encode())

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(write, range(WRITERS)))


def test_of_eight_writers_of_one_name_exactly_one_wins_and_its_bytes_are_kept(objects: Objects, root: str) -> None:
    uris = [f"{root}/race/{lap}" for lap in range(20)]
    # Ten races at a time: on SeaweedFS those that lose wait for a lock in steps of a second.
    with ThreadPoolExecutor(10) as lanes:
        races = list(lanes.map(race, [objects] * len(uris), uris))

    for uri, won in zip(uris, races, strict=True):
        assert won.count(True) == 1, f"{uri}: {won}"
        assert objects.get(uri) == f"writer {won.index(True)}".encode()


def test_a_name_that_is_taken_is_not_ours_and_keeps_its_bytes(objects: Objects, root: str) -> None:
    assert objects.put_if_absent(f"{root}/a", b"first")
    assert not objects.put_if_absent(f"{root}/a", b"second")
    assert objects.get(f"{root}/a") == b"first"


def test_equal_bytes_under_the_name_count_as_ours(objects: Objects, root: str) -> None:
    assert objects.put_if_absent(f"{root}/a", b"same")
    assert objects.put_if_absent(f"{root}/a", b"same")


def test_a_write_whose_answer_was_lost_is_ours(store: seaweed.Store, objects: Objects, root: str) -> None:
    """botocore tries again, and is refused by what its own first try has written."""
    with losing_answers(store, 1) as address:
        through = Objects(boto3.client("s3", endpoint_url=address, config=Config(retries={"total_max_attempts": 3})))
        assert through.put_if_absent(f"{root}/a", b"ours")

    assert objects.get(f"{root}/a") == b"ours"


def test_a_write_whose_every_answer_was_lost_says_that_the_store_does_not_answer(store: seaweed.Store, root: str) -> None:
    with losing_answers(store, 9) as address, pytest.raises(Unreachable, match="does not answer"):
        Objects(quick(endpoint_url=address)).put_if_absent(f"{root}/a", b"ours")


def conflict() -> ClientError:
    answer = {"Error": {"Code": "ConditionalRequestConflict"}, "ResponseMetadata": {"HTTPStatusCode": 409}}
    return ClientError(answer, "PutObject")  # type: ignore[arg-type]


def test_409_is_tried_again(objects: Objects, root: str) -> None:
    real, refusals = quick(), [conflict()]

    def put_object(**asked: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return real.put_object(**asked)

    assert Objects(Client(real, put_object=put_object)).put_if_absent(f"{root}/a", b"ours")
    assert not refusals
    assert objects.get(f"{root}/a") == b"ours"


def test_409_without_end_is_told(root: str, store: seaweed.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("almanac.store.objects.time.sleep", lambda _: None)

    def put_object(**_: Any) -> Any:
        raise conflict()

    with pytest.raises(StoreError) as refused:
        Objects(Client(quick(), put_object=put_object)).put_if_absent(f"{root}/a", b"ours")

    assert str(refused.value) == f"{root}/a: the store answered 409 8 times in a row. Try again later."


# --- the other verbs ---


def test_what_was_put_is_got_found_listed_and_deleted(objects: Objects, root: str) -> None:
    objects.put(f"{root}/a", b"one")
    objects.put(f"{root}/a", b"three")

    assert objects.get(f"{root}/a") == objects.find(f"{root}/a") == b"three"
    assert [(item.uri, item.size) for item in objects.walk(f"{root}/")] == [(f"{root}/a", 5)]
    objects.delete(f"{root}/a")
    objects.delete(f"{root}/a")
    assert objects.find(f"{root}/a") is None
    assert list(objects.walk(f"{root}/")) == []


def test_a_walk_goes_over_all_pages_in_the_order_of_names_and_after_a_name(objects: Objects, root: str) -> None:
    for name in "gbdace":
        objects.put(f"{root}/x/{name}", name.encode())
    objects.put(f"{root}/xy", b"beside")
    real = quick()
    paged = Objects(Client(real, list_objects_v2=lambda **asked: real.list_objects_v2(MaxKeys=2, **asked)))

    assert [item.uri for item in paged.walk(f"{root}/x/")] == [f"{root}/x/{name}" for name in "abcdeg"]
    assert [item.uri for item in paged.walk(f"{root}/x/", after=f"{root}/x/b")] == [f"{root}/x/{name}" for name in "cdeg"]


def test_a_listings_etag_changes_with_the_bytes(objects: Objects, root: str) -> None:
    def etag() -> str:
        return next(objects.walk(f"{root}/a")).etag

    objects.put(f"{root}/a", b"one")
    first = etag()
    objects.put(f"{root}/a", b"two")
    second = etag()
    objects.put(f"{root}/a", b"one")

    assert first == etag() != second
    assert '"' not in first


def test_whether_a_name_is_taken_is_told_without_its_bytes(objects: Objects, root: str) -> None:
    for name in ("a", "ab/c"):
        objects.put(f"{root}/{name}", b"one")

    assert objects.has(f"{root}/a")
    assert [objects.has(f"{root}/{name}") for name in ("", "ab", "ab/", "b")] == [False] * 4


def test_the_stores_own_time_is_that_of_its_listings(objects: Objects, root: str) -> None:
    before = objects.now(root)
    objects.put(f"{root}/a", b"one")
    (listed,) = objects.walk(f"{root}/")
    after = objects.now(root)
    second = timedelta(seconds=1)  # both are told in whole seconds

    assert before - second <= listed.modified <= after + second
    assert after - before < timedelta(minutes=1)


@pytest.mark.parametrize("told", ["", "yesterday"])
def test_a_store_that_does_not_tell_its_time_is_refused(root: str, store: seaweed.Store, told: str) -> None:
    real = quick()

    def list_objects_v2(**asked: Any) -> Any:
        answer = real.list_objects_v2(**asked)
        answer["ResponseMetadata"]["HTTPHeaders"]["date"] = told
        return answer

    with pytest.raises(StoreError) as refused:
        Objects(Client(real, list_objects_v2=list_objects_v2)).now(root)

    assert str(refused.value) == (
        f"{root}: expected a valid Date header in the store's answers, got {told!r}. The age of its objects is unknown. "
        "Nothing was changed. Configure the proxy in front of the store to pass the Date header."
    )


def test_folders_are_those_directly_below(objects: Objects, root: str) -> None:
    for name in ("b/x/1", "a/1", "a/2", "file"):
        objects.put(f"{root}/{name}", b"")

    assert objects.folders(f"{root}/") == ["a", "b"]
    assert objects.folders(f"{root}/nothing/") == []


def test_a_signed_address_gives_the_bytes_to_who_has_no_key(objects: Objects, root: str) -> None:
    objects.put(f"{root}/report.html", b"<p>fine</p>")

    with urllib.request.urlopen(objects.signed(f"{root}/report.html", seconds=60)) as answer:
        assert answer.read() == b"<p>fine</p>"


# --- refusals ---


def verbs(objects: Objects, uri: str) -> dict[str, Callable[[], object]]:
    return {
        "get": lambda: objects.get(uri),
        "find": lambda: objects.find(uri),
        "has": lambda: objects.has(uri),
        "now": lambda: objects.now(uri),
        "put": lambda: objects.put(uri, b""),
        "put_if_absent": lambda: objects.put_if_absent(uri, b""),
        "walk": lambda: list(objects.walk(uri)),
        "folders": lambda: objects.folders(uri),
        "delete": lambda: objects.delete(uri),
        "probe": lambda: objects.probe(uri),
    }


VERBS = ("get", "find", "has", "now", "put", "put_if_absent", "walk", "folders", "delete", "probe")


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_secret_key_is_refused_and_the_variables_are_named(store: seaweed.Store, root: str, verb: str) -> None:
    stranger = Objects(quick(aws_access_key_id=store.access_key, aws_secret_access_key="wrong"))
    with pytest.raises(AccessRefused) as refused:
        verbs(stranger, f"{root}/a")[verb]()

    assert str(refused.value).startswith(f"{root}/a")
    assert str(refused.value).endswith(
        "the store refused the access key (SignatureDoesNotMatch). Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "and that the key has access to this bucket."
    )


def test_an_unknown_access_key_is_refused(store: seaweed.Store, root: str) -> None:
    stranger = Objects(quick(aws_access_key_id="AKNOBODY", aws_secret_access_key=store.secret_key))
    with pytest.raises(AccessRefused, match=r"refused the access key \(InvalidAccessKeyId\)"):
        stranger.get(f"{root}/a")


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_that_is_not_there_is_told_as_such(store: seaweed.Store, root: str, verb: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        nobody = Objects(quick(endpoint_url=f"http://127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(Unreachable) as refused:
            verbs(nobody, f"{root}/a")[verb]()

    assert str(refused.value).startswith(f"{root}/a")
    assert str(refused.value).endswith(
        "the object store does not answer (EndpointConnectionError). Nothing was changed. "
        "Check AWS_ENDPOINT_URL and that the server is running."
    )


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("find", "delete")])
def test_an_unknown_bucket_is_named(store: seaweed.Store, objects: Objects, verb: str) -> None:
    with pytest.raises(NotFound) as refused:
        verbs(objects, "s3://nowhere/a")[verb]()

    assert str(refused.value).startswith("s3://nowhere/a")
    assert str(refused.value).endswith("bucket 'nowhere' does not exist. Create it, or change the URI.")


def test_a_missing_key_is_not_found(objects: Objects, root: str) -> None:
    with pytest.raises(NotFound) as refused:
        objects.get(f"{root}/nothing")

    assert str(refused.value) == f"{root}/nothing: the object does not exist."


@pytest.mark.parametrize("half", [{}, {"AWS_ACCESS_KEY_ID": "AKHALF"}])
def test_missing_credentials_are_told_with_the_variables_to_set(
    store: seaweed.Store, root: str, monkeypatch: pytest.MonkeyPatch, half: dict[str, str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    for name, value in half.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers the credentials that it found before
    with pytest.raises(AccessRefused) as refused:
        Objects().get(f"{root}/a")

    assert str(refused.value).endswith(
        "no S3 credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role "
        "with access to the bucket."
    )


def test_any_other_refusal_tells_its_status_and_code(root: str, store: seaweed.Store) -> None:
    def get_object(**_: Any) -> Any:
        answer = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
        raise ClientError(answer, "GetObject")  # type: ignore[arg-type]

    with pytest.raises(StoreError) as refused:
        Objects(Client(quick(), get_object=get_object)).get(f"{root}/a")

    assert type(refused.value) is StoreError
    assert str(refused.value) == (
        f"{root}/a: the store answered 503 SlowDown. Nothing was changed. Try again, or ask the operator of the store."
    )


@pytest.mark.parametrize(
    ("name", "kind"), [("checks.html", "text/html; charset=utf-8"), ("checks.json", "application/json"), ("model", "binary/")]
)
def test_a_link_is_signed_with_version_4_and_tells_a_browser_what_it_gets(
    objects: Objects, root: str, name: str, kind: str
) -> None:
    objects.put(f"{root}/{name}", b"{}")
    address = objects.signed(f"{root}/{name}", seconds=60)

    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in address
    with urllib.request.urlopen(address) as answer:
        assert (answer.headers["Content-Type"] or "binary/").startswith(kind) or kind == "binary/"
