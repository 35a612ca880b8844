"""Redo: what must be done again because sources changed after they were read, in the order in which it must be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleFeatures:
    """A visible period of features that today's sources would not give.

    Args:
        definition: of the features.
        sources: those that it would read differently now: event sources within its cuts, and references.
        left_out: the groups that could not be built.
    """

    definition: str
    period: str
    sources: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleVersion:
    """A version that is in force for a visible period, or from now on, and was trained on data that has changed.

    Args:
        period: the one it was trained for; its retrain is run again.
        features: its training periods and holdout whose features are stale.
        labels: those of them whose label reads files that changed.
    """

    version: str
    period: str
    features: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StalePredictions:
    """A visible period of predictions.

    Args:
        version: the one that wrote it.
        reasons: its features, its version, or both, in plain words.
        in_sample: the version was trained on the period, and scoring it in-sample was requested.
    """

    period: str
    version: str
    reasons: tuple[str, ...]
    in_sample: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Redo:
    """Everything that is visible or in force and would come out differently from the sources as they are now."""

    features: tuple[StaleFeatures, ...] = ()
    versions: tuple[StaleVersion, ...] = ()
    predictions: tuple[StalePredictions, ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.features or self.versions or self.predictions)

    def stale(self, definition: str) -> list[str]:
        """The stale periods of a feature definition."""
        return [one.period for one in self.features if one.definition == definition]


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names under which two orders read different contents."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
