"""The command `almanac`: queries and changes a pipeline in the bucket, without Airflow.

Exit codes: 0 success, 1 an error with an explanation, 2 wrong usage.
"""

from __future__ import annotations

import sys

from almanac.cli import (  # noqa: F401 - each registers its commands
    check,
    checks,
    deliver,
    doctor,
    find,
    gc,
    lineage,
    local,
    new,
    plan,
    promote,
    retrain,
    score,
    show,
    trial,
)
from almanac.cli.console import app, complain
from almanac.errors import AlmanacError
from almanac.project import load_environment

__all__ = ["app", "main"]


def main() -> None:
    """The entry point. An Almanac error is printed as a message, not as a traceback."""
    load_environment()
    try:
        app()
    except AlmanacError as error:
        complain(f"almanac: {error}")
        sys.exit(1)
