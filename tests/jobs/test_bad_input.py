"""Bad input is refused in plain words, and a reader of tables, versions and the promotion log sees nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pytest

from almanac import ReferenceSource
from almanac.errors import SourceError
from almanac.runs import feature_orders, plan
from tests.support import shop as shops
from tests.support.refusals import refusal, told
from tests.support.shop import Shop, visits
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

GROUPED = 'return visits.groupBy("customer").agg('
POPULATION = 'def customers(visits: DataFrame) -> DataFrame:\n    return visits.select("customer").distinct()'
JUNE = datetime(2017, 6, 1)


# Sources


def test_a_source_without_files_is_refused_when_it_is_pinned(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    shop.home.objects.delete(f"{shop.landing}/people/all.parquet")

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-09"))

    text = str(refused.value)
    assert f"Source 'people' is missing: there is no Parquet file below {shop.landing}/people/." in text
    assert "Deliver it, or correct the source's uri." in text
    assert shop.state() == before


def test_a_source_in_a_bucket_that_does_not_exist_is_missing_too(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    sources = {**shop.pipeline.sources, "people": ReferenceSource("s3://nobody-has-made-this/people/")}
    shop.describe(sources=sources)

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-09"))

    assert "Source 'people' is missing: " in str(refused.value)
    assert "bucket 'nobody-has-made-this' does not exist. Create it, or change the URI." in str(refused.value)
    assert shop.state() == before


def test_a_file_without_a_column_that_the_description_reads_is_refused_when_it_is_pinned(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    shop.put("visits", "2017-06.parquet", shops.visits(JUNE).drop_columns(["amount"]))

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-09"))

    text = str(refused.value)
    assert f"Source 'visits': {shop.landing}/visits/2017-06.parquet has no column 'amount', while {shop.landing}/visits/" in text
    assert "declare that files may lack it with fill={'amount': None}, or deliver one of them again." in text
    assert shop.state() == before


def test_files_of_one_source_that_disagree_about_a_type_are_refused_when_they_are_pinned(world: World) -> None:
    shop, before = world.shop, world.shop.state()
    rows = shops.visits(JUNE)
    shop.put("visits", "2017-06.parquet", rows.set_column(2, "amount", rows["amount"].cast(pa.float64())))

    with pytest.raises(SourceError) as refused:
        world.pin(world.planned("2017-09"))

    text = str(refused.value)
    assert "2017-06.parquet has amount as double" in text and "2017-01.parquet has it as int64" in text
    assert "Files of one source must agree: deliver one of them again, or leave the column out with columns=(...)." in text
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

    text = told(refusal(world, placed), "SourceError")

    changed = f"{shop.landing}/visits/2017-06.parquet no longer matches the pin. Nothing was published."
    assert text.startswith(f"Source 'visits' changed while it was read: {changed}")
    assert text.endswith("Start the run again to pin the current files.")


def test_a_retry_after_the_file_was_put_back_writes_attempt_1_and_passes(world: World) -> None:
    shop = world.shop
    shop.code(**{"days_since_visit": "days_since_last_visit"})
    placed = world.group("habits", "2017-06")
    replaced_by_other_rows(shop)
    failed = refusal(world, placed)
    shop.put("visits", "2017-06.parquet", shops.visits(JUNE))

    passed = shop.attempt(placed)

    assert (failed.attempt, passed.attempt, passed.passed) == (0, 1, True)
    assert shop.home.receipts.done(placed.order) == passed
    assert shop.home.receipts.read(shop.home.receipts.uri(failed)) == failed, "the failed attempt stays to be read"


def test_a_source_that_changes_while_the_population_is_read_leaves_nothing_visible(world: World) -> None:
    shop = world.shop
    shop.code(**{"days_since_visit": "days_since_last_visit"})
    placed = world.coded(world.standing("2017-06"))
    replaced_by_other_rows(shop)

    text = told(refusal(world, placed), "SourceError")

    assert f"Source 'visits' changed while it was read: {shop.landing}/visits/2017-06.parquet no longer matches the pin" in text


# Functions of the user's module


def test_a_function_that_the_module_lacks_is_named_with_those_that_it_has(world: World) -> None:
    world.shop.code(**{"def traits(": "def tarits("})

    text = told(refusal(world, world.group("traits")), "DescriptionError")

    assert "Module 'shop' has no function 'traits' (it has: checks, customers, estimators, habits, returns, tarits)." in text
    assert "Write it, or correct the name in the pipeline's description." in text


def test_a_function_that_does_not_take_what_its_description_reads_is_refused(world: World) -> None:
    world.shop.code(**{"def habits(visits: DataFrame, as_of)": "def habits(people: DataFrame, as_of, category)"})

    text = told(refusal(world, world.group("habits")), "DescriptionError")

    assert "Function 'habits' of pipeline 'shop' takes (people, as_of, category), but its description reads (visits)." in text
    assert "It does not take visits. Unknown arguments: people, category." in text
    assert "Make reads= and the signature agree." in text


def test_a_function_that_raises_is_told_with_its_error_and_period(world: World) -> None:
    world.shop.code(**{"    " + GROUPED: '    raise KeyError("no such thing")\n    ' + GROUPED})

    text = told(refusal(world, world.group("habits")), "DescriptionError")

    assert "Function 'habits' of 'shop' failed for 2017-05: KeyError: 'no such thing'." in text
    assert "Correct it in the user's module; the next run uses the corrected one." in text


def test_a_function_that_reads_a_column_that_is_not_there_is_told_with_its_period(world: World) -> None:
    world.shop.code(**{'F.sum("amount")': 'F.sum("amuont")'})

    text = told(refusal(world, world.group("habits")), "DescriptionError")

    assert text.startswith("Function 'habits' of 'shop' failed for 2017-05: AnalysisException: ")
    assert "amuont" in text


def test_a_module_that_cannot_be_imported_is_refused(world: World) -> None:
    world.shop.code(**{"def traits(": "def traits(("})

    receipt = refusal(world, world.group("habits"))

    assert receipt.findings[0].startswith("SyntaxError: ")
    assert "shop.py" in receipt.findings[0]


def test_a_python_function_of_the_module_works_inside_the_spark_tasks(world: World) -> None:
    world.shop.code(**{
        "def habits(": 'def _cents(amount):\n    return amount / 100\n\n\n@F.udf("double")\ndef euros(amount):\n'
        "    return _cents(amount)\n\n\ndef habits(",
        'F.sum("amount")': 'F.sum(euros("amount"))',
    })  # fmt: skip

    receipt = world.shop.attempt(world.group("habits"))

    assert receipt.findings == () and receipt.passed


def test_a_python_function_that_raises_inside_a_spark_task_is_told_by_its_last_line(world: World) -> None:
    world.shop.code(**{
        "def habits(": '@F.udf("double")\ndef euros(amount):\n    raise ValueError("amount is no money")\n\n\ndef habits(',
        'F.sum("amount")': 'F.sum(euros("amount"))',
    })  # fmt: skip

    receipt = refusal(world, world.group("habits"))

    assert receipt.findings == ("ValueError: amount is no money",)


def test_a_group_that_gives_something_else_than_a_frame_is_refused(world: World) -> None:
    world.shop.code(**{'people.select("customer", "band")': 'people.select("customer", "band").columns'})

    text = told(refusal(world, world.group("traits")), "DescriptionError")

    assert "Function 'traits': expected a Spark DataFrame, got list. Return one." in text


def test_a_group_without_the_entity_is_refused_and_shows_what_it_gave(world: World) -> None:
    world.shop.code(**{'people.select("customer", "band")': 'people.select("band")'})

    text = told(refusal(world, world.group("traits")), "DescriptionError")

    assert "Function 'traits' returned no column 'customer' (it returned: band). Add the entity's column." in text


def test_a_feature_that_is_text_is_refused_by_name_and_type(world: World) -> None:
    world.shop.code(**{'people.select("customer", "band")': 'people.select("customer", F.lit("gold").alias("tier"))'})

    text = told(refusal(world, world.group("traits")), "DescriptionError")

    assert "Function 'traits' returned columns that are not numeric: tier (string). Features are float32." in text
    assert "Return categories as codes" in text


def test_two_groups_that_give_a_column_of_one_name_are_refused(world: World) -> None:
    world.shop.code(**{"days_since_visit": "days_since_last_visit"})
    placed = world.coded(world.standing())
    doubled = replace(placed, links={**placed.links, "part.traits": placed.links["part.habits"]})

    text = told(refusal(world, doubled), "DescriptionError")

    assert text.startswith(
        "Feature group 'traits' returned columns that another group returns (case is ignored): visits (visits of habits), "
    )
    assert text.endswith("Rename them.")


# Entities


def test_a_group_with_an_entity_twice_is_refused_with_examples(world: World) -> None:
    world.shop.code(**{'people.select("customer", "band")': 'people.union(people).select("customer", "band")'})

    text = told(refusal(world, world.group("traits")), "DataError")

    assert (
        "Feature group 'traits': expected one row per entity, got 40 entities with several, such as customer 0 (2 rows), " in text
    )
    assert "Group or deduplicate in the function." in text
    assert text.count("(2 rows)") == 5


def test_a_population_with_an_entity_twice_is_refused_with_examples(world: World) -> None:
    world.shop.code(**{POPULATION: POPULATION.removesuffix(".distinct()")})

    text = told(refusal(world, world.coded(world.standing())), "DataError")

    assert text.startswith("Population 'customers' of 2017-05: expected one row per entity, got ")
    assert "entities with several, such as customer " in text
    assert "Group or deduplicate in the function." in text


def test_a_population_of_fractions_is_refused(world: World) -> None:
    world.shop.code(**{POPULATION: POPULATION.replace('select("customer")', 'selectExpr("customer / 2 AS customer")')})

    text = told(refusal(world, world.coded(world.standing())), "DescriptionError")

    assert "Population 'customers': expected customer as whole numbers or text, got double." in text


def test_a_period_without_a_single_event_is_refused(world: World) -> None:
    shop = world.shop
    shop.put("visits", "2019-01.parquet", visits(datetime(2019, 1, 1)))  # else the pin would find that the data have ended
    planned = plan.score(shop.home, shop.pipeline.period("2018-06"))
    pinned = world.pin(planned)
    (built, _) = [shop.run(feature_orders.groups(shop.home, planned, pinned, name)) for name in ("habits", "traits")]
    empty = shop.home.receipts.read(built["2018-06"])

    text = told(refusal(world, feature_orders.combined(shop.home, planned, pinned)[0]), "DataError")

    assert (empty.passed, empty.rows, empty.outputs) == (True, 0, ()), "a group may know nobody"
    assert "Population 'customers' has no entity for 2018-06: its sources hold no event in that time." in text
    assert "Check that the sources were delivered for the period, or choose another period." in text
