"""What a load needs of a version, and what it says when the version does not score here as it did where it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from almanac.core.receipts import Output

MODEL, GOLDEN = "model.joblib", "golden.parquet"
# How much a score of a golden row may differ from the one that is stored with it.
GOLDEN_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A version as it is loaded. Its files are those of the manifest, or of the receipt where there is no manifest yet.

    Args:
        model: the pickled scikit-learn pipeline.
        golden: rows of features with the `score` that they got when it was trained.
        features: their names, in the model's order.
        environment: distribution to version, where it was trained.
    """

    version: str
    model: Output
    golden: Output
    features: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, version: str, files: Mapping[str, Output], features: tuple[str, ...], environment: Mapping[str, str]) -> Bundle:
        return cls(version=version, model=files[MODEL], golden=files[GOLDEN], features=features, environment=environment)


def drift(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The distributions whose version differs from the one that is recorded, in plain words, and what to do."""
    moved = [f"{name} was {version}, is {now.get(name, 'missing')}" for name, version in then.items() if now.get(name) != version]
    if moved:
        return f"These differ from where it was trained: {'; '.join(moved)}. Install the versions of then, or retrain."
    recorded = f" ({', '.join(then)})" if then else ""
    return (
        f"None of the distributions that its manifest records{recorded} differs from where it was trained: something else does, "
        "such as the processor or another library. Retrain it here."
    )
