"""Model versions on S3: immutable bundles whose manifest, put last, makes them visible.

joblib is code. Nothing is unpickled whose chain (log entry or receipt, manifest, file digests) does not hold.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from almanac.core.canonical import digest, sealed
from almanac.core.layout import Layout
from almanac.core.receipts import Output
from almanac.errors import IntegrityError, NotFound, PromotionError, examples
from almanac.store.objects import Objects, record, verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a version is.

    Args:
        period: the one it was trained for; it is in force from the next one at the earliest.
        order: the digest of the order that trained it; the version's id holds its first 8 digits.
        receipt, audit: URIs of its receipts.
        definition: of the features it wants.
        features: their names in order; all float32.
        training, holdout: the periods of its snapshots.
        estimator: the name under which the user's module gave it.
        metrics: on the holdout.
        files: name to file.
        content: digest of the training rows.
        environment: library to version.
    """

    pipeline: str
    version: str
    period: str
    order: str
    receipt: str
    audit: str
    description: str
    module: str
    definition: str
    entity: str
    features: tuple[str, ...]
    training: tuple[str, ...]
    holdout: str
    estimator: str
    metrics: Mapping[str, float]
    files: Mapping[str, Output]
    content: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest(self)


@dataclass(frozen=True, slots=True)
class Versions:
    """The model versions of one pipeline."""

    objects: Objects
    layout: Layout

    def publish(self, manifest: Manifest) -> Manifest:
        """Makes a version visible. A second publish of it finds the first."""
        uri = self.layout.manifest(manifest.version)
        if self.objects.put_if_absent(uri, sealed(manifest)):
            return manifest
        kept = self.read(manifest.version)
        if kept.order != manifest.order:
            raise IntegrityError(f"Version {manifest.version} exists already, trained by another order. Nothing was changed.")
        return kept

    def read(self, version: str, expected: str | None = None) -> Manifest:
        """The manifest of a version; with `expected`, only if that is its digest.

        Raises:
            PromotionError: there is no such version.
            IntegrityError: the manifest is not the one that was promoted.
        """
        uri = self.layout.manifest(version)
        try:
            manifest = record(Manifest, self.objects.get(uri), uri)
        except NotFound:
            raise PromotionError(
                f"Version {version!r} is unknown (there are: {examples(self.names(), 12)}). Name one of them."
            ) from None
        if expected is not None and manifest.digest != expected:
            raise IntegrityError(f"{uri}: the manifest is not the one that was promoted. It is not used; restore it.")
        return manifest

    def names(self) -> list[str]:
        """Every visible version, the oldest first."""
        found = (item.uri for item in self.objects.walk(self.layout.models))
        return sorted(uri.split("/")[-2] for uri in found if uri.endswith("/manifest.json"))

    def file(self, output: Output) -> bytes:
        """The bytes of a bundle's file. Raises: NotFound, IntegrityError."""
        return verified(self.objects.get(output.uri), output.sha256, output.uri)

    def model(self, files: Mapping[str, Output]) -> Any:
        """The fitted scikit-learn pipeline of a bundle, unpickled after its bytes were verified.

        Raises:
            IntegrityError: the bytes are not those of the manifest; nothing was unpickled.
        """
        body = self.file(files["model.joblib"])
        import joblib

        return joblib.load(io.BytesIO(body))
