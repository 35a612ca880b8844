"""`almanac`: what is kept of a pipeline, asked of the bucket alone. No Airflow is needed.

Exit codes: 0 done, 1 an error that Almanac explains, 2 the command was called wrongly.
"""

from __future__ import annotations

import sys

from almanac.cli import checks, deliver, find, gc, lineage, plan, promote, score, show  # noqa: F401 - each registers its commands
from almanac.cli.console import app, complain
from almanac.errors import AlmanacError

__all__ = ["app", "main"]


def main() -> None:
    """The entry point: an error on purpose is one line, not a traceback."""
    try:
        app()
    except AlmanacError as error:
        complain(f"almanac: {error}")
        sys.exit(1)
