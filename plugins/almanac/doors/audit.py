"""The second door: a thing is checked on the very bytes that were staged. Works in a Spark driver; one function a thing."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any

from almanac.core.bundle import Bundle
from almanac.core.canonical import decode, digest, dumps, encode, sha256
from almanac.core.functions import function_of
from almanac.core.gate import Comparison, Gate, decide
from almanac.core.receipts import Door, Output, Receipt, Thing, admit
from almanac.doors.job import Work
from almanac.errors import Drifted, IntegrityError


def features(work: Work) -> Receipt:
    """The user's checks of features, and one row an entity, by Great Expectations on the staged files."""
    from almanac.spark import checks
    from almanac.spark.checks import expectation

    staged = admit(work.linked("staged"), Thing.FEATURES, Door.STAGE, pipeline=work.home.name, period=work.order.period)
    entity = work.pipeline.entity
    own = [
        expectation("ExpectTableRowCountToEqual", value=staged.rows),
        expectation("ExpectColumnValuesToNotBeNull", column=entity),
        expectation("ExpectColumnValuesToBeUnique", column=entity),
    ]
    return _checked(work, staged, own + checks.section(function_of(work.module, "checks")(), "features"))


def predictions(work: Work) -> Receipt:
    """As many rows as the features have, each entity once, no score that is null, not finite or outside 0 to 1."""
    from almanac.spark import checks
    from almanac.spark.checks import expectation

    staged = admit(work.linked("staged"), Thing.PREDICTIONS, Door.STAGE, pipeline=work.home.name, period=work.order.period)
    features = work.home.receipts.read(staged.links["features"])
    entity = work.pipeline.entity
    own = [
        expectation("ExpectTableRowCountToEqual", value=features.rows),
        expectation("ExpectColumnValuesToNotBeNull", column=entity),
        expectation("ExpectColumnValuesToBeUnique", column=entity),
        expectation("ExpectColumnValuesToNotBeNull", column="score"),
        # NaN and the infinities are outside as well.
        expectation("ExpectColumnValuesToBeBetween", column="score", min_value=0.0, max_value=1.0),
        expectation("ExpectColumnDistinctValuesToEqualSet", column="model_version", value_set=[staged.facts["version"]]),
    ]
    return _checked(work, staged, own + checks.section(function_of(work.module, "checks")(), "predictions"))


def _checked(work: Work, staged: Receipt, expectations: list[Any]) -> Receipt:
    """Runs a suite on staged files whose bytes still are what was staged, and keeps the result for people and machines."""
    from almanac.spark import checks
    from almanac.spark import features as rooms

    for output in staged.outputs:
        found = sha256(work.home.objects.get(output.uri))
        if found != output.sha256:
            raise IntegrityError(
                f"{output.uri}: the staged file was altered; it is not published. Restore it from the bucket's versions, or "
                f"delete its receipt {work.placed.links['staged']} and start the run again: it is then staged anew."
            )
    frame = rooms.of_files(work.bench.spark, staged.outputs)
    checked = checks.run(frame, expectations, f"{work.home.name}_{work.order.thing.value}_{work.order.period}")
    reports = {"checks.html": checked.html.encode(), "checks.json": dumps(_finite(checked.result))}
    unique = uuid.uuid4().hex  # the same order may be carried out twice at once
    outputs = [_report(work, unique, name, body) for name, body in reports.items()]
    return work.receipt(
        passed=checked.passed,
        content=staged.content,
        outputs=outputs,
        findings=[*checked.blocking, *(f"warning: {text}" for text in checked.warnings)],
        facts={"checks": checked.checks, "rows": staged.rows},
    )


def _report(work: Work, unique: str, name: str, body: bytes) -> Output:
    uri = work.home.layout.report(work.order.digest, unique, name)
    work.home.objects.put(uri, body)
    return Output(name=name, uri=uri, bytes=len(body), sha256=sha256(body))


def _finite(value: Any) -> Any:
    """Plain JSON has no NaN: such figures are kept as text."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def model(work: Work) -> Receipt:
    """The staged model is loaded from its own bytes and gives the scores of the golden rows again."""
    from almanac.spark import models

    staged = admit(work.linked("staged"), Thing.MODEL, Door.STAGE, pipeline=work.home.name, period=work.order.period)
    said, files = staged.facts, {output.name: output for output in staged.outputs}
    findings, facts = [], {"metrics": said["metrics"]}
    try:
        opened = models.open_model(Bundle.of(said["version"], files, tuple(said["features"]), said["environment"]))
        facts |= {"golden_rows": opened.golden_rows, "worst_difference": opened.worst}
    except Drifted as drifted:
        findings.append(str(drifted))
    findings += [f"metric {name} is {value}" for name, value in said["metrics"].items() if not math.isfinite(value)]
    return work.receipt(passed=not findings, content=staged.content, findings=findings, facts=facts)


def champion(work: Work) -> Receipt:
    """The gate: decides on the comparison by the pipeline's policy. A rejection is an answer, not a failure; so is a dry run."""
    compared = admit(work.linked("staged"), Thing.CHAMPION, Door.STAGE, pipeline=work.home.name, period=work.order.period)
    comparison = decode(Comparison, compared.facts["comparison"])
    decision = decide(comparison, decode(Gate, compared.order.parameters["gate"]))
    return work.receipt(
        passed=decision.passed,
        content=digest(decision),
        findings=decision.reasons,
        facts={"decision": encode(decision), "comparison": encode(comparison)},
    )
