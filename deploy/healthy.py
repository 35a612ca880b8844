"""Checks the health of this container's service. Compose runs `python healthy.py SERVICE`; the exit code is the answer.

The image has no curl, and `airflow jobs check` takes seconds of CPU time, too much for a small machine every half minute. Each
check here is one or two HTTP requests.
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
    """Raises: URLError, an OSError, for any status but 2xx."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def _get(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_answer(url))
    return found


def _scheduler() -> bool:
    """The scheduler's own server answers 200 or 503: whether this container sent a recent heartbeat."""
    _answer(SCHEDULER)
    return True


def _airflow(part: str) -> bool:
    """Airflow's own verdict: the part's last heartbeat in the metadata database is recent enough."""
    return bool(_get(AIRFLOW)[part]["status"] == "healthy")


def _spark_worker() -> bool:
    """Asks the master as well: a worker that it does not list runs and answers, but gets no work."""
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
        print(f"{service}: answers, but does not report itself healthy.")
    except (OSError, ValueError, KeyError) as error:  # not reachable or not 2xx; not JSON; JSON without the part
        print(f"{service}: {type(error).__name__}: {error}")
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"SERVICE: expected one of {', '.join(CHECKS)}.")
    sys.exit(main(sys.argv[1]))
