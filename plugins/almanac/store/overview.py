"""An overview of a pipeline's versions and their results, for the command line and the pages."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from almanac.core import facts
from almanac.core.canonical import later
from almanac.core.conditions import Candidate, Fate, newest_first
from almanac.core.facts import Gated
from almanac.core.gate import Verdict
from almanac.core.notes import Note
from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Log
from almanac.core.receipts import Artifact, Receipt, Step
from almanac.core.suspicion import Suspect
from almanac.errors import IntegrityError, PromotionError
from almanac.store.home import Home
from almanac.store.notes import notes
from almanac.store.versions import Manifest

warnings = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One version.

    Args:
        metrics: on its holdout.
        decision: the last gate verdict; marked as promoted by hand if it was promoted in spite of a rejection.
        in_force: the periods for which it is in force, such as `2017-09 to 2017-10` or `from 2017-11`.
        withdrawn: whether it was withdrawn.
        notes: what people noted about it, oldest first.
        suspects: its features that look like leaks.
    """

    version: str
    period: str
    estimator: str
    training: tuple[str, ...]
    holdout: str
    metrics: Mapping[str, float]
    decision: str
    reasons: tuple[str, ...]
    in_force: tuple[str, ...]
    withdrawn: bool
    notes: tuple[Note, ...] = ()
    suspects: tuple[Suspect, ...] = later(())


def versions(home: Home) -> list[VersionRow]:
    """Every version, oldest first. One whose manifest was altered is left out and named in a warning."""
    log, decided, noted = home.log(), decisions(home), notes(home)
    described = functools.cache(home.receipts.description)
    by_hand = {entry.version for entry in log.entries if entry.over_a_rejection}
    rows = []
    for name, manifest in home.versions.readable().items():
        gate = decided.get(name)
        verdict = facts.read(Gated, gate).decision.verdict.value if gate else "none"
        rows.append(
            VersionRow(
                version=name,
                period=manifest.period,
                estimator=manifest.estimator,
                training=manifest.training,
                holdout=manifest.holdout,
                metrics=manifest.metrics,
                decision=f"{verdict}, promoted by hand" if name in by_hand else verdict,
                reasons=gate.findings if gate else (),
                in_force=tuple(spans(log, name, described(manifest.description))),
                withdrawn=name in log.withdrawn,
                notes=noted.get(name, ()),
                suspects=manifest.suspects,
            )
        )
    return rows


def candidates(home: Home) -> list[Candidate]:
    """Every version as conditions see it, the last trained first. One whose manifest was altered is left out."""
    log, decided, noted = home.log(), decisions(home), notes(home)
    ended = {home.receipts.uri(one): one.run_info.ended for one in home.receipts.listed(Artifact.MODEL, Step.STAGE)}

    def look(name: str, manifest: Manifest) -> Candidate:
        rejected = name in decided and facts.read(Gated, decided[name]).decision.verdict is Verdict.REJECT
        fates = {
            Fate.PROMOTED: name in log.versions,
            Fate.REJECTED: rejected,
            Fate.WITHDRAWN: name in log.withdrawn,
            Fate.SUSPECT: bool(manifest.suspects),
        }
        return Candidate(
            pipeline=home.name,
            version=name,
            period=manifest.period,
            estimator=manifest.estimator,
            classes=manifest.classes,
            features=manifest.features,
            metrics=manifest.metrics,
            trained=ended.get(manifest.receipt),
            fates=tuple(fate for fate, met in fates.items() if met),
            notes=noted.get(name, ()),
        )

    return newest_first(look(name, manifest) for name, manifest in home.versions.readable().items())


def decisions(home: Home) -> dict[str, Receipt]:
    """Version to the receipt of its last gate; unreadable receipts are left out."""
    found: dict[str, Receipt] = {}
    for receipt in home.receipts.listed(Artifact.CHAMPION, Step.AUDIT):
        if receipt.answered:
            try:
                name = facts.read(Gated, receipt).comparison.candidate_version
            except IntegrityError as error:
                warnings.warning("Left out: %s: %s", home.receipts.uri(receipt), error)
                continue
            older = found.get(name)
            if older is None or _when(older) <= _when(receipt):
                found[name] = receipt
    return found


def _when(receipt: Receipt) -> tuple[int, str]:
    """Sort key: the log position that the gate saw, then the time."""
    ended = receipt.run_info.ended
    return facts.read(Gated, receipt).decision.position, ended.isoformat() if ended else ""


def spans(log: Log, version: str, pipeline: Pipeline) -> list[str]:
    """The periods for which a version is in force, as text: `2017-08`, `2017-09 to 2017-11`, `from 2017-12`."""
    changes = [(effective, held) for effective, held in log.assignments().items()]
    kept = [change for before, change in pairwise([("", None), *changes]) if before[1] != change[1]]
    found = []
    for (effective, held), following in zip_longest(kept, kept[1:]):
        if held != version:
            continue
        last = pipeline.period(following[0]).plus(-1).key if following else None
        found.append(f"from {effective}" if last is None else effective if last == effective else f"{effective} to {last}")
    return found


def last_gate(home: Home, version: str) -> Receipt | None:
    """The receipt of a version's last gate, if it had one."""
    return decisions(home).get(version)


def newest_description(home: Home) -> Pipeline:
    """The description that the newest version was trained with. Raises: PromotionError, if there is no version."""
    found = home.newest_description()
    if found is None:
        raise PromotionError(f"Pipeline {home.name} has no version yet, so no description is stored. Run its retrain DAG first.")
    return found
