"""Parquet deliveries on S3 and on a disk: the manifest is put last, and no reader of it ever sees a mixture."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from almanac.core.canonical import opened, sha256
from almanac.core.deliveries import ParquetDelivery
from almanac.deliveries import parquet
from almanac.deliveries.folders import Folder, LocalFolder, folder_at
from almanac.deliveries.notes import DeliveryManifest
from almanac.errors import AccessRefused, DeliveryError, IntegrityError, StoreError
from tests.support.scores import Scores, Target

pytestmark = pytest.mark.store

WRITES = 5  # of a period of two files that replaces one of two: the files, the manifest, the old files deleted


class Killed(BaseException):
    """The process is gone."""


class Dying:
    """A folder whose process is killed before one of its writes."""

    def __init__(self, folder: Folder, left: int) -> None:
        self.folder, self.left = folder, left

    def __getattr__(self, name: str) -> object:
        if name in ("upload", "put_over", "delete"):
            if self.left == 0:
                raise Killed
            self.left -= 1
        return getattr(self.folder, name)


@pytest.fixture
def place(folder: Target) -> Folder:
    """The folder of a delivery."""
    assert isinstance(folder.delivery, ParquetDelivery)
    return folder_at(folder.objects, folder.delivery.uri)


def killed(scores: Scores, folder: Target, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivering whose process is killed before its write number `left`."""
    real = parquet.folder_at
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "folder_at", lambda *asked: Dying(real(*asked), left))
        with pytest.raises(Killed):
            folder.deliver(scores)


def manifests(folder: Target) -> dict[str, DeliveryManifest]:
    found = [opened(DeliveryManifest, body) for name, body in folder.files() if name.endswith("_manifest.json")]
    return {manifest.period: manifest for manifest in found}


# --- the layout ---


def test_a_period_is_a_folder_of_files_that_begin_with_their_order_and_a_manifest(scores: Scores, folder: Target) -> None:
    order = scores.publish("2017-07", customers=5)
    folder.deliver(scores)
    files = dict(folder.files())

    assert sorted(files) == [
        f"period=2017-07/{order[:12]}-1-000.parquet",
        f"period=2017-07/{order[:12]}-1-001.parquet",
        "period=2017-07/_manifest.json",
    ]
    manifest = json.loads(files["period=2017-07/_manifest.json"])
    assert (manifest["period"], manifest["order"], manifest["fence"]) == ("2017-07", order, 1)
    assert (manifest["source"], manifest["run"]) == (scores.home.predictions.uri, "shop_score run-1")
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(manifest["delivered_at"]) < timedelta(minutes=5)
    assert [(file["name"], file["rows"]) for file in manifest["files"]] == [
        (f"{order[:12]}-1-000.parquet", 2),
        (f"{order[:12]}-1-001.parquet", 3),
    ]
    for file in manifest["files"]:
        body = files[f"period=2017-07/{file['name']}"]
        assert (file["bytes"], file["sha256"]) == (len(body), sha256(body))


def test_the_files_are_those_that_were_published_byte_by_byte(scores: Scores, folder: Target) -> None:
    scores.publish("2017-07")
    folder.deliver(scores)
    seen = scores.home.predictions.visible()["2017-07"]
    published = [scores.home.objects.get(f"{scores.home.predictions.uri}/{path}") for path in seen.paths]

    assert [body for name, body in folder.files() if name.endswith(".parquet")] == published


def test_files_of_an_older_order_are_gone_once_the_new_manifest_stands(scores: Scores, folder: Target) -> None:
    scores.publish("2017-07")
    folder.deliver(scores)
    new = scores.publish("2017-07")
    folder.deliver(scores)

    assert [name for name, _ in folder.files() if name.endswith(".parquet")] == [
        f"period=2017-07/{new[:12]}-2-000.parquet",
        f"period=2017-07/{new[:12]}-2-001.parquet",
    ]


def test_the_manifest_of_a_removed_period_names_no_files(scores: Scores, folder: Target) -> None:
    scores.publish("2017-07")
    folder.deliver(scores)
    scores.remove("2017-07")
    folder.deliver(scores)

    assert [name for name, _ in folder.files()] == ["period=2017-07/_manifest.json"]
    manifest = manifests(folder)["2017-07"]
    assert (manifest.order, manifest.fence, manifest.files) == ("", 2, ())


def test_what_others_keep_in_the_folder_is_left_alone(scores: Scores, folder: Target, place: Folder, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    others = ["README.md", "period=2017-07/part-0.parquet", "other/_manifest.json", "period=x/y/_manifest.json"]
    for name in others:
        place.upload(name, mine)
    for _ in range(2):
        scores.publish("2017-07")
        folder.deliver(scores)

    assert {name for name, body in folder.files() if body == b"mine"} == set(others)


# --- kills ---


@pytest.mark.parametrize("left", range(WRITES))
def test_a_kill_between_any_two_writes_shows_no_mixture_and_the_next_run_mends_it(
    scores: Scores, folder: Target, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores.publish("2017-07", customers=6)
    folder.deliver(scores)
    old = folder.seen()
    scores.publish("2017-07", customers=4)
    killed(scores, folder, left, monkeypatch)

    assert folder.seen() == (old if left < 3 else scores.seen())
    folder.deliver(scores)
    assert folder.seen() == folder.globbed() == scores.seen()


def test_there_are_no_more_writes_than_those(scores: Scores, folder: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    scores.publish("2017-07")
    folder.deliver(scores)
    scores.publish("2017-07")
    real, last = parquet.folder_at, []

    def counting(*asked: object) -> Dying:
        last.append(Dying(real(*asked), WRITES))  # type: ignore[arg-type]
        return last[0]

    monkeypatch.setattr(parquet, "folder_at", counting)
    folder.deliver(scores)
    assert last[0].left == 0


@pytest.mark.parametrize("left", [1, 2])
def test_what_a_killed_deliverer_wrote_is_gone_after_the_next_publish(
    scores: Scores, folder: Target, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First with a period that is new at the place: there, nothing stands beside its files."""
    scores.publish("2017-07")
    killed(scores, folder, left, monkeypatch)
    assert folder.seen() == []
    scores.publish("2017-07")
    folder.deliver(scores)

    assert folder.globbed() == scores.seen()


def test_what_a_stale_deliverer_wrote_before_it_was_killed_is_gone_after_a_run_with_nothing_to_do(
    scores: Scores, folder: Target, place: Folder, tmp_path: Path
) -> None:
    stale = scores.publish("2017-07")
    scores.publish("2017-07")
    folder.deliver(scores)
    file = tmp_path / "stale"
    file.write_bytes(b"stale")
    place.upload(f"period=2017-07/{stale[:12]}-1-000.parquet", file)
    newer = f"period=2017-07/{'f' * 12}-3-000.parquet"  # of somebody who is about to replace it
    place.upload(newer, file)

    assert folder.deliver(scores) == {}
    assert [name for name, body in folder.files() if body == b"stale"] == [newer]


def test_a_period_whose_manifest_was_deleted_is_delivered_again(scores: Scores, folder: Target, place: Folder) -> None:
    scores.publish("2017-07")
    folder.deliver(scores)
    place.delete("period=2017-07/_manifest.json")
    assert folder.outstanding(scores) == ["2017-07"]

    folder.deliver(scores)
    assert folder.seen() == folder.globbed() == scores.seen()


def test_a_manifest_that_was_altered_is_told_with_what_to_do(scores: Scores, folder: Target, place: Folder) -> None:
    scores.publish("2017-07")
    folder.deliver(scores)
    body, tag = place.read("period=2017-07/_manifest.json") or (b"", "")
    assert place.put_over("period=2017-07/_manifest.json", body.replace(b'"rows":2', b'"rows":3'), tag)

    with pytest.raises(IntegrityError) as refused:
        folder.deliver(scores)
    assert isinstance(folder.delivery, ParquetDelivery)
    assert str(refused.value) == (
        f"{folder.delivery.uri}/period=2017-07/_manifest.json: expected a manifest as Almanac wrote it, got other "
        "bytes, so the files beside it are unknown. Delete it; the next run delivers the period again."
    )


# --- the place itself ---


def test_bytes_are_put_only_over_those_that_were_read(place: Folder) -> None:
    assert place.read("a/b") is None
    assert not place.put_over("a/b", b"x", "0" * 32)
    assert place.put_over("a/b", b"one", None)
    assert not place.put_over("a/b", b"two", None)
    body, tag = place.read("a/b") or (b"", "")
    assert body == b"one"
    assert place.put_over("a/b", b"two", tag)
    assert not place.put_over("a/b", b"three", tag)
    assert (place.read("a/b") or (b"",))[0] == b"two"
    assert place.names() == place.names("a/") == ["a/b"]
    assert place.names("b/") == []
    place.delete("a/b")
    place.delete("a/b")
    assert place.read("a/b") is None


def test_a_manifest_that_others_write_without_end_is_told(scores: Scores, on_s3: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    scores.publish("2017-07")
    monkeypatch.setattr("almanac.deliveries.folders.S3Folder.put_over", lambda *_: False)

    with pytest.raises(StoreError, match=r"/period=2017-07/: other runs wrote its manifest 8 times in a row. Nothing was"):
        on_s3.deliver(scores)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_this_process_may_not_write_to_is_told(scores: Scores, on_disk: Target, tmp_path: Path) -> None:
    scores.publish("2017-07")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(AccessRefused, match="this process has no access"):
            on_disk.deliver(scores)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_where_a_file_is_is_told(tmp_path: Path) -> None:
    (tmp_path / "scores").write_bytes(b"")
    with pytest.raises(StoreError) as refused, LocalFolder(str(tmp_path / "scores")).held():
        pass

    assert str(refused.value).startswith(f"{tmp_path}/scores: the folder cannot be used ([Errno 17] File exists: ")
    assert str(refused.value).endswith("). Mount it or free space, and try again.")


def test_a_bucket_that_is_not_there_is_told(scores: Scores) -> None:
    scores.publish("2017-07")
    nowhere = Target(ParquetDelivery("lake", "s3://nowhere/lake"), "", scores.home.objects)
    with pytest.raises(StoreError, match=r"bucket 'nowhere' does not exist\. Create it, or change the URI\."):
        nowhere.deliver(scores)


def test_a_delivery_grows_columns_as_the_predictions_do(scores: Scores, folder: Target) -> None:
    scores.publish("2017-06")
    wider = scores.rows("b", 3).append_column("rank", [[1, 2, 3]])
    scores.publish("2017-07", wider)
    folder.deliver(scores)
    (body,) = [body for name, body in folder.files() if name.startswith("period=2017-07/") and name.endswith(".parquet")]

    assert pq.read_table(io.BytesIO(body)).column("rank").to_pylist() == [1, 2, 3]


def test_a_predictions_file_that_is_gone_is_told(scores: Scores, folder: Target) -> None:
    scores.publish("2017-07")
    scores.home.objects.delete(uri := scores.file("2017-07"))
    with pytest.raises(DeliveryError) as refused:
        folder.deliver(scores)

    assert f"{uri}: the predictions table names this file, but it does not exist. Score the period again, or" in str(
        refused.value
    )
    assert folder.seen() == []
