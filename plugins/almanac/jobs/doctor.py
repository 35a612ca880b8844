"""`almanac doctor --master`: a small Spark job that compares what its executors have with the driver. Prints lines as JSON."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata

LIBRARIES = ("pyarrow", "numpy", "pandas", "scikit-learn", "onnxruntime", "joblib")


def versions() -> dict[str, str]:
    """Distribution to version in this process, `none` if it is not installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def _in_task(_: Iterable[int]) -> Iterator[str]:
    yield json.dumps([platform.node(), versions()])


def main() -> None:
    """The master is the only argument."""
    from pyspark import cloudpickle
    from pyspark.sql import SparkSession

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]
    spark = SparkSession.builder.master(sys.argv[1]).appName("almanac doctor").getOrCreate()
    context = spark.sparkContext
    jvm = context._jvm
    assert jvm is not None
    java = str(jvm.java.lang.System.getProperty("java.version"))
    lines: list[tuple[str, bool, str]] = [
        ("Spark", True, f"{spark.version} on {sys.argv[1]}"),
        ("Spark's Java", int(java.split(".")[0]) >= 17, java),
    ]
    jars = str(context._jsc.sc().listJars().mkString(", "))
    lines.append(("jars", True, jars or "none besides Spark's; Almanac needs none, because Python reads and writes S3"))
    ours = versions()
    tasks = max(2, context.defaultParallelism)
    texts = context.parallelize(range(tasks), tasks).mapPartitions(_in_task).collect()
    for host, theirs in (json.loads(text) for text in sorted(set(texts))):
        other = [f"{name} {theirs[name]} (driver: {ours[name]})" for name in ours if theirs[name] != ours[name]]
        told = (
            f"{', '.join(other)}. Install the same versions there" if other else "the driver's versions of Python and libraries"
        )
        lines.append((f"executor on {host}", not other, told))
    spark.stop()
    print(json.dumps(lines))


if __name__ == "__main__":
    main()
