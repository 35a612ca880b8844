"""The library as a zip for Spark's drivers and executors, which do not have Airflow's import path."""

from __future__ import annotations

import contextlib
import functools
import os
import py_compile
import stat
import sys
import tempfile
import zipfile
from pathlib import Path

from almanac.settings import PACKAGE, VERSION


def library_zip() -> str:
    """The path of the zip, which is made if it does not exist.

    It holds each module compiled as well: Python does not cache what it compiles from a zip, so each process would compile it
    again. A process of another Python version uses the source.
    """
    path = _private(tempfile.gettempdir()) / f"almanac-{VERSION}-{sys.implementation.cache_tag}-{_stamp()}.zip"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft, zipfile.ZipFile(draft, "w") as archive:
            for file in sorted(PACKAGE.rglob("*.py")):
                name = str(Path("almanac") / file.relative_to(PACKAGE))
                archive.write(file, name)
                archive.writestr(f"{name}c", _compiled(file, name))
        Path(draft.name).rename(path)
    return str(path)


@functools.cache
def _private(shared: str) -> Path:
    """A folder that nobody else can write to: anyone who can would run code in our jobs. One for each user in a shared folder;
    if somebody else made that first, a new one for this process.
    """
    folder = Path(shared) / f"almanac-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="almanac-", dir=shared))


def _compiled(file: Path, name: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        made = py_compile.compile(str(file), f"{folder}/{file.name}c", name, doraise=True, invalidation_mode=mode)
        return Path(str(made)).read_bytes()


def _stamp() -> str:
    newest = max(int(file.stat().st_mtime) for file in PACKAGE.rglob("*.py"))
    return f"{newest:x}"
