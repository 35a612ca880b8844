"""Work done by several threads at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def at_one_moment(*works: Callable[[], None]) -> list[Exception | None]:
    """Runs works at one moment; what each raised, or None."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> Exception | None:
        start.wait()
        try:
            work()
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))
