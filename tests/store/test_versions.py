"""Model versions on a real S3 server: the manifest makes them visible, and nothing altered is ever used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from almanac.core.canonical import sealed, sha256
from almanac.core.layout import Layout
from almanac.core.receipts import Output
from almanac.core.target import REGRESSION, Target
from almanac.errors import IntegrityError, NotFound, PromotionError
from almanac.store.objects import Objects
from almanac.store.versions import Manifest, Versions

pytestmark = pytest.mark.store

VERSION = "2017-06-ea02faee"


@pytest.fixture
def versions(objects: Objects, root: str) -> Versions:
    return Versions(objects, Layout(root, "shop"))


def bundle(versions: Versions, version: str = VERSION, unique: str = "u1") -> dict[str, Output]:
    """The files of a training, staged."""
    found = {}
    for name, content in {"model.joblib": b"a pickle", "golden.parquet": b"rows", "report.json": b"{}"}.items():
        uri = f"{versions.layout.model(version, unique)}/{name}"
        versions.objects.put(uri, content)
        found[name] = Output(name=name, uri=uri, bytes=len(content), sha256=sha256(content))
    return found


def manifest(files: dict[str, Output], **changes: Any) -> Manifest:
    described: dict[str, Any] = {
        "pipeline": "shop",
        "version": VERSION,
        "period": "2017-06",
        "order": "ea02faee" * 8,
        "receipt": "s3://almanac/receipt",
        "audit": "s3://almanac/audit",
        "description": "d1",
        "module": "m1",
        "definition": "f1",
        "entity": "customer",
        "features": ("visits", "amount"),
        "training": ("2017-03", "2017-04"),
        "holdout": "2017-05",
        "estimator": "logistic",
        "metrics": {"roc_auc": 0.75, "log_loss": 1.0},
        "files": files,
        "content": "c1",
        "environment": {"scikit-learn": "1.7"},
        "classes": ("Pipeline", "LogisticRegression"),
    }
    return Manifest(**{**described, **changes})


def test_a_manifest_that_says_nothing_of_kind_and_engine_has_the_digest_that_it_always_had(versions: Versions) -> None:
    """What the promotion log wrote down of versions that were promoted before there were kinds of labels still holds."""
    assert manifest({}).digest == "83c1cb6f9395ac86903ea0d65e376e8aecdd022394f5722d0915734c7ba52180"
    told = versions.publish(manifest(bundle(versions), target=Target(REGRESSION)))
    assert versions.read(VERSION, told.digest).target == Target(REGRESSION)
    assert told.digest != manifest(bundle(versions)).digest


def test_a_version_is_visible_once_its_manifest_is_there_and_not_before(versions: Versions) -> None:
    files = bundle(versions)
    assert versions.names() == []
    with pytest.raises(PromotionError, match="is unknown"):
        versions.read(VERSION)

    published = versions.publish(manifest(files))
    assert versions.names() == [VERSION]
    assert versions.read(VERSION) == published == manifest(files)
    assert versions.read(VERSION, published.digest) == published
    assert published.bundle.files == published.files


def test_versions_are_named_the_oldest_first_and_those_without_a_manifest_are_not(versions: Versions) -> None:
    for name in ("2017-07-11111111", "2016-12-99999999", "2017-06-22222222"):
        versions.publish(manifest(bundle(versions, name), version=name))
    bundle(versions, "2017-08-00000000")

    assert versions.names() == ["2016-12-99999999", "2017-06-22222222", "2017-07-11111111"]


def test_an_unknown_version_is_refused_with_those_that_there_are(versions: Versions) -> None:
    versions.publish(manifest({}))
    with pytest.raises(PromotionError) as refused:
        versions.read("2017-06-nothing")

    assert str(refused.value) == f"Version '2017-06-nothing' is unknown (known: {VERSION}). Name one of them."


def test_publishing_a_version_again_finds_the_first_with_its_files(versions: Versions) -> None:
    first = versions.publish(manifest(bundle(versions, unique="u1")))
    second = versions.publish(manifest(bundle(versions, unique="u2")))

    assert second == first
    assert "/u1/" in versions.read(VERSION).files["model.joblib"].uri


def test_of_two_publishers_of_one_version_one_manifest_wins_and_both_have_it(versions: Versions) -> None:
    start = threading.Barrier(4)

    def publish(number: int) -> Manifest:
        mine = manifest(bundle(versions, unique=f"u{number}"))
        start.wait()
        return versions.publish(mine)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(publish, range(4)))

    assert all(one == found[0] for one in found)
    assert versions.read(VERSION) == found[0]


def test_a_version_of_another_order_under_the_same_name_is_refused(versions: Versions) -> None:
    versions.publish(manifest({}))
    with pytest.raises(IntegrityError) as refused:
        versions.publish(manifest({}, order="ea02faee" + "0" * 56))

    assert str(refused.value) == f"Version {VERSION} already exists, trained by another order. Nothing was changed."
    assert versions.read(VERSION).order == "ea02faee" * 8


def test_an_altered_model_is_found_before_anybody_has_its_bytes(versions: Versions) -> None:
    files = bundle(versions)
    versions.objects.put(files["model.joblib"].uri, b"another pickle")
    with pytest.raises(IntegrityError) as refused:
        versions.file(files["model.joblib"])

    assert str(refused.value).startswith(f"{files['model.joblib'].uri}: expected SHA-256 ")
    assert "The file was altered and is not used." in str(refused.value)


def test_an_altered_file_beside_the_model_is_found(versions: Versions) -> None:
    files = bundle(versions)
    versions.objects.put(files["report.json"].uri, b'{"roc_auc": 1.0}')

    with pytest.raises(IntegrityError, match=r"report\.json: expected SHA-256"):
        versions.file(files["report.json"])


def test_a_file_that_is_gone_is_not_found(versions: Versions) -> None:
    files = bundle(versions)
    versions.objects.delete(files["model.joblib"].uri)

    with pytest.raises(NotFound, match=r"model\.joblib: the object does not exist"):
        versions.file(files["model.joblib"])


@pytest.mark.parametrize("changes", [{"version": "2017-05-0123abcd"}, {"pipeline": "churn"}])
def test_a_manifest_that_was_copied_from_another_place_is_refused(versions: Versions, changes: dict[str, str]) -> None:
    other = manifest(bundle(versions), **changes)
    uri = versions.layout.manifest(VERSION)
    versions.objects.put(uri, sealed(other))

    for read in (versions.read, versions.trusted):
        with pytest.raises(IntegrityError) as refused:
            read(VERSION)
        assert str(refused.value) == (
            f"{uri}: expected the manifest of {versions.layout.pipeline} {VERSION}, got that of {other.pipeline} "
            f"{other.version}. It was copied there by hand and is not used. Restore it from the bucket's versions."
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"roc_auc": 0.99, "log_loss": 1.0}},
        {"files": {}},
        {"training": ("2017-03",)},
        {"holdout": "2017-04"},
    ],
)
def test_a_manifest_that_is_not_the_promoted_one_is_refused(versions: Versions, changes: dict[str, Any]) -> None:
    promoted = versions.publish(manifest(bundle(versions)))
    versions.objects.put(versions.layout.manifest(VERSION), sealed(replace(promoted, **changes)))
    for read in (versions.read, versions.trusted):
        with pytest.raises(IntegrityError) as refused:
            read(VERSION, promoted.digest)
        assert str(refused.value) == (
            f"{versions.layout.manifest(VERSION)}: the manifest is not the one that was promoted. It is not used. Restore it."
        )


def test_a_manifest_altered_in_place_is_found_by_its_seal(versions: Versions) -> None:
    versions.publish(manifest({}))
    uri = versions.layout.manifest(VERSION)
    versions.objects.put(uri, versions.objects.get(uri).replace(b'"roc_auc":0.75', b'"roc_auc":0.99'))

    with pytest.raises(IntegrityError, match=r"valid Manifest, got other bytes \(its seal"):
        versions.read(VERSION)


def test_a_manifest_whose_bytes_are_none_is_found(versions: Versions) -> None:
    versions.publish(manifest({}))
    versions.objects.put(versions.layout.manifest(VERSION), b"<html>")

    with pytest.raises(IntegrityError, match="expected a valid Manifest, got other bytes"):
        versions.read(VERSION)
