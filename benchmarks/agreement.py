"""Whether two sets of scores agree: a time counts only if they do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds

from benchmarks import rows

# Entities, ascending, and the score of each.
Scores = tuple[np.ndarray, np.ndarray]
# At the 99.99th percentile of the differences, and at the largest of them.
TOLERANCE, LARGEST = 1e-5, 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the scores of the same entities differ. `entities`: whether both sets have the same entities."""

    rows: int
    entities: bool
    high: float
    worst: float

    @property
    def holds(self) -> bool:
        return self.entities and self.high <= TOLERANCE and self.worst <= LARGEST

    def __str__(self) -> str:
        if not self.entities:
            return "the entities differ from those to be scored"
        high, worst = f"{self.high:.1e} ({TOLERANCE:.0e} is allowed)", f"{self.worst:.1e} ({LARGEST:.0e})"
        return f"99.99 % of the scores differ by at most {high}, all by at most {worst}"


def scores(folder: Path) -> Scores:
    """The entities of a folder of Parquet files, ascending, and the score of each."""
    found = ds.dataset(sorted(str(path) for path in folder.rglob("*.parquet"))).to_table(columns=[rows.ENTITY, "score"])
    entities = found[rows.ENTITY].to_numpy()
    order = np.argsort(entities)
    return entities[order], found["score"].to_numpy()[order]


def compare(expected: Scores, found: Scores) -> Agreement:
    """Compares scores with the expected ones. NaN agrees with nothing."""
    if not np.array_equal(expected[0], found[0]):
        return Agreement(rows=len(found[0]), entities=False, high=1.0, worst=1.0)
    apart = np.nan_to_num(np.abs(expected[1].astype(float) - found[1].astype(float)), nan=1.0)
    high = float(np.quantile(apart, 0.9999)) if len(apart) else 0.0
    return Agreement(rows=len(apart), entities=True, high=high, worst=float(apart.max(initial=0.0)))
