"""Whether a store is fit to be trusted, and whether bytes are those that their digest promises."""

from __future__ import annotations

from typing import Any

import pytest

from almanac.core.receipts import PlacedOrder
from almanac.errors import IntegrityError, Unfit
from almanac.store.objects import Objects, record, verified
from tests.support.s3_clients import Client, quick

pytestmark = pytest.mark.store


# --- whether a store is fit ---


def test_a_store_with_conditional_writes_is_fit_and_nothing_is_left_of_the_probe(objects: Objects, root: str) -> None:
    objects.probe(root)
    objects.probe(f"{root}/")

    assert list(objects.walk(f"{root}/")) == []


def test_a_store_that_overwrites_all_the_same_is_unfit_and_nothing_is_left_of_the_probe(objects: Objects, root: str) -> None:
    """A server that does not know If-None-Match ignores it: as the real one does when it is not sent."""
    real = quick()

    def put_object(**asked: Any) -> Any:
        assert asked.pop("IfNoneMatch") == "*"
        return real.put_object(**asked)

    with pytest.raises(Unfit) as refused:
        Objects(Client(real, put_object=put_object)).probe(root)

    assert str(refused.value) == (
        f"The store of {root} accepted a conditional write (If-None-Match: *) over an existing object, so two writers "
        "could both succeed. Almanac needs AWS S3 or a server that answers 412, such as SeaweedFS; point ALMANAC_ROOT to one."
    )
    assert list(objects.walk(f"{root}/")) == []


# --- bytes and what they promise ---


def test_bytes_are_given_when_their_digest_holds_and_refused_when_not() -> None:
    promised = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

    assert verified(b"foo", promised, "s3://almanac/a") == b"foo"
    with pytest.raises(IntegrityError) as refused:
        verified(b"bar", promised, "s3://almanac/a")
    assert str(refused.value) == (
        "s3://almanac/a: expected SHA-256 2c26b46b68ffc68f..., got fcde2b2edba56bf4... The file was altered and is not used. "
        "Restore it from the bucket's versions, or build it again."
    )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"{}", b'{"order": 3}', b'{"order": {}, "more": 1}'])
def test_bytes_that_are_no_record_are_refused_by_name(body: bytes) -> None:
    with pytest.raises(IntegrityError) as refused:
        record(PlacedOrder, body, "s3://almanac/a")

    assert str(refused.value).startswith("s3://almanac/a: expected a valid PlacedOrder, got other bytes (")
    assert str(refused.value).endswith("Restore it from the bucket's versions, or use the version that wrote it.")
