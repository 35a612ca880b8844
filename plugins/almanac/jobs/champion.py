"""The champion: candidate and version in force compared on the holdout; and the gate that decides on the comparison."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from almanac.core import facts
from almanac.core.bundle import HOLDOUT
from almanac.core.canonical import decode, digest
from almanac.core.entity import in_words
from almanac.core.facts import Compared, Gated, left_out
from almanac.core.gate import Comparison, GainBound, Gate, decide
from almanac.core.receipts import Artifact, Receipt, Step
from almanac.core.window import LABEL
from almanac.errors import examples
from almanac.jobs.context import JobContext, user_module
from almanac.store.versions import Manifest

if TYPE_CHECKING:
    import pandas as pd


def stage(context: JobContext) -> Receipt:
    """The comparison: candidate and version in force, measured on the candidate's frozen holdout as the gate requires."""
    from almanac.model import comparison, training

    given = context.order.parameters
    gate, versions = decode(Gate, given["gate"]), context.home.versions
    candidate = context.home.vouched(given["candidate"], context.order.inputs["candidate"])
    holdout = pq.read_table(io.BytesIO(versions.file(candidate.files[HOLDOUT]))).to_pandas()
    obstacle, score = "", None
    if given["champion"]:
        champion = context.home.vouched(given["champion"], context.order.inputs["champion"])
        obstacle = _obstacle(champion, candidate)
        if not obstacle:
            obstacle, score = _scored(context, champion, candidate, holdout)
    target = candidate.target
    label, ours = holdout[LABEL], training.scores_of(holdout, target)
    sure = score is not None and gate.confidence is not None
    compared = Comparison(
        holdout=candidate.holdout,
        rows=len(holdout),
        candidate_version=candidate.version,
        candidate=training.metrics(label, ours, target),
        position=int(given["position"]),
        champion_version=str(given["champion"]),
        champion=None if score is None else training.metrics(label, score, target),
        obstacle=obstacle,
        bound=comparison.bound(label, ours, score, gate, target) if sure else GainBound(),
        slices=comparison.slices(holdout, gate, candidate.features, candidate.holdout, target),
        suspects=candidate.suspects,
    )
    return context.receipt(content=digest(compared), facts=Compared(comparison=compared))


def _obstacle(champion: Manifest, candidate: Manifest) -> str:
    if set(champion.keys) != set(candidate.keys):
        return (
            f"{champion.version} in force predicts for {in_words(champion.keys)}, {candidate.version} for "
            f"{in_words(candidate.keys)}, so the two are not comparable"
        )
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


def _scored(context: JobContext, champion: Manifest, candidate: Manifest, holdout: pd.DataFrame) -> tuple[str, Any]:
    """The champion's scores for the holdout's rows, on features of its own definition; or why there are none."""
    import pandas as pd

    from almanac.model import loading, training
    from almanac.spark import arrow

    home = context.home
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
        keys, whole = list(candidate.keys), pd.api.types.is_integer_dtype
        same = all(whole(holdout[key]) == whole(own[key]) for key in keys)
        rows = holdout[keys].merge(own, on=keys, how="inner") if same else own[:0]
        if len(rows) != len(holdout):
            return (
                f"{champion.version}'s features of {candidate.holdout} cover other entities, so the two are not comparable there",
                None,
            )
    with user_module(home.receipts.module(champion.module), home.name):
        model = loading.open_model(champion.bundle).model
        return "", training.predict(model, rows[list(champion.features)], champion.target)


def audit(context: JobContext) -> Receipt:
    """The gate: decides on the comparison by the pipeline's policy. A rejection or a dry run is a result, not a failure."""
    compared = context.admitted("staged", Artifact.CHAMPION, Step.STAGE)
    comparison = facts.read(Compared, compared).comparison
    decision = decide(comparison, decode(Gate, compared.order.parameters["gate"]))
    return context.receipt(
        passed=decision.passed,
        content=digest(decision),
        findings=decision.reasons,
        facts=Gated(decision=decision, comparison=comparison),
    )
