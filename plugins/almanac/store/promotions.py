"""The promotion log on S3. The next number is the lock: of two writers, one gets it."""

from __future__ import annotations

from dataclasses import dataclass

from almanac.core.canonical import sealed
from almanac.core.layout import Layout
from almanac.core.promotions import Entry, Log
from almanac.errors import Conflict
from almanac.store.objects import Objects, record


@dataclass(frozen=True, slots=True)
class Promotions:
    """The promotion log of one pipeline."""

    objects: Objects
    layout: Layout

    def read(self) -> Log:
        """The whole log, checked. Raises: IntegrityError."""
        found = self.objects.walk(self.layout.promotions)
        return Log(tuple(record(Entry, self.objects.get(item.uri), item.uri) for item in found))

    def append(self, entry: Entry) -> Log:
        """Appends an entry behind the log that its writer has seen, and gives the log with it.

        Raises:
            Conflict: somebody else got the number; the message names that entry.
        """
        uri = self.layout.promotion(entry.sequence)
        if not self.objects.put_if_absent(uri, sealed(entry)):
            other = record(Entry, self.objects.get(uri), uri)
            raise Conflict(
                f"Entry {entry.sequence} of the promotion log was written by somebody else meanwhile: "
                f"{other.action.value} {other.version} ({other.reason}). Nothing of ours was kept; look at it and decide again."
            )
        return self.read()
