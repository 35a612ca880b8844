"""Checks: Great Expectations on the very bytes that are staged. The only place that knows great_expectations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from almanac.core.pipeline import Pipeline
from almanac.errors import SHOWN_EXAMPLES, DescriptionError, examples

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
# Great Expectations phones home unless it is told not to.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")


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


def section(given: Mapping[str, Sequence[Any]], name: str) -> list[Any]:
    """The expectations of `checks()` for features or predictions.

    Raises:
        DescriptionError: `checks()` has a section that nobody runs.
    """
    if unknown := sorted(set(given) - {*SECTIONS, SOURCES}):
        raise DescriptionError(
            f"checks() has {examples(unknown)}, allowed are {', '.join((*SECTIONS, SOURCES))}. Rename or remove it."
        )
    return list(given.get(name, ()))


def suites(given: Mapping[str, Any], pipeline: Pipeline) -> dict[str, list[Any]]:
    """The expectations of `checks()` for sources: a suite for each source that is audited, and for no other.

    Raises:
        DescriptionError: a suite is of no source that is audited; or an audited source has none; or one of a source whose rows
            may be set aside asks for a share of its own.
    """
    found = {name: list(suite) for name, suite in (given.get(SOURCES) or {}).items()}
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


def failing_rows(frame: DataFrame, expectations: Sequence[Any], name: str, keys: Sequence[str]) -> list[list[tuple[Any, ...]]]:
    """For each expectation of rows the rows of a frame that fail it, as the values of the `keys`."""
    asked = {"result_format": "COMPLETE", "unexpected_index_column_names": list(keys), "return_unexpected_index_query": False}
    batch = _batch(frame, name)
    found = [batch.validate(one, result_format=asked).result.get("unexpected_index_list") or () for one in expectations]
    return [[tuple(row[key] for key in keys) for row in rows] for rows in found]


def expectation(name: str, **arguments: Any) -> Any:
    """One of Great Expectations' own, by its name."""
    import great_expectations.expectations as known

    return getattr(known, name)(**arguments)


def run(frame: DataFrame, expectations: Sequence[Any], name: str) -> Checked:
    """Runs expectations on a frame, in Spark, and keeps the result.

    First only whether each holds, which Great Expectations answers with few passes over the rows; what was found
    instead is asked for those that do not hold.
    """
    import great_expectations as gx

    batch = _batch(frame, name)
    found = batch.validate(gx.ExpectationSuite(name=name, expectations=list(expectations)), result_format="BOOLEAN_ONLY")
    for number, result in enumerate(found.results):
        if not result.success:
            # By its own configuration: the results do not come in the order of the expectations.
            told = batch.validate(_asked(result), result_format="SUMMARY")
            found.results[number] = result if told.success else told
    failed = [(result, sentence(result.to_json_dict())) for result in found.results if not result.success]
    whole: Mapping[str, Any] = found.to_json_dict()
    return Checked(
        failed=tuple(
            Failure(text=text, expectation=_asked(result), count=int(result.result.get("unexpected_count") or 0))
            for result, text in failed
            if _severity(result) == "critical"
        ),
        warnings=tuple(text for result, text in failed if _severity(result) != "critical"),
        checks=len(found.results),
        html=_page(found),
        result=whole,
    )


def _asked(result: Any) -> Any:
    return result.expectation_config.to_domain_obj()


def _batch(frame: DataFrame, name: str) -> Any:
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
    asset = context.data_sources.add_spark(name).add_dataframe_asset(name)
    return asset.add_batch_definition_whole_dataframe(name).get_batch(batch_parameters={"dataframe": frame})


def _severity(result: Any) -> str:
    severity = getattr(result.expectation_config, "severity", None) or "critical"
    return str(getattr(severity, "value", severity))


def sentence(result: Mapping[str, Any]) -> str:
    """One failed expectation in plain words, with what was expected, what was found and up to five values."""
    config, found = result["expectation_config"], result.get("result") or {}
    asked = {key: value for key, value in config["kwargs"].items() if key != "batch_id" and value is not None}
    wanted = ", ".join(f"{key}={repr(value)[:LONGEST]}" for key, value in asked.items())
    told = result.get("exception_info") or {}
    errors = [item.get("exception_message") for item in told.values() if isinstance(item, Mapping)] or [
        told.get("exception_message")
    ]
    if any(errors):
        return f"{config['type']}({wanted}) could not be run: {str(next(filter(None, errors)))[:LONGEST]}"
    text = f"{config['type']}({wanted}) failed"
    if found.get("unexpected_count"):
        share = found.get("unexpected_percent") or 0.0
        rows = f" of {found['element_count']} rows ({share:.3g} %)" if "element_count" in found else " values"
        return f"{text}: {found['unexpected_count']}{rows}, such as {_shown(found.get('partial_unexpected_list'))}"
    if found.get("missing_count") and found.get("partial_missing_list"):
        return f"{text}: missing are {_shown(found['partial_missing_list'])}"
    observed = found.get("observed_value")
    return text if observed is None else f"{text}: observed {repr(observed)[:LONGEST]}"


def _shown(values: Sequence[Any] | None) -> str:
    return examples((values or ())[:SHOWN_EXAMPLES])[:LONGEST]


def _page(found: Any) -> str:
    from great_expectations.render import renderer, view

    pages, layout = (getattr(renderer, "ValidationResultsPageRenderer"), getattr(view, "DefaultJinjaPageView"))  # noqa: B009
    return str(layout().render(pages().render(found)))
