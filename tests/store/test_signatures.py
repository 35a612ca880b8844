"""Signed manifests: only what the holder of the private key published is used, where a public key asks for it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from almanac.core.canonical import sealed, sha256
from almanac.core.layout import Layout
from almanac.errors import IntegrityError, StoreError, Unsigned
from almanac.store import signatures
from almanac.store.objects import Objects
from almanac.store.versions import Manifest, Versions

pytestmark = pytest.mark.store

VERSION = "2017-06-ea02faee"
BODY = b'{"version":"2017-06-ea02faee"}'
URI = "s3://almanac/shop/models/2017-06-ea02faee/manifest.json"


def key_pair(folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> tuple[Path, Path]:
    """A private and a public key, as PEM files."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_pair(tmp_path, "ours")


@pytest.fixture
def versions(objects: Objects, root: str) -> Versions:
    return Versions(objects, Layout(root, "shop"))


def manifest(**changes: object) -> Manifest:
    described = {
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
        "metrics": {"roc_auc": 0.75},
        "files": {},
        "content": "c1",
    }
    return Manifest(**{**described, **changes})  # type: ignore[arg-type]


def publish(versions: Versions, key: Path | None, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Manifest:
    """A version published by somebody who signs with a key, or with none."""
    monkeypatch.setenv("ALMANAC_SIGNING_KEY", str(key or ""))
    published = versions.publish(manifest(**changes))
    monkeypatch.delenv("ALMANAC_SIGNING_KEY")
    return published


def verify_with(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMANAC_VERIFYING_KEY", str(key))


def unsigned(versions: Versions, expected: str | None = None) -> str:
    with pytest.raises(Unsigned) as refused:
        versions.trusted(VERSION, expected)
    assert isinstance(refused.value, IntegrityError)
    return str(refused.value)


# Bytes


def test_bytes_are_signed_with_one_key_and_checked_with_its_other_half(keys: tuple[Path, Path]) -> None:
    signature = signatures.sign(BODY, keys[0])

    assert b'"dsseEnvelope"' in signature
    signatures.check(BODY, signature, keys[1], URI)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_the_other_curves_that_are_named_do_as_well(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    private, public = key_pair(tmp_path, "other", curve)
    signatures.check(BODY, signatures.sign(BODY, private), public, URI)


@pytest.mark.parametrize("altered", [BODY + b" ", BODY[:-1], b""])
def test_a_signature_of_other_bytes_does_not_hold(keys: tuple[Path, Path], altered: bytes) -> None:
    signature = signatures.sign(BODY, keys[0])
    with pytest.raises(Unsigned) as refused:
        signatures.check(altered, signature, keys[1], URI)
    assert str(refused.value) == (
        f"{URI}: the manifest's signature is not valid for ours.pub.pem: the manifest was altered after signing, or signed with "
        "another key. The version is not used. Restore its files from the bucket's versions, or retrain. If the keys were "
        "rotated, set ALMANAC_VERIFYING_KEY to the key that was used then."
    )


@pytest.mark.parametrize("signature", [b"", b"{}", b"[]", b"null", b"<html>", b"\xff"])
def test_a_signature_that_is_none_does_not_hold(keys: tuple[Path, Path], signature: bytes) -> None:
    with pytest.raises(Unsigned, match="the manifest's signature is not valid"):
        signatures.check(BODY, signature, keys[1], URI)


def test_a_signature_whose_own_bytes_were_altered_does_not_hold(keys: tuple[Path, Path]) -> None:
    signature = signatures.sign(BODY, keys[0])
    start = signature.index(b'"sig":"') + len(b'"sig":"') + 20
    forged = signature[:start] + (b"A" if signature[start : start + 1] != b"A" else b"B") + signature[start + 1 :]

    with pytest.raises(Unsigned, match="is not valid"):
        signatures.check(BODY, forged, keys[1], URI)


@pytest.mark.parametrize(("setting", "kind"), [("ALMANAC_SIGNING_KEY", "private"), ("ALMANAC_VERIFYING_KEY", "public")])
@pytest.mark.parametrize("content", [None, b"no key", "another curve"])
def test_a_key_that_cannot_be_used_says_which_setting_and_how_to_make_one(
    tmp_path: Path, setting: str, kind: str, content: object
) -> None:
    path = tmp_path / "key.pem"
    if isinstance(content, str):
        path = key_pair(tmp_path, "odd", ec.SECP256K1())[kind == "public"]
    elif isinstance(content, bytes):
        path.write_bytes(content)

    with pytest.raises(StoreError) as refused:
        signatures.sign(BODY, path) if kind == "private" else signatures.check(BODY, b"{}", path, URI)

    text = str(refused.value)
    assert text.startswith(f"{setting}: expected a PEM file with the {kind} key") and f"{path} cannot be used (" in text
    assert (
        f"expected a PEM file with the {kind} key of an elliptic curve (prime256v1, secp384r1 or secp521r1), without a password; "
    ) in text
    assert text.endswith("Create one with openssl, as docs/models.md shows.")


@pytest.mark.parametrize("setting", ["ALMANAC_SIGNING_KEY", "ALMANAC_VERIFYING_KEY"])
def test_a_key_without_the_package_names_the_command_that_installs_it(
    keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)

    with pytest.raises(StoreError) as refused:
        signatures.sign(BODY, keys[0]) if "SIGNING" in setting else signatures.check(BODY, b"", keys[1], URI)

    text = str(refused.value)
    assert text.startswith(f"{setting} is set, but the package model-signing cannot be imported (")
    assert text.endswith("Install it: pip install 'model-signing==1.1.1' pyopenssl")


# Versions


def test_a_signed_version_is_used_by_who_holds_the_public_key(
    versions: Versions, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    published = publish(versions, keys[0], monkeypatch)
    verify_with(keys[1], monkeypatch)

    assert versions.trusted(VERSION) == versions.trusted(VERSION, published.digest) == published
    assert versions.names() == [VERSION]


def test_an_unsigned_version_is_not_used_but_shown(
    versions: Versions, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    published = publish(versions, None, monkeypatch)
    assert versions.trusted(VERSION) == published, "nobody asks for a signature"

    verify_with(keys[1], monkeypatch)

    assert unsigned(versions, published.digest) == (
        f"{versions.layout.manifest(VERSION)}: the manifest is not signed, but ALMANAC_VERIFYING_KEY requires a signature. If "
        "you trust its origin, set ALMANAC_SIGNING_KEY and clear the task model.publish of its retrain, which signs it. "
        "Otherwise retrain."
    )
    assert versions.read(VERSION) == published
    assert versions.names() == [VERSION]


def test_a_version_signed_with_another_key_is_not_used(
    versions: Versions, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(versions, key_pair(tmp_path, "theirs")[0], monkeypatch)
    verify_with(keys[1], monkeypatch)

    assert "the manifest's signature is not valid for ours.pub.pem" in unsigned(versions)


def test_a_manifest_that_was_altered_and_sealed_again_is_seen_by_its_signature_alone(
    versions: Versions, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    published = publish(versions, keys[0], monkeypatch)
    body = sealed(published)
    planted = replace(published, module="m2")
    versions.objects.put(versions.layout.manifest(VERSION), sealed(planted))

    assert versions.trusted(VERSION, planted.digest) == planted, "its seal fits, and so does a log entry written with it"

    verify_with(keys[1], monkeypatch)
    assert "the manifest is not signed" in unsigned(versions, planted.digest)

    signature = versions.objects.get(versions.layout.signature(VERSION, sha256(body)))
    versions.objects.put(versions.layout.signature(VERSION, sha256(sealed(planted))), signature)
    assert "is not valid" in unsigned(versions, planted.digest)


def test_a_signed_manifest_of_another_version_does_not_pass_for_this_one(
    versions: Versions, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = publish(versions, keys[0], monkeypatch, version="2017-05-0123abcd")
    body = sealed(other)
    signature = versions.objects.get(versions.layout.signature(other.version, sha256(body)))
    versions.objects.put(versions.layout.manifest(VERSION), body)
    versions.objects.put(versions.layout.signature(VERSION, sha256(body)), signature)
    verify_with(keys[1], monkeypatch)

    with pytest.raises(IntegrityError, match=r"got that of shop 2017-05-0123abcd\. It was copied there by hand"):
        versions.trusted(VERSION)


def test_a_version_that_was_published_before_there_was_a_key_is_signed_by_a_second_publish(
    versions: Versions, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(versions, None, monkeypatch)
    verify_with(keys[1], monkeypatch)
    unsigned(versions)

    assert publish(versions, keys[0], monkeypatch) == first
    assert versions.trusted(VERSION) == first


def test_who_loses_the_race_to_publish_leaves_the_winners_signature_alone(
    versions: Versions, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(versions, keys[0], monkeypatch)

    assert publish(versions, keys[0], monkeypatch, audit="s3://almanac/another-audit") == first
    verify_with(keys[1], monkeypatch)
    assert versions.trusted(VERSION) == first


def test_a_version_is_never_seen_without_its_signature(
    versions: Versions, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, seen = Objects.put_if_absent, []

    def look_first(objects: Objects, uri: str, body: bytes) -> bool:
        seen.append([item.uri for item in objects.walk(versions.layout.models)])
        return put(objects, uri, body)

    monkeypatch.setattr(Objects, "put_if_absent", look_first)
    published = publish(versions, keys[0], monkeypatch)

    assert seen == [[versions.layout.signature(VERSION, sha256(sealed(published)))]]
