"""Bad input is refused in plain words, and a reader of tables, versions and the promotion log sees nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pytest

from almanac import ReferenceSource
from almanac.core.receipts import Placed, Receipt, Witness
from almanac.doors import audit, orders, plan, publish, stage
from almanac.doors.job import Carry
from almanac.errors import CheckFailed, DataError, NotAdmitted, Overtaken, PromotionError, SourceError
from almanac.store.tables import Table
from tests import shop as shops
from tests.shop import Shop
from tests.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

GROUPED = 'return visits.groupBy("customer").agg('
POPULATION = 'def customers(visits: DataFrame) -> DataFrame:\n    return visits.select("customer").distinct()'
JUNE = datetime(2017, 6, 1)


def refusal(world: World, placed: Placed, door: Carry) -> Receipt:
    """The receipt of an order that cannot be carried out: it is kept, and changes nothing that a reader sees."""
    before = world.shop.state()
    receipt = world.shop.attempt(placed, door)
    assert not receipt.passed and not receipt.answered
    assert world.shop.home.receipts.find(placed.order) == receipt
    assert (receipt.content, receipt.outputs) == ("", ())
    assert world.shop.state() == before
    return receipt


def told(receipt: Receipt, kind: str) -> str:
    """The one finding of a failed attempt."""
    assert receipt.facts["error"] == kind
    (text,) = receipt.findings
    assert len(text) <= 2000
    assert "Traceback" not in text
    return text


# Sources


def test_a_source_without_files_is_refused_when_it_is_pinned(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    shop.home.objects.delete(f"{shop.landing}/people/all.parquet")

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-09"))

    text = str(refused.value)
    assert f"Source 'people' is missing: no Parquet file lies below {shop.landing}/people/." in text
    assert "Deliver it, or correct the source's uri." in text
    assert shop.state() == before


def test_a_source_in_a_bucket_that_does_not_exist_is_missing_too(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    sources = {**shop.pipeline.sources, "people": ReferenceSource("s3://nobody-has-made-this/people/")}
    shop.describe(sources=sources)

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-09"))

    assert "Source 'people' is missing: " in str(refused.value)
    assert "there is no bucket 'nobody-has-made-this'. Create it, or change the URI." in str(refused.value)
    assert shop.state() == before


def test_a_file_without_a_column_that_the_description_reads_is_refused_when_it_is_pinned(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    shop.put("visits", "2017-06.parquet", shops.visits(JUNE).drop_columns(["amount"]))

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-09"))

    text = str(refused.value)
    assert f"Source 'visits' ({shop.landing}/visits/) has no column amount (it has: at, customer)." in text
    assert "Deliver the column, or change the source's description." in text
    assert shop.state() == before


def test_files_of_one_source_that_disagree_about_a_type_are_refused_when_they_are_pinned(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    rows = shops.visits(JUNE)
    shop.put("visits", "2017-06.parquet", rows.set_column(2, "amount", rows["amount"].cast(pa.float64())))

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-09"))

    text = str(refused.value)
    assert "2017-06.parquet has amount as double" in text and "2017-01.parquet has amount as int64" in text
    assert "Files of one source must agree; deliver one of them again." in text
    assert shop.state() == before


def test_a_source_file_that_is_no_parquet_is_refused_when_it_is_pinned(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    shop.home.objects.put(f"{shop.landing}/visits/2017-06.parquet", b"customer,at,amount\n")

    with pytest.raises(SourceError, match=r"2017-06.parquet cannot be read as Parquet \(.+\). Deliver it again"):
        world.pin(world.planned("2017-09"))
    assert shop.state() == before


def replaced_by_other_rows(shop: Shop) -> None:
    rows = shops.visits(JUNE)
    other = rows.set_column(2, "amount", pa.array([9] * rows.num_rows, pa.int64()))
    shop.put("visits", "2017-06.parquet", other)


def replaced_without_a_column(shop: Shop) -> None:
    shop.put("visits", "2017-06.parquet", shops.visits(JUNE).drop_columns(["amount"]))


def replaced_with_fewer_row_groups(shop: Shop) -> None:
    shop.put("visits", "2017-06.parquet", shops.visits(JUNE)[:0])


def replaced_by_no_parquet(shop: Shop) -> None:
    shop.home.objects.put(f"{shop.landing}/visits/2017-06.parquet", b"customer,at,amount\n")


def removed(shop: Shop) -> None:
    shop.home.objects.delete(f"{shop.landing}/visits/2017-06.parquet")


@pytest.mark.parametrize(
    "change",
    [replaced_by_other_rows, replaced_without_a_column, replaced_with_fewer_row_groups, replaced_by_no_parquet, removed],
)
def test_a_source_file_that_changes_between_pin_and_reading_stops_the_group(world: World, change: Callable[[Shop], None]) -> None:
    shop = world.shop
    shop.code(**{"days_since_visit": "days_since_last_visit"})  # so that the group was not made before
    placed = world.group("habits", "2017-06")
    change(shop)

    text = told(refusal(world, placed, stage.features), "SourceError")

    changed = f"{shop.landing}/visits/2017-06.parquet is not what was pinned. Nothing was published."
    assert text.startswith(f"Source 'visits' changed while it was read: {changed}")
    assert text.endswith("Start the run again: it pins the files as they are then.")


def test_a_retry_after_the_file_was_put_back_writes_attempt_1_and_passes(world: World) -> None:
    shop = world.shop
    shop.code(**{"days_since_visit": "days_since_last_visit"})
    placed = world.group("habits", "2017-06")
    replaced_by_other_rows(shop)
    failed = refusal(world, placed, stage.features)
    shop.put("visits", "2017-06.parquet", shops.visits(JUNE))

    passed = shop.attempt(placed, stage.features)

    assert (failed.attempt, passed.attempt, passed.passed) == (0, 1, True)
    assert shop.home.receipts.done(placed.order) == passed
    assert shop.home.receipts.read(shop.home.receipts.uri(failed)) == failed, "the failed attempt stays to be read"


def test_a_source_that_changes_while_the_population_is_read_leaves_nothing_visible(world: World) -> None:
    shop = world.shop
    shop.code(**{"days_since_visit": "days_since_last_visit"})
    placed = world.coded(world.standing("2017-06"))
    replaced_by_other_rows(shop)

    text = told(refusal(world, placed, stage.features), "SourceError")

    assert f"Source 'visits' changed while it was read: {shop.landing}/visits/2017-06.parquet is not what was pinned" in text


# Functions of the user's module


def test_a_function_that_the_module_lacks_is_named_with_those_that_it_has(world: World) -> None:
    world.shop.code(**{"def traits(": "def tarits("})

    text = told(refusal(world, world.group("traits"), stage.features), "DescriptionError")

    assert "Module 'shop' has no function 'traits' (it has: checks, customers, estimators, habits, returns, tarits)." in text
    assert "Write it, or correct the name in the pipeline's description." in text


def test_a_function_that_does_not_take_what_its_description_reads_is_refused(world: World) -> None:
    world.shop.code(**{"def habits(visits: DataFrame, as_of)": "def habits(people: DataFrame, as_of, category)"})

    text = told(refusal(world, world.group("habits"), stage.features), "DescriptionError")

    assert "Function 'habits' of pipeline 'shop' takes (people, as_of, category), but its description reads (visits)." in text
    assert "It does not take visits. Nobody gives it people, category." in text
    assert "Make reads= and the signature agree." in text


def test_a_function_that_raises_is_told_with_its_error_and_period(world: World) -> None:
    world.shop.code(**{"    " + GROUPED: '    raise KeyError("no such thing")\n    ' + GROUPED})

    text = told(refusal(world, world.group("habits"), stage.features), "DescriptionError")

    assert "Function 'habits' of 'shop' failed for 2017-05: KeyError: 'no such thing'." in text
    assert "Correct it in the user's module; the next run takes the new one." in text


def test_a_function_that_reads_a_column_that_is_not_there_is_told_with_its_period(world: World) -> None:
    world.shop.code(**{'F.sum("amount")': 'F.sum("amuont")'})

    text = told(refusal(world, world.group("habits"), stage.features), "DescriptionError")

    assert text.startswith("Function 'habits' of 'shop' failed for 2017-05: AnalysisException: ")
    assert "amuont" in text


def test_a_module_that_cannot_be_imported_is_refused(world: World) -> None:
    world.shop.code(**{"def traits(": "def traits(("})

    receipt = refusal(world, world.group("habits"), stage.features)

    assert receipt.findings[0].startswith("SyntaxError: ")
    assert "shop.py" in receipt.findings[0]


def test_a_python_function_of_the_module_works_inside_the_spark_tasks(world: World) -> None:
    world.shop.code(**{
        "def habits(": 'def _cents(amount):\n    return amount / 100\n\n\n@F.udf("double")\ndef euros(amount):\n'
        "    return _cents(amount)\n\n\ndef habits(",
        'F.sum("amount")': 'F.sum(euros("amount"))',
    })  # fmt: skip

    receipt = world.shop.attempt(world.group("habits"), stage.features)

    assert receipt.findings == () and receipt.passed


def test_a_python_function_that_raises_inside_a_spark_task_is_told_by_its_last_line(world: World) -> None:
    world.shop.code(**{
        "def habits(": '@F.udf("double")\ndef euros(amount):\n    raise ValueError("amount is no money")\n\n\ndef habits(',
        'F.sum("amount")': 'F.sum(euros("amount"))',
    })  # fmt: skip

    receipt = refusal(world, world.group("habits"), stage.features)

    assert receipt.findings == ("ValueError: amount is no money",)


def test_a_group_that_gives_something_else_than_a_frame_is_refused(world: World) -> None:
    world.shop.code(**{'people.select("customer", "band")': 'people.select("customer", "band").columns'})

    text = told(refusal(world, world.group("traits"), stage.features), "DescriptionError")

    assert "Function 'traits' gave list, a Spark DataFrame is needed." in text


def test_a_group_without_the_entity_is_refused_and_shows_what_it_gave(world: World) -> None:
    world.shop.code(**{'people.select("customer", "band")': 'people.select("band")'})

    text = told(refusal(world, world.group("traits"), stage.features), "DescriptionError")

    assert "Function 'traits' gave no column 'customer' (it gave: band). Add the entity's column." in text


def test_a_feature_that_is_text_is_refused_by_name_and_type(world: World) -> None:
    world.shop.code(**{'people.select("customer", "band")': 'people.select("customer", F.lit("gold").alias("tier"))'})

    text = told(refusal(world, world.group("traits"), stage.features), "DescriptionError")

    assert "Function 'traits' gave columns that are not numbers: tier (string). Features are float32;" in text
    assert "give categories as codes" in text


def test_two_groups_that_give_a_column_of_one_name_are_refused(world: World) -> None:
    world.shop.code(**{"days_since_visit": "days_since_last_visit"})
    placed = world.coded(world.standing())
    doubled = replace(placed, links={**placed.links, "part.traits": placed.links["part.habits"]})

    text = told(refusal(world, doubled, stage.features), "DescriptionError")

    assert text.startswith(
        "Feature group 'traits' gave columns that another one gives: visits (also of habits), amount (also of "
    )
    assert text.endswith("Rename them.")


# Entities


def test_a_group_with_an_entity_twice_is_refused_with_examples(world: World) -> None:
    world.shop.code(**{'people.select("customer", "band")': 'people.union(people).select("customer", "band")'})

    text = told(refusal(world, world.group("traits"), stage.features), "DataError")

    assert "Feature group 'traits' has 40 entities more than once, or null, such as customer 0 (2 rows), 2 (2 rows)" in text
    assert "One row an entity is needed; group or deduplicate in the function." in text
    assert text.count("(2 rows)") == 5


def test_a_population_with_an_entity_twice_is_refused_with_examples(world: World) -> None:
    world.shop.code(**{POPULATION: POPULATION.removesuffix(".distinct()")})

    text = told(refusal(world, world.coded(world.standing()), stage.features), "DataError")

    assert text.startswith("Population 'customers' of 2017-05 has ")
    assert "entities more than once, or null, such as customer " in text
    assert "group or deduplicate in the function." in text


def test_a_population_of_fractions_is_refused(world: World) -> None:
    world.shop.code(**{POPULATION: POPULATION.replace('select("customer")', 'selectExpr("customer / 2 AS customer")')})

    text = told(refusal(world, world.coded(world.standing()), stage.features), "DescriptionError")

    assert "Population 'customers' gives customer as double; whole numbers or text are needed." in text


def test_a_period_without_a_single_event_is_refused(world: World) -> None:
    shop = world.shop
    planned = plan.score(shop.home, shop.pipeline, shop.pipeline.period("2018-06"))
    pinned = world.pin(planned)
    parts = [shop.carry(orders.groups(shop.home, planned, pinned, name), stage.features) for name in ("habits", "traits")]
    empty = shop.home.receipts.read(parts[0]["2018-06"])

    text = told(refusal(world, orders.combined(shop.home, planned, pinned, parts)[0], stage.features), "DataError")

    assert (empty.passed, empty.rows, empty.outputs) == (True, 0, ()), "a group may know nobody"
    assert "Population 'customers' has no entity for 2018-06: its sources hold no event in that time." in text
    assert "Look whether the sources were delivered for the period, or choose another one." in text


# Labels and windows


def test_a_retrain_with_too_few_labelled_periods_is_refused(world: World) -> None:
    before = world.shop.state()

    with pytest.raises(DataError) as refused:
        world.shop.retrain("2017-05")

    text = str(refused.value)
    assert "The retrain for 2017-05 finds 1 labelled training periods before its holdout, at least 2 are needed." in text
    assert "The pipeline begins with 2017-03; a label takes 30 days to be known." in text
    assert "Retrain a later period, or lower MovingWindow.minimum." in text
    assert world.shop.state() == before


def model_order(world: World) -> Placed:
    planned = plan.retrain(world.shop.home, world.shop.pipeline, world.shop.pipeline.period("2017-06"), world.shop.module)
    assert planned.build == ()
    return orders.model(world.shop.home, planned, world.pin(planned))


def test_a_label_of_one_class_is_refused_and_says_of_which_period(world: World) -> None:
    world.shop.put("visits", "2017-06.parquet", shops.visits(JUNE)[:0])  # the month that labels the holdout 2017-05

    text = told(refusal(world, model_order(world), stage.model), "DataError")

    assert "The label of 2017-05 has one class (0: 61 rows), two are needed." in text
    assert "Look at the label's function and at the sources of the days after the period's end." in text


def test_features_that_are_not_published_train_nothing(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-10"), shop.module)
    assert planned.build == ("2017-09",)

    with pytest.raises(NotAdmitted) as refused:
        orders.model(shop.home, planned, world.pin(planned))

    text = str(refused.value)
    assert f"Features of 2017-09 (definition {planned.definition}) are not published, and nothing else is used." in text
    assert "Clear the run from its plan on: it builds them." in text
    assert shop.state() == before


# Checks


def checked(world: World, checks: str) -> tuple[Receipt, Receipt]:
    """The published features of 2017-05, audited once more with other checks: the receipts of stage and audit."""
    world.shop.code(**{'[gxe.ExpectColumnValuesToBeBetween(column="visits", min_value=1)]': checks})
    uri = world.standing_receipt()
    (placed,) = orders.audits(world.shop.home, {"2017-05": uri})
    return world.shop.home.receipts.read(uri), world.shop.attempt(world.coded(placed), audit.features)


def test_a_failed_check_blocks_the_publish_and_keeps_its_whole_report(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    checks = "[gxe.ExpectColumnValuesToBeBetween(column='visits', min_value=1000 + n) for n in range(12)]"

    staged, audited = checked(world, checks)
    failed = CheckFailed(str(audited.order), audited.findings)
    with pytest.raises(NotAdmitted) as refused:
        publish.features(shop.home, staged, audited, Witness())

    text = str(failed)
    assert not audited.passed and "error" not in audited.facts
    assert text.startswith("shop features.audit 2017-05 did not pass its audit, nothing was published:\n")
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


def test_a_check_of_a_column_that_is_not_there_says_that_it_could_not_be_run(world: World) -> None:
    _, audited = checked(world, "[gxe.ExpectColumnValuesToNotBeNull(column='vists')]")

    assert not audited.passed
    assert "expect_column_values_to_not_be_null(column='vists') could not be run: " in audited.findings[0]
    assert "vists" in audited.findings[0].split("could not be run")[1]


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

    text = told(refusal(world, world.coded(placed), audit.features), "DescriptionError")

    assert "checks() has feature, allowed are features, predictions. Rename or remove it." in text


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

    assert f"Version '2016-01-00000000' is unknown (there are: {world.old}, {world.new})." in str(refused.value)
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
    assert staged.parameters == {"version": world.old, "in_sample": True}
    assert world.scored.facts["in_sample"] is False
    assert "2017-04" in world.shop.home.predictions.visible()


def test_what_a_version_scored_before_it_was_withdrawn_is_not_published_after(world: World) -> None:
    shop = world.shop
    shop.promote(world.new)
    staged, audited = shop.stage_score("2017-08")
    shop.roll_back()
    before = shop.state()

    with pytest.raises(Overtaken) as refused:
        publish.predictions(shop.home, staged, audited, Witness())

    text = str(refused.value)
    assert f"Version {world.new} was withdrawn while 2017-08 was scored with it, and nothing was published." in text
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
        publish.predictions(shop.home, staged, audited, Witness())

    assert "and its predictions became visible before that was seen" in str(refused.value)
    assert [item.period for item in shop.home.written() if item.version == world.new] == ["2017-08"]
    shop.score("2017-08")
    assert {item.version for item in shop.home.written()} == {world.old}


def test_a_model_whose_bytes_were_altered_scores_nothing(world: World) -> None:
    shop = world.shop
    model = shop.home.versions.read(world.old).files["model.joblib"]
    planned = plan.score(shop.home, shop.pipeline, shop.pipeline.period("2017-08"))
    shop.home.objects.put(model.uri, shop.home.objects.get(model.uri)[:-1] + b"!")

    text = told(refusal(world, orders.predictions(shop.home, planned), stage.predictions), "IntegrityError")

    assert f"{model.uri}: found bytes with SHA-256" in text
    assert "The file was altered; it is not used. Restore it from the bucket's versions, or make it again." in text
