"""Model versions on S3: immutable bundles, made visible by their manifest, which is written last.

Nothing is unpickled here: `model.loading` does that, with what a manifest's `bundle` names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from almanac.core.bundle import REPORT, Bundle, Engine
from almanac.core.canonical import digest, later, sealed, sha256
from almanac.core.entity import Entity, keys_of
from almanac.core.layout import Layout
from almanac.core.receipts import Output
from almanac.core.suspicion import Suspect
from almanac.core.target import Target
from almanac.errors import IntegrityError, NotFound, PromotionError, examples
from almanac.settings import signing_key, verifying_key
from almanac.store import packs, signatures
from almanac.store.objects import Objects, record, verified

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a version is.

    Args:
        period: the period it was trained for; it is in force from the next period at the earliest.
        order: the digest of the order that trained it; the version's id holds its first 8 digits.
        receipt, audit: URIs of its receipts.
        definition: of the features that it reads.
        features: the feature names in order; all float32.
        training, holdout: the periods of its snapshots.
        estimator: its name in the user's module.
        metrics: on the holdout.
        files: name to file.
        content: digest of the training rows.
        environment: distribution to version, as installed where it was trained.
        classes: the class names of the fitted pipeline and its parts.
        target: what it predicts.
        engine: the engine that scores with it.
        suspects: its features that look like leaks.
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
    entity: Entity
    features: tuple[str, ...]
    training: tuple[str, ...]
    holdout: str
    estimator: str
    metrics: Mapping[str, float]
    files: Mapping[str, Output]
    content: str
    environment: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    target: Target = later(Target())
    engine: Engine = later(Engine())
    suspects: tuple[Suspect, ...] = later(())

    @property
    def digest(self) -> str:
        return digest(self)

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that name an entity."""
        return keys_of(self.entity)

    @property
    def bundle(self) -> Bundle:
        """What is needed to load the version."""
        return Bundle(
            version=self.version,
            files=self.files,
            features=self.features,
            environment=self.environment,
            target=self.target,
            engine=self.engine,
        )


@dataclass(frozen=True, slots=True)
class Versions:
    """The model versions of one pipeline."""

    objects: Objects
    layout: Layout

    def publish(self, manifest: Manifest) -> Manifest:
        """Makes a version visible, signed if ALMANAC_SIGNING_KEY is set. A second publish finds the first.

        The signature is written first, so that no version is ever visible without it.
        """
        uri, body = self.layout.manifest(manifest.version), sealed(manifest)
        if (key := signing_key()) is not None:
            self.objects.put(self.layout.signature(manifest.version, sha256(body)), signatures.sign(body, key))
        if self.objects.put_if_absent(uri, body):
            return manifest
        kept = self.read(manifest.version)
        if kept.order != manifest.order:
            raise IntegrityError(f"Version {manifest.version} already exists, trained by another order. Nothing was changed.")
        return kept

    def read(self, version: str, expected: str | None = None) -> Manifest:
        """The manifest of a version, to look at; with `expected`, only if its digest matches.

        Raises:
            PromotionError: there is no such version.
            IntegrityError: the manifest is not the one that was promoted.
        """
        return self._expected(self._opened(version, self._body(version)), expected)

    def trusted(self, version: str, expected: str | None = None) -> Manifest:
        """The manifest of a version to promote, compare or score with: as `read`, with a valid signature if
        ALMANAC_VERIFYING_KEY is set.

        Raises:
            PromotionError, IntegrityError: as for `read`.
            Unsigned: it has no valid signature.
        """
        body = self._body(version)
        if (key := verifying_key()) is not None:
            signature = self.objects.find(self.layout.signature(version, sha256(body)))
            signatures.check(body, signature, key, self.layout.manifest(version))
        return self._expected(self._opened(version, body), expected)

    def _body(self, version: str) -> bytes:
        try:
            return self.objects.get(self.layout.manifest(version))
        except NotFound:
            raise PromotionError(
                f"Version {version!r} is unknown (known: {examples(self.names(), 12)}). Name one of them."
            ) from None

    def _expected(self, manifest: Manifest, digest: str | None) -> Manifest:
        if digest is not None and manifest.digest != digest:
            uri = self.layout.manifest(manifest.version)
            raise IntegrityError(f"{uri}: the manifest is not the one that was promoted. It is not used. Restore it.")
        return manifest

    def _opened(self, version: str, body: bytes) -> Manifest:
        """The manifest of exactly this version: one copied from another version is as useless as an altered one."""
        uri = self.layout.manifest(version)
        manifest = record(Manifest, body, uri)
        if (manifest.pipeline, manifest.version) != (self.layout.pipeline, version):
            raise IntegrityError(
                f"{uri}: expected the manifest of {self.layout.pipeline} {version}, got that of {manifest.pipeline} "
                f"{manifest.version}. It was copied there by hand and is not used. Restore it from the bucket's versions."
            )
        return manifest

    def readable(self) -> dict[str, Manifest]:
        """The readable manifests of visible versions, oldest first. An unreadable one is named in a warning."""
        listed = [item for item in self.objects.walk(self.layout.models) if item.uri.endswith("/manifest.json")]
        found = {}
        for uri, body in packs.read(self.objects, self.layout.pack("manifests"), listed).items():
            try:
                found[uri.split("/")[-2]] = self._opened(uri.split("/")[-2], body)
            except IntegrityError as error:
                log.warning("Left out: %s", error)
        return dict(sorted(found.items()))

    def read_all(self, names: Iterable[str]) -> dict[str, Manifest]:
        """The manifests of many versions. Raises: as `read`."""
        known = self.readable()
        return {name: known.get(name) or self.read(name) for name in sorted(names)}

    def names(self) -> list[str]:
        """Every visible version, oldest first."""
        found = (item.uri for item in self.objects.walk(self.layout.models))
        return sorted(uri.split("/")[-2] for uri in found if uri.endswith("/manifest.json"))

    def importance(self, manifest: Manifest) -> dict[str, float]:
        """Feature group to its share of the version's importance, from its report; empty if the report has none.

        Raises:
            NotFound, IntegrityError: as for `file`.
        """
        return dict(json.loads(self.file(manifest.files[REPORT])).get("importance", {}))

    def file(self, output: Output) -> bytes:
        """The bytes of a bundle's file. Raises: NotFound, IntegrityError."""
        return verified(self.objects.get(output.uri), output.sha256, output.uri)
