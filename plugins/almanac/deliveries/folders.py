"""A folder on S3 or on a local disk, as a Parquet delivery needs it: files, and conditional writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from almanac.core.canonical import sha256
from almanac.errors import AccessRefused, StoreError, Unreachable
from almanac.files import locate
from almanac.store.objects import Objects

PIECE = 4 * 2**20


class Folder(Protocol):
    """Names are relative to the folder, with slashes. A tag identifies the bytes that were read."""

    def names(self, below: str = "") -> list[str]:
        """The names of all files below a subfolder, sorted."""

    def read(self, name: str) -> tuple[bytes, str] | None:
        """A file's bytes and their tag, or None if there is no file."""

    def put_over(self, name: str, body: bytes, tag: str | None) -> bool:
        """Replaces the bytes with this tag, or creates the file if the tag is None. False if another writer came first."""

    def upload(self, name: str, file: Path) -> None:
        """Stores a file under a name, completely or not at all."""

    def delete(self, name: str) -> None: ...

    def held(self) -> contextlib.AbstractContextManager[None]:
        """A lock to hold while writing to the folder, for folders without conditional writes."""


class S3Folder:
    """A folder on S3. Writers need no lock: the store supports conditional writes."""

    def __init__(self, objects: Objects, uri: str) -> None:
        self._objects = objects
        self._prefix = uri.rstrip("/") + "/"

    def names(self, below: str = "") -> list[str]:
        return [item.uri.removeprefix(self._prefix) for item in self._objects.walk(self._prefix + below)]

    def read(self, name: str) -> tuple[bytes, str] | None:
        return self._objects.tagged(self._prefix + name)

    def put_over(self, name: str, body: bytes, tag: str | None) -> bool:
        if tag is None:
            return self._objects.put_if_absent(self._prefix + name, body)
        return self._objects.put_if_match(self._prefix + name, body, tag)

    def upload(self, name: str, file: Path) -> None:
        uri = self._prefix + name
        try:
            system, path = locate(uri)
            with file.open("rb") as source, system.open_output_stream(path) as target:
                shutil.copyfileobj(source, target, PIECE)
        except OSError as error:
            raise Unreachable(f"{uri}: the file cannot be written ({error}). Check the store and its credentials.") from error

    def delete(self, name: str) -> None:
        self._objects.delete(self._prefix + name)

    def held(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class LocalFolder:
    """A folder on a local disk. Writers wait for a file lock, which the system releases if its holder dies."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def names(self, below: str = "") -> list[str]:
        with _explained(self._path):
            files = (file for file in (self._path / below).rglob("*") if file.is_file())
            return sorted(file.relative_to(self._path).as_posix() for file in files if not file.name.startswith("."))

    def read(self, name: str) -> tuple[bytes, str] | None:
        with _explained(self._path):
            try:
                body = (self._path / name).read_bytes()
            except FileNotFoundError:
                return None
            return body, sha256(body)

    def put_over(self, name: str, body: bytes, tag: str | None) -> bool:
        standing = self.read(name)
        if (standing[1] if standing else None) != tag:
            return False
        with _explained(self._path):
            draft = self._draft(name)
            draft.write_bytes(body)
            draft.replace(self._path / name)
        return True

    def upload(self, name: str, file: Path) -> None:
        with _explained(self._path):
            draft = self._draft(name)
            shutil.copyfile(file, draft)
            draft.replace(self._path / name)

    def _draft(self, name: str) -> Path:
        """Where a file is written before it gets its name. One path is enough: only the holder of the lock writes."""
        (self._path / name).parent.mkdir(parents=True, exist_ok=True)
        return self._path / ".draft"

    def delete(self, name: str) -> None:
        with _explained(self._path):
            (self._path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with _explained(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise AccessRefused(
            f"{path}: this process has no access ({error.strerror}: {error.filename}). Give its user access to the folder."
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: the folder cannot be used ({error}). Mount it or free space, and try again.") from error


def folder_at(objects: Objects, uri: str) -> Folder:
    return S3Folder(objects, uri) if uri.startswith("s3://") else LocalFolder(uri)
