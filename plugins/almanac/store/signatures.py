"""Signatures of manifests, by OpenSSF model-signing with keys of an elliptic curve; no network. The only model_signing.

What digests cannot tell, a signature can: whether who wrote a manifest holds the private key. model-signing signs folders,
so a manifest's exact bytes are put into one of their own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import ModuleType

from almanac.errors import StoreError, Unsigned

NAME = "manifest.json"
INSTALL = "pip install 'model-signing==1.1.1' pyopenssl"


def sign(body: bytes, key: Path) -> bytes:
    """The signature of a manifest's bytes, a Sigstore bundle as JSON. `key`: a PEM file, private.

    Raises:
        StoreError: the package is missing, or the file is no such key.
    """
    signing = _package("signing", "ALMANAC_SIGNING_KEY")
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        model, signature = _laid_out(Path(folder), body)
        try:
            signing.Config().use_elliptic_key_signer(private_key=key).sign(model, signature)
        except (OSError, TypeError, ValueError, AttributeError) as error:
            raise _unusable("ALMANAC_SIGNING_KEY", "private", key, error) from error
        return signature.read_bytes()


def check(body: bytes, signature: bytes | None, key: Path, uri: str) -> None:
    """Makes sure that a manifest's bytes were signed with the private key of a public one. `key`: a PEM file.

    Raises:
        Unsigned: there is no signature, or it is of other bytes or by another key.
        StoreError: the package is missing, or the file is no such key.
    """
    verifying = _package("verifying", "ALMANAC_VERIFYING_KEY")
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise _unusable("ALMANAC_VERIFYING_KEY", "public", key, error) from error
    if signature is None:
        raise Unsigned(
            f"{uri}: the manifest is not signed, and ALMANAC_VERIFYING_KEY asks for a signature. If you know where it is from, "
            "set ALMANAC_SIGNING_KEY and clear the task model.publish of its retrain: it signs what it published. Else retrain."
        )
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        model, kept = _laid_out(Path(folder), body)
        kept.write_bytes(signature)
        try:
            verifier.verify(model, kept)
        except Exception as error:  # the package documents none: whatever it raises, the signature does not hold
            raise Unsigned(
                f"{uri}: the manifest's signature does not hold for {key.name}: it was altered since it was signed, or signed "
                "with another key. The version is not used. Restore its files from the bucket's versions, or retrain; where "
                "keys were changed, set ALMANAC_VERIFYING_KEY to the one of its time."
            ) from error


def _laid_out(folder: Path, body: bytes) -> tuple[Path, Path]:
    model = folder / "manifest"
    model.mkdir()
    (model / NAME).write_bytes(body)
    return model, folder / "manifest.sig"


def _package(part: str, setting: str) -> ModuleType:
    # Imported when a key is set and not before: most installations have neither.
    try:
        if part == "signing":
            from model_signing import signing

            return signing
        from model_signing import verifying

        return verifying
    except ImportError as error:
        raise StoreError(
            f"{setting} is set, but the package model-signing cannot be imported ({error}). Install it here: {INSTALL}"
        ) from error


def _unusable(setting: str, kind: str, key: Path, error: Exception) -> StoreError:
    said = " ".join(str(error).split())[:200]
    return StoreError(
        f"{setting}: {key} cannot be used ({said}), allowed is a PEM file with the {kind} key of an elliptic curve "
        "(prime256v1, secp384r1, secp521r1), without a password. Make one with openssl: docs/models.md says how."
    )
