"""Failed checks and versions that may not score are refused in plain words, and a reader sees nothing of it."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from almanac.core.receipts import PlacedOrder, Receipt, RunInfo
from almanac.errors import CheckFailed, DataError, NotAdmitted, Overtaken, PromotionError
from almanac.runs import orders, plan, publish
from almanac.store.tables import Table
from tests.support import shop as shops
from tests.support.refusals import refusal, told
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

GROUPED = 'return visits.groupBy("customer").agg('
POPULATION = 'def customers(visits: DataFrame) -> DataFrame:\n    return visits.select("customer").distinct()'
JUNE = datetime(2017, 6, 1)


# Checks


def checked(world: World, checks: str) -> tuple[Receipt, Receipt]:
    """The published features of 2017-05, audited once more with other checks: the receipts of stage and audit."""
    world.shop.code(**{'[gxe.ExpectColumnValuesToBeBetween(column="visits", min_value=1)]': checks})
    uri = world.standing_receipt()
    (placed,) = orders.audits(world.shop.home, {"2017-05": uri})
    return world.shop.home.receipts.read(uri), world.shop.attempt(world.coded(placed))


def test_a_failed_check_blocks_the_publish_and_keeps_its_whole_report(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    checks = "[gxe.ExpectColumnValuesToBeBetween(column='visits', min_value=1000 + n) for n in range(12)]"

    staged, audited = checked(world, checks)
    failed = CheckFailed(str(audited.order), audited.findings)
    with pytest.raises(NotAdmitted) as refused:
        publish.features(shop.home, staged, audited, RunInfo())

    text = str(failed)
    assert not audited.passed and "error" not in audited.facts
    assert text.startswith("shop features.audit 2017-05 did not pass its audit; nothing was published:\n")
    assert "expect_column_values_to_be_between(column='visits', min_value=1000.0) failed: 61 of 61 rows (100 %)" in text
    assert text.count("\n- ") == 11 and text.endswith("- and 2 more: the full report is kept with the receipt")
    assert len(text) < 4000
    assert len(audited.findings) == 12
    assert "did not pass, so nothing is built on it" in str(refused.value)
    page, machine = (shop.home.objects.get(audited.output(name).uri) for name in ("checks.html", "checks.json"))
    assert b"<html" in page and b"visits" in page
    assert json.loads(machine)["statistics"]["unsuccessful_expectations"] == 12
    assert audited.facts["checks"] == 15
    assert shop.state() == before


def test_a_check_of_lesser_severity_warns_and_lets_through(world: World) -> None:
    _, audited = checked(world, "[gxe.ExpectColumnValuesToBeBetween(column='visits', min_value=1000, severity='warning')]")

    assert audited.passed
    assert len(audited.findings) == 1
    assert audited.findings[0].startswith("warning: expect_column_values_to_be_between(column='visits'")


def test_a_check_that_finds_a_thousand_values_still_says_so_in_few_words(world: World) -> None:
    _, audited = checked(world, "[gxe.ExpectColumnDistinctValuesToBeInSet(column='amount', value_set=[1.0])]")

    assert not audited.passed
    assert "expect_column_distinct_values_to_be_in_set(column='amount'" in audited.findings[0]
    assert len(audited.findings[0]) < 500


def test_a_check_of_a_column_that_is_not_there_names_the_nearest_one(world: World) -> None:
    _, audited = checked(world, "[gxe.ExpectColumnValuesToNotBeNull(column='vists')]")

    assert not audited.passed
    assert audited.findings[0].startswith(
        "checks()['features']: ExpectColumnValuesToNotBeNull is about column 'vists', which features do not have (they have: "
        "customer, visits, amount, days_since_visit, band). Is 'visits' meant? Correct it in the user's module"
    )


def test_a_failed_check_blocks_wherever_it_stands_among_the_others(world: World) -> None:
    holds = "gxe.ExpectColumnValuesToBeBetween(column='visits', min_value=1)"
    fails = "gxe.ExpectColumnValuesToNotBeNull(column='band')"
    _, audited = checked(world, f"[{fails}, {holds}, {holds.replace('visits', 'amount')}]")

    assert not audited.passed
    (finding,) = audited.findings
    assert finding.startswith("expect_column_values_to_not_be_null(column='band') failed: ")


def test_a_section_of_checks_that_nobody_runs_is_refused(world: World) -> None:
    world.shop.code(**{'return {"features"': 'return {"feature"'})
    (placed,) = orders.audits(world.shop.home, {"2017-05": world.standing_receipt()})

    text = told(refusal(world, world.coded(placed)), "DescriptionError")

    assert "checks(): expected one of 'features', 'predictions', 'sources'; got 'feature'. Rename or remove it." in text


# Scoring


def test_a_period_before_any_promotion_has_no_version_in_force(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(PromotionError) as refused:
        world.shop.score("2017-06")

    assert "No version of shop is in force for 2017-06." in str(refused.value)
    assert "Retrain an earlier period and promote it, or name a version." in str(refused.value)
    assert world.shop.state() == before


def test_scoring_with_an_unknown_version_names_those_that_are_there(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(PromotionError) as refused:
        world.shop.score("2017-08", version="2016-01-00000000")

    assert f"Version '2016-01-00000000' is unknown (known: {world.old}, {world.new})." in str(refused.value)
    assert world.shop.state() == before


def test_scoring_a_period_of_the_versions_own_training_window_is_refused(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(DataError) as refused:
        world.shop.score("2017-04", version=world.old)

    text = str(refused.value)
    assert f"Version {world.old} was trained on 2017-04 (its window: 2017-03, 2017-04)" in text
    assert "Name an older version, or set allow_in_sample." in text
    assert world.shop.state() == before


def test_scoring_in_sample_when_asked_for_is_recorded_as_such(world: World) -> None:
    receipt = world.shop.score("2017-04", version=world.old, allow_in_sample=True)
    staged = world.shop.home.receipts.placed(receipt.order.inputs["staged"]).order

    assert receipt.facts["in_sample"] is True
    assert staged.parameters == {"version": world.old, "in_sample": True, "asked": True}
    assert world.scored.facts["in_sample"] is False
    assert "2017-04" in world.shop.home.predictions.visible()


def test_what_a_version_scored_before_it_was_withdrawn_is_not_published_after(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    staged, audited = shop.stage_score("2017-08")
    shop.roll_back()
    before = shop.state()

    with pytest.raises(Overtaken) as refused:
        publish.predictions(shop.home, staged, audited, RunInfo())

    text = str(refused.value)
    assert f"Version {world.new} was withdrawn while 2017-08 was scored with it. Nothing was published." in text
    assert "Start the score DAG for 2017-08 again: it uses the version that is in force now." in text
    assert shop.state() == before
    assert shop.home.predictions.version() == 1


def test_a_version_withdrawn_at_the_moment_of_the_commit_fails_the_publish_and_can_be_repaired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = world.shop
    shop.promote(world.new)
    staged, audited = shop.stage_score("2017-08")
    commit = Table.publish

    def withdraw_then_commit(table: Table, *arguments: object, **named: object) -> None:
        monkeypatch.setattr(Table, "publish", commit)
        shop.roll_back()
        commit(table, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "publish", withdraw_then_commit)
    with pytest.raises(Overtaken) as refused:
        publish.predictions(shop.home, staged, audited, RunInfo())

    assert "Its predictions became visible before that was noticed" in str(refused.value)
    assert [item.period for item in shop.home.written() if item.version == world.new] == ["2017-08"]
    shop.score("2017-08")
    assert {item.version for item in shop.home.written()} == {world.old}


def test_a_model_whose_bytes_were_altered_scores_nothing(world: World) -> None:
    shop = world.shop
    model = shop.home.versions.read(world.old).files["model.joblib"]
    planned = plan.score(shop.home, shop.pipeline.period("2017-08"))
    shop.home.objects.put(model.uri, shop.home.objects.get(model.uri)[:-1] + b"!")

    text = told(refusal(world, orders.predictions(shop.home, planned)), "IntegrityError")

    assert f"{model.uri}: expected SHA-256" in text
    assert "The file was altered and is not used. Restore it from the bucket's versions, or build it again." in text


# Labels and windows


def test_a_retrain_with_too_few_labelled_periods_is_refused(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(DataError) as refused:
        world.shop.retrain("2017-05")

    text = str(refused.value)
    assert "The retrain for 2017-05 has 1 labelled training periods before its holdout, expected at least 2." in text
    assert "The pipeline begins with 2017-03; a label takes 30 days to be known." in text
    assert "Retrain that or a later one, or lower MovingWindow.minimum." in text
    assert world.shop.state() == before


def model_order(world: World) -> PlacedOrder:
    planned = plan.retrain(world.shop.home, world.shop.pipeline, world.shop.pipeline.period("2017-06"), world.shop.module)
    assert planned.build == ()
    return orders.model(world.shop.home, planned, world.pin(planned))


def test_a_label_of_one_class_is_refused_and_says_of_which_period(world: World) -> None:
    world.shop.put("visits", "2017-06.parquet", shops.visits(JUNE)[:0])  # the month that labels the holdout 2017-05

    text = told(refusal(world, model_order(world)), "DataError")

    assert "The label of 2017-05 has one class (0: 61 rows), expected two." in text
    assert "Check the label's function and the sources for the days after the period's end." in text


def test_features_that_are_not_published_train_nothing(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-10"), shop.module)
    assert planned.build == ("2017-09",)

    with pytest.raises(NotAdmitted) as refused:
        orders.model(shop.home, planned, world.pin(planned))

    text = str(refused.value)
    assert f"Features of 2017-09 (definition {planned.definition}) are not published." in text
    assert "Clear the run from its plan on to build them." in text
    assert shop.state() == before


A_LIST = "expected a list of Great Expectations' expectations, such as [gxe.ExpectColumnValuesToNotBeNull(column='visits')]"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("None", "checks(): expected a dict, such as {'features': [...]}; got NoneType."),
        (
            "[gxe.ExpectColumnValuesToNotBeNull(column='band')]",
            "checks(): expected a dict, such as {'features': [...]}; got list.",
        ),
        ("{'features': None}", f"checks()['features']: {A_LIST}; got NoneType."),
        (
            "{'features': ['ExpectColumnValuesToNotBeNull']}",
            f"checks()['features']: {A_LIST}; got the item 'ExpectColumnValuesToNotBeNull'.",
        ),
        (
            "{'features': gxe.ExpectColumnValuesToNotBeNull(column='band')}",
            f"checks()['features']: {A_LIST}; got ExpectColumnValuesToNotBeNull.",
        ),
        ("{'features': [gxe.ExpectColumnValuesToNotBeNull]}", f"checks()['features']: {A_LIST}; got the item <class "),
        (
            "{'features': [1 / 0]}",
            "checks() of 'shop' failed: ZeroDivisionError: division by zero. Correct it in the user's module",
        ),
        ("{'sources': []}", "checks()['sources']: expected a dict, such as {'sources': {'visits': [...]}}; got list."),
        ("{'sources': {'visits': None}}", f"checks()['sources']['visits']: {A_LIST}; got NoneType."),
    ],
)
def test_checks_of_another_form_are_told_as_such(world: World, given: str, message: str) -> None:
    before = world.shop.state()
    world.shop.code(**{'{"features": [gxe.ExpectColumnValuesToBeBetween(column="visits", min_value=1)]}': given})
    (placed,) = orders.audits(world.shop.home, {"2017-05": world.standing_receipt()})

    audited = world.shop.attempt(world.coded(placed))

    assert not audited.passed and audited.findings[0].startswith(message)
    assert world.shop.state() == before
