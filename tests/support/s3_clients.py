"""Clients of S3 that fail in ways that a real one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config


class Client:
    """The real client, of which one verb is done otherwise."""

    def __init__(self, real: Any, **otherwise: Callable[..., Any]) -> None:
        self._real, self._otherwise = real, otherwise

    def __getattr__(self, name: str) -> Any:
        return self._otherwise.get(name) or getattr(self._real, name)


def quick(**given: Any) -> Any:
    """A client that does not try again and does not wait."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=5)
    return boto3.session.Session().client("s3", config=config, **given)
