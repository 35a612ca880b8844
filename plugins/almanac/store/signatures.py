"""Signatures of manifests, by OpenSSF model-signing with elliptic-curve keys; no network. The only module that imports
model_signing.

A digest cannot show who wrote a manifest; a signature shows that its writer holds the private key. model-signing signs
folders, so the manifest's exact bytes are put into a folder of their own.
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
        StoreError: the package is missing, or the file is not such a key.
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
    """Checks that a manifest's bytes were signed with the private key that belongs to a public one. `key`: a PEM file, public.

    Raises:
        Unsigned: there is no signature, or it is for other bytes or by another key.
        StoreError: the package is missing, or the file is not such a key.
    """
    verifying = _package("verifying", "ALMANAC_VERIFYING_KEY")
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise _unusable("ALMANAC_VERIFYING_KEY", "public", key, error) from error
    if signature is None:
        raise Unsigned(
            f"{uri}: the manifest is not signed, but ALMANAC_VERIFYING_KEY requires a signature. If you trust its origin, set "
            "ALMANAC_SIGNING_KEY and clear the task model.publish of its retrain, which signs it. Otherwise retrain."
        )
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        model, kept = _laid_out(Path(folder), body)
        kept.write_bytes(signature)
        try:
            verifier.verify(model, kept)
        except Exception as error:  # the package documents no exceptions: whatever it raises, the signature is invalid
            raise Unsigned(
                f"{uri}: the manifest's signature is not valid for {key.name}: the manifest was altered after signing, or signed "
                "with another key. The version is not used. Restore its files from the bucket's versions, or retrain. If the "
                "keys were rotated, set ALMANAC_VERIFYING_KEY to the key that was used then."
            ) from error


def _laid_out(folder: Path, body: bytes) -> tuple[Path, Path]:
    model = folder / "manifest"
    model.mkdir()
    (model / NAME).write_bytes(body)
    return model, folder / "manifest.sig"


def _package(part: str, setting: str) -> ModuleType:
    # Imported only if a key is set: most installations have neither the key nor the package.
    try:
        if part == "signing":
            from model_signing import signing

            return signing
        from model_signing import verifying

        return verifying
    except ImportError as error:
        raise StoreError(
            f"{setting} is set, but the package model-signing cannot be imported ({error}). Install it: {INSTALL}"
        ) from error


def _unusable(setting: str, kind: str, key: Path, error: Exception) -> StoreError:
    message = " ".join(str(error).split())[:200]
    return StoreError(
        f"{setting}: expected a PEM file with the {kind} key of an elliptic curve (prime256v1, secp384r1 or secp521r1), without "
        f"a password; {key} cannot be used ({message}). Create one with openssl, as docs/models.md shows."
    )
