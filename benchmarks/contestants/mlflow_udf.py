"""The peer that most teams know: `mlflow.pyfunc.spark_udf`, with the flavour of scikit-learn or of ONNX.

It is given its best: environment variables that keep each task to one thread, the column that needs the least work to be
got out of it, and in the graph of ONNX the inputs and the output that MLflow can handle (it feeds columns as [rows], and
wants one flat output).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import joblib
import mlflow
import onnx
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from onnx import TensorProto, helper
from pyspark.sql import Column, SparkSession

from benchmarks import rows
from benchmarks.contestants.answering import Task, answer
from benchmarks.contestants.session import batches_of, local

SIGNATURE = ModelSignature(inputs=Schema([ColSpec("float", name) for name in rows.FEATURES]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flavour", choices=("sklearn", "onnx"), required=True)
    flavour = parser.parse_args().flavour
    spark = local(2)
    columns: dict[str, Column] = {}

    def carry(task: Task) -> None:
        batches_of(spark, task)
        if task.model not in columns:
            columns[task.model] = score(spark, Path(task.model), flavour)
        spark.read.parquet(*task.files).select(rows.ENTITY, columns[task.model].alias("score")).write.mode("overwrite").parquet(
            task.out
        )

    answer(carry)


def score(spark: SparkSession, model: Path, flavour: str) -> Column:
    """The column of scores. Of several output columns MLflow takes the leftmost: the probability of class 0."""
    saved = model / f"mlflow-{flavour}"
    if not saved.exists():
        draft = saved.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        save(model, draft, flavour)
        draft.rename(saved)
    udf = mlflow.pyfunc.spark_udf(spark, str(saved), result_type="double", env_manager="local")
    found: Column = udf(*rows.FEATURES)
    return 1 - found if flavour == "sklearn" else found


def save(model: Path, folder: Path, flavour: str) -> None:
    """The model as MLflow keeps it."""
    if flavour == "sklearn":
        pipeline = joblib.load(model / "model.joblib")
        mlflow.sklearn.save_model(
            pipeline,
            folder,
            signature=SIGNATURE,
            pyfunc_predict_fn="predict_proba",
            pip_requirements=[],
            serialization_format="cloudpickle",
        )
    else:
        one = {"intra_op_num_threads": 1, "inter_op_num_threads": 1, "execution_mode": "sequential"}
        graph = flat(onnx.load(model / "model.onnx"))
        mlflow.onnx.save_model(graph, folder, signature=SIGNATURE, onnx_session_options=one, pip_requirements=[])


def flat(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with inputs [rows] instead of [rows, 1], and the probability of class 1 as its one output, [rows]."""
    graph = model.graph
    names = [given.name for given in graph.input]
    for node in graph.node:
        node.input[:] = [f"{name}.column" if name in names else name for name in node.input]
    graph.initializer.append(helper.make_tensor("flat.column", TensorProto.INT64, [2], [-1, 1]))
    graph.initializer.append(helper.make_tensor("flat.one", TensorProto.INT64, [], [1]))
    before = [helper.make_node("Reshape", [name, "flat.column"], [f"{name}.column"]) for name in names]
    after = helper.make_node("Gather", ["probabilities", "flat.one"], ["score"], axis=1)
    nodes = [*before, *graph.node, after]
    graph.ClearField("node")
    graph.ClearField("input")
    graph.ClearField("output")
    graph.node.extend(nodes)
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in names)
    graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, [None]))
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    main()
