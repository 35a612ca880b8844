"""What a run will do: resolved once, when it begins, and used by everything after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ASKED = "asked"  # a parameter of a predictions order: a person requested its version by name, whatever is in force


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What one retrain or score run will do.

    Args:
        period: the one to retrain for, or to score.
        description, module: digests of the description and the user's module that features are built with.
        definition: of those features.
        build: the feature periods that are not published yet, oldest first.
        position: the promotion log's last entry when the run was planned.
        fences: how often each of `build` had been published when the run was planned: what others publish meanwhile is kept.
        fence: the same of a score run's predictions.
        training, holdout: a retrain's snapshots.
        version, manifest: what a score run scores with, and its manifest's digest.
        pinned: the version was requested by name.
        in_sample: the version was trained on the period, and scoring it in-sample was requested.
        degrade: the share of the version's importance that left-out feature groups may hold.
        importance: feature group to its share, if some may be left out.
        known_at: until when corrections of the labels count, ISO 8601; empty for the period's end.
        dry_run: stop after the plan.
    """

    pipeline: str
    period: str
    description: str
    module: str
    definition: str
    build: tuple[str, ...]
    position: int
    fences: Mapping[str, int] = field(default_factory=dict)
    fence: int | None = None
    training: tuple[str, ...] = ()
    holdout: str = ""
    version: str = ""
    manifest: str = ""
    pinned: bool = False
    in_sample: bool = False
    known_at: str = ""
    dry_run: bool = False
    degrade: float = 0.0
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def retrains(self) -> bool:
        return bool(self.holdout)

    @property
    def in_words(self) -> str:
        building = f"features of {', '.join(self.build)} will be built" if self.build else "no features need to be built"
        if self.retrains:
            return f"Retrain {self.period}: trained on {', '.join(self.training)}, judged on {self.holdout}; {building}."
        return f"Score {self.period} with version {self.version}; {building}."
