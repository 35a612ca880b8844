"""Observing a source, wherever it is: the one function that gives a pin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from almanac.core import relations
from almanac.core.pins import Pin, PinnedFile
from almanac.core.receipts import Output
from almanac.core.sources import EventSource, Source
from almanac.errors import SourceError
from almanac.settings import connection_address
from almanac.store import sources
from almanac.store.contents import Contents, PointInTime
from almanac.store.copies import Copies
from almanac.store.objects import Objects

# Gives the address of the database of a connection, from the connection's id and the source's name.
Addresses = Callable[[str, str], str]


def observe(
    objects: Objects,
    copies: Copies,
    name: str,
    source: Source,
    then: PointInTime | None = None,
    asked: Sequence[str] = (),
    addresses: Addresses = connection_address,
) -> Pin:
    """A source as it is now, or as it was at a given time, if it tells its past. Rows of a database are copied.

    Args:
        asked: the columns that are read; if empty, those that the source names, or all.

    Raises:
        SourceMissing: there are no files, or no such table.
        SourceError: the source does not fit its description.
        DescriptionError: a database's address is unknown or not valid.
        Unfit: the bucket does not keep object versions.
        Unreachable, AccessRefused, StoreError: the store or the database cannot be read.
    """
    if not source.is_copied:
        return sources.observe(objects, copies, name, source, then, asked)
    asked = sources.read_columns(source, asked)
    return sources.pin_of(name, source, _copied(copies, name, source, asked, addresses), asked)


def _copied(copies: Copies, name: str, source: Source, asked: Sequence[str], addresses: Addresses) -> Contents:
    """A copy of what a source reads of a database."""
    try:
        from almanac.databases.extracts import extract  # psycopg is an extra
    except ImportError as error:
        raise SourceError(
            f"Source {name!r} needs the package psycopg, which cannot be imported ({error}). Install it: "
            "pip install 'almanac[postgres]'"
        ) from error
    stored = source.stored
    address = addresses(relations.connection_of(source.uri), name)
    time = source.event_time if isinstance(source, EventSource) else None
    seen_at, kept = datetime.now(UTC), _Kept(copies)
    declared = {*source.columns, *source.times, *source.tested}  # of a described group's columns, its reference may have some
    extract(
        name,
        relations.relation_of(source.uri, source.query or None),
        address,
        event_time=stored.get(time, time) if time else None,
        timezone=source.zone,
        asked=[stored.get(one, one) for one in asked if one in declared],
        optional=[stored.get(one, one) for one in asked if one not in declared],
        copies=kept,
    )
    files = (PinnedFile(uri=one.uri, size=one.bytes, etag=one.sha256, made=one) for one in kept.outputs)
    return Contents(uri=source.uri, files=tuple(files), seen_at=seen_at)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Copies of an extract's files, by the digests of their bytes, in order."""

    copies: Copies
    outputs: list[Output] = field(default_factory=list)

    def keep(self, sha256: str, name: str, file: Path) -> str:
        key = sha256[:32]
        made = self.copies.find(key) or self.copies.keep(key, name, file, pq.read_metadata(file).num_rows)
        self.outputs.append(made)
        return made.uri
