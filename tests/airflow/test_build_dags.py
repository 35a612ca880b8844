"""What a person sets on a pipeline's DAGs, and when no more runs are scheduled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest

from almanac.errors import DescriptionError
from tests.support.shop import pipeline

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_home")]


def dags(**arguments: Any) -> dict[str, Any]:
    from almanac.airflow import build_dags

    return build_dags(pipeline("s3://shop"), **arguments)


def test_arguments_are_for_all_dags_or_for_one_of_them() -> None:
    def called(context: Any) -> None: ...

    built = dags(
        default_args={"retries": 5, "owner": "data"},
        on_failure_callback=called,
        max_active_runs=2,
        tags=["team"],
        score={"max_active_runs": 7, "default_args": {"owner": "scores"}},
        rollback={"default_args": {"retries": 0}},
    )

    retrain, score, rollback = built["shop_retrain"], built["shop_score"], built["shop_rollback"]
    assert [dag.max_active_runs for dag in (retrain, score, rollback)] == [2, 7, 2]
    assert all(dag.on_failure_callback is called for dag in built.values())
    assert [(dag.get_task("plan").owner, dag.get_task("plan").retries) for dag in (retrain, score, rollback)] == [
        ("data", 5),
        ("scores", 5),
        ("data", 0),
    ]
    assert {"almanac", "shop", "retrain", "team"} == set(retrain.tags)
    assert dags()["shop_retrain"].get_task("plan").retry_delay == timedelta(seconds=30), "the default that was not set stays"


def test_an_argument_that_airflow_does_not_know_is_its_own_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_activ_runs'"):
        dags(max_activ_runs=2)


@pytest.mark.parametrize("where", ["all", "score"])
@pytest.mark.parametrize("name", ["dag_id", "schedule", "params"])
def test_what_the_dags_set_themselves_is_refused(name: str, where: str) -> None:
    arguments: dict[str, Any] = {name: "mine"} if where == "all" else {where: {name: "mine"}}
    with pytest.raises(DescriptionError) as refused:
        dags(**arguments)

    assert str(refused.value) == (
        f"build_dags(shop): expected no {name}: Almanac sets it from the pipeline's name, periods and parameters. Leave it out."
    )


def test_a_task_with_arguments_that_its_function_does_not_take_fails_when_the_dag_is_parsed() -> None:
    from almanac.airflow import tasks
    from almanac.airflow.operators import Publish, SparkOrders, WorkerTask

    with pytest.raises(TypeError, match="missing a required argument: 'plan'"):
        WorkerTask(task_id="pin", description="{}", function=tasks.pin_sources, arguments={})
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'part'"):
        SparkOrders(task_id="group", description="{}", function=tasks.audit_orders, arguments={"staged": {}, "part": "habits"})
    with pytest.raises(TypeError, match="missing a required argument: 'gate'"):
        Publish(task_id="promote", description="{}", function=tasks.publish_champion, arguments={"plan": {}})


@pytest.mark.parametrize(("value", "shared"), [(None, True), ("", True), ("shared", True), ("apart", False)])
def test_groups_share_an_application_and_audits_that_of_the_stage_unless_told_otherwise(
    value: str | None, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALMANAC_APPLICATIONS", raising=False)
    if value is not None:
        monkeypatch.setenv("ALMANAC_APPLICATIONS", value)

    retrain = dags()["shop_retrain"]

    assert retrain.get_task("model.stage").audits is shared
    parts = {name.removeprefix("features.stage.") for name in retrain.task_ids if name.startswith("features.stage.")}
    assert parts == ({"groups", "combine"} if shared else {"habits", "traits", "combine"})


def test_another_value_for_how_applications_are_shared_fails_when_the_dag_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMANAC_APPLICATIONS", "no")
    with pytest.raises(DescriptionError) as refused:
        dags()
    assert str(refused.value) == "ALMANAC_APPLICATIONS: expected shared or apart, got 'no'. Set one of these, or nothing."


def test_a_task_is_told_which_asset_it_publishes() -> None:
    published = {
        task.task_id: [asset.name for asset in task.outlets] for dag in dags().values() for task in dag.tasks if task.outlets
    }
    assert published == {
        "features.publish": ["shop.features"],
        "model.publish": ["shop.model"],
        "champion.audit": ["shop.decision"],
        "champion.publish": ["shop.champion"],
        "predictions.publish": ["shop.predictions"],
    }


def test_the_trigger_form_says_which_period_a_date_stands_for() -> None:
    from airflow.timetables.base import TimeRestriction

    from almanac.airflow import build_dags
    from almanac.core.period import Calendar, Every, resolve

    dag = build_dags(pipeline("s3://shop", last_period="2017-10"))["shop_score"]
    form, timetable = dag.params.get_param("period").description, dag.timetable

    scheduled = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(_pendulum("2017-03-01"), None, True)
    )
    assert "(2017-03-01 is the run for 2017-03, and starts when that has ended)" in form
    assert (scheduled.logical_date, scheduled.run_after) == (_pendulum("2017-03-01"), _pendulum("2017-04-01"))
    assert resolve(Calendar(Every.MONTH), interval=tuple(scheduled.data_interval), by_timetable=True).key == "2017-03"

    assert "a run that you trigger with a logical date is for the last month that had ended by then" in form
    for date, period in (("2017-07-15", "2017-06"), ("2017-07-01", "2017-06"), ("2017-06-30", "2017-05")):
        interval = timetable.infer_manual_data_interval(run_after=_pendulum(date))
        assert resolve(Calendar(Every.MONTH), interval=tuple(interval)).key == period


def test_a_job_for_several_periods_leaves_a_failed_order_to_its_own_task() -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from almanac.airflow import build_dags
    from almanac.airflow.operators import SparkOrders

    task = build_dags(pipeline("s3://shop"))["shop_rollback"].get_task("score")
    with patch.object(SparkOrders, "execute", side_effect=AirflowFailException("2017-08: no model")):
        assert task.execute({}) == {}
    with patch.object(SparkOrders, "execute", side_effect=AirflowException("no answer")), pytest.raises(AirflowException):
        task.execute({})


def test_no_run_is_scheduled_after_the_last_period() -> None:
    from airflow.timetables.base import TimeRestriction

    from almanac.airflow import build_dags
    from almanac.airflow.timetable import PeriodTimetable

    built = build_dags(pipeline("s3://shop", last_period="2017-10"))
    timetable = PeriodTimetable.deserialize(built["shop_score"].timetable.serialize())
    assert timetable.last.key == "2017-10"
    assert built["shop_rollback"].schedule is None

    def runs(*, catchup: bool) -> list[datetime]:
        found, last = [], None
        restriction = TimeRestriction(_pendulum("2017-08-01"), None, catchup)
        while (info := timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)) is not None:
            last = info.data_interval
            found.append(last.start)
        return found

    assert runs(catchup=True) == [datetime(2017, month, 1, tzinfo=UTC) for month in (8, 9, 10)]
    assert runs(catchup=False) == [], "the newest period of today is after the last one, so no run is created"


SPRING, AUTUMN = (("2017-03-24", "2017-03-28"), ("2017-10-27", "2017-10-31"))
HAVANA_AUTUMN = ("2017-11-03", "2017-11-07")
SAMOA_WITHOUT_A_DAY = ("2011-12-28", "2012-01-01")


@pytest.mark.parametrize(
    ("zone", "first", "last", "hours"),
    [
        pytest.param("Europe/London", *SPRING, [24, 24, 23, 24, 24], id="clocks forward"),
        pytest.param("Europe/London", *AUTUMN, [24, 24, 25, 24, 24], id="clocks back"),
        pytest.param("Asia/Kolkata", *SPRING, [24, 24, 24, 24, 24], id="half an hour"),
        pytest.param("America/Havana", *HAVANA_AUTUMN, [24, 24, 25, 24, 24], id="a midnight that occurs twice"),
        pytest.param("America/Sao_Paulo", "2017-10-13", "2017-10-17", [24, 24, 23, 24, 24], id="a midnight that is skipped"),
        pytest.param("Pacific/Apia", *SAMOA_WITHOUT_A_DAY, [24, 24, 24, 24], id="a day that never was"),
    ],
)
def test_schedule_backfill_and_hand_give_each_local_day_one_run(zone: str, first: str, last: str, hours: list[int]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import TimeRestriction

    from almanac.airflow import build_dags
    from almanac.core.period import resolve

    described = pipeline("s3://shop", every="day", first_period=first, timezone=zone)
    wanted = list(described.period(first).until(described.period(last)))
    # What the scheduler, the API server and `airflow backfill` read back.
    dag = DagSerialization.from_dict(DagSerialization.to_dict(build_dags(described)["shop_score"]))
    earliest, latest = (_instant(period.start) for period in (wanted[0], wanted[-1]))

    backfilled = [info.data_interval for info in dag.iter_dagrun_infos_between(earliest, latest)]
    scheduled, before = [], None
    for _ in wanted:
        restriction = TimeRestriction(earliest, None, catchup=True)
        info = dag.timetable.next_dagrun_info(last_automated_data_interval=before, restriction=restriction)
        scheduled.append(before := info.data_interval)
    by_hand = [dag.timetable.infer_manual_data_interval(run_after=_instant(period.end)) for period in wanted]
    a_moment_later = [
        dag.timetable.infer_manual_data_interval(run_after=_instant(period.end + timedelta(minutes=90))) for period in wanted
    ]

    assert [(interval.end - interval.start).total_seconds() / 3600 for interval in backfilled] == hours
    assert backfilled == scheduled == by_hand == a_moment_later
    assert [resolve(described.calendar, interval=tuple(one), by_timetable=True) for one in backfilled] == wanted
    assert [described.period(period.key) for period in wanted] == wanted, "params.period says the same"


@pytest.mark.parametrize(
    ("every", "first", "week_starts", "begins"),
    [
        ("month", "2017-03", "monday", ["2017-03-01 00:00", "2017-03-31 23:00", "2017-04-30 23:00"]),
        ("quarter", "2017-Q1", "monday", ["2017-01-01 00:00", "2017-03-31 23:00", "2017-06-30 23:00"]),
        ("week", "2017-03-19", "sunday", ["2017-03-19 00:00", "2017-03-26 00:00", "2017-04-01 23:00"]),
    ],
)
@pytest.mark.parametrize("zone", ["Europe/London", "UTC"])
def test_longer_periods_begin_at_local_midnight_as_well(
    every: str, first: str, week_starts: str, begins: list[str], zone: str
) -> None:
    from almanac.airflow import build_dags
    from almanac.core.period import resolve

    described = pipeline("s3://shop", every=every, first_period=first, week_starts=week_starts, timezone=zone)
    wanted = list(described.first.until(described.first.plus(2)))
    timetable = _read_back(build_dags(described)["shop_score"])

    found = [timetable.infer_manual_data_interval(run_after=_instant(period.end)) for period in wanted]

    assert [resolve(described.calendar, interval=tuple(one), by_timetable=True) for one in found] == wanted
    assert zone == "UTC" or [f"{one.start:%Y-%m-%d %H:%M}" for one in found] == begins


def test_the_docs_of_a_dag_give_its_times_in_utc_where_periods_begin_elsewhere() -> None:
    from almanac.airflow import build_dags

    built = build_dags(pipeline("s3://shop", first_period="2017-04", timezone="Europe/London"))["shop_score"]

    assert "(2017-03-31 23:00 UTC is the run for 2017-04, and starts when that has ended)" in built.doc_md
    assert "--from-date 2017-09-30T23:00:00+00:00 --to-date 2017-12-01T00:00:00+00:00" in built.doc_md


def _read_back(dag: Any) -> Any:
    """The timetable as the scheduler has it."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable


def _instant(moment: datetime) -> Any:
    import pendulum

    return pendulum.instance(moment)


def _pendulum(day: str) -> Any:
    import pendulum

    return pendulum.parse(day, tz="UTC")
