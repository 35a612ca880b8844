"""Is this container's service doing its work? Compose asks `python healthy.py SERVICE`; the exit code answers.

The image has no curl, and `airflow jobs check` costs seconds of processor time a call, so that asking every half minute
would keep a small machine busy. These are one or two HTTP requests each.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

AIRFLOW = "http://airflow-api-server:8080/api/v2/monitor/health"
SCHEDULER = "http://127.0.0.1:8974/health"
MASTER = "http://spark-master:8080/json/"
WORKER = "http://127.0.0.1:8081/json/"


def _answer(url: str) -> bytes:
    """Raises URLError, which is an OSError, for any status but 2xx."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def _get(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_answer(url))
    return found


def _scheduler() -> bool:
    """The scheduler's own server says 200 or 503, with no body: is there a young heartbeat from this very container?"""
    _answer(SCHEDULER)
    return True


def _airflow(part: str) -> bool:
    """Airflow's own word: the part's last heartbeat in the metadata database is young enough."""
    return bool(_get(AIRFLOW)[part]["status"] == "healthy")


def _spark_worker() -> bool:
    """A worker that its master does not list runs and answers, but is given no work."""
    own = _get(WORKER)["id"]
    return any(worker["id"] == own and worker["state"] == "ALIVE" for worker in _get(MASTER)["workers"])


CHECKS: dict[str, Callable[[], bool]] = {
    "api-server": lambda: _airflow("metadatabase"),
    "scheduler": _scheduler,
    "dag-processor": lambda: _airflow("dag_processor"),
    "triggerer": lambda: _airflow("triggerer"),
    "spark-master": lambda: _get(MASTER)["status"] == "ALIVE",
    "spark-worker": _spark_worker,
}


def main(service: str) -> int:
    try:
        if CHECKS[service]():
            return 0
        print(f"{service}: it answers, but it does not call itself healthy.")
    except (OSError, ValueError, KeyError) as error:  # not reachable or not 2xx; not JSON; JSON without the part
        print(f"{service}: {type(error).__name__}: {error}")
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"Give one of {', '.join(CHECKS)}.")
    sys.exit(main(sys.argv[1]))
