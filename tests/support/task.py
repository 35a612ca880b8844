"""A running task of Airflow without Airflow: its context, and Spark jobs that are run in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from almanac.core.receipts import PlacedOrder
from almanac.settings import Settings
from tests.support.world import World

NO_INTERVAL = {"data_interval_start": None, "data_interval_end": None}


class Task:
    """A running task's context, and the steps that it submitted."""

    def __init__(self, world: World, **params: Any) -> None:
        from almanac.airflow.context import TaskContext

        self.world = world
        self.submitted: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        airflow = {
            "params": params,
            "dag_run": SimpleNamespace(
                dag_id="shop_score", run_id="run-1", run_type="manual", triggering_user_name="ann", **NO_INTERVAL
            ),
            "ti": SimpleNamespace(task_id="publish", try_number=1),
            "task": SimpleNamespace(outlets=[]),
            "outlet_events": {},
        }
        shop = world.shop
        self.context = TaskContext(shop.pipeline, shop.home, Settings(root=shop.home.layout.root, spark_jobs=Path()), airflow)

    def run_orders(self, placed: list[PlacedOrder]) -> dict[str, str]:
        if placed:
            order = placed[0].order
            self.submitted.append(f"{order.artifact.value}.{order.step.value}")
        uris = self.world.shop.run(placed)
        self.meanwhile()
        return uris
