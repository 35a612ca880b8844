"""Starts processes so that all of them end: each has its own session, which is stopped as a whole.

A folder holds a record of every start, so that a later start finds what a killed one left behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SAME_BOOT = 60.0  # seconds; the boot time is computed from a clock that may be adjusted
SAME_START = 5.0  # seconds; a start time is relative to the boot time, so it shifts a little with the clock


class InUse(RuntimeError):
    """A process that is still alive started what a folder records."""


@dataclass(frozen=True, slots=True)
class Session:
    """A running program and everything that it starts. `record` is the file that records it."""

    name: str
    popen: subprocess.Popen[bytes]
    record: Path
    log: Path

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def stop(self, patience: float = 10.0) -> None:
        """Terminates every process of the session, and after `patience` seconds kills it.

        A second Ctrl-C has to wait, or the rest would keep running.
        """
        with _undisturbed():
            _end(self.popen.pid, patience)
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=5)
            self.record.unlink(missing_ok=True)

    def last_lines(self, count: int = 15) -> str:
        """The end of the program's output, for an error message."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except FileNotFoundError:
            return ""


def spawn(name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> Session:
    """Starts a program in its own session; output goes to `folder/NAME.log`, the record to `folder/NAME.pid`."""
    folder.mkdir(parents=True, exist_ok=True)
    log, record = folder / f"{name}.log", folder / f"{name}.pid"
    with log.open("ab") as output:
        popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    ours = {"pid": popen.pid, "started": _started(popen.pid) or time.time(), "boot": psutil.boot_time()}
    by = {"starter": os.getpid(), "starter_started": _started(os.getpid())}
    draft = record.with_suffix(".new")
    draft.write_text(json.dumps({**ours, **by}))
    draft.replace(record)  # atomic
    return Session(name, popen, record, log)


def stop_leftovers(folder: Path, patience: float = 3.0) -> list[str]:
    """Stops what earlier starts left running in the sessions recorded in a folder; returns the names of those stopped.

    Raises:
        InUse: the process that started them is still alive.
    """
    stopped = []
    for record in sorted(folder.glob("*.pid")):
        try:
            seen = json.loads(record.read_text())
            pid, started = int(seen["pid"]), float(seen["started"])
            boot, starter, began = float(seen["boot"]), int(seen.get("starter", 0)), float(seen.get("starter_started", 0))
        except (ValueError, KeyError, TypeError, AttributeError):  # not our record
            record.unlink(missing_ok=True)
            continue
        if abs(boot - psutil.boot_time()) < SAME_BOOT and _still_ours(pid, started):
            if starter != os.getpid() and abs((_started(starter) or 0.0) - began) < SAME_START:
                raise InUse(f"{folder} is in use by process {starter}. Stop that process first: Ctrl-C, or kill {starter}.")
            _end(pid, patience)
            stopped.append(record.stem)
        record.unlink(missing_ok=True)
    return stopped


def is_running(folder: Path, name: str) -> bool:
    """Whether the program that a folder records under a name still runs."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        seen = json.loads((folder / f"{name}.pid").read_text())
        began = _started(int(seen["pid"]))
        return began is not None and abs(began - float(seen["started"])) < SAME_START and _running(psutil.Process(seen["pid"]))
    return False


def members(session: int) -> list[psutil.Process]:
    """The processes of a session, whatever their process groups."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == session and _running(process):
                found.append(process)
    return found


def _still_ours(pid: int, started: float) -> bool:
    """Whether a number still names our session: its leader is the process we started, or has ended but left children.

    The kernel does not reuse a session's number while the session has members.
    """
    leader = _started(pid)
    if leader is not None:
        return abs(leader - started) < SAME_START
    living = members(pid)
    return bool(living) and all((_started(process.pid) or started) >= started - SAME_START for process in living)


def _started(pid: int) -> float | None:
    """When a process started; None if it does not exist."""
    with suppress(psutil.Error):
        return float(psutil.Process(pid).create_time())
    return None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignores Ctrl-C and SIGTERM. Only in the main thread, as Python allows; does nothing elsewhere."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(session: int, patience: float) -> None:
    for sent, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        living = members(session)
        for process in living:
            with suppress(psutil.Error, ProcessLookupError):
                process.send_signal(sent)
        deadline = time.monotonic() + wait
        while living and time.monotonic() < deadline:
            time.sleep(0.05)
            living = [process for process in living if _running(process)]
        if not members(session):
            return


def _running(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
