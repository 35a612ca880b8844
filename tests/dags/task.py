"""A running task of Airflow without Airflow: its desk, and Spark jobs that are carried out in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from almanac.core.receipts import Placed
from almanac.doors import audit, sources, stage
from almanac.doors.job import Carry
from almanac.settings import Settings
from tests.world import World

STEPS: dict[str, Carry] = {
    "sources_audit": sources.audit,
    "features_stage": stage.features,
    "features_audit": audit.features,
    "predictions_stage": stage.predictions,
    "predictions_audit": audit.predictions,
    "champion_stage": stage.champion,
    "champion_audit": audit.champion,
}


class Task:
    """A running task's desk, and what it submitted."""

    def __init__(self, world: World, **params: Any) -> None:
        from almanac.airflow.desk import Desk

        self.world = world
        self.submitted: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        context = {
            "params": params,
            "dag_run": SimpleNamespace(dag_id="shop_score", run_id="run-1", run_type="manual", triggering_user_name="ann"),
            "ti": SimpleNamespace(task_id="publish", try_number=1),
            "task": SimpleNamespace(outlets=[]),
            "outlet_events": {},
        }
        shop = world.shop
        self.desk = Desk(shop.pipeline, shop.home, Settings(root=shop.home.layout.root, spark_jobs=Path()), context)

    def carry(self, step: str, placed: list[Placed]) -> dict[str, str]:
        self.submitted.append(step)
        uris = self.world.shop.carry(placed, STEPS[step])
        self.meanwhile()
        return uris
