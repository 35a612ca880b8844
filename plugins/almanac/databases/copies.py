"""What a copy of a table is made of, without any database: importing this loads no client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Copies(Protocol):
    """Where copied files are kept, by their content."""

    def keep(self, sha256: str, name: str, file: Path) -> str:
        """Keeps a local file unless one of the same digest and name is there already; returns its URI.

        Args:
            sha256: the digest of the file's bytes, as hexadecimal digits.
            name: the file's name, such as `2017-06.parquet`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile:
    """A Parquet file with a part of a table. `size`: in bytes."""

    name: str
    uri: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """The files of one copy, from the oldest month to rows without a time. There is at least one; it may have no rows."""

    files: tuple[CopiedFile, ...]
