"""Processes that end: each is started in a session of its own, and the whole session is stopped with it.

A record of every start lies in a folder, so that a later start finds what a killed one left behind.
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

SAME_BOOT = 60.0  # seconds; the boot's time is reckoned from a clock that is set now and then
SAME_START = 5.0  # seconds; a start time is counted from the boot's, so it shifts a little with the clock


class InUse(RuntimeError):
    """What a folder records was started by a process that still lives."""


@dataclass(frozen=True, slots=True)
class Session:
    """A running program and everything that it starts. `record` is the file that remembers it."""

    name: str
    popen: subprocess.Popen[bytes]
    record: Path
    log: Path

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def stop(self, patience: float = 10.0) -> None:
        """Asks every process of the session to end, and after `patience` seconds ends it.

        A second Ctrl-C has to wait: it would leave the rest running.
        """
        with _undisturbed():
            _end(self.popen.pid, patience)
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=5)
            self.record.unlink(missing_ok=True)

    def last_lines(self, count: int = 15) -> str:
        """The end of what the program wrote, for an error's text."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except FileNotFoundError:
            return ""


def spawn(name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> Session:
    """Starts a program in a session of its own; output goes to `folder/NAME.log`, the record to `folder/NAME.pid`."""
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
    draft.replace(record)  # whole or not at all
    return Session(name, popen, record, log)


def stop_leftovers(folder: Path, patience: float = 3.0) -> list[str]:
    """Stops what earlier starts left running in the sessions recorded in a folder. Gives the names of those stopped.

    Raises:
        InUse: it is not left over, for the process that started it lives.
    """
    stopped = []
    for record in sorted(folder.glob("*.pid")):
        try:
            seen = json.loads(record.read_text())
            pid, started = int(seen["pid"]), float(seen["started"])
            boot, starter, began = float(seen["boot"]), int(seen.get("starter", 0)), float(seen.get("starter_started", 0))
        except (ValueError, KeyError, TypeError, AttributeError):  # not a record of ours
            record.unlink(missing_ok=True)
            continue
        if abs(boot - psutil.boot_time()) < SAME_BOOT and _still_ours(pid, started):
            if starter != os.getpid() and abs((_started(starter) or 0.0) - began) < SAME_START:
                raise InUse(f"{folder} is in use by process {starter}. End that one first: Ctrl-C, or kill {starter}.")
            _end(pid, patience)
            stopped.append(record.stem)
        record.unlink(missing_ok=True)
    return stopped


def members(session: int) -> list[psutil.Process]:
    """The processes of a session, whichever process groups they made for themselves."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == session and _running(process):
                found.append(process)
    return found


def _still_ours(pid: int, started: float) -> bool:
    """A number names our session as long as its leader is the one we started, or is gone and its children are not.

    The kernel does not give a session's number to a new process while the session has members.
    """
    leader = _started(pid)
    if leader is not None:
        return abs(leader - started) < SAME_START
    living = members(pid)
    return bool(living) and all((_started(process.pid) or started) >= started - SAME_START for process in living)


def _started(pid: int) -> float | None:
    """When a process started; None when there is none of that number."""
    with suppress(psutil.Error):
        return float(psutil.Process(pid).create_time())
    return None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keeps Ctrl-C and SIGTERM away. Python lets only the main thread do so; elsewhere nothing is kept away."""
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
