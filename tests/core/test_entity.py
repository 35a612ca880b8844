"""The columns that name an entity: how they are described, and how a person names one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from almanac import EventSource, FeatureGroup, Label, MovingWindow, Pipeline, Population
from almanac.core.canonical import decode, digest, encode
from almanac.core.entity import in_words, keys_of, labelled, requested, shown
from almanac.errors import DataError, DescriptionError


def pipeline(entity: Any) -> Pipeline:
    return Pipeline(
        name="shop",
        entity=entity,
        first_period="2017-03",
        sources={"visits": EventSource("s3://landing/visits/", event_time="at")},
        population=Population("people", reads=("visits",)),
        features=(FeatureGroup("habits", reads=("visits",)),),
        label=Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=0),
        window=MovingWindow(2),
    )


def test_one_column_stays_a_text_in_the_stored_description() -> None:
    described = pipeline("customer")
    assert (described.keys, encode(described)["entity"]) == (("customer",), "customer")
    assert described.shape_of_features()["entity"] == "customer"


def test_several_columns_are_read_again_as_they_were_stored() -> None:
    described = pipeline(("customer", "shop"))
    assert (described.keys, encode(described)["entity"]) == (("customer", "shop"), ["customer", "shop"])
    again = decode(Pipeline, encode(described))
    assert again.entity == ("customer", "shop")
    assert digest(again) == described.digest
    assert described.definition("module") == again.definition("module") != pipeline("customer").definition("module")


def test_the_order_of_the_columns_is_part_of_the_definition() -> None:
    assert pipeline(("customer", "shop")).definition("module") != pipeline(("shop", "customer")).definition("module")


@pytest.mark.parametrize(
    ("entity", "told"),
    [
        ("customer id", "Pipeline.entity: expected the name of a column, got 'customer id'."),
        (("customer", "shop id"), "Pipeline.entity: expected the name of a column, got 'shop id'."),
        (("customer", 7), "Pipeline.entity: expected the name of a column, got 7."),
        ((), "Pipeline.entity: expected the name of a column, or a tuple of two or more names; got ()."),
        (None, "Pipeline.entity: expected the name of a column, or a tuple of two or more names; got None."),
        (["customer", "shop"], "or a tuple of two or more names; got ['customer', 'shop']. Write entity=('customer', 'shop')."),
        (("customer",), "or a tuple of two or more names; got ('customer',). Write entity='customer'."),
        (
            ("customer", "shop", "Customer"),
            "Pipeline.entity: expected different columns, got 'customer' and 'Customer', which are one name, because case is "
            "ignored. Remove one.",
        ),
        (("customer", "Period"), "Pipeline.entity: got 'Period', a column that Almanac writes itself (reserved: as_of, period,"),
        ("score", "Pipeline.entity: got 'score', a column that Almanac writes itself (reserved: as_of, period,"),
    ],
)
def test_what_cannot_name_an_entity_is_refused(entity: Any, told: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        pipeline(entity)
    assert told in str(refused.value)


def test_a_described_source_reads_every_column_of_the_entity() -> None:
    from almanac import Aggregates

    group = Aggregates("spending", reads=("visits",), windows=(timedelta(days=30),), columns={"amount": ("sum",)})
    read = Aggregates("tills", reads=("visits",), windows=(timedelta(days=30),), events=("count",))
    described = pipeline(("customer", "shop"))
    sources = {"visits": EventSource("s3://v/", event_time="at"), "people": EventSource("s3://p/", event_time="at")}
    changed = Pipeline(**{
        **{name: getattr(described, name) for name in ("name", "entity", "first_period", "window")},
        "sources": sources,
        "population": Population("people_of", reads=("people",)),
        "features": (group, read),
        "label": Label("returns", reads=("people",), horizon=timedelta(days=30), absent=0),
    })  # fmt: skip
    assert changed.columns_read("visits") == ("at", "customer", "shop", "amount")


def test_one_entity_is_shown_by_its_value_and_several_columns_by_all() -> None:
    assert (keys_of("customer"), keys_of(("customer", "shop"))) == (("customer",), ("customer", "shop"))
    assert (shown([42]), shown([42, "north"])) == ("42", "(42, 'north')")
    assert in_words(["period", "customer", "shop"]) == "period, customer and shop"
    assert labelled(["customer"], [42]) == "customer 42"
    assert labelled(["customer", "shop"], [42, "north"]) == "customer 42, shop north"


def test_an_entity_of_one_column_is_named_by_its_value() -> None:
    assert requested(["customer"], ["42"]) == requested(["customer"], ["customer=42"]) == {"customer": "42"}
    assert requested(["customer"], ["a=b="]) == {"customer": "a=b="}
    with pytest.raises(DataError) as refused:
        requested(["customer"], ["42", "43"])
    assert str(refused.value) == "--entity: expected one value, of customer; got 2. Write --entity customer=... once."


def test_an_entity_of_several_columns_is_named_by_each_in_any_order() -> None:
    keys = ("customer", "shop")
    assert requested(keys, ["shop=a=b", "customer=42"]) == {"shop": "a=b", "customer": "42"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["customer=42"], "expected customer and shop, which together name an entity; shop is missing."),
        ([], "customer and shop are missing."),
        (["42", "shop=7"], "expected customer and shop, which together name an entity; got '42'."),
        (["customer=42", "till=7"], "expected customer and shop, which together name an entity; got the column 'till'."),
        (["customer=42", "customer=43"], "got customer twice ('42' and '43'), expected it once."),
    ],
)
def test_a_column_that_is_missing_or_unknown_or_twice_is_refused_and_the_message_shows_how_to_write_it(
    given: list[str], told: str
) -> None:
    with pytest.raises(DataError) as refused:
        requested(("customer", "shop"), given)
    assert told in str(refused.value)
    assert str(refused.value).endswith("Write --entity customer=... --entity shop=....")
