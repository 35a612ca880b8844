"""A scoring job with almost nothing to score, from spark-submit to its end: it measures the fixed cost of a job.

Arguments: a model's folder, a file of features and an output folder. It begins as Almanac's jobs do: the session starts in the
background while the rest is imported.
"""

from __future__ import annotations

import sys
from pathlib import Path

from almanac.jobs.context import SparkJob


def main() -> None:
    job = SparkJob("empty")
    job.begin()
    from almanac.spark import scoring
    from benchmarks.contestants.almanac_scoring import kept_scorer

    model, features, out = sys.argv[1:]
    written = scoring.score(job.spark, [features], kept_scorer(Path(model)), out, "f00d")
    print(written.rows)


if __name__ == "__main__":
    main()
