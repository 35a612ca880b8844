"""The skew check: training rows of a version are scored as a period is scored, and must give the same features and scores.

Training reads published features whole, in the driver, and joins labels to them; scoring reads them chunk by chunk, in tasks.
The check compares the two for the same entities, value by value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from almanac import chunks
from almanac.chunks import Chunk
from almanac.columns import row_places
from almanac.core.entity import labelled
from almanac.core.receipts import Output
from almanac.core.window import SNAPSHOT
from almanac.errors import SHOWN_EXAMPLES
from almanac.model.bundles import apart
from almanac.spark import arrow, scoring
from almanac.spark.scoring import Scorer

SAMPLED_ROWS = 64  # of each training snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """The result of the check: rows compared, and the findings in plain words; none if nothing differs."""

    rows: int
    findings: tuple[str, ...]


def sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Training rows for the check: evenly spaced rows of each snapshot, from its first to its last."""
    return pd.concat([_spaced(part) for _, part in rows.groupby(SNAPSHOT)], ignore_index=True)


def _spaced(part: pd.DataFrame) -> pd.DataFrame:
    return part.iloc[np.linspace(0, len(part) - 1, min(SAMPLED_ROWS, len(part)), dtype=int)]


def check(
    spark: SparkSession, trained: pa.Table, published: Mapping[str, Sequence[str | Output]], scorer: Scorer, allowed: float
) -> Skew:
    """Compares sampled training rows with what scoring reads and gives for them.

    Args:
        trained: columns `snapshot`, the keys, the features (float32) as the model was fitted on them, and the target's
            scores (float64) that it then gave.
        published: snapshot to the files of its features.
        allowed: by how much a score may differ; features may not differ at all.
    """
    scorer = replace(scorer, keep=scorer.features)
    cores = spark.sparkContext.defaultParallelism
    hands = [
        [(snapshot, chunk) for chunk in hand]
        for snapshot, files in published.items()
        for hand in chunks.share(chunks.chunks_of(files), cores)
    ]

    def work(hand: Sequence[tuple[str, Chunk]]) -> Iterator[str]:
        snapshot = hand[0][0]
        wanted = trained.filter(pc.equal(trained[SNAPSHOT], snapshot)).combine_chunks()
        entities = [wanted[key].combine_chunks() for key in scorer.keys]
        for batch in chunks.read_chunks([chunk for _, chunk in hand], scorer.reads):
            place = row_places(list(batch.select(scorer.keys).columns), entities)
            rows = batch.filter(place.is_valid())
            if rows.num_rows:
                (scored,) = scoring.batches([rows], scorer)
                same = wanted.take(place.drop_null())
                yield json.dumps([rows.num_rows, list(_differences(same, scored, scorer, snapshot, allowed))])

    answers = [json.loads(text) for text in arrow.in_tasks(spark, hands, work)]
    found, differing = sum(rows for rows, _ in answers), sorted(text for _, texts in answers for text in texts)
    findings = []
    if differing:
        shown = "; ".join(differing[:SHOWN_EXAMPLES])
        findings.append(
            f"Skew: {len(differing)} of {len(trained)} sampled training rows have other values when scoring reads and scores "
            f"them: {shown}. The version is not published. Find why tasks get other values than the driver: a library of another "
            "version, or changed files."
        )
    if found != len(trained):
        findings.append(
            f"Skew: expected the {len(trained)} sampled training rows in the published features, scoring found {found}. The "
            "version is not published. Retrain it."
        )
    return Skew(rows=found, findings=tuple(findings))


def _differences(trained: pa.Table, scored: pa.RecordBatch, scorer: Scorer, snapshot: str, allowed: float) -> Iterator[str]:
    """For each row that differs, a text about the first column that does."""
    found: dict[int, str] = {}
    for name in (*scorer.features, *scorer.bundle.target.columns):
        was = trained[name].to_numpy()
        now = scored.column(name).to_numpy(zero_copy_only=False)
        same = (was == now) | (np.isnan(was) & np.isnan(now))
        if name not in scorer.features:
            same |= apart(now, was) <= allowed
        for row in np.flatnonzero(~same):
            entity = labelled(scorer.keys, [scored.column(key)[row] for key in scorer.keys])
            found.setdefault(int(row), f"{name} of {entity} in {snapshot} was {was[row]!s}, is now {now[row]!s}")
    yield from found.values()
