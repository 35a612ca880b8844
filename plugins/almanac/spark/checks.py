"""Checks: Great Expectations on the very bytes that are staged. Beside `validation` the only place that knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
# They look at one row by its others, or at the whole column's type: what one row is of them changes with the rows beside it.
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
LONGEST = 200  # characters of what was found
# Each engine gives these examples in an order of its own; sorted, they are the same where there are no more than it gives, 20.
UNORDERED = (
    "expect_column_distinct_values_to_be_in_set",
    "expect_column_distinct_values_to_contain_set",
    "expect_column_distinct_values_to_equal_set",
    "expect_column_values_to_be_unique",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed expectation in plain words, the expectation itself, and how many rows or values failed it, where it tells."""

    text: str
    expectation: Any
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a suite found.

    Args:
        failed: the failed expectations of critical severity.
        warnings: a sentence for each of the lesser severities.
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
        DescriptionError: `checks()` gave something else than lists of expectations by section, or a section that nobody runs.
    """
    sections = _by_name(given, "checks()", "{'features': [...]}")
    if unknown := sorted(map(str, sections.keys() - {*SECTIONS, SOURCES})):
        raise DescriptionError(
            f"checks() has {examples(unknown)}, allowed are {', '.join((*SECTIONS, SOURCES))}. Rename or remove it."
        )
    return _suite(sections.get(name, ()), f"checks()[{name!r}]")


def _by_name(given: object, what: str, such: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise DescriptionError(f"{what} gave {type(given).__name__}; give a dict, such as {such}.")
    return given


def _suite(given: object, what: str) -> list[Any]:
    """A list of expectations. Raises: DescriptionError."""
    from great_expectations.expectations.expectation import Expectation

    such = "give a list of Great Expectations' expectations, such as [gxe.ExpectColumnValuesToNotBeNull(column='visits')]"
    if not isinstance(given, list | tuple):
        raise DescriptionError(f"{what} is {type(given).__name__}; {such}.")
    if strange := [one for one in given if not isinstance(one, Expectation)]:
        called = " It is a class: call it." if isinstance(strange[0], type) else ""
        raise DescriptionError(f"{what} holds {strange[0]!r}; {such}.{called}")
    return list(given)


def suites(given: object, pipeline: Pipeline) -> dict[str, list[Any]]:
    """The expectations of `checks()` for sources: a suite for each source that is audited, and for no other.

    Raises:
        DescriptionError: as `section`; a suite is of no source that is audited; or an audited source has none; or one of a source
            whose rows may be set aside asks for a share of its own.
    """
    of_sources = _by_name(given, "checks()", "{'features': [...]}").get(SOURCES, {})
    such = "{'sources': {'visits': [...]}}"
    named = _by_name(of_sources, f"checks()[{SOURCES!r}]", such)
    found = {name: _suite(suite, f"checks()[{SOURCES!r}][{name!r}]") for name, suite in named.items()}
    audited = set(pipeline.audited)
    if strange := sorted(found.keys() - audited):
        raise DescriptionError(
            f"checks() has suites for sources {examples(strange)}, audited are {examples(sorted(audited)) or 'none'}. Ask for "
            "it in the description, with EventSource(..., audit=Audit()), or remove the suite."
        )
    if bare := sorted(name for name in audited if not found.get(name)):
        raise DescriptionError(
            f"Source {bare[0]!r} is to be audited, but checks() has no expectation for it. Give it "
            f'{{"sources": {{{bare[0]!r}: [...]}}}}, or take audit= out of its description.'
        )
    for name, suite in found.items():
        lenient = [one for one in suite if by_row(one) and getattr(one, "mostly", 1) != 1]
        if pipeline.sources[name].sets_aside and lenient:
            raise DescriptionError(
                f"checks() of source {name!r}: found {type(lenient[0]).__name__}(mostly={lenient[0].mostly}). Where rows are set "
                "aside, Audit(quarantine=...) says which share may fail; leave mostly out."
            )
    return found


def by_row(expectation: Any) -> bool:
    """Whether an expectation says of each row, by that row alone, if it holds."""
    import great_expectations.expectations.expectation as kinds

    known = (kinds.ColumnMapExpectation, kinds.ColumnPairMapExpectation, kinds.MulticolumnMapExpectation)
    # It may be a user's own, made of one of those.
    names = {kind.__name__.removeprefix("Expect") for kind in type(expectation).__mro__}
    return isinstance(expectation, known) and not names & set(NOT_BY_ROW)


def columns_of(expectation: Any) -> set[str]:
    """The columns whose values an expectation is about; none of one about a table."""
    asked = expectation.configuration.kwargs
    single = {asked[key] for key in ("column", "column_A", "column_B") if asked.get(key)}
    return single | set(asked.get("column_list") or ())


def failing_rows(rows: Rows, expectations: Sequence[Any], name: str, keys: Sequence[str]) -> list[list[tuple[Any, ...]]]:
    """For each expectation of rows the rows that fail it, as the values of the `keys`."""
    asked = {"result_format": "COMPLETE", "unexpected_index_column_names": list(keys), "return_unexpected_index_query": False}
    engines = Engines(rows, name)
    found = [engines.of(one).validate(naive(one), result_format=asked).result for one in expectations]
    return [[tuple(row[key] for key in keys) for row in one.get("unexpected_index_list") or ()] for one in found]


def expectation(name: str, **arguments: Any) -> Any:
    """One of Great Expectations' own, by its name."""
    import great_expectations.expectations as known

    return getattr(known, name)(**arguments)


def run(rows: Rows, expectations: Sequence[Any], name: str) -> Checked:
    """Runs expectations on rows, few of them in the driver and many in Spark, and keeps the result."""
    engines = Engines(rows, name)
    local, others = engines.parted([naive(one) for one in expectations])
    answers, results = [], []
    if local:
        answers.append(_validated(engines.pandas, local, name))
        for result in answers[0].results:
            if _raised(result) and columns_of(_asked(result)) <= set(engines.columns):
                others.append(_asked(result))  # what pandas cannot run may be no more than a matter of types
            else:
                results.append(result)
    if others:
        answers.append(_validated(engines.spark, others, name))
        results += answers[-1].results
    found = _joined(answers, results)
    failed = [(result, sentence(result.to_json_dict())) for result in found.results if not result.success]
    whole: Mapping[str, Any] = found.to_json_dict()
    severities, said = (
        [_severity(result) for result in found.results],
        ["" if one["success"] else outcome(one) for one in whole["results"]],
    )
    return Checked(
        failed=tuple(
            Failure(text=text, expectation=_asked(result), count=int(result.result.get("unexpected_count") or 0))
            for result, text in failed
            if _severity(result) == "critical"
        ),
        warnings=tuple(text for result, text in failed if _severity(result) != "critical"),
        checks=len(found.results),
        html=page(name, whole["results"], severities, said),
        result=whole,
    )


def _validated(batch: Any, expectations: Sequence[Any], name: str) -> Any:
    """A suite's results from one engine.

    First only whether each expectation holds, which takes few passes over the rows; what was found instead is asked for those
    that do not hold.
    """
    import great_expectations as gx

    found = batch.validate(gx.ExpectationSuite(name=name, expectations=list(expectations)), result_format="BOOLEAN_ONLY")
    for number, result in enumerate(found.results):
        kind = result.expectation_config.type
        if not result.success:
            # By its own configuration: the results do not come in the order of the expectations.
            told = batch.validate(_asked(result), result_format="SUMMARY")
            told.result = _sorted(_plain(told.result)) if kind in UNORDERED else _plain(told.result)
            found.results[number] = result if told.success and not result.success else told
    return found


def _plain(value: Any) -> Any:
    """What was found, in Python's own types, without pandas' NA and numpy's numbers, which the page cannot show."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return None if value is pd.NA else value


def _sorted(found: dict[str, Any]) -> dict[str, Any]:
    """What was found, with its examples by value."""
    lists = {name: found[name] for name in ("partial_unexpected_list", "partial_missing_list") if found.get(name)}
    return found | {name: sorted(values, key=lambda value: (str(type(value)), value)) for name, values in lists.items()}


def _joined(answers: Sequence[Any], results: list[Any]) -> Any:
    """Results of several engines as those of one suite."""
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
    told = result.exception_info or {}
    return any(item.get("raised_exception") for item in (told, *told.values()) if isinstance(item, Mapping))


def _asked(result: Any) -> Any:
    return result.expectation_config.to_domain_obj()


def _severity(result: Any) -> str:
    severity = getattr(result.expectation_config, "severity", None) or "critical"
    return str(getattr(severity, "value", severity))


def sentence(result: Mapping[str, Any]) -> str:
    """One failed expectation in plain words, with what was expected, what was found and up to five values."""
    config = result["expectation_config"]
    asked = {key: value for key, value in config["kwargs"].items() if key != "batch_id" and value is not None}
    wanted = ", ".join(f"{key}={repr(value)[:LONGEST]}" for key, value in asked.items())
    return f"{config['type']}({wanted}) {outcome(result)}"


def outcome(result: Mapping[str, Any]) -> str:
    """What was found of one failed expectation, in plain words."""
    found = result.get("result") or {}
    told = result.get("exception_info") or {}
    errors = [item.get("exception_message") for item in told.values() if isinstance(item, Mapping)] or [
        told.get("exception_message")
    ]
    if any(errors):
        return f"could not be run: {str(next(filter(None, errors)))[:LONGEST]}"
    if found.get("unexpected_count"):
        share = found.get("unexpected_percent") or 0.0
        rows = f" of {found['element_count']} rows ({share:.3g} %)" if "element_count" in found else " values"
        return f"failed: {found['unexpected_count']}{rows}, such as {_shown(found.get('partial_unexpected_list'))}"
    if found.get("missing_count") and found.get("partial_missing_list"):
        return f"failed: missing are {_shown(found['partial_missing_list'])}"
    observed = found.get("observed_value")
    return "failed" if observed is None else f"failed: observed {_figure(observed)[:LONGEST]}"


def _shown(values: Sequence[Any] | None) -> str:
    return examples((values or ())[:SHOWN_EXAMPLES])[:LONGEST]


def _figure(observed: Any) -> str:
    """What was observed. Of a sum or a mean the last digits depend on the order of rows, and are not shown."""
    return repr(float(f"{observed:.12g}")) if isinstance(observed, float) else repr(observed)
