"""Copies: Parquet files that a pin makes of what jobs cannot read themselves, kept by what they were made from."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from almanac import chunks
from almanac.core.canonical import sealed
from almanac.core.layout import Layout
from almanac.core.receipts import Output
from almanac.store.objects import Objects, record

RECORD = "record.json"


class Copies(Protocol):
    """Where copies are kept."""

    def find(self, key: str) -> Output | None:
        """What was kept under a key. Raises: IntegrityError, if its record was altered."""

    def keep(self, key: str, name: str, file: Path, rows: int) -> Output:
        """Keeps a Parquet file under a key, or finds what another writer kept there. Raises: StoreError."""


@dataclass(frozen=True, slots=True)
class StoredCopies:
    """Copies below a pipeline's root, for its runs. Nothing deletes them: receipts name them."""

    objects: Objects
    layout: Layout

    def find(self, key: str) -> Output | None:
        uri = f"{self.layout.copies(key)}{RECORD}"
        body = self.objects.find(uri)
        made = None if body is None else record(Output, body, uri)
        if made is None:
            return None
        there = next((item.size for item in self.objects.walk(made.uri) if item.uri == made.uri), None)
        return made if there == made.bytes else None  # one that was lost is made again

    def keep(self, key: str, name: str, file: Path, rows: int) -> Output:
        folder = self.layout.copies(key)
        made = replace(described(name, file, rows), uri=f"{folder}{uuid.uuid4().hex}/{name}")
        self.objects.upload(made.uri, file)
        if self.objects.put_if_absent(f"{folder}{RECORD}", sealed(made)):
            return made
        if (found := self.find(key)) is None:
            self.objects.put(f"{folder}{RECORD}", sealed(made))
            return made
        self.objects.delete(made.uri)  # another writer came first
        return found


@dataclass(frozen=True, slots=True)
class LocalCopies:
    """Copies in a local folder, for commands that store nothing."""

    folder: Path

    def find(self, key: str) -> Output | None:
        kept = self.folder / key / RECORD
        return record(Output, kept.read_bytes(), str(kept)) if kept.exists() else None

    def keep(self, key: str, name: str, file: Path, rows: int) -> Output:
        folder = self.folder / key / uuid.uuid4().hex
        folder.mkdir(parents=True)
        kept = folder / name
        shutil.copyfile(file, kept)
        made = replace(described(name, kept, rows), uri=str(kept))
        (folder / RECORD).write_bytes(sealed(made))
        (folder / RECORD).replace(self.folder / key / RECORD)  # at once: another thread may look
        return made


@dataclass(frozen=True, slots=True)
class BorrowedCopies:
    """Copies that were stored, for commands that store nothing: what is missing is made in a local folder."""

    stored: StoredCopies
    local: LocalCopies

    def find(self, key: str) -> Output | None:
        return self.stored.find(key) or self.local.find(key)

    def keep(self, key: str, name: str, file: Path, rows: int) -> Output:
        return self.local.keep(key, name, file, rows)


def described(name: str, file: Path, rows: int) -> Output:
    """The record of a local Parquet file, by which every read is checked; without its URI."""
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        size = opened.seek(0, 2)
        opened.seek(max(0, size - chunks.END))
        end = opened.read()
        if not (footer := chunks.footer(end)):
            opened.seek(0)
            footer = chunks.footer(opened.read())
    return Output(name=name, uri="", bytes=size, sha256=sha256, rows=rows, footer=hashlib.sha256(footer).hexdigest())
