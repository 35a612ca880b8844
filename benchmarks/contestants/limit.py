"""The limit: a program for this one job, two processes with pyarrow and an inference engine and nothing between them.

Each process takes the next row group that nobody has, and writes one file. With `--engine sklearn` the model is the
scikit-learn pipeline itself; its scores are the truth that the others are held against. With `--apart` a linear model is taken
apart first, as Almanac does it: what is then left between the two is what Almanac's own work takes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from almanac.model.linear import take_apart
from benchmarks import rows
from benchmarks.contestants.answering import Task, answer

BATCH_ROWS = 65_536
PART_ROWS = 16_384  # of a batch, so that it stays in a core's cache
Predict = Callable[[pa.RecordBatch], np.ndarray]
_next: Any = None
_together: Any = None
_loaded: dict[str, Predict] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("onnxruntime", "sklearn"), default="onnxruntime")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--cores", type=int, default=2)
    asked = parser.parse_args()
    many = multiprocessing.get_context("spawn")
    counter = many.Value("q", 0)
    with many.Pool(asked.cores, _begin, (counter, many.Barrier(asked.cores))) as pool:

        def carry(task: Task) -> None:
            counter.value = 0
            said = {"engine": asked.engine, "apart": asked.apart}
            hands = [(replace(task, options={**said, "name": name}),) for name in range(asked.cores)]
            pool.starmap(work, hands, chunksize=1)

        answer(carry)


def _begin(counter: Any, together: Any) -> None:
    global _next, _together
    _next, _together = counter, together


def work(task: Task) -> None:
    """One process's share: row groups until there are none left."""
    predict = loaded(task.model, task.options["engine"], task.options["apart"])
    _together.wait(timeout=300)  # so that no process takes two shares
    files = [pq.ParquetFile(path, memory_map=True) for path in task.files]
    groups = [(file, group) for file in files for group in range(file.num_row_groups)]
    schema = pa.schema([(rows.ENTITY, pa.int64()), ("score", pa.float32())])
    with pq.ParquetWriter(f"{task.out}/part-{task.options['name']}.parquet", schema, compression="snappy") as writer:
        while True:
            with _next.get_lock():
                mine = _next.value
                _next.value += 1
            if mine >= len(groups):
                return
            file, group = groups[mine]
            names = [rows.ENTITY, *rows.FEATURES]
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
                scores = pa.array(predict(batch), pa.float32())
                writer.write_batch(pa.RecordBatch.from_arrays([batch.column(rows.ENTITY), scores], schema=schema))


def loaded(model: str, engine: str, apart: bool) -> Predict:
    """The function that scores a batch, on one thread; a model is loaded once a process."""
    key = f"{engine} {model}"
    if key not in _loaded:
        _loaded[key] = _onnxruntime(Path(model), apart) if engine == "onnxruntime" else _sklearn(Path(model))
    return _loaded[key]


def _onnxruntime(model: Path, apart: bool) -> Predict:
    import onnx
    import onnxruntime

    graph = onnx.load(model / "joined.onnx")
    if apart:
        take_apart(graph, "probabilities")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    joined = json.loads(session.get_modelmeta().custom_metadata_map["almanac.joined"])
    inputs = {item.name: joined.get(item.name, [item.name]) for item in session.get_inputs()}

    def part(batch: pa.RecordBatch) -> np.ndarray:
        fed = {}
        for name, columns in inputs.items():
            fed[name] = np.empty((len(batch), len(columns)), dtype=np.float32)
            for place, column in enumerate(columns):
                fed[name][:, place] = batch.column(column).to_numpy()
        return np.asarray(session.run(["probabilities"], fed)[0])[:, 1]

    def predict(batch: pa.RecordBatch) -> np.ndarray:
        return np.concatenate([part(batch.slice(begin, PART_ROWS)) for begin in range(0, len(batch), PART_ROWS)])

    return predict


def _sklearn(model: Path) -> Predict:
    import joblib

    pipeline = joblib.load(model / "model.joblib")
    return lambda batch: pipeline.predict_proba(batch.select(list(rows.FEATURES)).to_pandas())[:, 1]


if __name__ == "__main__":
    main()
