"""Where files are: pyarrow's file system of a URI, as every reader and writer outside Delta and boto3 uses it."""

from __future__ import annotations

import functools
import os

import pyarrow.fs

TRIES = 6  # of a request to the store


@functools.cache
def filesystem(bucket: str) -> pyarrow.fs.FileSystem:
    """The file system of a bucket; credentials and endpoint come from the environment. One a process.

    A request that the store refuses for the moment is tried again a few times, each time later, by a time with a random part.
    """
    retry = pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=TRIES)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region and not endpoint:
        region = pyarrow.fs.resolve_s3_region(bucket)
    # pyarrow itself heeds the variable only where it makes a file system from a URI, which takes no strategy.
    scheme, _, address = (endpoint or "https://").rstrip("/").rpartition("://")
    return pyarrow.fs.S3FileSystem(
        region=region,
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
