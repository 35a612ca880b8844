"""Objects on S3, and the first of the two atomic primitives: `put_if_absent`. The only module that imports boto3."""

from __future__ import annotations

import functools
import hashlib
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from almanac.core import canonical
from almanac.core.canonical import opened
from almanac.errors import AccessRefused, IntegrityError, NotFound, StoreError, Unfit, Unreachable

Answer = TypeVar("Answer")
Record = TypeVar("Record")

ATTEMPTS_AFTER_CONFLICT = 8
CONTENT_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json"}
LARGEST_COPY = 5 * 2**30  # bytes that S3 copies in one request


@dataclass(frozen=True, slots=True)
class Listed:
    """One object in a listing. `etag` is the store's own digest of its bytes, `modified` is by the store's clock, `version` is
    the store's version id if it is not the newest version under its name.
    """

    uri: str
    size: int
    etag: str
    modified: datetime
    version: str = ""


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class Objects:
    """The operations that Almanac needs from an S3 server. Names are URIs.

    Every operation raises `Unreachable` if the server does not answer, `AccessRefused` if it rejects the access key, and
    `StoreError` for any other refusal.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = client or self._ask("S3", _client)

    def get(self, uri: str) -> bytes:
        """The bytes. Raises: NotFound."""
        bucket, key = split(uri)
        body: bytes = self._ask(uri, lambda: self._client.get_object(Bucket=bucket, Key=key)["Body"].read())
        return body

    def begin(self, found: Listed, count: int) -> bytes:
        """The first `count` bytes of an object that has at least that many. Raises: NotFound."""
        bucket, key = split(found.uri)
        extra = {"Range": f"bytes=0-{count - 1}", **({"VersionId": found.version} if found.version else {})}
        body: bytes = self._ask(found.uri, lambda: self._client.get_object(Bucket=bucket, Key=key, **extra)["Body"].read(count))
        return body

    def tagged(self, uri: str) -> tuple[bytes, str] | None:
        """The bytes and their etag, for `put_if_match`; None if there is no object."""
        bucket, key = split(uri)

        def read() -> tuple[bytes, str]:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            return answer["Body"].read(), str(answer["ETag"])

        try:
            return self._ask(uri, read)
        except NotFound:
            return None

    def find(self, uri: str) -> bytes | None:
        """The bytes, or None if there is no object."""
        try:
            return self.get(uri)
        except NotFound:
            return None

    def has(self, uri: str) -> bool:
        """Whether an object with this exact name exists."""
        # The exact name sorts first among the names that begin with it. On some servers a HEAD would also find folders.
        first = next(self.walk(uri), None)
        return first is not None and first.uri == uri

    def now(self, uri: str) -> datetime:
        """The store's own time, to compare with `Listed.modified`, so that a wrong local clock does not make objects look old.

        Raises:
            StoreError: the store's answers carry no valid date.
        """
        bucket, key = split(uri)
        answer = self._ask(uri, lambda: self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1))
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            return parsedate_to_datetime(date)
        except ValueError:
            raise StoreError(
                f"{uri}: expected a valid Date header in the store's answers, got {date!r}. The age of its objects is unknown. "
                "Nothing was changed. Configure the proxy in front of the store to pass the Date header."
            ) from None

    def put(self, uri: str, body: bytes) -> None:
        """Writes bytes under a name that no other writer uses, with the content type of its file extension."""
        bucket, key = split(uri)
        extra = {"ContentType": kind} if (kind := CONTENT_TYPES.get(key.rpartition(".")[2])) else {}
        self._ask(uri, lambda: self._client.put_object(Bucket=bucket, Key=key, Body=body, **extra))

    def upload(self, uri: str, file: Path) -> None:
        """Copies a file over what has its name, in one request, so that its etag is the MD5 of its bytes. Raises: OSError."""
        whole = TransferConfig(multipart_threshold=LARGEST_COPY)
        try:
            self._ask(uri, lambda: self._client.upload_file(str(file), *split(uri), Config=whole))
        except S3UploadFailedError as error:  # has the store's refusal as text only
            raise StoreError(f"{uri}: the store refused the file ({error}). Check the key's rights and the bucket.") from error

    def holds(self, found: Listed, file: Path) -> bool:
        """Whether an object has a file's bytes: by its etag, which is the MD5 of most, else by reading it. Raises: OSError."""
        if found.size != file.stat().st_size:
            return False
        with file.open("rb") as opened:
            ours = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return found.etag == ours or hashlib.md5(self.get(found.uri), usedforsecurity=False).hexdigest() == ours

    def put_if_absent(self, uri: str, body: bytes) -> bool:
        """Writes bytes if the name is free. True if our bytes are stored, False if another writer's are.

        If the answer to a successful put is lost, its retry is refused. So on a refusal the bytes are compared: equal bytes
        are ours. 409 (AWS, two concurrent writers) means try again.
        """
        return self._put_if(uri, body, IfNoneMatch="*")

    def put_if_match(self, uri: str, body: bytes, etag: str) -> bool:
        """Replaces the bytes with this etag. True if our bytes are stored; False if another writer's are, or none."""
        try:
            return self._put_if(uri, body, IfMatch=etag)
        except NotFound:
            return False

    def _put_if(self, uri: str, body: bytes, **condition: str) -> bool:
        bucket, key = split(uri)
        for attempt in range(ATTEMPTS_AFTER_CONFLICT):
            try:
                self._ask(uri, lambda: self._client.put_object(Bucket=bucket, Key=key, Body=body, **condition))
                return True
            except _Refused as refused:
                if refused.status == 409:
                    time.sleep(random.uniform(0, 0.05 * 2**attempt))
                    continue
                return self.find(uri) == body
        raise StoreError(f"{uri}: the store answered 409 {ATTEMPTS_AFTER_CONFLICT} times in a row. Try again later.")

    def walk(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """The objects whose names begin with a prefix, sorted by name; only those after `after`, if given."""
        bucket, key = split(prefix)
        start: dict[str, Any] = {"StartAfter": split(after)[1]} if after else {}
        token: dict[str, Any] = {}
        while True:
            page = self._ask(prefix, functools.partial(self._client.list_objects_v2, Bucket=bucket, Prefix=key, **start, **token))
            for item in page.get("Contents", ()):
                uri, etag = f"s3://{bucket}/{item['Key']}", str(item["ETag"]).strip('"')
                yield Listed(uri, int(item["Size"]), etag, item["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def as_of(self, prefix: str, moment: datetime) -> list[Listed]:
        """The objects whose names begin with a prefix as they were at a given time, sorted by name.

        Raises:
            Unfit: the bucket does not keep object versions.
        """
        bucket, key = split(prefix)
        status = self._ask(prefix, lambda: self._client.get_bucket_versioning(Bucket=bucket)).get("Status", "never enabled")
        if status != "Enabled":
            raise Unfit(
                f"{prefix}: bucket {bucket!r} does not keep object versions (versioning: {status}), so its past contents are "
                "unknown. Enable versioning for future runs, or describe the source without versioned=True."
            )
        pages = self._ask(
            prefix, lambda: list(self._client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key))
        )
        newest: dict[str, Any] = {}
        for page in pages:
            # Newest first. The store's times have a resolution of one second: within the same second the current version
            # counts as the last one, else a deletion does.
            for item in (*page.get("DeleteMarkers", ()), *page.get("Versions", ())):
                held = newest.get(item["Key"])
                if item["LastModified"] <= moment and (held is None or _rank(item) > _rank(held)):
                    newest[item["Key"]] = item
        return [
            Listed(
                f"s3://{bucket}/{name}",
                int(item["Size"]),
                str(item["ETag"]).strip('"'),
                item["LastModified"],
                "" if item["IsLatest"] else str(item["VersionId"]),
            )
            for name, item in sorted(newest.items())
            if "Size" in item
        ]

    def copy(self, found: Listed, uri: str) -> None:
        """Copies a version of an object, within the store, to a name that only ever holds these bytes."""
        bucket, key = split(found.uri)
        source = {"Bucket": bucket, "Key": key, "VersionId": found.version}
        whole = TransferConfig(multipart_threshold=LARGEST_COPY)
        self._ask(uri, lambda: self._client.copy(source, *split(uri), Config=whole))

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below a prefix."""
        bucket, key = split(prefix)
        pages = self._ask(
            prefix,
            lambda: list(self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key, Delimiter="/")),
        )
        found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
        return sorted(name.removeprefix(key).rstrip("/") for name in found)

    def signed(self, uri: str, seconds: int = 7 * 24 * 3600) -> str:
        """A presigned URL under which a browser can read an object for `seconds`."""
        bucket, key = split(uri)
        address: str = self._client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)
        return address

    def delete(self, uri: str) -> None:
        bucket, key = split(uri)
        self._ask(uri, lambda: self._client.delete_object(Bucket=bucket, Key=key))

    def probe(self, root: str) -> None:
        """Checks that the store supports conditional writes: creates an object twice and expects the second to be refused.

        Raises:
            Unfit: the second create was accepted, so two writers could both succeed.
        """
        uri = f"{root.rstrip('/')}/.probe/{uuid.uuid4().hex}"
        bucket, key = split(uri)
        self._ask(uri, lambda: self._client.put_object(Bucket=bucket, Key=key, Body=b"1", IfNoneMatch="*"))
        try:
            self._ask(uri, lambda: self._client.put_object(Bucket=bucket, Key=key, Body=b"2", IfNoneMatch="*"))
        except _Refused:
            return
        finally:
            self.delete(uri)
        raise Unfit(
            f"The store of {root} accepted a conditional write (If-None-Match: *) over an existing object, so two writers "
            "could both succeed. Almanac needs AWS S3 or a server that answers 412, such as SeaweedFS; point ALMANAC_ROOT to one."
        )

    def _ask(self, uri: str, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except (NoCredentialsError, PartialCredentialsError):
            raise AccessRefused(
                f"{uri}: no S3 credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a "
                "role with access to the bucket."
            ) from None
        except ClientError as error:
            raise _refusal(uri, error) from error
        except BotoCoreError as error:
            raise Unreachable(
                f"{uri}: the object store does not answer ({type(error).__name__}). "
                "Nothing was changed. Check AWS_ENDPOINT_URL and that the server is running."
            ) from error


def _rank(item: Mapping[str, Any]) -> tuple[datetime, bool]:
    return item["LastModified"], bool(item["IsLatest"])


def _client() -> Any:
    return boto3.client(
        "s3",
        config=Config(
            # Newer regions refuse presigned URLs with any other signature version.
            signature_version="s3v4",
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
        ),
    )


class _Refused(StoreError):
    """A conditional write was refused: 412, or 409 for two concurrent writers."""

    def __init__(self, uri: str, status: int) -> None:
        self.status = status
        super().__init__(f"{uri}: the conditional write was refused ({status}).")


def _refusal(uri: str, error: ClientError) -> StoreError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", status))
    if status in (409, 412):
        return _Refused(uri, status)
    if status in (401, 403):
        return AccessRefused(
            f"{uri}: the store refused the access key ({code}). Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "and that the key has access to this bucket."
        )
    if code == "NoSuchBucket":
        return NotFound(f"{uri}: bucket {split(uri)[0]!r} does not exist. Create it, or change the URI.")
    if status == 404:
        return NotFound(f"{uri}: the object does not exist.")
    return StoreError(
        f"{uri}: the store answered {status} {code}. Nothing was changed. Try again, or ask the operator of the store."
    )


def verified(body: bytes, sha256: str, uri: str) -> bytes:
    """The bytes, if they match the digest.

    Raises:
        IntegrityError: they do not.
    """
    found = canonical.sha256(body)
    if found != sha256:
        raise IntegrityError(
            f"{uri}: expected SHA-256 {sha256[:16]}..., got {found[:16]}... The file was altered and is not used. Restore it "
            "from the bucket's versions, or build it again."
        )
    return body


def record(kind: type[Record], body: bytes, uri: str) -> Record:
    """The record that was stored, sealed, as these bytes.

    Raises:
        IntegrityError: the bytes are not a sealed record of this kind.
    """
    try:
        return opened(kind, body)
    except ValueError as error:
        raise IntegrityError(
            f"{uri}: expected a valid {kind.__name__}, got other bytes ({error}). The file was altered, or written by "
            "another version of Almanac. It is not used. Restore it from the bucket's versions, or use the version that wrote it."
        ) from error
