"""Predictions: a period scored by a version, staged; and its audit."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from almanac.core import facts, shift
from almanac.core.canonical import encode
from almanac.core.facts import AuditedRows, StagedFeatures, StagedPredictions, left_out
from almanac.core.receipts import Artifact, Receipt, Step, publish_order
from almanac.core.target import Target
from almanac.errors import DescriptionError, IntegrityError, examples
from almanac.jobs.checks import audited, one_row_each, staged_rows, user_checks
from almanac.jobs.context import JobContext
from almanac.store.home import Home

if TYPE_CHECKING:
    from almanac.spark.rows import Rows

LARGEST = sys.float_info.max


def stage(context: JobContext) -> Receipt:
    """A period scored by a version, staged in the predictions table."""
    from almanac import chunks
    from almanac.model import engines
    from almanac.spark import scoring

    home, order, pipeline = context.home, context.order, context.pipeline
    manifest = home.vouched(str(order.parameters["version"]), order.inputs["version"])
    published = context.admitted("features", Artifact.FEATURES, Step.PUBLISH)
    if manifest.definition != published.order.description:
        raise DescriptionError(
            f"Version {manifest.version}: expected features of definition {manifest.definition}, got "
            f"{published.order.description}. Score with features of the version's own definition."
        )
    keep = home.receipts.description(manifest.description).scoring.keep
    shipped = context.job.ship(pipeline.name, home.receipts.module(order.module))
    scorer = scoring.Scorer(
        bundle=replace(manifest.bundle, shipped=shipped),
        keys=manifest.keys,
        as_of=pipeline.period(order.period).as_of,
        order=order.digest,
        keep=keep,
    )
    for file in engines.files_of(manifest.bundle):
        home.versions.file(file)
    table = home.predictions
    schema = table.fitting(scorer.schema(chunks.schema_of(published.outputs[0])))
    table.create(schema)
    folder, stem = table.staging(order)
    query = context.job.background.submit(scoring.score, context.job.spark, published.outputs, scorer, folder, stem, schema)
    written = context.job.result(query).within(order.period)
    absent = left_out(published)
    found = StagedPredictions(
        rows=written.rows,
        version=manifest.version,
        in_sample=order.parameters["in_sample"],
        target=manifest.target,
        engine=manifest.engine.name,
        left_out=absent,
        nulls=facts.read(StagedFeatures, published).nulls,
    )
    findings = [f"Scored without the feature groups {examples(absent)}: their features were null."] if absent else []
    return context.receipt(content=written.sums.digest, outputs=written.outputs, findings=findings, facts=found)


def audit(context: JobContext) -> Receipt:
    """Checks that there are as many rows as features, each entity is there once, and no score is null, not finite or out of
    bounds. Warns if the scores are spread differently from those of the period before.
    """
    from almanac.spark.checks import expectation

    staged = context.admitted("staged", Artifact.PREDICTIONS, Step.STAGE)
    found, rows = facts.read(StagedPredictions, staged), staged_rows(context, staged)
    features = context.home.receipts.read(staged.links["features"])
    target = found.target
    low, high = target.bounds or (-LARGEST, LARGEST)
    own = one_row_each(context.pipeline.keys, features.rows)
    for column in target.columns:
        own.append(expectation("ExpectColumnValuesToNotBeNull", column=column))
        # NaN counts as null, and the infinities are out of bounds.
        own.append(expectation("ExpectColumnValuesToBeBetween", column=column, min_value=low, max_value=high))
    if staged.rows:
        versions = [found.version]
        own.append(expectation("ExpectColumnDistinctValuesToEqualSet", column="model_version", value_set=versions))
    checked = audited(context, staged, rows, own + user_checks(context, staged, "predictions", rows, found.nulls), found.nulls)
    return _shifted(context, checked, rows, target) if checked.passed and staged.rows else checked


def _shifted(context: JobContext, checked: Receipt, rows: Rows, target: Target) -> Receipt:
    """The audit with the spread of its scores, and a warning if it differs from that of the period before."""
    from almanac.spark import spreads

    before, known = _before(context.home, context.order.period)
    spread, warnings = {}, []
    for column in target.columns:
        spread[column] = spreads.spread(rows, column)
        if column in known:
            counts = spreads.counted(rows, column, known[column].edges)
            warnings.append(shift.warning(column, shift.stability_index(known[column].counts, counts), before))
    shifts = [f"warning: {text}" for text in warnings if text]
    found = replace(facts.read(AuditedRows, checked), spread=spread)
    return replace(checked, findings=(*checked.findings, *shifts), facts=encode(found))


def _before(home: Home, period: str) -> tuple[str, dict[str, shift.Spread]]:
    """The newest visible period before `period`, and the spread of its scores by column; empty if none is known."""
    earlier = [seen for name, seen in home.predictions.visible().items() if name < period]
    if not earlier:
        return "", {}
    published = home.receipts.find(publish_order(home.receipts.placed(earlier[-1].order).order))
    if published is None:
        return "", {}
    try:
        audit = facts.read(AuditedRows, home.receipts.read(published.links["audit"]))
    except IntegrityError:  # it only serves a warning
        return "", {}
    return earlier[-1].period, dict(audit.spread or {})
