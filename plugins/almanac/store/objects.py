"""Objects on S3, and the first of the two atomic primitives: `put_if_absent`. The only place that knows boto3."""

from __future__ import annotations

import functools
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from almanac.core.canonical import opened
from almanac.core.canonical import sha256 as digest
from almanac.errors import AccessRefused, IntegrityError, NotFound, StoreError, Unfit, Unreachable

Answer = TypeVar("Answer")
Record = TypeVar("Record")

ATTEMPTS_AFTER_CONFLICT = 8
CONTENT_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json"}
LARGEST_COPY = 5 * 2**30  # bytes that S3 copies in one request


@dataclass(frozen=True, slots=True)
class Listed:
    """One object as a listing shows it. `etag` is the store's own digest of its bytes, `modified` by the store's clock,
    `version` the store's id of one that is not the newest of its name.
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
    """The verbs that Almanac needs of an S3 server. Names are URIs.

    Every verb raises `Unreachable` when the server does not answer, `AccessRefused` when it does not let the key in,
    and `StoreError` for anything else it refuses.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = client or self._ask("S3", _client)

    def get(self, uri: str) -> bytes:
        """The bytes. Raises: NotFound."""
        bucket, key = split(uri)
        body: bytes = self._ask(uri, lambda: self._client.get_object(Bucket=bucket, Key=key)["Body"].read())
        return body

    def begin(self, found: Listed, count: int) -> bytes:
        """The first bytes of an object that has so many. Raises: NotFound."""
        bucket, key = split(found.uri)
        asked = {"Range": f"bytes=0-{count - 1}", **({"VersionId": found.version} if found.version else {})}
        body: bytes = self._ask(found.uri, lambda: self._client.get_object(Bucket=bucket, Key=key, **asked)["Body"].read(count))
        return body

    def tagged(self, uri: str) -> tuple[bytes, str] | None:
        """The bytes and their etag, for `put_if_match`; None when nothing is kept there."""
        bucket, key = split(uri)

        def read() -> tuple[bytes, str]:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            return answer["Body"].read(), str(answer["ETag"])

        try:
            return self._ask(uri, read)
        except NotFound:
            return None

    def find(self, uri: str) -> bytes | None:
        """The bytes, or None when nothing is kept there."""
        try:
            return self.get(uri)
        except NotFound:
            return None

    def has(self, uri: str) -> bool:
        """Whether anything is kept under a name."""
        # Of the names that begin with it, it is the first. A HEAD would find folders too, on servers that have them.
        first = next(self.walk(uri), None)
        return first is not None and first.uri == uri

    def now(self, uri: str) -> datetime:
        """The store's own time, to hold against `Listed.modified`: a wrong clock here makes nothing old.

        Raises:
            StoreError: the store does not tell it.
        """
        bucket, key = split(uri)
        answer = self._ask(uri, lambda: self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1))
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            return parsedate_to_datetime(told)
        except ValueError:
            raise StoreError(
                f"{uri}: the store's answers tell no time (Date: {told!r}), so nobody can say how old its objects are. "
                "Nothing was changed; let the proxy before the store pass the header Date."
            ) from None

    def put(self, uri: str, body: bytes) -> None:
        """Writes bytes under a name that nobody else uses, with the content type that its ending tells a browser."""
        bucket, key = split(uri)
        told = {"ContentType": kind} if (kind := CONTENT_TYPES.get(key.rpartition(".")[2])) else {}
        self._ask(uri, lambda: self._client.put_object(Bucket=bucket, Key=key, Body=body, **told))

    def put_if_absent(self, uri: str, body: bytes) -> bool:
        """Writes bytes if nothing is kept under the name. True when ours are kept, False when somebody else's are.

        A lost answer to a successful put looks like a refusal, so a refusal is looked into: equal bytes are our own.
        409 (AWS, two writers at one moment) means try again.
        """
        return self._put_if(uri, body, IfNoneMatch="*")

    def put_if_match(self, uri: str, body: bytes, etag: str) -> bool:
        """Writes bytes over those with this etag. True when ours are kept; False when somebody else's are, or none."""
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
        """The objects whose names begin with a prefix, in the order of their names; after a name, when one is given."""
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
        """The objects whose names begin with a prefix as they were at a time, in the order of their names.

        Raises:
            Unfit: the bucket does not keep the versions of its objects.
        """
        bucket, key = split(prefix)
        status = self._ask(prefix, lambda: self._client.get_bucket_versioning(Bucket=bucket)).get("Status", "never enabled")
        if status != "Enabled":
            raise Unfit(
                f"{prefix}: bucket {bucket!r} does not keep the versions of its objects (versioning: {status}), so nobody knows "
                "what it held. Enable it for times to come, or describe the source without versioned=True."
            )
        pages = self._ask(
            prefix, lambda: list(self._client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key))
        )
        newest: dict[str, Any] = {}
        for page in pages:
            # The newest come first. Of one second, which is as fine as the store tells, the one that is there now counts as the
            # last, else a deletion.
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
        """Copies a version of an object to a name that is only ever given these bytes; the store does it by itself."""
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
        """An address under which a browser can read an object for so long."""
        bucket, key = split(uri)
        address: str = self._client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)
        return address

    def delete(self, uri: str) -> None:
        bucket, key = split(uri)
        self._ask(uri, lambda: self._client.delete_object(Bucket=bucket, Key=key))

    def probe(self, root: str) -> None:
        """Makes sure that the store holds conditional writes: creates an object twice and expects a refusal.

        Raises:
            Unfit: the second create was accepted, so two writers could both win.
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
            f"The store of {root} accepted a conditional write (If-None-Match: *) over an object that exists, so two writers "
            "could both win. Almanac needs AWS S3 or a server that answers 412, such as SeaweedFS; point ALMANAC_ROOT to one."
        )

    def _ask(self, uri: str, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except (NoCredentialsError, PartialCredentialsError):
            raise AccessRefused(
                f"{uri}: no S3 credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a "
                "role that may use the bucket."
            ) from None
        except ClientError as error:
            raise _refusal(uri, error) from error
        except BotoCoreError as error:
            raise Unreachable(
                f"{uri}: the object store does not answer ({type(error).__name__}). "
                "Check AWS_ENDPOINT_URL and that the server runs; nothing was changed."
            ) from error


def _rank(item: Mapping[str, Any]) -> tuple[datetime, bool]:
    return item["LastModified"], bool(item["IsLatest"])


def _client() -> Any:
    return boto3.client(
        "s3",
        config=Config(
            # Newer regions refuse links that are signed otherwise.
            signature_version="s3v4",
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
        ),
    )


class _Refused(StoreError):
    """A conditional write was refused: 412, or 409 where two came at one moment."""

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
            "and that the key may use this bucket."
        )
    if code == "NoSuchBucket":
        return NotFound(f"{uri}: there is no bucket {split(uri)[0]!r}. Create it, or change the URI.")
    if status == 404:
        return NotFound(f"{uri}: nothing is kept there.")
    return StoreError(f"{uri}: the store answered {status} {code}. Nothing was changed; try again or ask who runs it.")


def verified(body: bytes, sha256: str, uri: str) -> bytes:
    """The bytes, if they are those that the digest promises.

    Raises:
        IntegrityError: they are not.
    """
    found = digest(body)
    if found != sha256:
        raise IntegrityError(
            f"{uri}: found bytes with SHA-256 {found[:16]}..., {sha256[:16]}... was written. The file was altered; "
            "it is not used. Restore it from the bucket's versions, or make it again."
        )
    return body


def record(kind: type[Record], body: bytes, uri: str) -> Record:
    """The record that was kept, sealed, as these bytes.

    Raises:
        IntegrityError: they are no such record.
    """
    try:
        return opened(kind, body)
    except ValueError as error:
        raise IntegrityError(
            f"{uri}: found bytes that are no {kind.__name__} ({error}). The file was altered, or written by another Almanac; "
            "it is not used. Restore it from the bucket's versions, or use the Almanac that wrote it."
        ) from error
