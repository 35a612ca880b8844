"""Packs: what is read through one is what lies in the bucket, whatever became of the pack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from almanac.store import packs
from almanac.store.objects import Listed, Objects
from almanac.store.promotions import Promotions
from tests.store.test_promotions import kept as appended
from tests.store.test_promotions import promotions as promotions
from tests.support.records import promoted

pytestmark = pytest.mark.store


class Counting(Objects):
    """Counts what is got one by one."""

    got = 0

    def get(self, uri: str) -> bytes:
        self.got += 1
        return super().get(uri)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(packs, "FEW", 3)
    yield 3


@pytest.fixture
def folder(store: object, root: str) -> str:
    return f"{root}/small/"


def put(folder: str, **bodies: str) -> None:
    for name, body in bodies.items():
        Objects().put(f"{folder}{name}", body.encode())


def read(folder: str) -> tuple[dict[str, str], int]:
    """Name to body, and how many objects were got for it."""
    objects = Counting()
    listed: list[Listed] = list(objects.walk(folder))
    found = packs.read(objects, f"{folder.removesuffix('small/')}pack.json", listed)
    return {uri.removeprefix(folder): body.decode() for uri, body in found.items()}, objects.got


def test_many_objects_are_got_one_by_one_once_and_then_by_their_pack(folder: str, few: int) -> None:
    bodies = {f"o{number}": f"body {number}" for number in range(8)}
    put(folder, **bodies)

    assert read(folder) == (bodies, 8)
    assert read(folder) == (bodies, 0)
    put(folder, o9="new")
    assert read(folder) == ({**bodies, "o9": "new"}, 1)


def test_a_few_objects_have_no_pack(folder: str, few: int) -> None:
    put(folder, a="1", b="2")

    assert [read(folder), read(folder)] == [({"a": "1", "b": "2"}, 2)] * 2


@pytest.mark.parametrize("body", [b"", b"{}", b"no pack", b'{"files":{},"seal":"0"}'])
def test_an_altered_pack_is_made_again(folder: str, few: int, body: bytes) -> None:
    bodies = {f"o{number}": f"body {number}" for number in range(5)}
    put(folder, **bodies)
    read(folder)
    Objects().put(f"{folder.removesuffix('small/')}pack.json", body)

    assert read(folder) == (bodies, 5)
    assert read(folder) == (bodies, 0)


def test_an_object_that_was_altered_or_is_gone_is_never_read_from_the_pack(folder: str, few: int) -> None:
    put(folder, **{f"o{number}": "as written" for number in range(5)})
    read(folder)
    put(folder, o1="altered!!!")  # as long as it was
    Objects().delete(f"{folder}o2")

    found, _ = read(folder)
    assert (found["o1"], "o2" in found) == ("altered!!!", False)


def test_a_log_of_many_entries_is_read_by_its_pack_and_checked_as_ever(promotions: Promotions, few: int) -> None:
    from almanac.store import promotions as module

    log = appended(promotions, promoted([(f"v{number}", f"2017-{number:02d}") for number in range(1, 9)]))
    for _ in range(2):
        module._read.clear()
        assert promotions.read() == log
    module._read.clear()
    uri = promotions.layout.promotion(4)
    promotions.objects.put(uri, promotions.objects.get(uri).replace(b"better", b"bitter"))

    from almanac.errors import IntegrityError

    with pytest.raises(IntegrityError, match="00000004"):
        promotions.read()
