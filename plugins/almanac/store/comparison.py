"""Two versions side by side: their inputs, their metrics and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from almanac.errors import PromotionError, examples
from almanac.store import overview
from almanac.store.home import Home
from almanac.store.overview import VersionRow
from almanac.store.versions import Manifest

ABSENT = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A metric of both versions. `difference` is b - a; None if either lacks the metric or the holdouts differ."""

    a: float | None
    b: float | None
    difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A property of both versions, as text."""

    a: str
    b: str

    @property
    def same(self) -> bool:
        return self.a == self.b


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Two versions.

    Args:
        rows: the overview row of each version.
        comparable: whether both were measured on the same holdout period.
        remark: a caveat about the metrics, in plain words.
        properties: name to the values of both: estimator, periods, code, rows.
        libraries: the libraries whose versions differ.
        added, removed: features that only b has, and features that only a has.
    """

    a: Manifest
    b: Manifest
    rows: tuple[VersionRow, VersionRow]
    comparable: bool
    remark: str
    metrics: Mapping[str, Figure]
    properties: Mapping[str, Pair]
    libraries: Mapping[str, Pair]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def compare(home: Home, a: str, b: str) -> SideBySide:
    """Compares two versions of one pipeline.

    Raises:
        PromotionError: one of them is unknown.
    """
    rows = {row.version: row for row in overview.versions(home)}
    for name in (a, b):
        if name not in rows:
            raise PromotionError(f"Version {name!r} is unknown (known: {examples(rows, 12)}). Name two of them.")
    return side_by_side(home.versions.read(a), home.versions.read(b), (rows[a], rows[b]))


def side_by_side(a: Manifest, b: Manifest, rows: tuple[VersionRow, VersionRow]) -> SideBySide:
    comparable = a.holdout == b.holdout
    return SideBySide(
        a=a,
        b=b,
        rows=rows,
        comparable=comparable,
        remark=""
        if comparable
        else (
            f"The holdouts differ ({a.holdout} and {b.holdout}), so the metrics are not comparable. "
            "The gate compares a candidate with the version in force on one holdout."
        ),
        metrics={name: _figure(a, b, name, comparable) for name in dict.fromkeys([*a.metrics, *b.metrics])},
        properties=_properties(a, b),
        libraries={
            name: pair
            for name in sorted({*a.environment, *b.environment})
            if not (pair := Pair(a=a.environment.get(name, ABSENT), b=b.environment.get(name, ABSENT))).same
        },
        added=tuple(name for name in b.features if name not in a.features),
        removed=tuple(name for name in a.features if name not in b.features),
    )


def _figure(a: Manifest, b: Manifest, name: str, comparable: bool) -> Figure:
    one, other = a.metrics.get(name), b.metrics.get(name)
    known = comparable and one is not None and other is not None
    return Figure(a=one, b=other, difference=other - one if known else None)  # type: ignore[operator]  # `known` rules out None


def _properties(a: Manifest, b: Manifest) -> dict[str, Pair]:
    def of(manifest: Manifest) -> dict[str, str]:
        return {
            "period": manifest.period,
            "estimator": manifest.estimator,
            "classes": ", ".join(manifest.classes) or ABSENT,
            "training": ", ".join(manifest.training),
            "holdout": manifest.holdout,
            "training rows": manifest.content,
            "features": str(len(manifest.features)),
            "definition": manifest.definition,
            "description": manifest.description,
            "module": manifest.module,
        }

    return {name: Pair(a=value, b=of(b)[name]) for name, value in of(a).items()}
