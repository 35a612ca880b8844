"""Almanac: `almanac.spark.scoring.score`, as its predictions are staged."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from almanac.core.bundle import GOLDEN, MODEL, Bundle
from almanac.core.canonical import decode, dumps, sha256
from almanac.core.receipts import Output
from almanac.core.scoring import Scoring
from almanac.spark import scoring
from almanac.spark.scoring import Scorer
from benchmarks import rows
from benchmarks.contestants.answering import Task, answer
from benchmarks.contestants.session import local

AS_OF = datetime(2017, 7, 1, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    spark = local(parser.parse_args().cores)
    # How Almanac runs Spark where nothing else is said: see almanac/local/spark_conf.py.
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100000")
    scorers: dict[str, Scorer] = {}

    def carry(task: Task) -> None:
        if task.model not in scorers:
            scorers[task.model] = scorer(Path(task.model))
        scoring.score(spark, task.files, scorers[task.model], task.out, "f00d")

    answer(carry)


def scorer(model: Path) -> Scorer:
    """A scorer of a model's files. The engine is decided as it is at an audit: on what both say of real rows."""
    import joblib
    import pandas as pd

    from almanac.model import parity

    bundle = Bundle(
        version="2017-06-0123abcd",
        files={name: _output(model / name) for name in (MODEL, GOLDEN)},
        features=rows.FEATURES,
    )
    pipeline = joblib.load(model / "model.joblib")
    golden = pd.read_parquet(model / "golden.parquet")
    holdout = pd.read_parquet(model / "train.parquet", columns=list(rows.FEATURES))
    holdout["score"] = pipeline.predict_proba(holdout)[:, 1]
    engine, exported = parity.decide(pipeline, bundle, holdout, golden, Scoring())
    files = {name: _kept(model, name, body) for name, body in exported.items()}
    bundle = replace(bundle, engine=engine, files={**bundle.files, **files})
    print(f"{model.name}: {engine.name} ({engine.speedup} times onnxruntime), {engine.reason}", flush=True)
    return Scorer(bundle=bundle, keys=(rows.ENTITY,), as_of=AS_OF, order="f00d")


def keep_scorer(model: Path) -> None:
    """Makes a model's scorer and keeps it beside the model, as a manifest keeps what an audit decided."""
    (model / "scorer.json").write_bytes(dumps(scorer(model)))


def kept_scorer(model: Path) -> Scorer:
    return decode(Scorer, json.loads((model / "scorer.json").read_bytes()))


def _kept(model: Path, name: str, body: bytes) -> Output:
    # An export's bytes differ each time, and another process may use its own.
    path = model / f"almanac-{sha256(body)[:12]}-{name}"
    path.write_bytes(body)
    return _output(path)


def _output(path: Path) -> Output:
    body = path.read_bytes()
    return Output(name=path.name, uri=str(path), bytes=len(body), sha256=sha256(body))


if __name__ == "__main__":
    main()
