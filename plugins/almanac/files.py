"""pyarrow's file system for a URI, used by every reader and writer except Delta and boto3."""

from __future__ import annotations

import functools
import os

import pyarrow.fs

TRIES = 6  # attempts at a request to the store


def endpoint() -> str:
    """The store's address, by the environment; empty for AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def region() -> str:
    """The store's region, by the environment; empty if it does not say."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""


@functools.cache
def filesystem(bucket: str) -> pyarrow.fs.FileSystem:
    """The file system of a bucket; credentials and endpoint come from the environment. One per process.

    A request that fails temporarily is retried a few times, with growing and partly random delays.
    """
    retry = pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=TRIES)
    found = region()
    if not found and not endpoint():
        found = pyarrow.fs.resolve_s3_region(bucket)
    # pyarrow itself reads the variable only when it creates a file system from a URI, which accepts no retry strategy.
    scheme, _, address = (endpoint() or "https://").rstrip("/").rpartition("://")
    return pyarrow.fs.S3FileSystem(
        region=found or None,
        scheme=scheme,
        endpoint_override=address or None,
        retry_strategy=retry,
        connect_timeout=5,
        request_timeout=30,
    )


def locate(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """A URI's file system and path. A path without a scheme is a local file."""
    if not uri.startswith("s3://"):
        return pyarrow.fs.LocalFileSystem(use_mmap=True), uri
    path = uri.removeprefix("s3://")
    return filesystem(path.split("/", 1)[0]), path
