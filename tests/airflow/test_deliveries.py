"""The delivering tasks: the order of the DAGs, the address from Airflow's connection, and what a failure says and leaves."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from almanac import ParquetDelivery, PostgresDelivery
from almanac.errors import DeliveryError, DescriptionError, StoreError
from almanac.settings import Settings
from tests.support.scores import Scores, Target
from tests.support.shop import pipeline

pytestmark = [pytest.mark.airflow, pytest.mark.store, pytest.mark.usefixtures("airflow_home")]

CLOSED = '{"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "ann", "password": "s3cret", "schema": "x"}'


@pytest.fixture
def connected(in_postgres: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Airflow knows the database as its connection `almanac_deliveries`."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(in_postgres.address).query).items()}
    known = {"conn_type": "postgres", "host": asked["host"], "login": "postgres", "schema": "postgres"}
    described = json.dumps({**known, "extra": {"options": asked["options"], "cursor": "realdictcursor"}})
    monkeypatch.setenv("AIRFLOW_CONN_ALMANAC_DELIVERIES", described)
    return in_postgres


def context(scores: Scores, *targets: Target, **params: Any) -> Any:
    """A running task's context, for a pipeline with these deliveries."""
    from almanac.airflow.context import TaskContext

    context = {
        "params": params,
        "dag_run": SimpleNamespace(dag_id="shop_score", run_id="run-1", triggering_user_name="ann"),
        "ti": SimpleNamespace(task_id="predictions.deliver", try_number=1),
        "task": SimpleNamespace(outlets=[]),
    }
    described = pipeline(f"{scores.home.layout.root}/landing", deliveries=tuple(target.delivery for target in targets))
    settings = Settings(root=scores.home.layout.root, spark_jobs=Path())
    return TaskContext(described, scores.home, settings, context)


# --- the DAGs ---


def dags(*deliveries: Any) -> dict[str, Any]:
    from almanac.airflow import build_dags

    return build_dags(pipeline("s3://shop", deliveries=deliveries))


def test_a_score_run_delivers_after_it_published() -> None:
    dag = dags(ParquetDelivery("lake", "s3://b/c"), PostgresDelivery("warehouse", "scores"))["shop_score"]
    task = dag.get_task("predictions.deliver")

    assert task.upstream_task_ids == {"predictions.publish"}
    assert task.downstream_task_ids == set()
    assert (task.function.__name__, task.task_display_name, task.trigger_rule) == ("deliver", "deliver", "all_success")
    assert "are then **delivered** to `lake`, `warehouse`." in dag.doc_md


def test_a_rollback_delivers_once_between_what_it_scores_and_verify() -> None:
    dag = dags(ParquetDelivery("lake", "s3://b/c"))["shop_rollback"]
    task = dag.get_task("deliver")

    assert "predictions.publish" in task.upstream_task_ids
    assert task.downstream_task_ids == {"verify"}
    assert (task.function.__name__, task.trigger_rule) == ("deliver_in_rollback", "all_done")
    assert {"deliver", "predictions.publish"} <= dag.get_task("verify").upstream_task_ids
    assert task.get_closest_mapped_task_group() is None
    assert "are then **delivered** to `lake`." in dag.doc_md


def test_without_deliveries_no_dag_has_such_a_task() -> None:
    for name, dag in dags().items():
        assert [task.task_id for task in dag.tasks if "deliver" in task.task_id] == [], name
        assert "delivered" not in dag.doc_md


def test_a_database_is_in_no_argument_of_a_task() -> None:
    task = dags(PostgresDelivery("warehouse", "scores"))["shop_score"].get_task("predictions.deliver")

    assert task.arguments == {}
    assert "postgresql:" not in task.description


# --- the address ---


@pytest.mark.parametrize(
    ("fields", "uri"),
    [
        (
            {"login": "ann", "password": "s3cret", "host": "db", "port": 5433, "schema": "reports"},
            "postgresql://ann:s3cret@db:5433/reports",
        ),
        (
            {"login": "a@b", "password": "p/w:?#%", "host": "db", "schema": "my db"},
            "postgresql://a%40b:p%2Fw%3A%3F%23%25@db/my%20db",
        ),
        ({"host": "/run/postgresql", "schema": "x"}, "postgresql://%2Frun%2Fpostgresql/x"),
        ({"host": "::1", "port": 5432}, "postgresql://[::1]:5432/"),
        (
            {"host": "db", "extra": '{"sslmode": "verify-full", "cursor": "dictcursor", "options": "-c x=y"}'},
            "postgresql://db/?options=-c%20x%3Dy&sslmode=verify-full",
        ),
        ({}, "postgresql:///"),
    ],
)
def test_a_connection_becomes_the_databases_own_uri(fields: dict[str, Any], uri: str) -> None:
    from almanac.airflow.connections import uri_of

    nothing = dict.fromkeys(("login", "password", "host", "port", "schema", "extra"))
    found = uri_of(SimpleNamespace(**{**nothing, **fields}))

    assert found == uri
    read = psycopg.conninfo.conninfo_to_dict(found)
    assert (read.get("user"), read.get("password")) == (fields.get("login"), fields.get("password"))
    assert (read.get("host"), read.get("dbname")) == (fields.get("host"), fields.get("schema"))


def test_a_connection_that_airflow_does_not_know_is_refused(scores: Scores, in_postgres: Target) -> None:
    from almanac.airflow import deliveries

    with pytest.raises(DescriptionError) as refused:
        deliveries.address(PostgresDelivery("warehouse", "scores", connection="nowhere"))
    assert str(refused.value) == (
        "Airflow has no connection 'nowhere', which delivery 'warehouse' needs. Add it, for example with "
        "AIRFLOW_CONN_NOWHERE='postgresql://user:password@host:5432/database', or name another connection in "
        "PostgresDelivery(connection=...)."
    )


def test_a_connection_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from almanac.airflow import deliveries

    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "mysql://ann:s3cret@host/x")
    with pytest.raises(DescriptionError) as refused:
        deliveries.address(PostgresDelivery("warehouse", "scores", connection="other"))
    assert str(refused.value) == (
        "Airflow's connection 'other' of delivery 'warehouse': expected type 'postgres', got 'mysql'. Change its type, or name "
        "another connection in PostgresDelivery(connection=...)."
    )


def test_the_connection_of_a_source_is_resolved_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from almanac.airflow.connections import address_of

    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://ann:s3cret@db/shop")
    assert address_of("warehouse", "source 'visits'", "its uri") == "postgresql://ann:s3cret@db/shop"
    with pytest.raises(DescriptionError, match=r"which source 'visits' needs.*or name another connection in its uri"):
        address_of("nowhere", "source 'visits'", "its uri")


# --- the tasks ---


def test_the_task_brings_all_deliveries_up_to_date(scores: Scores, on_s3: Target, on_disk: Target, connected: Target) -> None:
    from almanac.airflow import tasks

    scores.publish("2017-06")
    scores.publish("2017-07")
    running, targets = context(scores, on_s3, on_disk, connected), (on_s3, on_disk, connected)

    assert tasks.deliver(running) == {target.delivery.name: ["2017-06", "2017-07"] for target in targets}
    assert [target.seen() for target in targets] == [scores.seen()] * 3
    assert tasks.deliver(running) == {"lake": [], "disk": [], "warehouse": []}


def test_one_that_fails_keeps_no_other_back_and_is_mended_by_the_next_run(
    scores: Scores, on_s3: Target, connected: Target, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that does not answer is worth another try, and its password is in no text."""
    from almanac.airflow import deliveries

    scores.publish("2017-07")
    running = context(scores, connected, on_s3)
    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG):
        patch.setenv("AIRFLOW_CONN_ALMANAC_DELIVERIES", CLOSED)
        with pytest.raises(StoreError) as refused:
            deliveries.deliver_all(running)

    text = str(refused.value)
    assert text.startswith("Delivery 'warehouse': the database does not answer, or refuses access (")
    assert text.endswith("\nPublished periods stay published; the next run of the score DAG delivers what is missing.")
    assert "s3cret" not in text + caplog.text
    assert on_s3.seen() == scores.seen()
    assert deliveries.deliver_all(running) == {"warehouse": ["2017-07"], "lake": []}
    assert connected.seen() == scores.seen()


def test_what_no_second_try_mends_fails_at_once(scores: Scores, connected: Target) -> None:
    from almanac.airflow import deliveries

    scores.publish("2017-07")
    with psycopg.connect(connected.address) as connection:
        connection.execute("CREATE TABLE scores (x text)")
    with pytest.raises(DeliveryError, match="table scores has no column period and no customer"):
        deliveries.deliver_all(context(scores, connected))


def test_in_a_rollback_a_failure_is_left_to_the_task_that_verifies(
    scores: Scores, connected: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from almanac.airflow import deliveries, tasks

    scores.publish("2017-07", version="bad")
    running = context(scores, connected)
    tasks.deliver_in_rollback(running)
    scores.publish("2017-07", version="good")
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_ALMANAC_DELIVERIES", CLOSED)
        with pytest.raises(AirflowSkipException, match=r"does not answer(.|\n)* The task verify retries it\."):
            tasks.deliver_in_rollback(running)
        with pytest.raises(StoreError, match="Delivery 'warehouse': the database does not answer"):
            deliveries.verify(running, "bad")

    deliveries.verify(running, "bad")
    assert connected.seen() == scores.seen()


def test_a_dry_run_of_a_rollback_delivers_nothing(scores: Scores, on_s3: Target) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from almanac.airflow import deliveries

    scores.publish("2017-07")
    with pytest.raises(AirflowSkipException, match=r"Dry run\. Nothing was delivered\."):
        deliveries.deliver_in_rollback(context(scores, on_s3, dry_run=True))
    assert list(on_s3.files()) == []


def test_a_delivery_that_shows_the_withdrawn_version_again_fails_the_rollback(
    scores: Scores, on_s3: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was on its way delivers the bad version's rows after the rollback has delivered."""
    from almanac.airflow import deliveries

    scores.publish("2017-07", version="bad")
    on_s3.deliver(scores)
    scores.publish("2017-07", version="good")
    monkeypatch.setattr(deliveries, "deliver_all", lambda *_: {})

    with pytest.raises(DeliveryError) as refused:
        deliveries.verify(context(scores, on_s3), "bad")
    assert str(refused.value) == (
        "Delivery 'lake' still shows 2017-07 as written by the withdrawn version bad: the predictions changed while they were "
        "delivered. Clear the task verify; it delivers again."
    )
