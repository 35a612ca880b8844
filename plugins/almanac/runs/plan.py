"""What a run will do, resolved once: the period's examples, the version in force, the features that are missing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from almanac.core import window
from almanac.core.canonical import sha256
from almanac.core.degrade import leaves_out, share
from almanac.core.period import Period
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.sources import as_utc
from almanac.errors import DataError, DescriptionError, PeriodError, PromotionError, examples
from almanac.runs import redo
from almanac.store import compatibility
from almanac.store.home import Home
from almanac.store.tables import Visible

ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def module_zip(spark_jobs: Path, name: str) -> bytes:
    """The user's module, zipped so that equal files give equal bytes.

    Raises:
        DescriptionError: there is no such file.
    """
    path = spark_jobs / f"{name}.py"
    if not path.is_file():
        raise DescriptionError(
            f"Pipeline {name!r} has no module: {path.name} is not in ALMANAC_SPARK_JOBS. Write its functions there."
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(path.name, ZIP_TIME), path.read_bytes())
    return packed.getvalue()


def retrain(
    home: Home,
    pipeline: Pipeline,
    period: Period,
    module: bytes,
    *,
    dry_run: bool = False,
    refresh: bool = False,
    known_at: str | None = None,
) -> RunPlan:
    """The plan of a retrain: its snapshots, and which of their features are not published yet. `refresh`: or would be others.

    `known_at`: until when corrections of the labels count, ISO 8601, UTC where it names no zone.

    Raises:
        PeriodError: the period has not ended.
        DataError: fewer labelled periods than the window's minimum.
        DescriptionError: the key or the label do not fit what is visible; or `known_at` is no time, lies before the period's end
            or ahead, or a source cannot say what was known.
    """
    check_ended(home, period)
    found = window.examples(period, pipeline.window, pipeline.label, pipeline.first, pipeline.label_lag)
    description, digest = pipeline.digest, sha256(module)
    told = _known_at(home, pipeline, period, known_at) if known_at else ""
    then = told if set(pipeline.versioned) & set(pipeline.read_by_features) else ""
    definition = pipeline.definition(digest, then)
    compatibility.check(home, definition, pipeline.entity, pipeline.label.target)
    build, fences = _to_build(home, definition, found.periods, refresh=refresh and not then)
    return RunPlan(
        pipeline=pipeline.name,
        period=period.key,
        description=description,
        module=digest,
        definition=definition,
        build=build,
        fences=fences,
        position=home.log().position,
        training=found.training,
        holdout=found.holdout,
        known_at=told,
        dry_run=dry_run,
    )


def _known_at(home: Home, pipeline: Pipeline, period: Period, asked: str) -> str:
    """A time as orders tell it; empty where it is the period's end and that is what they mean without it."""
    try:
        moment = as_utc(datetime.fromisoformat(asked), None)
    except ValueError:
        raise DescriptionError(f"known_at: found {asked!r}, allowed is a time such as 2017-09-01T00:00:00.") from None
    if moment < period.as_of:
        raise DescriptionError(
            f"known_at: found {asked}, which is before the end of {period} ({period.as_of:%Y-%m-%d}): its labels were not all "
            "known then. Give that time or a later one, or retrain an earlier period."
        )
    timed = {name for name, source in pipeline.sources.items() if getattr(source, "knowledge_time", None)}
    if blind := [name for name in pipeline.sources if name not in {*timed, *pipeline.versioned}]:
        raise DescriptionError(
            f"known_at: {examples(blind)} of {pipeline.name} cannot say what was known of it at a time. Declare a "
            "knowledge_time, or versioned=True where its bucket keeps versions, for every source, or leave known_at out."
        )
    if not pipeline.versioned:
        return "" if moment == period.as_of else moment.isoformat()
    if moment >= (now := home.objects.now(home.layout.home)):
        raise DescriptionError(
            f"known_at: found {asked}, and it is {now.isoformat()}: files that are still to come would count. Give a time that "
            "is over, or leave known_at out."
        )
    return moment.isoformat()


def score(
    home: Home,
    period: Period,
    *,
    version: str | None = None,
    allow_in_sample: bool = False,
    refresh: bool = False,
    degrade: float = 0.0,
    as_is: bool = False,
) -> RunPlan:
    """The plan to score a period: the version in force for it, or the one asked for, and whether features are missing; or,
    with `refresh`, would be others when they were built from the sources as they are now.

    Features are built by the version's own description and module, whatever they are today. `degrade`: which share of the
    version's importance feature groups may hold that cannot be built. Features that are published without groups are built
    again; `as_is`: only where the version cannot do without these, and then whole.

    Raises:
        PeriodError: the period has not ended.
        PromotionError: nothing is in force for the period, or the version is unknown or withdrawn.
        DescriptionError: its key or label do not fit what is visible.
        DataError: the version knows the period: it lies in its training window, is its holdout, or is older; and that was not
            asked for.
    """
    check_ended(home, period)
    fence = home.predictions.fence(period.key)  # before the log: whoever publishes in between is seen
    log = home.log()
    name = version or log.in_force(period.key)
    if name is None:
        raise PromotionError(
            f"No version of {home.name} is in force for {period}. Retrain an earlier period and promote it, or name a version."
        )
    if name in log.withdrawn:
        raise PromotionError(f"Version {name} was withdrawn; nothing is scored with it. Name another one.")
    manifest = home.vouched(name, log=log)
    compatibility.check(home, manifest.definition, manifest.entity, manifest.target)
    in_sample = period.key <= manifest.holdout
    if in_sample and not allow_in_sample:
        how = "was trained on" if period.key in manifest.training else "knows"
        raise DataError(
            f"Version {name} {how} {period} (its window: {', '.join(manifest.training)}), so its scores there would look better "
            f"than they are: expected a period after its holdout {manifest.holdout}. Name an older version, or set "
            "allow_in_sample."
        )
    build, fences = _to_build(home, manifest.definition, [period.key], refresh=refresh)
    planned = RunPlan(
        pipeline=home.name,
        period=period.key,
        description=manifest.description,
        module=manifest.module,
        definition=manifest.definition,
        build=build,
        position=log.position,
        fences=fences,
        fence=fence,
        version=name,
        manifest=manifest.digest,
        pinned=bool(version),
        in_sample=in_sample,
        degrade=degrade,
        importance=home.versions.importance(manifest) if degrade else {},
    )
    if not as_is or not planned.build:
        return planned
    return replace(planned, build=()) if _bearable(home, planned) else replace(planned, degrade=0.0)


def _bearable(home: Home, planned: RunPlan) -> bool:
    """Whether a period's features are published, without groups that its version can do without."""
    seen = home.features(planned.definition).visible().get(planned.period)
    absent = _absent(home, seen) if seen else ()
    return bool(absent) and share(planned, absent) <= planned.degrade


def score_all(
    home: Home,
    periods: Sequence[Period],
    *,
    version: str | None = None,
    allow_in_sample: bool = False,
    refresh: bool = False,
    degrade: float = 0.0,
) -> list[RunPlan]:
    """The plans to score several periods in one run, each with its own version.

    Raises:
        PromotionError, DataError: as for `score`, of any of the periods.
        DescriptionError: features of more than one definition are missing: one run builds those of one.
    """
    asked = {"allow_in_sample": allow_in_sample, "refresh": refresh}
    found = [score(home, period, version=version, degrade=degrade, **asked) for period in periods]
    building = {one.definition: one.version for one in found if one.build}
    if len(building) > 1:
        listed = "; ".join(
            f"{examples([one.period for one in found if one.definition == name and one.build])} by {version}'s definition {name}"
            for name, version in building.items()
        )
        raise DescriptionError(
            f"Features of {len(building)} definitions are missing ({listed}), and one run builds those of one. Score the periods "
            "of each in a run of their own, or by a backfill."
        )
    return found


def check_buildable(home: Home, pipeline: Pipeline, plan: RunPlan) -> None:
    """The features that a plan misses are those that the DAG of today has tasks for.

    Raises:
        DescriptionError: the plan's version wants features of other groups, or audited sources.
    """
    if not plan.build:
        return
    older = home.receipts.description(plan.description)
    wanted, present = ([group.name for group in described.features] for described in (older, pipeline))
    if set(wanted) != set(present):
        raise DescriptionError(
            f"Version {plan.version} wants features of the groups {', '.join(wanted)} (definition {plan.definition}), "
            f"today's description has {', '.join(present)}. Bring the groups back, or use a version of today's definition."
        )
    if older.audited and not pipeline.audited:
        raise DescriptionError(
            f"Version {plan.version} wants its sources audited ({examples(older.audited)}), today's description audits none. "
            "Bring audit= back, or use a version of today's definition."
        )


def joined(plans: Sequence[RunPlan]) -> RunPlan:
    """One run that builds what several miss, all of one feature definition. It scores nothing. One alone is itself.

    What may be left out of it is what each of their versions can do without.
    """
    if len(plans) == 1:
        return plans[0]
    builders = [one for one in plans if one.build] or plans[-1:]
    build, builder = sorted({period for one in plans for period in one.build}), builders[0]
    groups = {name for one in builders for name in one.importance}
    return replace(
        builder,
        period=(build or [builder.period])[-1],
        build=tuple(build),
        fences={period: fence for one in plans for period, fence in one.fences.items()},
        fence=None,
        version="",
        manifest="",
        in_sample=False,
        importance={name: max(one.importance.get(name, 1.0) for one in builders) for name in groups},
    )


def check_ended(home: Home, period: Period) -> None:
    """Only a period that has ended is built, trained for or scored. Raises: PeriodError, by the store's clock."""
    if period.end > (now := home.objects.now(home.layout.home)):
        raise PeriodError(
            f"Period {period} of {home.name} ends at {period.end:%Y-%m-%d %H:%M} UTC, and the store's clock says "
            f"{now:%Y-%m-%d %H:%M} UTC: expected a period that has ended. Its features would lack what is still to come. Start "
            "the run after its end, or name an earlier period."
        )


def _to_build(home: Home, definition: str, periods: Sequence[str], *, refresh: bool) -> tuple[tuple[str, ...], dict[str, int]]:
    """The periods whose features are to be built, and their fences as they are before anything is looked at."""
    _, fences = home.features(definition).standing(periods)
    again = redo.stale(home, definition, periods) if refresh else ()
    build = tuple(sorted({*missing(home, definition, periods), *again}))
    return build, {period: fences[period] for period in build}


def missing(home: Home, definition: str, periods: Iterable[str]) -> tuple[str, ...]:
    """Those of the periods whose features are not published under a definition, or not whole.

    What is visible is told by its order: its receipt may be missing, where its publisher died before writing it.
    """
    listed = list(periods)
    visible = home.features(definition).visible()
    whole = [period for period in listed if period in visible and not _absent(home, visible[period])]
    return tuple(sorted(set(listed) - set(whole)))


def _absent(home: Home, seen: Visible) -> tuple[str, ...]:
    """The groups that a visible period of features lacks."""
    return leaves_out(home.receipts.placed(seen.order).order)
