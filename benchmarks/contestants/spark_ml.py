"""Spark's own models, which need no Python: a logistic regression, and gradient-boosted trees of depth 5.

They are fitted by Spark on the same rows, so they are other models of the same size: their times are compared, their
scores are not.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import GBTClassifier, LogisticRegression
from pyspark.ml.feature import OneHotEncoder, StandardScaler, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks import rows
from benchmarks.contestants.answering import Task, answer
from benchmarks.contestants.session import local

# Enough for trees of full size.
TRAIN_ROWS = 20_000


def main() -> None:
    spark = local(2)
    models: dict[str, PipelineModel] = {}

    def carry(task: Task) -> None:
        if task.model not in models:
            models[task.model] = fitted(spark, Path(task.model), task.name)
        scored = models[task.model].transform(spark.read.parquet(*task.files))
        score = vector_to_array(F.col("probability"))[1].alias("score")
        scored.select(rows.ENTITY, score).write.mode("overwrite").parquet(task.out)

    answer(carry)


def fitted(spark: SparkSession, model: Path, name: str) -> PipelineModel:
    """The fitted pipeline; fitting 100 trees takes minutes, so it is kept beside the others."""
    kept = model / "spark_ml"
    if not kept.exists():
        pipeline = linear() if name == "linear" else boosted()
        train = spark.read.parquet(str(model / "train.parquet")).limit(TRAIN_ROWS).repartition(2).cache()
        pipeline.fit(train).write().overwrite().save(str(kept))
        train.unpersist()
    return PipelineModel.load(str(kept))


def linear() -> Pipeline:
    codes = list(rows.CATEGORIES)
    hot = [f"{name}_hot" for name in codes]
    return Pipeline(
        stages=[
            VectorAssembler(inputCols=[*rows.NUMERIC], outputCol="numbers"),
            StandardScaler(inputCol="numbers", outputCol="scaled", withMean=True),
            OneHotEncoder(inputCols=codes, outputCols=hot, dropLast=False, handleInvalid="keep"),
            VectorAssembler(inputCols=["scaled", *hot], outputCol="features"),
            LogisticRegression(maxIter=100),
        ]
    )


def boosted() -> Pipeline:
    everything = VectorAssembler(inputCols=[*rows.FEATURES], outputCol="features")
    return Pipeline(stages=[everything, GBTClassifier(maxIter=100, maxDepth=5)])


if __name__ == "__main__":
    main()
