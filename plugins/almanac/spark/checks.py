"""Checks: Great Expectations, run on the bytes that are staged. Only this module and `validation` know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from almanac.core.pipeline import Pipeline
from almanac.errors import SHOWN_EXAMPLES, DescriptionError, examples
from almanac.spark.page import page
from almanac.spark.rows import Rows
from almanac.spark.validation import Engines, naive

SECTIONS = ("features", "predictions")
SOURCES = "sources"
# These judge a row by other rows, or judge the whole column's type: their verdict on a row changes with the rows beside it.
NOT_BY_ROW = (
    "ColumnValueZScoresToBeLessThan",
    "ColumnValuesToBeDecreasing",
    "ColumnValuesToBeIncreasing",
    "ColumnValuesToBeInTypeList",
    "ColumnValuesToBeOfType",
    "ColumnValuesToBeUnique",
    "ColumnValuesToNotBeOutliers",
    "CompoundColumnsToBeUnique",
    "MulticolumnValuesToBeUnique",
)
LONGEST = 200  # characters of one value or text in a message
# Each engine gives these examples in its own order. Sorted, they are equal as long as there are no more than it gives: 20.
UNORDERED = (
    "expect_column_distinct_values_to_be_in_set",
    "expect_column_distinct_values_to_contain_set",
    "expect_column_distinct_values_to_equal_set",
    "expect_column_values_to_be_unique",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed expectation in plain words, the expectation itself, and how many rows or values failed it (0 if unknown)."""

    text: str
    expectation: Any
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of a suite.

    Args:
        failed: the failed expectations of critical severity.
        warnings: a sentence for each failed expectation of lesser severity.
        checks: how many expectations were run.
        html: the whole result, for people.
        result: the whole result, for machines.
    """

    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]
    checks: int
    html: str
    result: Mapping[str, Any]

    @property
    def blocking(self) -> tuple[str, ...]:
        return tuple(failure.text for failure in self.failed)

    @property
    def passed(self) -> bool:
        return not self.failed


def section(given: object, name: str) -> list[Any]:
    """The expectations of `checks()` for features or predictions.

    Raises:
        DescriptionError: `checks()` did not return lists of expectations by section, or returned an unknown section.
    """
    sections = _by_name(given, "checks()", "{'features': [...]}")
    if unknown := sorted(map(str, sections.keys() - {*SECTIONS, SOURCES})):
        raise DescriptionError(
            f"checks(): expected one of {', '.join(map(repr, (*SECTIONS, SOURCES)))}; got {examples(map(repr, unknown))}. Rename "
            "or remove it."
        )
    return _suite(sections.get(name, ()), f"checks()[{name!r}]")


def import_great_expectations() -> None:
    """Imports what a suite needs, which takes seconds: a caller does it while something else is waited for."""
    import great_expectations.expectations  # noqa: F401


def _by_name(given: object, what: str, such: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise DescriptionError(
            f"{what}: expected a dict, such as {such}; got {type(given).__name__}. Correct it in the user's module."
        )
    return given


def _suite(given: object, what: str) -> list[Any]:
    """A list of expectations. Raises: DescriptionError."""
    from great_expectations.expectations.expectation import Expectation

    such = "a list of Great Expectations' expectations, such as [gxe.ExpectColumnValuesToNotBeNull(column='visits')]"
    if not isinstance(given, list | tuple):
        raise DescriptionError(f"{what}: expected {such}; got {type(given).__name__}. Correct it in the user's module.")
    if strange := [one for one in given if not isinstance(one, Expectation)]:
        remedy = "It is a class: call it." if isinstance(strange[0], type) else "Correct it in the user's module."
        raise DescriptionError(f"{what}: expected {such}; got the item {strange[0]!r}. {remedy}")
    return list(given)


def suites(given: object, pipeline: Pipeline) -> dict[str, list[Any]]:
    """The expectations of `checks()` for sources: a suite for each audited source, and for no other.

    Raises:
        DescriptionError: as `section`; or a suite's source is not audited; or an audited source has no suite; or an expectation
            for a source with quarantine sets `mostly`.
    """
    of_sources = _by_name(given, "checks()", "{'features': [...]}").get(SOURCES, {})
    such = "{'sources': {'visits': [...]}}"
    named = _by_name(of_sources, f"checks()[{SOURCES!r}]", such)
    found = {name: _suite(suite, f"checks()[{SOURCES!r}][{name!r}]") for name, suite in named.items()}
    audited = set(pipeline.audited)
    if strange := sorted(found.keys() - audited):
        raise DescriptionError(
            f"checks()[{SOURCES!r}]: expected suites for audited sources only ({examples(sorted(audited))}), got "
            f"{examples(strange)}. Audit the source, with EventSource(..., audit=Audit()), or remove the suite."
        )
    if bare := sorted(name for name in audited if not found.get(name)):
        raise DescriptionError(
            f"Source {bare[0]!r} is to be audited, but checks() has no expectations for it. Return "
            f'{{"sources": {{{bare[0]!r}: [...]}}}} there, or remove audit= from its description.'
        )
    for name, suite in found.items():
        lenient = [one for one in suite if by_row(one) and getattr(one, "mostly", 1) != 1]
        if pipeline.sources[name].sets_aside and lenient:
            raise DescriptionError(
                f"checks()[{SOURCES!r}][{name!r}]: expected no mostly, got "
                f"{type(lenient[0]).__name__}(mostly={lenient[0].mostly}). Audit(quarantine=...) of this source says which share "
                "of rows may fail. Remove mostly."
            )
    return found


def by_row(expectation: Any) -> bool:
    """Whether an expectation judges each row by that row alone."""
    import great_expectations.expectations.expectation as kinds

    known = (kinds.ColumnMapExpectation, kinds.ColumnPairMapExpectation, kinds.MulticolumnMapExpectation)
    # It may be a user's own class, derived from one of these.
    names = {kind.__name__.removeprefix("Expect") for kind in type(expectation).__mro__}
    return isinstance(expectation, known) and not names & set(NOT_BY_ROW)


def columns_of(expectation: Any) -> set[str]:
    """The columns whose values an expectation is about; empty for one about the table."""
    arguments = expectation.configuration.kwargs
    single = {arguments[key] for key in ("column", "column_A", "column_B") if arguments.get(key)}
    return single | set(arguments.get("column_list") or ())


def check_columns(expectations: Sequence[Any], columns: Sequence[str], name: str) -> None:
    """Checks that a section's expectations are about columns that there are. Raises: DescriptionError, with the nearest names."""
    for one in expectations:
        for column in sorted(columns_of(one) - set(columns)):
            near = get_close_matches(column, columns, 1)
            raise DescriptionError(
                f"checks()[{name!r}]: {type(one).__name__} is about column {column!r}, which {name} do not have (they have: "
                f"{examples(columns, 30)}). {f'Is {near[0]!r} meant? ' if near else ''}Correct it in the user's module."
            )


def failing_rows(rows: Rows, expectations: Sequence[Any], name: str, keys: Sequence[str]) -> list[list[tuple[Any, ...]]]:
    """The rows that fail each row-wise expectation, as the values of `keys`."""
    detailed = {"result_format": "COMPLETE", "unexpected_index_column_names": list(keys), "return_unexpected_index_query": False}
    engines = Engines(rows, name)
    found = [engines.of(one).validate(naive(one), result_format=detailed).result for one in expectations]
    return [[tuple(row[key] for key in keys) for row in one.get("unexpected_index_list") or ()] for one in found]


def expectation(name: str, **arguments: Any) -> Any:
    """One of Great Expectations' own expectations, by name."""
    import great_expectations.expectations as known

    return getattr(known, name)(**arguments)


def run(rows: Rows, expectations: Sequence[Any], name: str) -> Checked:
    """Runs expectations on rows: in the driver if the rows are few, otherwise in Spark."""
    engines = Engines(rows, name)
    local, others = engines.parted([naive(one) for one in expectations])
    answers, results = [], []
    if local:
        answers.append(_validated(engines.pandas, local, name))
        for result in answers[0].results:
            if _raised(result) and columns_of(_expectation_of(result)) <= set(engines.columns):
                others.append(_expectation_of(result))  # pandas may only have failed on types: Spark decides
            else:
                results.append(result)
    if others:
        answers.append(_validated(engines.spark, others, name))
        results += answers[-1].results
    found = _joined(answers, results)
    failed = [(result, sentence(result.to_json_dict())) for result in found.results if not result.success]
    whole: Mapping[str, Any] = found.to_json_dict()
    severities, outcomes = (
        [_severity(result) for result in found.results],
        ["" if one["success"] else outcome(one) for one in whole["results"]],
    )
    return Checked(
        failed=tuple(
            Failure(text=text, expectation=_expectation_of(result), count=int(result.result.get("unexpected_count") or 0))
            for result, text in failed
            if _severity(result) == "critical"
        ),
        warnings=tuple(text for result, text in failed if _severity(result) != "critical"),
        checks=len(found.results),
        html=page(name, whole["results"], severities, outcomes),
        result=whole,
    )


def _validated(batch: Any, expectations: Sequence[Any], name: str) -> Any:
    """A suite's results from one engine.

    The first pass only asks whether each expectation holds, which takes few scans of the rows. Details are then requested for
    those that do not.
    """
    import great_expectations as gx

    found = batch.validate(gx.ExpectationSuite(name=name, expectations=list(expectations)), result_format="BOOLEAN_ONLY")
    for number, result in enumerate(found.results):
        kind = result.expectation_config.type
        if not result.success:
            # By its own configuration: results are not in the order of the expectations.
            detail = batch.validate(_expectation_of(result), result_format="SUMMARY")
            detail.result = _sorted(_plain(detail.result)) if kind in UNORDERED else _plain(detail.result)
            found.results[number] = result if detail.success and not result.success else detail
    return found


def _plain(value: Any) -> Any:
    """A result in Python's own types: the page cannot show pandas' NA and numpy's numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return None if value is pd.NA else value


def _sorted(found: dict[str, Any]) -> dict[str, Any]:
    """A result with its examples sorted by value."""
    lists = {name: found[name] for name in ("partial_unexpected_list", "partial_missing_list") if found.get(name)}
    return found | {name: sorted(values, key=lambda value: (str(type(value)), value)) for name, values in lists.items()}


def _joined(answers: Sequence[Any], results: list[Any]) -> Any:
    """The results of several engines as the result of one suite."""
    from great_expectations.validator.validation_statistics import calc_validation_statistics

    found, statistics = answers[0], calc_validation_statistics(results)
    found.results, found.success = results, statistics.success
    found.statistics = {
        "evaluated_expectations": statistics.evaluated_expectations,
        "successful_expectations": statistics.successful_expectations,
        "unsuccessful_expectations": statistics.unsuccessful_expectations,
        "success_percent": statistics.success_percent,
    }
    return found


def _raised(result: Any) -> bool:
    info = result.exception_info or {}
    return any(item.get("raised_exception") for item in (info, *info.values()) if isinstance(item, Mapping))


def _expectation_of(result: Any) -> Any:
    return result.expectation_config.to_domain_obj()


def _severity(result: Any) -> str:
    severity = getattr(result.expectation_config, "severity", None) or "critical"
    return str(getattr(severity, "value", severity))


def sentence(result: Mapping[str, Any]) -> str:
    """One failed expectation in plain words, with what was expected, what was found and up to five values."""
    config = result["expectation_config"]
    arguments = {key: value for key, value in config["kwargs"].items() if key != "batch_id" and value is not None}
    wanted = ", ".join(f"{key}={repr(value)[:LONGEST]}" for key, value in arguments.items())
    return f"{config['type']}({wanted}) {outcome(result)}"


def outcome(result: Mapping[str, Any]) -> str:
    """How one expectation failed, in plain words."""
    found = result.get("result") or {}
    info = result.get("exception_info") or {}
    errors = [item.get("exception_message") for item in info.values() if isinstance(item, Mapping)] or [
        info.get("exception_message")
    ]
    if any(errors):
        return f"could not be run: {str(next(filter(None, errors)))[:LONGEST]}"
    if found.get("unexpected_count"):
        share = found.get("unexpected_percent") or 0.0
        rows = f" of {found['element_count']} rows ({share:.3g} %)" if "element_count" in found else " values"
        return f"failed: {found['unexpected_count']}{rows}, such as {_shown(found.get('partial_unexpected_list'))}"
    if found.get("missing_count") and found.get("partial_missing_list"):
        return f"failed: missing {_shown(found['partial_missing_list'])}"
    observed = found.get("observed_value")
    return "failed" if observed is None else f"failed: observed {_figure(observed)[:LONGEST]}"


def _shown(values: Sequence[Any] | None) -> str:
    return examples((values or ())[:SHOWN_EXAMPLES])[:LONGEST]


def _figure(observed: Any) -> str:
    """The observed value, to 12 digits: the last digits of a sum or a mean depend on the order of rows."""
    return repr(float(f"{observed:.12g}")) if isinstance(observed, float) else repr(observed)
