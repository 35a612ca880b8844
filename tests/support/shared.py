"""What one process of a test run makes for all of them. Under xdist every process has session fixtures of its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[], bytes]) -> bytes:
    """What the first process that asks makes; the others wait for it."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    file = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            file.write_bytes(make())
        return file.read_bytes()
