"""Copies that are counted."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from almanac import pinning
from almanac.core.pins import Pin
from almanac.core.receipts import Output
from almanac.core.sources import Source
from almanac.store.copies import LocalCopies
from almanac.store.objects import Objects


class Counting:
    """A folder of copies, and how often one was kept."""

    def __init__(self) -> None:
        self.folder = TemporaryDirectory(prefix="almanac-")
        self.copies, self.kept = LocalCopies(Path(self.folder.name)), 0

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()

    def find(self, key: str) -> Output | None:
        return self.copies.find(key)

    def keep(self, key: str, name: str, file: Path, rows: int) -> Output:
        self.kept += 1
        return self.copies.keep(key, name, file, rows)

    def observe(self, objects: Objects, source: Source) -> Pin:
        return pinning.observe(objects, self, "visits", source)
