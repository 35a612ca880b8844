"""The rows to score: synthetic, the same for all contestants, in local Parquet files like those of a feature table.

The generator is seeded by row group, so the first rows of a large set are those of a small one. Memory is bounded by one
row group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import kept

ENTITY = "entity_id"
NUMERIC = tuple(f"n{number}" for number in range(24))
# Category to its number of values: codes from 0; small ones are frequent.
CATEGORIES = {"c0": 4, "c1": 12, "c2": 30, "c3": 60}
FEATURES = (*NUMERIC, *CATEGORIES)
GROUP_ROWS, FILE_ROWS = 250_000, 1_000_000
# Increase when the rows change, so that no old file is taken for a new one.
EDITION = 1
SCHEMA = pa.schema([(ENTITY, pa.int64()), *((name, pa.float32()) for name in FEATURES)])


def group(number: int, rows: int) -> pa.Table:
    """The first rows of one row group. A third of the numeric columns each are normal, skewed and counts."""
    chance = np.random.default_rng([EDITION, number])
    # An odd factor modulo a power of two gives each number once.
    numbers = np.arange(GROUP_ROWS, dtype=np.int64) + number * GROUP_ROWS
    columns: dict[str, np.ndarray] = {ENTITY: numbers * 0x9E3779B1 % 2**40}
    for place, name in enumerate(NUMERIC):
        draw = (chance.standard_normal, chance.standard_exponential, lambda size: chance.poisson(3, size))[place % 3]
        columns[name] = np.asarray(draw(GROUP_ROWS)).astype(np.float32)
    for name, many in CATEGORIES.items():
        columns[name] = np.floor(many * chance.random(GROUP_ROWS) ** 2).astype(np.float32)
    return pa.table(columns, schema=SCHEMA).slice(0, rows)


def labels(rows: pa.Table) -> np.ndarray:
    """The labels: some columns contribute on their own, some only together, and the rest is random."""
    value = {name: rows[name].to_numpy().astype(float) for name in FEATURES}
    odds = (
        value["n0"]
        - 0.6 * value["n1"]
        + 0.3 * (value["n2"] - 3)
        + np.abs(value["n3"]) * (value["c0"] > 1)
        - 0.2 * value["c1"] % 3
    )
    odds += 0.8 * np.sign(value["n6"]) * value["n9"] + 0.02 * value["c3"] - 0.5
    return np.asarray(np.random.default_rng(EDITION).random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(int)


def files(folder: Path, rows: int, tell: Callable[[str], None] = print) -> list[str]:
    """The files that hold `rows` rows, created if they do not exist."""

    def make(draft: Path) -> None:
        tell(f"making {rows:,} rows")
        for number, first in enumerate(range(0, rows, FILE_ROWS)):
            _write(draft / f"part-{number:03}.parquet", range(first, min(first + FILE_ROWS, rows), GROUP_ROWS), rows)

    found = kept.folder(folder / f"rows-{EDITION}-{rows}", make)
    return sorted(str(path) for path in found.glob("*.parquet"))


def _write(path: Path, firsts: Sequence[int], rows: int) -> None:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for first in firsts:
            writer.write_table(group(first // GROUP_ROWS, min(GROUP_ROWS, rows - first)), row_group_size=GROUP_ROWS)
