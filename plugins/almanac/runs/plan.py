"""What a run will do, resolved once: the snapshots to train on, the version in force, the features that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from almanac.core import window
from almanac.core.canonical import sha256
from almanac.core.degrade import leaves_out, share
from almanac.core.period import Period
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.core.receipts import publish_order
from almanac.core.timezone import as_utc
from almanac.errors import DataError, DescriptionError, PeriodError, PromotionError, examples
from almanac.runs import redo
from almanac.store import compatibility
from almanac.store.home import Home
from almanac.store.tables import Visible


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
    """The plan of a retrain: its snapshots, and which of their features are not published yet. With `refresh`, features that
    today's sources would change are built again.

    `known_at`: corrections of labels count up to this time; ISO 8601, UTC if it names no zone.

    Raises:
        PeriodError: the period has not ended.
        DataError: there are fewer labelled periods than the window's minimum.
        DescriptionError: the key or the label does not fit what is visible; or `known_at` is not a time, is before the period's
            end or in the future, or a source does not record what was known when.
    """
    check_ended(home, period)
    if (newest := home.newest_description()) is not None:
        _check_keys(newest, period, f"the versions of {pipeline.name}")
    found = window.examples(period, pipeline.window, pipeline.label, pipeline.first, pipeline.label_lag)
    description, digest = pipeline.digest, sha256(module)
    moment = _known_at(home, pipeline, period, known_at) if known_at else ""
    then = moment if set(pipeline.telling_their_past) & set(pipeline.read_by_features) else ""
    definition = pipeline.definition(digest, then)
    compatibility.check(home, definition, pipeline.keys, pipeline.label.target)
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
        known_at=moment,
        dry_run=dry_run,
    )


def _known_at(home: Home, pipeline: Pipeline, period: Period, given: str) -> str:
    """`known_at` as orders record it; empty if it is the period's end and orders default to that."""
    try:
        moment = as_utc(datetime.fromisoformat(given), None)
    except ValueError:
        raise DescriptionError(f"known_at: expected a time such as 2017-09-01T00:00:00, got {given!r}.") from None
    if moment < period.as_of:
        raise DescriptionError(
            f"known_at: expected a time at or after the end of {period} ({period.as_of:%Y-%m-%d %H:%M} UTC), got {given}. "
            "Not all of its labels were known then. Give that time or a later one, or retrain an earlier period."
        )
    if blind := [name for name, source in pipeline.sources.items() if not source.tells_what_was_known]:
        raise DescriptionError(
            f"known_at: {examples(blind)} of {pipeline.name} cannot be read as known at an earlier time. Declare a "
            "knowledge_time for every source, or versioned=True if its bucket keeps object versions, or snapshots= for a "
            "reference, or read a Delta or Iceberg table; or leave known_at out."
        )
    if not pipeline.telling_their_past:
        return "" if moment == period.as_of else moment.isoformat()
    if moment >= (now := home.objects.now(home.layout.home)):
        raise DescriptionError(
            f"known_at: expected a time before now ({now.isoformat()}), got {given}: files yet to arrive would count. Give a "
            "past time, or leave known_at out."
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
    """The plan to score a period: the version in force for it, or the requested one, and the features to build: those that are
    missing and, with `refresh`, those that today's sources would change.

    Features are built with the version's own description and module, not with today's. `degrade`: the share of the version's
    importance that feature groups may hold which cannot be built. Features that were published without groups are built again;
    with `as_is`, only if the version cannot do without these groups, and then complete.

    Raises:
        PeriodError: the period has not ended.
        PromotionError: no version is in force for the period, or the version is unknown or withdrawn.
        DescriptionError: its key or label does not fit what is visible.
        DataError: the version knows the period (it is in its training window, its holdout, or older), and `allow_in_sample` is
            not set.
    """
    check_ended(home, period)
    fence = home.predictions.fence(period.key)  # before the log, so that a publish in between is noticed
    log = home.log()
    name = version or log.in_force(period.key)
    if name is None:
        raise PromotionError(
            f"No version of {home.name} is in force for {period}. Retrain an earlier period and promote it, or name a version."
        )
    if name in log.withdrawn:
        raise PromotionError(f"Version {name} was withdrawn and cannot score. Name another version.")
    manifest = home.vouched(name, log=log)
    older = home.receipts.description(manifest.description)
    _check_keys(older, period, f"version {name}")
    check_ended(home, older.period(period.key))  # in another zone it can end later
    compatibility.check(home, manifest.definition, manifest.keys, manifest.target)
    in_sample = period.key <= manifest.holdout
    if in_sample and not allow_in_sample:
        how = "was trained on" if period.key in manifest.training else "knows"
        raise DataError(
            f"Version {name} {how} {period} (its window: {', '.join(manifest.training)}), so its scores would look better than "
            f"they are: expected a period after its holdout {manifest.holdout}. Name an older version, or set allow_in_sample."
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
    """Whether a period's published features lack only groups that its version can do without."""
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
        PromotionError, DataError: as for `score`, for any of the periods.
        DescriptionError: features of more than one definition are missing; one run builds features of one definition.
    """
    options = {"allow_in_sample": allow_in_sample, "refresh": refresh}
    found = [score(home, period, version=version, degrade=degrade, **options) for period in periods]
    building = {one.definition: one.version for one in found if one.build}
    if len(building) > 1:
        listed = "; ".join(
            f"{examples([one.period for one in found if one.definition == name and one.build])} by {version}'s definition {name}"
            for name, version in building.items()
        )
        raise DescriptionError(
            f"Features of {len(building)} definitions are missing ({listed}), and one run builds features of one definition. "
            "Score the periods of each definition in a run of their own, or in a backfill."
        )
    return found


def check_buildable(home: Home, pipeline: Pipeline, plan: RunPlan) -> None:
    """Checks that today's DAG has the tasks to build the features that a plan misses.

    Raises:
        DescriptionError: the plan's version needs other feature groups, or audited sources.
    """
    if not plan.build:
        return
    older = home.receipts.description(plan.description)
    wanted, present = ([group.name for group in described.features] for described in (older, pipeline))
    if set(wanted) != set(present):
        raise DescriptionError(
            f"Version {plan.version} needs the feature groups {', '.join(wanted)} (definition {plan.definition}), but today's "
            f"description has {', '.join(present)}. Restore the groups, or use a version of today's definition."
        )
    if older.audited and not pipeline.audited:
        raise DescriptionError(
            f"Version {plan.version} needs audited sources ({examples(older.audited)}), but today's description audits none. "
            "Restore audit=, or use a version of today's definition."
        )


def joined(plans: Sequence[RunPlan]) -> RunPlan:
    """Joins plans of one feature definition into one that builds all features they miss. It scores nothing. A single plan is
    returned as it is.

    It may leave out only what every version of the plans can do without.
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


def _check_keys(older: Pipeline, period: Period, what: str) -> None:
    """Checks that a period's key means the same as it did. Raises: DescriptionError."""
    ours, theirs = period.calendar, older.calendar
    if (ours.every, ours.week_starts) != (theirs.every, theirs.week_starts):
        raise DescriptionError(
            f"Pipeline.every: expected a {theirs}, as {what} have; got a {ours}. Keys of both would be mixed in the promotion "
            f"log and in tables. {compatibility.ADVICE}."
        )


def check_ended(home: Home, period: Period) -> None:
    """Checks that a period has ended, by the store's clock, before it is built, trained for or scored. Raises: PeriodError."""
    if period.end > (now := home.objects.now(home.layout.home)):
        raise PeriodError(
            f"Period {period} of {home.name} ends at {period.end:%Y-%m-%d %H:%M} UTC, and the store's clock says "
            f"{now:%Y-%m-%d %H:%M} UTC: expected a period that has ended. Its features would lack later data. Start the run "
            "after its end, or name an earlier period."
        )


def _to_build(home: Home, definition: str, periods: Sequence[str], *, refresh: bool) -> tuple[tuple[str, ...], dict[str, int]]:
    """The periods whose features must be built, and their fences, read before anything else."""
    _, fences = home.features(definition).standing(periods)
    again = redo.stale(home, definition, periods) if refresh else ()
    build = tuple(sorted({*missing(home, definition, periods), *again}))
    return build, {period: fences[period] for period in build}


def missing(home: Home, definition: str, periods: Iterable[str]) -> tuple[str, ...]:
    """Those of the periods whose features are not published under a definition, or lack groups.

    The order of the visible files says which groups they lack. Their receipt may be missing if the publisher died before
    writing it; then it can still be derived from the commit. Where that is gone as well, the period is built again.
    """
    listed, table = list(periods), home.features(definition)
    visible = table.visible()

    def is_whole(period: str) -> bool:
        if period not in visible:
            return False
        order = home.receipts.placed(visible[period].order).order
        published = publish_order(order)
        known = home.receipts.done(published) is not None or table.commit_of(published.digest) is not None
        return known and not leaves_out(order)

    return tuple(sorted(period for period in set(listed) if not is_whole(period)))


def _absent(home: Home, seen: Visible) -> tuple[str, ...]:
    """The groups that a visible period of features lacks."""
    return leaves_out(home.receipts.placed(seen.order).order)
