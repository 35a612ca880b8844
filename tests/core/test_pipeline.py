"""A pipeline's description: what it refuses, how it is kept, and what of it shapes features."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest

from almanac.core.aggregates import Aggregates
from almanac.core.audits import Audit
from almanac.core.canonical import decode, dumps
from almanac.core.deliveries import ParquetDelivery
from almanac.core.gate import Gate
from almanac.core.pipeline import FeatureGroup, Pipeline, Population
from almanac.core.scoring import Scoring
from almanac.core.sources import EventSource, ReferenceSource
from almanac.core.window import Label, MovingWindow
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
        ({"name": "Shop"}, "Pipeline.name: found 'Shop', allowed are lower-case letters, digits and _."),
        ({"name": "shop-2"}, "Pipeline.name: found 'shop-2', allowed are lower-case letters, digits and _."),
        ({"name": "2shop"}, "Pipeline.name: found '2shop', allowed are lower-case letters, digits and _."),
        ({"name": ""}, "Pipeline.name: found '', allowed are lower-case letters, digits and _."),
        ({"entity": "customer id"}, "Pipeline.entity: found 'customer id', allowed is the name of a column."),
        ({"every": "year"}, "every: found 'year', allowed are 'day', 'week', 'month'."),
        ({"first_period": "2017"}, "Pipeline.first_period: Period: found '2017', a month is written like 2017-06."),
        ({"last_period": "2017-99"}, "Pipeline.last_period: Period: found '2017-99', a month is written like 2017-06."),
        ({"every": "week"}, "Pipeline.first_period: Period: found '2017-03', a week is written like 2017-06-05, a Monday."),
        (
            {"last_period": "2017-02"},
            "Pipeline.last_period: found 2017-02, allowed is first_period (2017-03) or later.",
        ),
        ({"sources": {}}, "Pipeline.sources: found none, describe at least one."),
        (
            {"sources": {"visits": VISITS, "as_of": VISITS}},
            "Pipeline.sources: found the name 'as_of', allowed is an argument's name, not as_of.",
        ),
        (
            {"sources": {"my visits": VISITS}},
            "Pipeline.sources: found the name 'my visits', allowed is an argument's name, not as_of.",
        ),
        (
            {"sources": {"visits": "s3://shop/visits/"}},
            "Pipeline.sources['visits']: found str, allowed are EventSource and ReferenceSource.",
        ),
        ({"population": None}, "Pipeline.population: found NoneType, allowed is Population(...)."),
        ({"population": HABITS}, "Pipeline.population: found FeatureGroup, allowed is Population(...)."),
        (
            {"population": Population("people_known", reads=("people",))},
            "Population('people_known').reads: found no EventSource. A population without a time would know entities that "
            "appeared after as_of.",
        ),
        ({"features": ()}, "Pipeline.features: found none, describe at least one FeatureGroup or Aggregates."),
        (
            {"features": HABITS},
            f"Pipeline.features: found {HABITS!r}, allowed is a tuple of FeatureGroup or Aggregates, with its comma.",
        ),
        (
            {"features": ("habits",)},
            "Pipeline.features: found ('habits',), allowed is a tuple of FeatureGroup or Aggregates, with its comma.",
        ),
        (
            {"features": (HABITS, HABITS)},
            "Pipeline.features: habits is named twice; each has its own name.",
        ),
        (
            {"features": (FeatureGroup("returns", reads=("visits",)),)},
            "Pipeline.features: returns is named twice; each has its own name.",
        ),
        (
            {"features": (FeatureGroup("habits", reads=("visits", "orders", "carts")),)},
            "FeatureGroup('habits').reads: found orders, carts, the pipeline's sources are visits, people.",
        ),
        (
            {"population": Population("customers", reads=("orders",))},
            "Population('customers').reads: found orders, the pipeline's sources are visits, people.",
        ),
        (
            {"label": Label("returns", reads=("orders",), horizon=QUARTER)},
            "Label('returns').reads: found orders, the pipeline's sources are visits, people.",
        ),
        ({"label": "returns"}, "Pipeline.label: found str, allowed is Label(...)."),
        ({"window": 3}, "Pipeline.window: found int, allowed is MovingWindow(...)."),
        ({"gate": "roc_auc"}, "Pipeline.gate: found str, allowed is Gate(...)."),
        (
            {"parameters": {"visits": 1, "as_of": 2}},
            "Pipeline.parameters: as_of, visits is already the name of a source or of as_of.",
        ),
        (
            {"parameters": {"my category": 1}},
            "Pipeline.parameters: found the name 'my category', allowed is an argument's name.",
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

    assert str(refused.value).startswith(f"Pipeline.parameters['category']: found {value!r}, allowed are text, finite numbers,")


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

    assert str(refused.value) == f"Gate.metric: found '{metric}', allowed for a {kind} label are {allowed}."
    for one in allowed.split(", "):
        described = shop(label=label, gate=Gate(metric=one))
        assert decode(Pipeline, json.loads(dumps(described))) == described


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (lambda: FeatureGroup("my-habits", reads=("visits",)), "FeatureGroup.name: found 'my-habits', allowed is"),
        (lambda: FeatureGroup("habits", reads=()), "FeatureGroup('habits').reads: found (), allowed is a tuple of source"),
        (lambda: FeatureGroup("habits", reads="visits"), "FeatureGroup('habits').reads: found 'visits', allowed is a tuple"),
        (
            lambda: FeatureGroup("habits", reads=("visits",), lookback=timedelta(0)),
            "FeatureGroup('habits').lookback: found 0:00:00, allowed is more than zero, or None.",
        ),
        (lambda: Population("", reads=("visits",)), "Population.name: found '', allowed is the name of a function."),
        (lambda: Population("customers", reads=()), "Population('customers').reads: found (), allowed is"),
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
    }
    days = {"first_period": "2017-03-01", "last_period": "2017-12-31"}
    found = {
        name: (shop(**{**days, name: value}).digest if name == "every" else shop(**{name: value}).digest)
        for name, value in others.items()
    }

    assert set(found) == {field.name for field in dataclasses.fields(Pipeline)}
    assert len({shop().digest, *found.values()}) == 1 + len(found)


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
        f"Pipeline.name: expected a name of its own, got {name!r}, a package that its jobs import: the user's module {name}.py "
        f"would stand in its place. Rename it, such as {name}_model."
    )
