"""The task that waits for a source, where it stands in the DAGs and what it does when it runs; and the one that checks it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from almanac import Audit, EventSource, FeatureGroup, Late
from almanac.core.canonical import dumps, encode
from tests.support import shop as shops
from tests.support.shop import pipeline
from tests.support.task import Task
from tests.support.world import World

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.store, pytest.mark.usefixtures("airflow_home")]

DAY = timedelta(days=1)
WAITING = Late("wait", within=5 * DAY, timeout=2 * DAY, every=timedelta(minutes=10))


def described(landing: str, late: Late) -> Any:
    plain = pipeline(landing)
    return replace(plain, sources={**plain.sources, "visits": replace(plain.sources["visits"], late=late)})


def test_a_source_that_is_waited_for_has_a_task_before_the_pin() -> None:
    from almanac.airflow import build_dags

    dags = build_dags(described("s3://bucket/landing", WAITING))

    for name in ("shop_retrain", "shop_score"):
        task = dags[name].get_task("sources.visits.wait")
        assert (task.upstream_task_ids, task.downstream_task_ids) == ({"plan"}, {"sources.pin"})
        assert (task.timeout, task.poke_interval, task.reschedule) == (2 * 86400.0, 600.0, True)
        assert task.task_display_name == "wait for visits"
    assert "sources.visits.wait" not in dags["shop_rollback"].task_ids


@pytest.mark.parametrize("late", [Late(), Late("fail", rows=1), Late("consistent")])
def test_other_policies_have_none(late: Late) -> None:
    from almanac.airflow import build_dags

    for dag in build_dags(described("s3://bucket/landing", late)).values():
        assert [task for task in dag.task_ids if task.endswith(".wait")] == []


def test_a_source_that_is_audited_has_a_task_between_the_pin_and_whatever_is_built() -> None:
    from almanac.airflow import build_dags

    plain = pipeline("s3://bucket/landing")
    visits = replace(plain.sources["visits"], audit=Audit())
    dags = build_dags(replace(plain, sources={**plain.sources, "visits": visits}))

    for name, more in (("shop_retrain", {"model.stage"}), ("shop_score", set())):
        task = dags[name].get_task("sources.audit")
        built = {"features.stage.groups", "features.stage.combine"}
        assert (task.upstream_task_ids, task.downstream_task_ids) == ({"plan", "sources.pin"}, built | more)
        assert task.task_display_name == "check sources"
    assert "sources.audit" not in build_dags(plain)["shop_retrain"].task_ids


@pytest.fixture
def waiting(world: World) -> World:
    shop = world.shop
    shop.describe(sources={**shop.pipeline.sources, "visits": replace(shop.pipeline.sources["visits"], late=WAITING)})
    shop.put("visits", "2017-08.parquet", shops.visits(datetime(2017, 8, 1)).slice(0, 1))
    return world


def run(world: World, monkeypatch: pytest.MonkeyPatch, *, since: timedelta, source: str = "visits", **planned: Any) -> Any:
    """The task's execution, some time after it was first tried."""
    from almanac.airflow import context
    from almanac.airflow.operators import SourceComplete

    task = Task(world)
    monkeypatch.setattr(context.TaskContext, "of", lambda *_: task.context)
    plan = encode(replace(world.planned("2017-08"), **planned))
    arrival = SourceComplete(
        task_id="wait",
        description=dumps(world.shop.pipeline).decode(),
        source=source,
        plan=plan,
        timeout=WAITING.timeout,
        poke_interval=WAITING.every,
    )
    first = datetime.now(UTC) - since
    ti = SimpleNamespace(get_first_reschedule_date=lambda _: first, xcom_push=lambda *_: None)
    return arrival.execute({"ti": ti})


def test_it_lets_go_of_its_worker_while_the_source_is_not_complete(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowRescheduleException

    with pytest.raises(AirflowRescheduleException) as again:
        run(waiting, monkeypatch, since=timedelta(0))

    ahead = again.value.reschedule_date - datetime.now(UTC)
    assert timedelta(minutes=9) < ahead <= timedelta(minutes=10)


def test_it_fails_when_the_source_never_became_complete_and_says_what_is_missing(
    waiting: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException) as failed:
        run(waiting, monkeypatch, since=2 * DAY + timedelta(minutes=1))

    text = str(failed.value)
    assert text.startswith(
        "SourceError: Source 'visits' is not complete: for the features of 2017-08 its newest event before 2017-09"
    )
    assert "Waited 2 days, 0:00:00 (h:mm:ss); nothing was built from it. Deliver what is missing" in text


def test_where_the_run_can_do_without_what_reads_the_source_it_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    shop = world.shop
    clicks = EventSource(f"{shop.landing}/clicks/", event_time="at", timezone="UTC", late=WAITING)
    pages = FeatureGroup("pages", reads=("clicks",))
    shop.describe(sources={**shop.pipeline.sources, "clicks": clicks}, features=(*shop.pipeline.features, pages))
    asked = {"source": "clicks", "degrade": 0.1, "since": 2 * DAY + timedelta(minutes=1)}

    assert run(world, monkeypatch, **asked, importance={"pages": 0.1}) is None
    assert "Source 'clicks' is not complete" in caplog.text
    assert "The run continues without the feature groups that read it." in caplog.text
    with pytest.raises(AirflowFailException, match=r"without the feature groups pages: they hold 0\.2 .* allows 0\.1"):
        run(world, monkeypatch, **asked, importance={"pages": 0.2})


def test_a_source_that_waiting_does_not_mend_is_no_reason_to_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    shop = world.shop
    clicks = EventSource(f"{shop.landing}/clicks/", event_time="clicked", timezone="UTC", late=WAITING)
    pages = FeatureGroup("pages", reads=("clicks",))
    shop.describe(sources={**shop.pipeline.sources, "clicks": clicks}, features=(*shop.pipeline.features, pages))
    shop.put("clicks", "2017-08.parquet", shops.visits(datetime(2017, 8, 1)))

    assert run(world, monkeypatch, since=timedelta(0), source="clicks", degrade=0.1, importance={"pages": 0.1}) is None
    with pytest.raises(AirflowFailException, match=r"Source 'clicks' .* has no column clicked"):
        run(world, monkeypatch, since=timedelta(0), source="clicks")


def test_it_ends_when_the_source_is_complete(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting.shop.put("visits", "2017-08.parquet", shops.visits(datetime(2017, 8, 1)))
    assert run(waiting, monkeypatch, since=DAY) is None


def test_a_dry_run_waits_for_nothing(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="Dry run"):
        run(waiting, monkeypatch, since=DAY, dry_run=True)
