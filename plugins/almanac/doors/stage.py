"""The first door: a thing is made where no reader looks. Works in a Spark driver; one function a thing."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from almanac.core.bundle import GOLDEN, MODEL, REPORT, TRAINED
from almanac.core.canonical import decode, digest, encode
from almanac.core.degrade import LEFT_OUT, NULLS, left_out
from almanac.core.gate import Bound, Comparison, Gate
from almanac.core.layout import version_id
from almanac.core.provenance import known_by, label_cuts
from almanac.core.receipts import Door, Receipt, Thing, admit
from almanac.core.window import check_classes
from almanac.doors import calls, job, parts
from almanac.doors.job import Work
from almanac.errors import DescriptionError, examples
from almanac.store.versions import Manifest

if TYPE_CHECKING:
    import pandas as pd


def features(work: Work) -> Receipt:
    """A feature group's part, or with no part the groups combined, staged in the features table."""
    return parts.made(work) if work.order.part else parts.combined(work)


def model(work: Work) -> Receipt:
    """A version's files: the fitted model, its report, the frozen holdout, golden rows."""
    from almanac.spark import digests, importance, models, reports, skew, training

    order, pipeline = work.order, work.pipeline
    target = pipeline.label.target
    periods, holdout_period = list(order.parameters["training"]), str(order.parameters["holdout"])
    published = {period: work.linked(f"features.{period}") for period in (*periods, holdout_period)}
    lost: list[str] = []  # what is told of labels without an entity
    holdout = _labelled(work, holdout_period, published[holdout_period], lost)
    names = [name for name in holdout.columns if name not in (pipeline.entity, training.LABEL, training.SNAPSHOT)]
    rows, labels = _training(work, {period: published[period] for period in periods}, names, lost)
    labels[holdout_period] = holdout[training.LABEL]
    check_classes({period: label.value_counts().to_dict() for period, label in labels.items()}, target)
    fitted = training.fit(work.asked("estimators"), rows, names, target, order.period)
    groups = parts.columns(work.home, published[holdout_period], pipeline.entity)
    with training.named(fitted.name, holdout_period, holdout, target):
        shares = importance.shares(fitted, holdout, names, groups)
        report = {**reports.report(fitted, rows, holdout, names), "importance": shares}
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
        "holdout.parquet": _parquet(scored),
        GOLDEN: _parquet(scored.head(training.GOLDEN_ROWS)),
        TRAINED: _parquet(trained),
    }
    folder = work.home.layout.model(version, uuid.uuid4().hex)
    facts = {
        "version": version,
        "definition": work.placed.links["definition"],
        "features": names,
        "groups": groups,
        "training": periods,
        "holdout": holdout_period,
        "estimator": fitted.name,
        "choice": dict(fitted.choice),
        "metrics": report["holdout"]["metrics"],
        "verdict": report["verdict"],
        "classes": list(models.class_names(fitted.model)),
        "target": encode(target),
        "environment": job.environment() | models.libraries(fitted.model),
    }
    outputs = [work.put(folder, name, body) for name, body in files.items()]
    of = sum(len(labels[period]) for period in periods)
    drawn = [f"{len(rows)} of {of} training rows were drawn."] if pipeline.window.sampling else []
    return work.receipt(content=content.digest, outputs=outputs, findings=[report["verdict"], *drawn, *sorted(lost)], facts=facts)


def _training(
    work: Work, published: Mapping[str, Receipt], features: Sequence[str], lost: list[str]
) -> tuple[pd.DataFrame, dict[str, pd.Series[Any]]]:
    """The rows that train, sorted by snapshot and entity, and the labels of each snapshot, of every row.

    Where the window asks for a sample, only entities, labels and strata are read whole.
    """
    from almanac.spark import sampling, training

    asked, entity = work.pipeline.window.sampling, work.pipeline.entity
    if asked is None:
        whole = {period: _labelled(work, period, receipt, lost) for period, receipt in published.items()}
        return _stacked(list(whole.values())), {period: rows[training.LABEL] for period, rows in whole.items()}
    if unknown := [name for name in asked.by if name not in features]:
        raise DescriptionError(f"Sampling.by: found {examples(unknown)}, the features are {examples(features, 30)}.")
    narrow = {period: _labelled(work, period, receipt, lost, [entity, *asked.by]) for period, receipt in published.items()}
    drawn = sampling.draw(_stacked(list(narrow.values())), asked, work.pipeline.label.target, entity)
    rows = [
        sampling.read(work.bench.spark, published[str(period)].outputs, part, entity)
        for period, part in drawn.groupby(training.SNAPSHOT)
    ]
    return _stacked(rows), {period: found[training.LABEL] for period, found in narrow.items()}


def _labelled(work: Work, period: str, published: Receipt, lost: list[str], columns: Sequence[str] = ()) -> pd.DataFrame:
    """A snapshot's published features, or some of their columns, with its label, sorted by entity. How many labels have no
    entity is told in `lost`.
    """
    from almanac.spark import arrow, training
    from almanac.spark import features as frames

    pipeline, label = work.pipeline, work.pipeline.label
    admit(published, Thing.FEATURES, Door.PUBLISH, pipeline=pipeline.name, period=period)
    rows = arrow.sort(arrow.table(published.outputs, columns), [pipeline.entity])
    cuts = label_cuts(pipeline, period, known_by(work.order, pipeline))
    with calls.reading(work, cuts):
        given = calls.ask(work, label, cuts, period)
        frames.columns_of(given, pipeline.entity, label.name)
        asked = [name for name in (pipeline.entity, training.LABEL) if name in given.columns]
        labels = (given.select(*asked) if len(asked) == 2 else given).toArrow()
    joined = training.label_rows(rows, labels, pipeline.entity, label)
    lost += frames.nameless(f"Function {label.name!r} of {period}", labels[pipeline.entity].null_count, pipeline.entity)
    return joined.assign(**{training.SNAPSHOT: period})


def _stacked(snapshots: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(snapshots, ignore_index=True)


def _parquet(rows: pd.DataFrame) -> bytes:
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), body)
    return body.getvalue()


def champion(work: Work) -> Receipt:
    """The comparison: candidate and version in force, measured on the candidate's frozen holdout as the gate asks."""
    from almanac.spark import comparison, training

    asked = work.order.parameters
    gate, versions = decode(Gate, asked["gate"]), work.home.versions
    candidate = work.home.vouched(asked["candidate"], work.order.inputs["candidate"])
    holdout = pq.read_table(io.BytesIO(versions.file(candidate.files["holdout.parquet"]))).to_pandas()
    obstacle, score = "", None
    if asked["champion"]:
        champion = work.home.vouched(asked["champion"], work.order.inputs["champion"])
        obstacle = _obstacle(champion, candidate)
        if not obstacle:
            obstacle, score = _scored(work, champion, candidate, holdout)
    target = candidate.target
    label, ours = holdout[training.LABEL], training.scores_of(holdout, target)
    sure = score is not None and gate.confidence is not None
    compared = Comparison(
        holdout=candidate.holdout,
        rows=len(holdout),
        candidate_version=candidate.version,
        candidate=training.metrics(label, ours, target),
        position=int(asked["position"]),
        champion_version=str(asked["champion"]),
        champion=None if score is None else training.metrics(label, score, target),
        obstacle=obstacle,
        bound=comparison.bound(label, ours, score, gate, target) if sure else Bound(),
        slices=comparison.slices(holdout, gate, candidate.features, candidate.holdout, target),
    )
    return work.receipt(content=digest(compared), facts={"comparison": encode(compared)})


def _obstacle(champion: Manifest, candidate: Manifest) -> str:
    if champion.target != candidate.target:
        return (
            f"{champion.version} in force predicts {champion.target}, {candidate.version} predicts {candidate.target}, so the "
            "two are not comparable"
        )
    if candidate.holdout in champion.training:
        return (
            f"{champion.version} in force was trained on the holdout {candidate.holdout} "
            f"(its window: {', '.join(champion.training)}), so the two are not comparable there"
        )
    return ""


def _scored(work: Work, champion: Manifest, candidate: Manifest, holdout: pd.DataFrame) -> tuple[str, Any]:
    """The champion's scores of the holdout's rows, on features of its own definition; or why there are none."""
    import pandas as pd

    from almanac.spark import arrow, models, training

    home = work.home
    rows = holdout
    if champion.definition != candidate.definition:
        published = home.published(home.features(champion.definition), [candidate.holdout])
        if candidate.holdout not in published:
            return (
                f"features of {candidate.holdout} by {champion.version}'s definition {champion.definition} are not published, "
                "so the two are not comparable there",
                None,
            )
        if absent := left_out(published[candidate.holdout]):
            return (
                f"{champion.version}'s features of {candidate.holdout} are without {examples(absent)}, so the two are not "
                "comparable there",
                None,
            )
        own = arrow.table(published[candidate.holdout].outputs).to_pandas()
        keys, theirs = holdout[candidate.entity], own[candidate.entity]
        same = pd.api.types.is_integer_dtype(keys) == pd.api.types.is_integer_dtype(theirs)
        rows = holdout[[candidate.entity]].merge(own, on=candidate.entity, how="inner") if same else own[:0]
        if len(rows) != len(holdout):
            return (
                f"{champion.version}'s features of {candidate.holdout} cover other entities, so the two are not comparable there",
                None,
            )
    with job.user_module(home.receipts.module(champion.module), home.name):
        model = models.open_model(champion.bundle).model
        return "", training.predict(model, rows[list(champion.features)], champion.target)


def predictions(work: Work) -> Receipt:
    """A period scored by a version, staged in the predictions table."""
    from almanac.spark import chunks, scoring

    home, order, pipeline = work.home, work.order, work.pipeline
    manifest = home.vouched(str(order.parameters["version"]), order.inputs["version"])
    published = admit(work.linked("features"), Thing.FEATURES, Door.PUBLISH, pipeline=home.name, period=order.period)
    if manifest.definition != published.order.description:
        raise DescriptionError(
            f"Version {manifest.version} wants features of definition {manifest.definition}, found "
            f"{published.order.description}. Score with features of the version's own definition."
        )
    keep = home.receipts.description(manifest.description).scoring.keep
    shipped = work.bench.ship(pipeline.name, home.receipts.module(order.module))
    scorer = scoring.Scorer(
        bundle=replace(manifest.bundle, shipped=shipped),
        entity=manifest.entity,
        as_of=pipeline.period(order.period).as_of,
        order=order.digest,
        keep=keep,
    )
    for file in manifest.bundle.files:
        home.versions.file(file)
    table = home.predictions
    entity = chunks.schema_of(published.outputs[0]).field(manifest.entity)
    schema = table.fitting(scorer.schema(entity))
    table.create(schema)
    folder, stem = table.staging(order)
    written = scoring.score(work.bench.spark, published.outputs, scorer, folder, stem, schema).within(order.period)
    absent = left_out(published)
    facts = {
        "rows": written.rows,
        "version": manifest.version,
        "in_sample": order.parameters["in_sample"],
        "target": encode(manifest.target),
        "engine": manifest.engine.name,
        **({LEFT_OUT: list(absent), NULLS: published.facts[NULLS]} if absent else {}),
    }
    findings = [f"Scored without the feature groups {examples(absent)}: their features were null."] if absent else []
    return work.receipt(content=written.sums.digest, outputs=written.outputs, findings=findings, facts=facts)
