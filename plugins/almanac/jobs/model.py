"""A model version, trained and staged; and its audit, which loads it, exports it and checks that it scores as it was trained."""

from __future__ import annotations

import io
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from almanac.columns import all_valid
from almanac.core import facts, suspicion
from almanac.core.bundle import GOLDEN, HOLDOUT, MODEL, REPORT, TRAINED, Bundle
from almanac.core.canonical import encode
from almanac.core.cuts import known_by, label_cuts
from almanac.core.facts import AuditedModel, StagedModel
from almanac.core.layout import version_id
from almanac.core.receipts import Artifact, Output, Receipt, Step, admit
from almanac.core.window import LABEL, SNAPSHOT, check_classes
from almanac.errors import DescriptionError, Drifted, examples
from almanac.jobs import user_functions
from almanac.jobs.context import JobContext, environment
from almanac.jobs.features import columns_by_group

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

    from almanac.spark.skew import Skew


def stage(context: JobContext) -> Receipt:
    """A version's files: the fitted model, its report, the frozen holdout, golden rows."""
    order, pipeline = context.order, context.pipeline
    target = pipeline.label.target
    periods, holdout_period = list(order.parameters["training"]), str(order.parameters["holdout"])
    published = {period: context.linked(f"features.{period}") for period in (*periods, holdout_period)}
    lost: list[str] = []  # findings about labels without an entity
    known = _labels(context, list(published), lost)

    from almanac.model import importance, loading, reports, training  # here: they are imported while labels are queried
    from almanac.model import suspicion as leaks
    from almanac.spark import digests, skew

    holdout = _labelled(context, holdout_period, published[holdout_period], known)
    names = [name for name in holdout.columns if name not in (*pipeline.keys, LABEL, SNAPSHOT)]
    rows, labels = _training(context, {period: published[period] for period in periods}, names, known)
    labels[holdout_period] = holdout[LABEL]
    check_classes({period: label.value_counts().to_dict() for period, label in labels.items()}, target)
    fitted = training.fit(context.call("estimators"), rows, names, target, order.period)
    groups = columns_by_group(context.home, published[holdout_period], pipeline.keys)
    with training.named(fitted.name, holdout_period, holdout, target):
        shares = importance.shares(fitted, holdout, names, groups)
        suspects = leaks.suspects(fitted, holdout, names)
        report = reports.report(fitted, rows, holdout, names, suspects)
        report |= {"importance": shares, **({"suspects": encode(suspects)} if suspects else {})}
        scored, trained = (
            some.assign(**training.score_columns(training.predict(fitted.model, some[names], target), target))
            for some in (holdout, skew.sample(rows))
        )
    content = digests.of_batches(
        pa.Table.from_pandas(rows, preserve_index=False).to_batches(), pa.Schema.from_pandas(rows, preserve_index=False)
    )
    version = version_id(order.period, order.digest)
    files = {
        MODEL: training.pickled(fitted.model, fitted.name),
        REPORT: json.dumps(report, indent=2).encode(),
        HOLDOUT: _parquet(scored),
        GOLDEN: _parquet(scored.head(training.GOLDEN_ROWS)),
        TRAINED: _parquet(trained),
    }
    folder = context.home.layout.model(version, uuid.uuid4().hex)
    staged = StagedModel(
        version=version,
        definition=context.placed.definition,
        features=tuple(names),
        groups={name: tuple(columns) for name, columns in groups.items()},
        training=tuple(periods),
        holdout=holdout_period,
        estimator=fitted.name,
        choice=dict(fitted.choice),
        metrics=report["holdout"]["metrics"],
        verdict=report["verdict"],
        suspects=suspects,
        classes=tuple(loading.class_names(fitted.model)),
        target=target,
        environment=environment() | loading.libraries(fitted.model),
    )
    outputs = [context.put(folder, name, body) for name, body in files.items()]
    of = sum(len(labels[period]) for period in periods)
    drawn = [f"{len(rows)} of {of} training rows were drawn."] if pipeline.window.sampling else []
    unjudged = filter(None, [suspicion.not_judged(len(holdout))])
    findings = [report["verdict"], *unjudged, *drawn, *sorted(lost)]
    return context.receipt(content=content.digest, outputs=outputs, findings=findings, facts=staged)


def _training(
    context: JobContext, published: Mapping[str, Receipt], features: Sequence[str], known: Mapping[str, pa.Table]
) -> tuple[pd.DataFrame, dict[str, pd.Series[Any]]]:
    """The rows to train on, sorted by snapshot and entity, and the labels of all rows of each snapshot.

    If the window is sampled, only entities, labels and strata are read whole.
    """
    from almanac.spark import sampling

    sample, keys = context.pipeline.window.sampling, context.pipeline.keys
    if sample is None:
        whole = {period: _labelled(context, period, receipt, known) for period, receipt in published.items()}
        return _stacked(list(whole.values())), {period: rows[LABEL] for period, rows in whole.items()}
    if unknown := [name for name in sample.by if name not in features]:
        raise DescriptionError(
            f"Sampling.by: expected features ({examples(features, 30)}), got {examples(unknown)}. Name features."
        )
    narrow = {period: _labelled(context, period, receipt, known, [*keys, *sample.by]) for period, receipt in published.items()}
    drawn = sampling.draw(_stacked(list(narrow.values())), sample, context.pipeline.label.target, keys)
    rows = [
        sampling.read(context.job.spark, published[str(period)].outputs, part, keys) for period, part in drawn.groupby(SNAPSHOT)
    ]
    return _stacked(rows), {period: found[LABEL] for period, found in narrow.items()}


def _labels(context: JobContext, periods: Sequence[str], lost: list[str]) -> dict[str, pa.Table]:
    """The rows of the label's function, by snapshot: entity and label, the latter only where the function returns it. Adds a
    finding to `lost` if labels have no entity.
    """
    from almanac.spark import features

    pipeline, label = context.pipeline, context.pipeline.label
    pins = user_functions.pins_of(context)

    def query(period: str) -> DataFrame:
        given = user_functions.call_part(
            context, label, pins, label_cuts(pipeline, period, known_by(context.order, pipeline)), period
        )
        features.columns_of(given, pipeline.keys, label.name)
        return given.select(*pipeline.keys, LABEL) if LABEL in given.columns else given

    with user_functions.reading(context, pins):
        running = {period: context.job.background.submit(query(period).toArrow) for period in periods}
        found = {period: context.job.result(rows) for period, rows in running.items()}
    for period, rows in found.items():
        without = len(rows) - pc.sum(all_valid(rows, pipeline.keys)).as_py() if len(rows) else 0
        lost += features.nameless(f"Function {label.name!r} of {period}", without, pipeline.keys)
    return found


def _labelled(
    context: JobContext, period: str, published: Receipt, known: Mapping[str, pa.Table], columns: Sequence[str] = ()
) -> pd.DataFrame:
    """A snapshot's published features, or some of their columns, with its label, sorted by entity."""
    from almanac.model import training
    from almanac.spark import arrow

    pipeline = context.pipeline
    admit(published, Artifact.FEATURES, Step.PUBLISH, pipeline=pipeline.name, period=period)
    rows = arrow.sort(arrow.table(published.outputs, columns), pipeline.keys)
    joined = training.label_rows(rows, known[period], pipeline.keys, pipeline.label)
    return joined.assign(**{SNAPSHOT: period})


def _stacked(snapshots: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(snapshots, ignore_index=True)


def _parquet(rows: pd.DataFrame) -> bytes:
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), body)
    return body.getvalue()


def audit(context: JobContext) -> Receipt:
    """Loads the staged model from its files and scores the golden rows again; exports it, and compares the export with the
    pipeline on the holdout's rows, which decides the engine; and scores some training rows as a period is scored.
    """
    from almanac.model import loading, parity
    from almanac.spark import arrow

    staged = context.admitted("staged", Artifact.MODEL, Step.STAGE)
    model, files = facts.read(StagedModel, staged), {output.name: output for output in staged.outputs}
    bundle = Bundle(
        version=model.version,
        files=files,
        features=model.features,
        environment=model.environment,
        target=model.target,
    )
    findings: list[str] = []
    found, outputs = AuditedModel(metrics=model.metrics), []
    try:
        opened = loading.open_model(bundle)
        found = replace(found, golden_rows=opened.golden_rows, worst_difference=opened.worst)
        rows, golden = (arrow.table([files[name]]).to_pandas() for name in (HOLDOUT, GOLDEN))
        engine, exported = parity.decide(opened.model, bundle, rows, golden, context.pipeline.scoring, model.groups.values())
        found = replace(found, engine=engine)
        folder = context.home.layout.model(bundle.version, uuid.uuid4().hex)
        outputs += [context.put(folder, name, body) for name, body in exported.items()]
        complete = replace(bundle, engine=engine, files={**files, **{output.name: output for output in outputs}})
        skewed = _skew(context, complete, files[TRAINED], model.training)
        findings += skewed.findings
        found = replace(found, skew_rows=skewed.rows)
    except Drifted as drifted:
        findings.append(str(drifted))
    findings += [
        f"Metric {name}: expected a finite number, got {value}."
        for name, value in model.metrics.items()
        if not math.isfinite(value)
    ]
    return context.receipt(passed=not findings, content=staged.content, outputs=outputs, findings=findings, facts=found)


def _skew(context: JobContext, bundle: Bundle, trained: Output, snapshots: Sequence[str]) -> Skew:
    """Compares the scores of sampled training rows with those that scoring a period gives them."""
    from almanac.model import engines
    from almanac.spark import arrow, scoring, skew

    period = context.pipeline.period(context.order.period)
    bundle = replace(bundle, shipped=context.job.ship(context.pipeline.name, context.home.receipts.module(context.order.module)))
    scorer = scoring.Scorer(bundle=bundle, keys=context.pipeline.keys, as_of=period.as_of, order=context.order.digest)
    published = {one: context.linked(f"features.{one}").outputs for one in snapshots}
    allowed = engines.kind_of(bundle).tolerance(context.pipeline.scoring)
    return skew.check(context.job.spark, arrow.table([trained]), published, scorer, allowed)
