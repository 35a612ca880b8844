"""The second door: a thing is checked on the very bytes that were staged. Works in a Spark driver; one function a thing."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from almanac.core import shift
from almanac.core.bundle import GOLDEN, GOLDEN_TOLERANCE, MODEL, ONNX, ONNXRUNTIME, TRAINED, Bundle
from almanac.core.canonical import decode, digest, dumps, encode, sealed, sha256
from almanac.core.degrade import NULLS, left_out
from almanac.core.gate import Comparison, Gate, decide
from almanac.core.receipts import Door, Output, Receipt, Thing, admit, publish_order
from almanac.core.target import Target
from almanac.doors.job import Work
from almanac.errors import Drifted, IntegrityError, examples
from almanac.store.home import Home
from almanac.store.profiles import PROFILE

if TYPE_CHECKING:
    from almanac.spark.rows import Rows
    from almanac.spark.skew import Skew

LARGEST = sys.float_info.max


def features(work: Work) -> Receipt:
    """The user's checks of features, and one row an entity, by Great Expectations on the staged files. Their profile is
    kept, where no group was left out.
    """
    from almanac.spark import profiles
    from almanac.spark.checks import expectation

    staged = admit(work.linked("staged"), Thing.FEATURES, Door.STAGE, pipeline=work.home.name, period=work.order.period)
    rows, entity = _rows(work, staged), work.pipeline.entity
    own = [
        expectation("ExpectTableRowCountToEqual", value=staged.rows),
        expectation("ExpectColumnValuesToNotBeNull", column=entity),
        expectation("ExpectColumnValuesToBeUnique", column=entity),
    ]
    checked = _checked(work, staged, rows, own + _asked(work, staged, "features"))
    if not staged.rows or left_out(staged):
        return checked
    found = profiles.profile(work.bench.session, staged.outputs, work.order.period, rows.held)
    endless = [f"{name} ({column.infinite} rows)" for name, column in found.columns.items() if column.infinite]
    said = [
        f"warning: features {examples(endless)} are infinite: they were divided by zero, or are beyond float32 (3.4e38). "
        "scikit-learn refuses them; give null instead, or another unit."
    ]
    return replace(
        checked,
        outputs=(*checked.outputs, *_keep(work, {PROFILE: sealed(found)})),
        findings=(*checked.findings, *(said if endless else ())),
    )


def predictions(work: Work) -> Receipt:
    """As many rows as the features have, each entity once, no score that is null, not finite or out of its bounds. Scores that
    are spread otherwise than those of the period before are a warning.
    """
    from almanac.spark.checks import expectation

    staged = admit(work.linked("staged"), Thing.PREDICTIONS, Door.STAGE, pipeline=work.home.name, period=work.order.period)
    rows = _rows(work, staged)
    features = work.home.receipts.read(staged.links["features"])
    entity, target = work.pipeline.entity, decode(Target, staged.facts.get("target", {}))
    low, high = target.bounds or (-LARGEST, LARGEST)
    own = [
        expectation("ExpectTableRowCountToEqual", value=features.rows),
        expectation("ExpectColumnValuesToNotBeNull", column=entity),
        expectation("ExpectColumnValuesToBeUnique", column=entity),
    ]
    for column in target.columns:
        own.append(expectation("ExpectColumnValuesToNotBeNull", column=column))
        # NaN is null, and the infinities are outside.
        own.append(expectation("ExpectColumnValuesToBeBetween", column=column, min_value=low, max_value=high))
    if staged.rows:
        versions = [staged.facts["version"]]
        own.append(expectation("ExpectColumnDistinctValuesToEqualSet", column="model_version", value_set=versions))
    checked = _checked(work, staged, rows, own + _asked(work, staged, "predictions"))
    return _shifted(work, checked, rows, target) if checked.passed and staged.rows else checked


def _asked(work: Work, staged: Receipt, thing: str) -> list[Any]:
    """The user's checks of a thing; none of a period that is empty on purpose, of which they say nothing, and none of features
    that are null because their group was left out.
    """
    from almanac.spark import checks

    given = work.asked("checks")
    checks.suites(given, work.pipeline)
    asked, absent = checks.section(given, thing), set(staged.facts.get(NULLS, ()))
    return [one for one in asked if not checks.columns_of(one) & absent] if staged.rows else []


def _shifted(work: Work, checked: Receipt, rows: Rows, target: Target) -> Receipt:
    """The audit with the spread of its scores, and with a warning where the period before had another one."""
    from almanac.spark import spreads

    before, known = _before(work.home, work.order.period)
    spread, warnings = {}, []
    for column in target.columns:
        spread[column] = spreads.spread(rows, column)
        if column in known:
            counts = spreads.counted(rows, column, known[column].edges)
            warnings.append(shift.warning(column, shift.stability_index(known[column].counts, counts), before))
    said = [f"warning: {text}" for text in warnings if text]
    return replace(checked, findings=(*checked.findings, *said), facts={**checked.facts, "spread": encode(spread)})


def _before(home: Home, period: str) -> tuple[str, dict[str, shift.Spread]]:
    """The newest visible period before a period, and how its audit found its scores spread; empty where nobody knows."""
    earlier = [seen for name, seen in home.predictions.visible().items() if name < period]
    if not earlier:
        return "", {}
    published = home.receipts.find(publish_order(home.receipts.placed(earlier[-1].order).order))
    if published is None:
        return "", {}
    found = home.receipts.read(published.links["audit"]).facts.get("spread", {})
    return earlier[-1].period, {column: decode(shift.Spread, one) for column, one in found.items()}


def _rows(work: Work, staged: Receipt) -> Rows:
    """The staged rows, whose bytes still are what was staged. Where they are many, Spark begins to start."""
    from almanac.spark import rows

    size = sum(output.bytes for output in staged.outputs)
    if size > rows.HELD_BYTES:
        work.bench.begin()
    tables = []
    for output in staged.outputs:
        body = work.home.objects.get(output.uri)
        if sha256(body) != output.sha256:
            raise IntegrityError(
                f"{output.uri}: the staged file was altered; it is not published. Restore it from the bucket's versions, or "
                f"delete its receipt {work.placed.links['staged']} and start the run again: it is then staged anew."
            )
        if size <= rows.HELD_BYTES:
            tables.append(pq.read_table(pa.BufferReader(body)))
    if tables and rows.few(staged.rows, tables[0].num_columns, size):
        return rows.of_table(work.bench.session, pa.concat_tables(tables))
    work.bench.begin()
    return rows.of_files(work.bench.session, staged.outputs)


def _checked(work: Work, staged: Receipt, rows: Rows, expectations: list[Any]) -> Receipt:
    """Runs a suite on staged rows, and keeps the result for people and machines."""
    from almanac.spark import checks

    checked = checks.run(rows, expectations, f"{work.home.name}_{work.order.thing.value}_{work.order.period}")
    outputs = _keep(work, {"checks.html": checked.html.encode(), "checks.json": dumps(_finite(checked.result))})
    return work.receipt(
        passed=checked.passed,
        content=staged.content,
        outputs=outputs,
        findings=[*checked.blocking, *(f"warning: {text}" for text in (*checked.warnings, *_without(staged)))],
        facts={"checks": checked.checks, "rows": staged.rows},
    )


def _without(staged: Receipt) -> list[str]:
    absent = left_out(staged)
    nulls = staged.facts.get(NULLS, ())
    return [f"the groups {examples(absent)} were left out, so nothing was asked of {examples(nulls, 12)}"] if absent else []


def _keep(work: Work, reports: Mapping[str, bytes]) -> list[Output]:
    """Puts reports under names that nobody has: the same order may be carried out twice at once."""
    folder = work.home.layout.report(work.order.digest, uuid.uuid4().hex, "").rstrip("/")
    return [work.put(folder, name, body) for name, body in reports.items()]


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
    """The staged model is loaded from its own bytes and gives the scores of the golden rows again; then it is exported, and
    held against itself on the holdout's rows: that decides what will score with it. At last it scores some of the rows that it
    was trained on as it will score a period.
    """
    from almanac.spark import arrow, models, parity

    staged = admit(work.linked("staged"), Thing.MODEL, Door.STAGE, pipeline=work.home.name, period=work.order.period)
    said, files = staged.facts, {output.name: output for output in staged.outputs}
    bundle = Bundle(
        version=said["version"],
        model=files[MODEL],
        golden=files[GOLDEN],
        features=tuple(said["features"]),
        environment=said["environment"],
        target=decode(Target, said["target"]),
    )
    findings: list[str] = []
    facts, outputs = {"metrics": said["metrics"]}, []
    try:
        opened = models.open_model(bundle)
        facts |= {"golden_rows": opened.golden_rows, "worst_difference": opened.worst}
        rows, golden = (arrow.table([files[name]]).to_pandas() for name in ("holdout.parquet", GOLDEN))
        engine, exported = parity.decide(
            opened.model, bundle, rows, golden, work.pipeline.scoring, said.get("groups", {}).values()
        )
        facts["engine"] = encode(engine)
        if exported is not None:
            folder = work.home.layout.model(bundle.version, uuid.uuid4().hex)
            outputs.append(work.put(folder, ONNX, exported))
        complete = replace(bundle, engine=engine, onnx=outputs[0] if outputs else None)
        skewed = _skew(work, complete, files[TRAINED], said["training"])
        findings += skewed.findings
        facts["skew_rows"] = skewed.rows
    except Drifted as drifted:
        findings.append(str(drifted))
    findings += [f"metric {name} is {value}" for name, value in said["metrics"].items() if not math.isfinite(value)]
    return work.receipt(passed=not findings, content=staged.content, outputs=outputs, findings=findings, facts=facts)


def _skew(work: Work, bundle: Bundle, trained: Output, snapshots: list[str]) -> Skew:
    """What scoring makes of sampled training rows."""
    from almanac.spark import arrow, scoring, skew

    period = work.pipeline.period(work.order.period)
    bundle = replace(bundle, shipped=work.bench.ship(work.pipeline.name, work.home.receipts.module(work.order.module)))
    scorer = scoring.Scorer(bundle=bundle, entity=work.pipeline.entity, as_of=period.as_of, order=work.order.digest)
    published = {one: work.linked(f"features.{one}").outputs for one in snapshots}
    allowed = work.pipeline.scoring.worst if bundle.engine.name == ONNXRUNTIME else GOLDEN_TOLERANCE
    return skew.check(work.bench.spark, arrow.table([trained]), published, scorer, allowed)


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
