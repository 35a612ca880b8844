"""Folders as sources: which of their files are data, in Parquet or as text, and what the names of folders say of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

import pyarrow as pa

from almanac.columns import constant
from almanac.core import folder
from almanac.core.canonical import digest
from almanac.core.folder import FileKind
from almanac.core.formats import Csv, Parquet, Text
from almanac.core.garbage import GROUP_FRESH
from almanac.core.pins import Constant, PinnedFile
from almanac.core.sources import EventSource, Source
from almanac.errors import NotFound, SourceError, SourceMissing, StoreError, examples
from almanac.store import texts
from almanac.store.contents import Contents, PointInTime
from almanac.store.copies import Copies
from almanac.store.objects import Listed, Objects

READERS = 16
READ_BY_LOG = {folder.LOGS["_delta_log"]: "Delta()", folder.ICEBERG: "Iceberg()"}
LOG_FILES = 100  # how many files of a possible table log are looked at


def contents(objects: Objects, copies: Copies, name: str, source: Source, then: PointInTime | None) -> Contents:
    """The files in a folder."""
    try:
        listed = list(objects.walk(source.uri) if then is None else objects.as_of(source.uri, then.moment))
    except NotFound as error:
        raise SourceMissing(f"Source {name!r} is missing: {error}") from error
    is_text = isinstance(source.format, Text)
    what = "Parquet" if isinstance(source.format, Parquet) else "CSV" if isinstance(source.format, Csv) else "JSON lines"
    if is_text:
        _check_zone(name, source)
    with ThreadPoolExecutor(READERS) as pool:
        _check_plain(objects, name, source, listed, pool)
        found, notes = _text_files(name, source, listed) if is_text else _data(objects, name, source, listed, pool)
        if not found:
            raise SourceMissing(
                f"Source {name!r} is missing: there {'is' if then is None else 'was'} no {what} file below {source.uri}"
                f"{'' if then is None else f' at {then.moment.isoformat()}'}. Deliver it, or correct the source's uri."
                f"{''.join(f' {note}' for note in notes)}"
            )
        files = list(pool.map(lambda item: _pinned(objects, name, source, item, then), found))
        if is_text:
            files = list(pool.map(lambda file: replace(file, made=texts.convert(objects, copies, name, source, file)), files))
    return Contents(uri=source.uri, files=tuple(files), notes=(*notes, *_unread_partitions(name, source, files)))


def _pinned(objects: Objects, name: str, source: Source, item: Listed, then: PointInTime | None) -> PinnedFile:
    """A listed file, with the values of its folders. Raises: SourceError, if a folder is missing or its value unfit."""
    return PinnedFile(
        uri=item.uri,
        size=item.size,
        etag=item.etag,
        version=item.version,
        copy=_copied(objects, item, then),
        constants=tuple(_constants(name, source, item.uri)),
    )


def _constants(name: str, source: Source, uri: str) -> Iterator[Constant]:
    """The values that the folders of a file give to the source's partitions."""
    there = folder.partitions(uri.removeprefix(source.uri)) if source.partitions else {}
    for column, kind in (source.partitions or {}).items():
        if column not in there:
            raise SourceError(
                f"Source {name!r}: {uri} lies in no folder such as {column}=..., which partitions={{{column!r}: {kind!r}}} "
                "expects. Move the file, or leave the column out of partitions."
            )
        one = Constant(name=column, type=kind, value=there[column])
        try:
            constant(one.type, one.value, 1)
        except pa.ArrowException as error:
            raise SourceError(
                f"Source {name!r}: the folder of {uri} gives {column} the value {there[column]!r}, which is no {kind} "
                f"({' '.join(str(error).split())}). Correct the folder's name, or the type in partitions."
            ) from error
        yield one


def _check_zone(name: str, source: Source) -> None:
    """Checks that times in text can be read. Raises: SourceError."""
    assert isinstance(source.format, Text)
    times = [column for column in source.times if source.format.columns.get(source.stored.get(column, column)) == "timestamp"]
    if times and source.zone is None:
        noun = type(source).__name__
        raise SourceError(
            f"Source {name!r}: column {times[0]!r} is text, which may have no time zone. Declare how to read it with {noun}(..., "
            "timezone='UTC'); a time with an offset, such as 12:00+02:00, is read by that."
        )


def _text_files(name: str, source: Source, listed: Sequence[Listed]) -> tuple[list[Listed], list[str]]:
    """The text files among those of a folder, and notes on the others."""
    endings = folder.CSV_ENDINGS if isinstance(source.format, Csv) else folder.JSON_ENDINGS
    kinds = {item: folder.kind(item.uri.removeprefix(source.uri), item.size, endings) for item in listed}
    found = [item for item, kind in kinds.items() if kind is FileKind.DATA]
    marker = (source.late.marker or "").partition("{")[0] if isinstance(source, EventSource) else ""
    others = [item.uri for item, kind in kinds.items() if kind in (FileKind.OTHER, FileKind.UNNAMED)]
    others = [uri for uri in others if not marker or not uri.startswith(source.uri + marker)]
    notes = []
    if others:
        notes.append(
            f"Source {name!r}: files that do not end in {endings[0]!r} or the like are not read ({len(others)}): "
            f"{examples(others)}. Rename them, or move them out of the folder if they are no data."
        )
    return found, notes


def _check_plain(objects: Objects, name: str, source: Source, listed: Iterable[Listed], pool: Executor) -> None:
    """Checks that a source's folder is neither a table with a log nor part of one. Raises: SourceError."""

    def above(place: tuple[str, str]) -> tuple[str, str, str] | None:
        whole, log = place
        with contextlib.suppress(StoreError):  # access may be limited to the source itself
            held = folder.table(item.uri.removeprefix(whole) for item in islice(objects.walk(log), LOG_FILES))
            return (whole, *held) if held else None
        return None

    inside = folder.table(item.uri.removeprefix(source.uri) for item in listed)
    tables = [(source.uri, *inside)] if inside else [one for one in pool.map(above, folder.logs_above(source.uri)) if one]
    for whole, kind, path in tables:
        advice = "Deliver a copy as plain Parquet files in a folder of its own."
        if whole == source.uri and kind in READ_BY_LOG and path.startswith(("_delta_log/", "metadata/")):
            advice = f"Read it by its log: {type(source).__name__}(..., format={READ_BY_LOG[kind]})."
        raise SourceError(
            f"Source {name!r}: {whole} is {kind} (found {path}). Only its log says which files are current, so it is not read "
            f"file by file: overwritten rows would come back. {advice}"
        )


def _data(
    objects: Objects, name: str, source: Source, listed: Sequence[Listed], pool: Executor
) -> tuple[list[Listed], list[str]]:
    """The files that are data, and notes on files with unusual names. Raises: SourceError, for an empty file."""
    folders = {part for item in listed for part in _folders(item.uri)}
    kinds = {item: folder.kind(item.uri.removeprefix(source.uri), item.size) for item in listed if item.uri not in folders}
    unsure = [item for item, kind in kinds.items() if kind in (FileKind.UNNAMED, FileKind.OTHER)]
    beginnings = pool.map(lambda item: objects.begin(item, len(folder.MAGIC[0])), unsure)
    parquet = {item for item, begin in zip(unsure, beginnings, strict=True) if begin in folder.MAGIC}
    found = [item for item, kind in kinds.items() if kind is FileKind.DATA or (kind is FileKind.UNNAMED and item in parquet)]
    if empty := [item.uri for item in found if not item.size]:
        raise SourceError(
            f"Source {name!r}: {examples(empty)} is empty (0 bytes), expected a Parquet file. Deliver it again, or delete it."
        )
    notes = []
    if odd := [item.uri for item in found if not item.uri.endswith(folder.ENDINGS[0])]:
        notes.append(
            f"Source {name!r}: Parquet files that do not end in '.parquet' are read ({len(odd)}): {examples(odd)}. Rename them, "
            "or move them out of the folder if they are no data."
        )
    other = [item for item, kind in kinds.items() if kind is FileKind.OTHER]
    passed = [item.uri for item in other if item in parquet or folder.is_named_like(item.uri)]
    if passed:
        notes.append(
            f"Source {name!r}: Parquet files of another ending are not read ({len(passed)}): {examples(passed)}. Rename them to "
            "end in '.parquet', or move them out of the folder if they are no data."
        )
    if strange := [item.uri for item in other if item.uri not in passed and folder.is_data_of_another_kind(item.uri)]:
        notes.append(
            f"Source {name!r}: files that are not Parquet are not read ({len(strange)}): {examples(strange)}. Read CSV "
            "or JSON lines with format=, deliver them as Parquet, or move them out of the folder if they are no data."
        )
    return found, notes


def _unread_partitions(name: str, source: Source, files: Iterable[PinnedFile]) -> Iterator[str]:
    """A note on columns that only the names of folders have, such as `dt=2017-05-01`."""
    there = dict.fromkeys(column for file in files for column in folder.partitions(file.uri.removeprefix(source.uri)))
    if unread := [column for column in there if column not in (source.partitions or {})]:
        yield (
            f"Source {name!r}: files lie in folders that are named for {examples(unread)}. Such a column is not read from the "
            f"folders' names. Declare it if it is needed: partitions={{{unread[0]!r}: 'string'}}, or another type."
        )


def _folders(uri: str) -> Iterator[str]:
    """The folders that contain a file: some tools leave an empty object under a folder's name."""
    while "/" in uri.removeprefix("s3://"):
        uri = uri.rsplit("/", 1)[0]
        yield uri


def _copied(objects: Objects, item: Listed, then: PointInTime | None) -> str:
    """The URI of the copy of an older file version; empty for the newest one."""
    if then is None or not item.version:
        return ""
    uri = then.copies(digest([item.uri, item.version])[:32], item.uri.rsplit("/", 1)[-1])
    kept = next(objects.walk(uri), None)
    if kept is None or datetime.now(UTC) - kept.modified > GROUP_FRESH:  # else `almanac gc` could soon delete it
        objects.copy(item, uri)
    return uri
