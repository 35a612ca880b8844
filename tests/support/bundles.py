"""A version's files in a local folder, as training and audit leave them on S3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from almanac.core.bundle import GOLDEN, MODEL, Bundle
from almanac.core.canonical import sha256
from almanac.core.receipts import Output
from almanac.core.scoring import Scoring
from almanac.core.target import Target
from almanac.model import parity, training

VERSION = "2017-06-0123abcd"


def file(folder: Path, name: str, body: bytes) -> Output:
    (folder / name).write_bytes(body)
    return Output(name=name, uri=str(folder / name), bytes=len(body), sha256=sha256(body))


def unaudited(
    folder: Path,
    model: Any,
    golden: pd.DataFrame,
    scores: Any = None,
    *,
    target: Target = Target(),
    environment: Mapping[str, str] | None = None,
) -> Bundle:
    """A version that scikit-learn scores with. `golden`: rows of features; `scores`: theirs, where the model is no model."""
    own = {target.columns[0]: scores} if scores is not None else _scores(model, golden, target)
    golden.assign(**own).to_parquet(folder / GOLDEN)
    return Bundle(
        version=VERSION,
        files={
            MODEL: file(folder, MODEL, training.pickled(model)),
            GOLDEN: file(folder, GOLDEN, (folder / GOLDEN).read_bytes()),
        },
        features=tuple(golden.columns),
        environment=environment or {},
        target=target,
    )


def _scores(model: Any, rows: pd.DataFrame, target: Target) -> dict[str, Any]:
    return dict(training.score_columns(training.predict(model, rows, target), target))


def audited(
    folder: Path,
    model: Any,
    rows: pd.DataFrame,
    *,
    target: Target = Target(),
    scoring: Scoring = Scoring(),  # noqa: B008 - frozen
) -> Bundle:
    """A version with the engine that the audit gives it. `rows`: of features; the holdout's."""
    bundle = unaudited(folder, model, rows.head(training.GOLDEN_ROWS), target=target)
    holdout = rows.assign(**_scores(model, rows, target))
    engine, exported = parity.decide(model, bundle, holdout, holdout.head(training.GOLDEN_ROWS), scoring)
    files = {name: file(folder, name, body) for name, body in exported.items()}
    return replace(bundle, engine=engine, files={**bundle.files, **files})
