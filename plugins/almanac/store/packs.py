"""Packs: many small immutable objects, read in one request. A pack is derived: if it is lost or altered, it is rebuilt.

A pack's copy of an object is used only if the store lists the object with the same etag, its own digest of the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from almanac.core.canonical import sealed
from almanac.errors import IntegrityError, StoreError
from almanac.store.objects import Listed, Objects, record

log = logging.getLogger(__name__)
READERS = 16
FEW = 64  # fewer objects than this are read one by one; a pack that lacks this many is written again


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """URI to etag and body."""

    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read(objects: Objects, uri: str, wanted: Iterable[Listed]) -> dict[str, bytes]:
    """The bytes of listed objects, by URI; objects deleted since are left out. `uri`: where their pack is stored."""
    listed = list(wanted)
    pack = _kept(objects, uri) if len(listed) >= FEW else Pack()
    held = {item.uri: pack.files[item.uri][1].encode() for item in listed if pack.files.get(item.uri, ("",))[0] == item.etag}
    left = [item for item in listed if item.uri not in held]
    with ThreadPoolExecutor(READERS) as pool:
        bodies = pool.map(lambda item: objects.find(item.uri), left)
        found = {item.uri: body for item, body in zip(left, bodies, strict=True) if body is not None}
    if len(found) >= FEW:
        _put(objects, uri, pack, {item.uri: (item.etag, found[item.uri]) for item in left if item.uri in found})
    return {item.uri: body for item in listed if (body := held.get(item.uri, found.get(item.uri))) is not None}


def _kept(objects: Objects, uri: str) -> Pack:
    if (found := objects.tagged(uri)) is None:
        return Pack()
    try:
        return record(Pack, found[0], uri)
    except IntegrityError as error:
        log.warning("The pack is rebuilt from its objects: %s", error)
        return Pack()


def _put(objects: Objects, uri: str, before: Pack, new: Mapping[str, tuple[str, bytes]]) -> None:
    try:
        added = {name: (etag, body.decode()) for name, (etag, body) in new.items()}
        objects.put(uri, sealed(Pack(files={**before.files, **added})))
    except (StoreError, UnicodeDecodeError) as error:
        log.warning("The pack could not be written, so its objects will be read one by one again: %s", error)
