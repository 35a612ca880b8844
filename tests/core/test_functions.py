"""The functions of a user's module: found by name, called by name, held against what the description reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from almanac.core.functions import arguments, call, check_module, function_of
from almanac.core.label import Label
from almanac.core.pipeline import FeatureGroup, Pipeline, Population
from almanac.core.sources import EventSource, ReferenceSource
from almanac.core.window import MovingWindow
from almanac.errors import DescriptionError

HABITS = FeatureGroup("habits", reads=("visits", "people"))
AS_OF = datetime(2017, 7, 1, tzinfo=UTC)
PIPELINE = Pipeline(
    name="shop",
    entity="customer",
    first_period="2017-03",
    sources={"visits": EventSource("s3://shop/visits/", event_time="at"), "people": ReferenceSource("s3://shop/people/")},
    population=Population("customers", reads=("visits",)),
    features=(HABITS,),
    label=Label("returns", reads=("visits",), horizon=timedelta(days=30)),
    window=MovingWindow(2),
    parameters={"category": "COFFEE", "limit": 3},
)


def module(**functions: Any) -> ModuleType:
    found = ModuleType("shop")
    vars(found).update(functions)
    return found


WHOLE = {
    "customers": lambda visits: visits,
    "habits": lambda people, visits, as_of: (people, visits, as_of),
    "returns": lambda visits, category: (visits, category),
    "estimators": lambda: {},
    "checks": lambda: {},
}


def test_a_module_that_fits_its_description_is_let_through() -> None:
    check_module(module(**WHOLE), PIPELINE)


@pytest.mark.parametrize("missing", sorted(WHOLE))
def test_a_missing_function_is_refused_with_those_that_there_are(missing: str) -> None:
    there = {name: function for name, function in WHOLE.items() if name != missing}
    with pytest.raises(DescriptionError) as refused:
        check_module(module(**there, _inner=lambda: None, QUARTER=90), PIPELINE)

    assert str(refused.value) == (
        f"Module 'shop' has no function {missing!r} (it has: {', '.join(sorted(there))}). "
        "Write it, or correct the name in the pipeline's description."
    )


def test_a_name_that_is_no_function_is_refused() -> None:
    with pytest.raises(DescriptionError, match=r"has no function 'habits' \(it has: none\)"):
        function_of(module(habits=3), "habits")


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (
            lambda visits: visits,
            "Function 'habits' of pipeline 'shop' takes (visits), but its description reads (visits, people). "
            "It does not take people. Besides what it reads it may take: as_of, category, limit. "
            "Make reads= and the signature agree.",
        ),
        (
            lambda visits, people, orders, today: visits,  # noqa: ARG005
            "Function 'habits' of pipeline 'shop' takes (visits, people, orders, today), but its description reads "
            "(visits, people). Unknown arguments: orders, today. Besides what it reads it may take: as_of, category, limit. "
            "Make reads= and the signature agree.",
        ),
        (
            lambda **everything: everything,
            "Function 'habits' of pipeline 'shop' takes (everything), but its description reads (visits, people). "
            "It does not take visits, people. Unknown arguments: everything. "
            "Besides what it reads it may take: as_of, category, limit. Make reads= and the signature agree.",
        ),
    ],
)
def test_arguments_that_do_not_match_what_is_read_are_refused(function: Any, text: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        arguments(function, HABITS, PIPELINE)

    assert str(refused.value) == text


def test_a_source_that_the_part_does_not_read_is_not_given() -> None:
    with pytest.raises(DescriptionError, match="Unknown arguments: people"):
        arguments(lambda visits, people: (visits, people), PIPELINE.population, PIPELINE)


def test_sources_as_of_and_parameters_are_given_by_name_in_whatever_order_they_are_asked() -> None:
    def habits(as_of: datetime, category: str, people: str, visits: str, limit: int) -> tuple[Any, ...]:
        return as_of, category, people, visits, limit

    given = {"visits": "the visits", "people": "the people", "as_of": AS_OF}

    assert call(habits, HABITS, PIPELINE, given) == (AS_OF, "COFFEE", "the people", "the visits", 3)


def test_only_what_is_asked_for_is_given() -> None:
    given = {"visits": "the visits", "people": "the people", "as_of": AS_OF}

    assert call(lambda people, visits: (visits, people), HABITS, PIPELINE, given) == ("the visits", "the people")


def test_a_part_is_not_called_when_its_arguments_do_not_match() -> None:
    called = []
    with pytest.raises(DescriptionError):
        call(lambda visits: called.append(visits), HABITS, PIPELINE, {"visits": 1, "people": 2, "as_of": AS_OF})

    assert called == []
