"""What a run will do, resolved once: the period's examples, the version in force, the features that are missing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from almanac.core import rollback as rollbacks
from almanac.core import window
from almanac.core.canonical import sealed
from almanac.core.period import Period
from almanac.core.pipeline import Pipeline
from almanac.core.plan import RunPlan
from almanac.doors import publish
from almanac.errors import DataError, DescriptionError, PromotionError
from almanac.store.home import Home
from almanac.store.versions import Manifest

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


def retrain(home: Home, pipeline: Pipeline, period: Period, module: bytes, *, dry_run: bool = False) -> RunPlan:
    """The plan of a retrain: its snapshots, and which of their features are not published yet.

    Raises:
        DataError: fewer labelled periods than the window's minimum.
    """
    found = window.examples(period, pipeline.window, pipeline.label, pipeline.first)
    description, digest = home.receipts.describe(pipeline, module)
    definition = pipeline.definition(digest)
    return RunPlan(
        pipeline=pipeline.name,
        period=period.key,
        description=description,
        module=digest,
        definition=definition,
        build=missing(home, definition, found.periods),
        position=home.log().position,
        training=found.training,
        holdout=found.holdout,
        dry_run=dry_run,
    )


def score(
    home: Home, pipeline: Pipeline, period: Period, *, version: str | None = None, allow_in_sample: bool = False
) -> RunPlan:
    """The plan to score a period: the version in force for it, or the one asked for, and whether features are missing.

    Features are built by the version's own description and module, whatever they are today.

    Raises:
        PromotionError: nothing is in force for the period, or the version is unknown or withdrawn.
        DataError: the period lies in the version's own training window, and that was not asked for.
        DescriptionError: the version wants features that the DAG of today has no tasks for.
    """
    log = home.log()
    name = version or log.in_force(period.key)
    if name is None:
        raise PromotionError(
            f"No version of {home.name} is in force for {period}. Retrain an earlier period and promote it, or name a version."
        )
    if name in log.withdrawn:
        raise PromotionError(f"Version {name} was withdrawn; nothing is scored with it. Name another one.")
    promoted = next((entry.manifest for entry in reversed(log.entries) if entry.version == name), None)
    manifest = home.versions.read(name, promoted)
    in_sample = period.key in manifest.training
    if in_sample and not allow_in_sample:
        raise DataError(
            f"Version {name} was trained on {period} (its window: {', '.join(manifest.training)}), so its scores there would "
            "look better than they are. Name an older version, or set allow_in_sample."
        )
    build = missing(home, manifest.definition, [period.key])
    if build:
        _check_buildable(home, pipeline, manifest)
    return RunPlan(
        pipeline=home.name,
        period=period.key,
        description=manifest.description,
        module=manifest.module,
        definition=manifest.definition,
        build=build,
        position=log.position,
        version=name,
        manifest=manifest.digest,
        in_sample=in_sample,
    )


def _check_buildable(home: Home, pipeline: Pipeline, manifest: Manifest) -> None:
    older = home.receipts.description(manifest.description)
    wanted, present = ([group.name for group in described.features] for described in (older, pipeline))
    if set(wanted) != set(present):
        raise DescriptionError(
            f"Version {manifest.version} wants features of the groups {', '.join(wanted)} (definition {manifest.definition}), "
            f"today's description has {', '.join(present)}. Bring the groups back, or use a version of today's definition."
        )


def missing(home: Home, definition: str, periods: Iterable[str]) -> tuple[str, ...]:
    """Those of the periods whose features are not published under a definition.

    A period that became visible although its publisher died before it wrote the receipt gets its receipt here.
    """
    listed = list(periods)
    table = home.features(definition)
    publish.settle(home, table, listed)
    return tuple(sorted(set(listed) - set(home.published(table, listed))))


def rollback(
    home: Home,
    pipeline: Pipeline,
    *,
    reason: str,
    to: str | None = None,
    withdraw: bool = True,
    periods: Iterable[str] | None = None,
    keep: bool = False,
) -> rollbacks.Plan:
    """The plan of a rollback. With `keep` it is written down under its digest, before anything changes.

    Raises:
        PromotionError: see `core.rollback.plan`.
        DataError: an affected period lies in the older version's own training window.
        DescriptionError: features of an affected period are not published under the older version's definition.
    """
    written = home.written()
    following = pipeline.period(max(item.period for item in written)).plus(1).key if written else ""
    plan = rollbacks.plan(
        home.name,
        home.log(),
        written,
        home.versions.names(),
        reason=reason,
        to=to,
        withdraw=withdraw,
        periods=periods,
        next_period=following,
    )
    manifest = home.versions.read(plan.to)
    if in_sample := [period for period in plan.periods if period in manifest.training]:
        raise DataError(
            f"Version {plan.to} was trained on {', '.join(in_sample)} (its window: {', '.join(manifest.training)}), which "
            f"{plan.bad} wrote and which would be scored again. Roll back to an older version, or name other periods."
        )
    if absent := missing(home, manifest.definition, plan.periods):
        raise DescriptionError(
            f"Version {plan.to} wants features of definition {manifest.definition}, which are not published for "
            f"{', '.join(absent)}. Score these periods with version={plan.to} first, or roll back to another version."
        )
    if keep:
        home.objects.put_if_absent(home.layout.rollback(plan.digest), sealed(plan))
    return plan
