"""What is started is stopped, whole, and what a killed demo left behind is found and stopped as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from almanac.local.processes import InUse, Session, members, spawn, stop_leftovers

# A program whose children have process groups of their own, as Airflow's and Spark's do.
FAMILY = [
    sys.executable,
    "-c",
    "import subprocess\nfor child in [subprocess.Popen(['sleep', '300'], process_group=0) for _ in 'ab']: child.wait()",
]
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 300; sleep 300"]
LONG = ["sleep", "300"]


def started(command: list[str], folder: Path, groups: int = 1) -> Session:
    """A session, when it has as many process groups as it will have."""
    session = spawn("family", command, environment=os.environ, folder=folder)
    wait_for(groups, session.popen.pid)
    return session


def wait_for(groups: int, session: int) -> None:
    deadline = time.monotonic() + 20
    while len({os.getpgid(process.pid) for process in members(session)}) < groups and time.monotonic() < deadline:
        time.sleep(0.02)


def left_by_a_killed_process(command: list[str], folder: Path) -> int:
    """Starts a session from a Python process that then ends without stopping it; gives the session's number."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom almanac.local.processes import spawn\n"
        "session = spawn('left', sys.argv[2:], environment=os.environ, folder=Path(sys.argv[1]))\n"
        "print(session.popen.pid, flush=True)\nos._exit(9)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), *command], stdout=subprocess.PIPE, text=True, check=False, cwd=root
    )
    return int(done.stdout)


def test_stopping_ends_children_in_process_groups_of_their_own(tmp_path: Path) -> None:
    session = started(FAMILY, tmp_path, groups=3)
    assert len(members(session.popen.pid)) == 3
    session.stop()
    assert members(session.popen.pid) == []
    assert not session.alive


def test_what_does_not_end_when_asked_is_ended(tmp_path: Path) -> None:
    session = started(STUBBORN, tmp_path)
    session.stop(patience=0.3)
    assert members(session.popen.pid) == []


def test_a_stopped_session_leaves_its_log_and_no_record(tmp_path: Path) -> None:
    session = started(["sh", "-c", "echo said; exec sleep 300"], tmp_path)
    assert (tmp_path / "family.pid").exists()
    while not session.last_lines():
        time.sleep(0.02)
    session.stop()
    assert not (tmp_path / "family.pid").exists()
    assert session.last_lines() == "said"


def test_what_a_killed_process_left_is_stopped_by_the_next_start(tmp_path: Path) -> None:
    number = left_by_a_killed_process(FAMILY, tmp_path)
    assert members(number)
    assert stop_leftovers(tmp_path) == ["left"]
    assert members(number) == []
    assert stop_leftovers(tmp_path) == []


def test_children_are_found_when_the_leader_of_their_session_is_gone(tmp_path: Path) -> None:
    number = left_by_a_killed_process(FAMILY, tmp_path)
    wait_for(3, number)
    psutil.Process(number).kill()
    while psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    assert len(members(number)) == 2
    stop_leftovers(tmp_path)
    assert members(number) == []


def test_a_process_that_only_got_the_same_number_is_left_alone(tmp_path: Path) -> None:
    session = started(LONG, tmp_path)
    record = json.loads(session.record.read_text())
    session.record.write_text(json.dumps({**record, "started": record["started"] - 3600}))
    try:
        assert stop_leftovers(tmp_path) == []
        assert session.alive
    finally:
        session.stop()


def test_what_a_living_process_started_is_not_left_over(tmp_path: Path) -> None:
    session = started(LONG, tmp_path)
    starter = subprocess.Popen(LONG)
    try:
        record = json.loads(session.record.read_text())
        living = {"starter": starter.pid, "starter_started": psutil.Process(starter.pid).create_time()}
        session.record.write_text(json.dumps({**record, **living}))
        with pytest.raises(InUse, match=f"in use by process {starter.pid}"):
            stop_leftovers(tmp_path)
        assert session.alive
    finally:
        starter.kill()
        starter.wait()
        session.stop()


def test_a_record_that_cannot_be_read_is_removed(tmp_path: Path) -> None:
    (tmp_path / "weed.pid").write_text('{"pid": 1')
    assert stop_leftovers(tmp_path) == []
    assert not (tmp_path / "weed.pid").exists()
