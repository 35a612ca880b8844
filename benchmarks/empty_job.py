"""A scoring job with next to nothing to score, from spark-submit to its end: what is left is what every job costs.

Its arguments are a model's folder, a file of features and a folder to write to. It begins as Almanac's steps do: the
session starts in the background while the rest is imported.
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
