"""A pipeline's description: what it refuses, how it is kept, and what of it shapes features."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest

from almanac.core.aggregates import Aggregates
from almanac.core.audits import Audit
from almanac.core.canonical import decode, dumps, encode
from almanac.core.deliveries import ParquetDelivery
from almanac.core.gate import Gate
from almanac.core.label import Label
from almanac.core.pipeline import FeatureGroup, Pipeline, Population
from almanac.core.scoring import Scoring
from almanac.core.sources import EventSource, ReferenceSource
from almanac.core.window import MovingWindow
from almanac.errors import DescriptionError
from tests.support.shop import pipeline

QUARTER = timedelta(days=90)
HABITS = FeatureGroup("habits", reads=("visits",), lookback=QUARTER)
TRAITS = FeatureGroup("traits", reads=("people",))
LABEL = Label("returns", reads=("visits",), horizon=timedelta(days=30), absent=0)
PEOPLE = ReferenceSource("s3://shop/people/")
VISITS = EventSource("s3://shop/visits/", event_time="at", timezone="UTC", lag=timedelta(hours=6), columns=("customer",))


def shop(**changes: Any) -> Pipeline:
    described: dict[str, Any] = {
        "name": "shop",
        "entity": "customer",
        "first_period": "2017-03",
        "last_period": "2017-12",
        "sources": {"visits": VISITS, "people": PEOPLE},
        "population": Population("customers", reads=("visits",), lookback=QUARTER),
        "features": (HABITS, TRAITS),
        "label": LABEL,
        "window": MovingWindow(2, minimum=1),
        "gate": Gate(metric="log_loss", min_gain=-0.01, floor=0.7),
        "parameters": {"category": "COFFEE", "bands": [1, 2.5, None, True], "nested": {"a": "é"}},
        "description": "Will a customer come again?",
        "tags": ("test",),
    }
    return Pipeline(**{**described, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "Shop"}, "Pipeline.name: expected lower-case letters, digits and _, got 'Shop'."),
        ({"name": "shop-2"}, "Pipeline.name: expected lower-case letters, digits and _, got 'shop-2'."),
        ({"name": "2shop"}, "Pipeline.name: expected lower-case letters, digits and _, got '2shop'."),
        ({"name": ""}, "Pipeline.name: expected lower-case letters, digits and _, got ''."),
        ({"entity": "customer id"}, "Pipeline.entity: expected the name of a column, got 'customer id'."),
        ({"every": "year"}, "every: expected one of 'day', 'week', 'month', 'quarter'; got 'year'."),
        ({"first_period": "2017"}, "Pipeline.first_period: Period: expected a month such as 2017-06; got '2017'."),
        ({"last_period": "2017-99"}, "Pipeline.last_period: Period: expected a month such as 2017-06; got '2017-99'."),
        ({"every": "week"}, "Pipeline.first_period: Period: expected a week such as 2017-06-05, a Monday; got '2017-03'."),
        ({"timezone": "Lundon"}, "Pipeline.timezone: expected a name such as 'UTC' or 'America/New_York', got 'Lundon'."),
        (
            {"week_starts": "sunday"},
            "Pipeline.week_starts: expected it with every='week' only, got 'sunday' with every='month'. Leave it out.",
        ),
        (
            {"last_period": "2017-02"},
            "Pipeline.last_period: expected first_period (2017-03) or later, got 2017-02.",
        ),
        ({"sources": {}}, "Pipeline.sources: expected at least one, got none."),
        (
            {"sources": {"visits": VISITS, "as_of": VISITS}},
            "Pipeline.sources: expected the name of an argument other than as_of, got 'as_of'.",
        ),
        (
            {"sources": {"my visits": VISITS}},
            "Pipeline.sources: expected the name of an argument other than as_of, got 'my visits'.",
        ),
        (
            {"sources": {"visits": "s3://shop/visits/"}},
            "Pipeline.sources['visits']: expected EventSource or ReferenceSource, got str.",
        ),
        ({"population": None}, "Pipeline.population: expected Population(...), got NoneType."),
        ({"population": HABITS}, "Pipeline.population: expected Population(...), got FeatureGroup."),
        (
            {"population": Population("people_known", reads=("people",))},
            "Population('people_known').reads: expected an EventSource, got none. A population without a time would know "
            "entities that appeared after as_of.",
        ),
        ({"features": ()}, "Pipeline.features: expected at least one FeatureGroup or Aggregates, got none."),
        (
            {"features": HABITS},
            f"Pipeline.features: expected a tuple of FeatureGroup and Aggregates, got {HABITS!r}. A single one needs its comma.",
        ),
        (
            {"features": ("habits",)},
            "Pipeline.features: expected a tuple of FeatureGroup and Aggregates, got ('habits',). A single one needs its comma.",
        ),
        (
            {"features": (HABITS, HABITS)},
            "Pipeline.features: expected different names, got 'habits' twice.",
        ),
        (
            {"features": (FeatureGroup("returns", reads=("visits",)),)},
            "Pipeline.features: expected different names, got 'returns' twice.",
        ),
        (
            {"features": (FeatureGroup("habits", reads=("visits", "orders", "carts")),)},
            "FeatureGroup('habits').reads: expected the pipeline's sources, 'visits', 'people'; got 'orders', 'carts'.",
        ),
        (
            {"population": Population("customers", reads=("orders",))},
            "Population('customers').reads: expected the pipeline's sources, 'visits', 'people'; got 'orders'.",
        ),
        (
            {"label": Label("returns", reads=("orders",), horizon=QUARTER)},
            "Label('returns').reads: expected the pipeline's sources, 'visits', 'people'; got 'orders'.",
        ),
        ({"label": "returns"}, "Pipeline.label: expected Label(...), got str."),
        ({"window": 3}, "Pipeline.window: expected MovingWindow(...), got int."),
        ({"gate": "roc_auc"}, "Pipeline.gate: expected Gate(...), got str."),
        (
            {"parameters": {"visits": 1, "as_of": 2}},
            "Pipeline.parameters: expected names other than those of sources and as_of, got 'as_of', 'visits'.",
        ),
        (
            {"parameters": {"my category": 1}},
            "Pipeline.parameters: expected the name of an argument, got 'my category'.",
        ),
    ],
)
def test_a_field_that_is_not_as_it_must_be_is_refused_by_name(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        shop(**changes)

    assert str(refused.value) == text


@pytest.mark.parametrize("value", [timedelta(days=1), {1, 2}, float("nan"), float("inf"), object, {1: "a"}, [b"bytes"]])
def test_a_parameter_that_json_cannot_keep_is_refused(value: object) -> None:
    """A job reads the description from where it is kept: a timedelta would reach the user's function as a number."""
    with pytest.raises(DescriptionError) as refused:
        shop(parameters={"category": value})

    assert str(refused.value).startswith("Pipeline.parameters['category']: expected text, a finite number,")
    assert f"; got {value!r}. " in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "classes", "metric", "allowed"),
    [
        ("binary", (), "rmse", "roc_auc, average_precision, log_loss, brier_score"),
        ("multiclass", ("low", "middle", "high"), "roc_auc", "log_loss, accuracy, f1_macro, roc_auc_ovr"),
        ("regression", (), "roc_auc", "rmse, mae, r2"),
    ],
)
def test_a_gate_asks_for_a_metric_of_the_labels_kind(kind: str, classes: tuple[str, ...], metric: str, allowed: str) -> None:
    label = dataclasses.replace(LABEL, kind=kind, classes=classes, absent=None)

    with pytest.raises(DescriptionError) as refused:
        shop(label=label, gate=Gate(metric=metric))

    expected = ", ".join(f"'{one}'" for one in allowed.split(", "))
    assert str(refused.value) == f"Gate.metric: expected one of {expected} for a {kind} label; got '{metric}'."
    for one in allowed.split(", "):
        described = shop(label=label, gate=Gate(metric=one))
        assert decode(Pipeline, json.loads(dumps(described))) == described


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (
            lambda: FeatureGroup("my-habits", reads=("visits",)),
            "FeatureGroup.name: expected the name of a function, got 'my-habits'.",
        ),
        (lambda: FeatureGroup("habits", reads=()), "FeatureGroup('habits').reads: expected a tuple of source names, at least"),
        (lambda: FeatureGroup("habits", reads="visits"), "FeatureGroup('habits').reads: expected a tuple of source names, at"),
        (
            lambda: FeatureGroup("habits", reads=("visits",), lookback=timedelta(0)),
            "FeatureGroup('habits').lookback: expected more than zero, or None; got 0:00:00.",
        ),
        (lambda: Population("", reads=("visits",)), "Population.name: expected the name of a function, got ''."),
        (lambda: Population("customers", reads=()), "Population('customers').reads: expected a tuple of source"),
    ],
)
def test_a_part_that_cannot_be_is_refused_by_name(part: Any, text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        part()

    assert str(refused.value).startswith(text)


def test_a_description_is_read_as_it_was_written() -> None:
    written = shop()
    read = decode(Pipeline, json.loads(dumps(written)))

    assert read == written
    assert read.digest == written.digest
    assert isinstance(read.sources["visits"], EventSource) and isinstance(read.sources["people"], ReferenceSource)


def test_a_description_of_few_words_is_read_as_it_was_written() -> None:
    written = Pipeline(
        name="shop",
        entity="customer",
        first_period="2017-03",
        sources={"visits": EventSource("s3://shop/visits/", event_time="at")},
        population=Population("customers", reads=("visits",)),
        features=(FeatureGroup("habits", reads=("visits",)),),
        label=Label("returns", reads=("visits",), horizon=timedelta(microseconds=1)),
        window=MovingWindow(1),
    )

    assert decode(Pipeline, json.loads(dumps(written))) == written


def test_every_field_counts_in_the_digest() -> None:
    others: dict[str, Any] = {
        "name": "shop2",
        "entity": "client",
        "first_period": "2017-04",
        "last_period": None,
        "every": "day",
        "sources": {"visits": VISITS, "people": ReferenceSource("s3://shop/others/")},
        "population": Population("customers", reads=("visits",)),
        "features": (TRAITS, HABITS),
        "label": dataclasses.replace(LABEL, absent=None),
        "window": MovingWindow(3),
        "gate": Gate(),
        "parameters": {},
        "description": "",
        "tags": (),
        "scoring": Scoring(tail=1e-4),
        "deliveries": (ParquetDelivery("lake", "s3://shop/scores"),),
        "timezone": "Europe/London",
        "week_starts": "sunday",
    }
    weeks = {"every": "week", "first_period": "2017-03-05", "last_period": "2017-12-31"}
    days = {"first_period": "2017-03-01", "last_period": "2017-12-31"}
    found = {
        name: shop(**{**{"every": days, "week_starts": weeks}.get(name, {}), name: value}).digest
        for name, value in others.items()
    }

    assert set(found) == {field.name for field in dataclasses.fields(Pipeline)}
    assert len({shop().digest, *found.values()}) == 1 + len(found)


def test_a_zone_and_the_first_day_of_a_week_that_are_not_given_leave_digests_as_they_were() -> None:
    written = encode(shop())

    assert not {"timezone", "week_starts"} & written.keys()
    assert not {"timezone", "week_starts"} & shop().shape_of_features().keys()


def test_weeks_that_begin_on_sunday_have_features_of_their_own() -> None:
    sundays = shop(every="week", first_period="2017-03-05", last_period=None, week_starts="sunday")
    mondays = shop(every="week", first_period="2017-03-06", last_period=None)

    assert sundays.definition("module") != mondays.definition("module")


@pytest.mark.parametrize(
    ("changes", "module"),
    [
        ({}, "another module"),
        ({"entity": "client"}, "module"),
        ({"population": Population("customers", reads=("visits",))}, "module"),
        ({"features": (HABITS,)}, "module"),
        ({"features": (dataclasses.replace(HABITS, lookback=None), TRAITS)}, "module"),
        ({"parameters": {}}, "module"),
        ({"sources": {"visits": dataclasses.replace(VISITS, lag=timedelta(0)), "people": PEOPLE}}, "module"),
        ({"every": "day", "first_period": "2017-03-01", "last_period": None}, "module"),
        ({"timezone": "Europe/London"}, "module"),
    ],
)  # fmt: skip
def test_the_definition_of_features_changes_with_the_module_and_with_what_shapes_them(
    changes: dict[str, Any], module: str
) -> None:
    assert shop(**changes).definition(module) != shop().definition("module")


@pytest.mark.parametrize(
    "changes",
    [
        {"gate": Gate()},
        {"window": MovingWindow(6)},
        {"label": Label("buys", reads=("visits",), horizon=timedelta(days=7))},
        {"first_period": "2017-05", "last_period": None},
        {"description": "", "tags": ()},
        {"sources": {"people": PEOPLE, "visits": VISITS}},
        {"sources": {"visits": VISITS, "people": PEOPLE, "unread": ReferenceSource("s3://x/y/")}},
    ],
)
def test_the_definition_of_features_does_not_change_with_what_does_not_shape_them(changes: dict[str, Any]) -> None:
    assert shop(**changes).definition("module") == shop().definition("module")


def test_a_definition_is_sixteen_hex_digits() -> None:
    assert len(shop().definition("module")) == 16
    assert int(shop().definition("module"), 16) > 0


def test_a_pipeline_cannot_be_changed() -> None:
    given: dict[str, Any] = {"category": "COFFEE"}
    pipeline = shop(parameters=given)
    given["category"] = "TEA"

    assert pipeline.parameters == {"category": "COFFEE"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        pipeline.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        pipeline.parameters["category"] = "TEA"  # type: ignore[index]
    with pytest.raises(TypeError):
        pipeline.sources["more"] = VISITS  # type: ignore[index]


def test_parts_are_the_population_the_groups_and_the_label() -> None:
    assert [part.name for part in shop().parts] == ["customers", "habits", "traits", "returns"]
    assert shop().group("traits") == TRAITS
    assert shop().first.key == "2017-03"


SUMMED = Aggregates(
    "recent", reads=("visits",), windows=(timedelta(days=7),), columns={"amount": ("sum",)}, split="kind", values=("a",)
)


@pytest.mark.parametrize(
    ("source", "read"),
    [
        (EventSource("s3://shop/visits/", event_time="at"), ()),
        (
            EventSource("s3://shop/visits/", event_time="at", columns=("customer", "channel")),
            ("customer", "channel", "at", "kind", "amount"),
        ),
    ],
)
def test_a_function_is_given_all_columns_of_a_source_that_names_none(source: EventSource, read: tuple[str, ...]) -> None:
    described = pipeline(
        "s3://shop", sources={"visits": source, "people": ReferenceSource("s3://shop/people/")}, features=(SUMMED,)
    )

    assert described.columns_read("visits") == read


def test_of_a_source_that_only_described_groups_read_nothing_but_their_columns_is_asked_for() -> None:
    sources = {
        "visits": EventSource("s3://shop/visits/", event_time="at"),
        "clicks": EventSource("s3://shop/clicks/", event_time="when"),
    }
    group = dataclasses.replace(SUMMED, reads=("clicks",))
    described = pipeline("s3://shop", sources=sources, features=(group,))
    assert described.columns_read("clicks") == ("when", "customer", "kind", "amount")

    sources["clicks"] = dataclasses.replace(sources["clicks"], audit=Audit())
    assert dataclasses.replace(described, sources=sources).columns_read("clicks") == ()


@pytest.mark.parametrize("name", ["json", "pyspark", "almanac", "sklearn", "typing", "steps", "pandas", "re"])
def test_a_pipeline_is_not_called_as_a_package_that_its_jobs_import(name: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        shop(name=name)

    assert str(refused.value) == (
        f"Pipeline.name: expected a name that is not a package's, got {name!r}, which its jobs import: the user's module "
        f"{name}.py would shadow it. Rename it, such as {name}_model."
    )
