"""The promotion log on S3. The next number is the lock: only one of two writers gets it."""

from __future__ import annotations

from dataclasses import dataclass

from almanac.core.canonical import sealed
from almanac.core.layout import Layout
from almanac.core.promotions import Entry, Log
from almanac.errors import LogMoved
from almanac.store import packs
from almanac.store.objects import Listed, Objects, record

REMEMBERED = 20_000
# Entries never change, so each is read only once. The key includes the etag, the store's own digest, so an entry that was
# altered by hand is read again.
_read: dict[Listed, Entry] = {}


@dataclass(frozen=True, slots=True)
class Promotions:
    """The promotion log of one pipeline."""

    objects: Objects
    layout: Layout

    def read(self) -> Log:
        """The whole log, checked. Takes one listing, and a read of each entry that this process has not read yet.

        Raises:
            IntegrityError: an entry was altered, removed, or added by hand.
        """
        listed = list(self.objects.walk(self.layout.promotions))
        known = {item: entry for item in listed if (entry := _read.get(item)) is not None}
        new = [item for item in listed if item not in known]
        bodies = packs.read(self.objects, self.layout.pack("promotions"), new)
        found = {item: record(Entry, bodies[item.uri], item.uri) for item in new if item.uri in bodies}
        if len(_read) + len(found) > REMEMBERED:
            _read.clear()
        _read.update(found)
        return Log(tuple(known.get(item) or found[item] for item in listed if item in known or item in found))

    def append(self, entry: Entry) -> None:
        """Appends an entry to the log that its writer has seen.

        Raises:
            LogMoved: another writer took the number; the error carries that entry, and the message names it.
        """
        uri = self.layout.promotion(entry.sequence)
        if not self.objects.put_if_absent(uri, sealed(entry)):
            other = record(Entry, self.objects.get(uri), uri)
            raise LogMoved(
                f"Entry {entry.sequence} of the promotion log was written by another run meanwhile: {other.action.value} "
                f"{other.version} ({other.reason}). Nothing was appended. Review that entry and decide again.",
                other,
            )
