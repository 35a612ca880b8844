"""The S3 server: keeps what was given to it, refuses who has no key, and leaves nothing running."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from almanac.local import seaweed
from almanac.local.processes import members

pytestmark = pytest.mark.store

BUCKET = "almanac"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seaweed") / "store"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[seaweed.Store]:
    store = seaweed.start(folder)
    yield store
    store.stop()


def status(error: pytest.ExceptionInfo[ClientError]) -> int:
    return int(error.value.response["ResponseMetadata"]["HTTPStatusCode"])


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_conditional_write_over_an_object_is_refused(server: seaweed.Store) -> None:
    s3 = seaweed.client(server)
    s3.put_object(Bucket=BUCKET, Key="once", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=BUCKET, Key="once", Body=b"second", IfNoneMatch="*")
    assert status(refused) == 412
    assert s3.get_object(Bucket=BUCKET, Key="once")["Body"].read() == b"first"


@pytest.mark.parametrize("wrong", [{"secret_key": "0" * 40}, {"access_key": "AKNOBODY"}])
def test_a_wrong_key_is_refused(server: seaweed.Store, wrong: dict[str, str]) -> None:
    with pytest.raises(ClientError) as refused:
        seaweed.client(replace(server, **wrong)).list_objects_v2(Bucket=BUCKET)
    assert status(refused) == 403


def test_only_the_owner_may_enter_the_data_and_read_the_keys(server: seaweed.Store, folder: Path) -> None:
    assert permissions(folder) == 0o700
    assert permissions(folder / "data") == 0o700
    assert permissions(folder / "keys.json") == 0o600


def test_it_listens_on_loopback_only(server: seaweed.Store) -> None:
    heard = [at.laddr.ip for at in psutil.Process(server.process.popen.pid).net_connections("inet") if at.status == "LISTEN"]
    assert len(heard) >= 2
    assert set(heard) == {"127.0.0.1"}


def test_the_key_does_not_stand_in_the_arguments(server: seaweed.Store) -> None:
    arguments = " ".join(psutil.Process(server.process.popen.pid).cmdline())
    assert server.secret_key not in arguments
    assert server.access_key not in arguments


@pytest.mark.slow
def test_a_stopped_server_starts_again_with_its_keys_and_data_and_leaves_no_process(tmp_path: Path) -> None:
    first = seaweed.start(tmp_path)
    seaweed.client(first).put_object(Bucket=BUCKET, Key="kept", Body=b"1")
    first.stop()
    assert members(first.process.popen.pid) == []
    second = seaweed.start(tmp_path)
    try:
        assert second.environment() == first.environment()
        assert seaweed.client(second).get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"1"
    finally:
        second.stop()
    assert members(second.process.popen.pid) == []


@pytest.mark.slow
def test_what_a_killed_demo_left_running_gives_way_to_the_next_start(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom almanac.local import seaweed\n"
        "print(seaweed.start(Path(sys.argv[1])).process.popen.pid, flush=True)\nos._exit(9)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False, cwd=root)
    left = int(killed.stdout)
    assert members(left)
    store = seaweed.start(tmp_path)
    try:
        assert members(left) == []
        seaweed.client(store).head_bucket(Bucket=BUCKET)
    finally:
        store.stop()
