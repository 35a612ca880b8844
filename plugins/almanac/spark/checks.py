"""Checks: Great Expectations on the very bytes that are staged. The only place that knows great_expectations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from almanac.errors import SHOWN_EXAMPLES, DescriptionError, examples

SECTIONS = ("features", "predictions")
LONGEST = 200  # characters of what was found
# Great Expectations phones home unless it is told not to.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a suite found.

    Args:
        blocking: a sentence for each failed expectation of critical severity.
        warnings: the same for the lesser severities.
        checks: how many expectations were run.
        html: the whole result, for people.
        result: the whole result, for machines.
    """

    blocking: tuple[str, ...]
    warnings: tuple[str, ...]
    checks: int
    html: str
    result: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        return not self.blocking


def section(given: Mapping[str, Sequence[Any]], name: str) -> list[Any]:
    """The expectations of `checks()` for features or predictions.

    Raises:
        DescriptionError: `checks()` has a section that nobody runs.
    """
    if unknown := sorted(set(given) - set(SECTIONS)):
        raise DescriptionError(f"checks() has {examples(unknown)}, allowed are {', '.join(SECTIONS)}. Rename or remove it.")
    return list(given.get(name, ()))


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

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
    asset = context.data_sources.add_spark(name).add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe(name).get_batch(batch_parameters={"dataframe": frame})
    found = batch.validate(gx.ExpectationSuite(name=name, expectations=list(expectations)), result_format="BOOLEAN_ONLY")
    for number, result in enumerate(found.results):
        if not result.success:
            # By its own configuration: the results do not come in the order of the expectations.
            own = result.expectation_config.to_domain_obj()  # type: ignore[union-attr]
            told = batch.validate(own, result_format="SUMMARY")
            found.results[number] = result if told.success else told
    failed = [(result, sentence(result.to_json_dict())) for result in found.results if not result.success]
    whole: Mapping[str, Any] = found.to_json_dict()  # type: ignore[no-untyped-call]
    return Checked(
        blocking=tuple(text for result, text in failed if _severity(result) == "critical"),
        warnings=tuple(text for result, text in failed if _severity(result) != "critical"),
        checks=len(found.results),
        html=_page(found),
        result=whole,
    )


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
