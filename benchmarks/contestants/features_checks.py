"""Great Expectations on the feature frame, as `features.audit` runs it; with `--scan` what it costs to read that frame once."""

from __future__ import annotations

import argparse
from pathlib import Path

from almanac.core.receipts import Output
from almanac.spark import checks, features, rows
from benchmarks import events
from benchmarks.contestants.answering import Task, answer
from benchmarks.contestants.session import local

NAMES = [name for name, *_ in events.features()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", action="store_true")
    scan = parser.parse_args().scan
    spark = local(2)

    def carry(task: Task) -> None:
        if scan:
            files = [Output(name=Path(file).name, uri=file, bytes=Path(file).stat().st_size, sha256="") for file in task.files]
            frame = features.of_files(spark, files)
            frame.selectExpr(*(f"max({name})" for name in frame.columns)).collect()
            return
        checked = checks.run(rows.of_files(lambda: spark, task.files), expectations(int(task.options["rows"])), "benchmark")
        if not checked.passed:
            raise RuntimeError(checked.blocking[0])

    answer(carry)


def expectations(count: int) -> list[object]:
    """Nulls, range and mean of each feature, the values of a category, the row count, and one uniqueness."""
    found = [checks.expectation("ExpectTableRowCountToEqual", value=count)]
    found.append(checks.expectation("ExpectColumnValuesToBeUnique", column="row"))
    found.append(checks.expectation("ExpectColumnDistinctValuesToBeInSet", column="period", value_set=list(range(4, 13))))
    for name in NAMES:
        found.append(checks.expectation("ExpectColumnValuesToNotBeNull", column=name))
        found.append(checks.expectation("ExpectColumnValuesToBeBetween", column=name, min_value=-1e9, max_value=1e9))
        found.append(checks.expectation("ExpectColumnMeanToBeBetween", column=name, min_value=-1e9, max_value=1e9))
    return found


if __name__ == "__main__":
    main()
