"""`almanac try`: runs a pipeline's functions once, on a sample, with the rules of the real jobs. Nothing is stored or published.

It is a program of its own, `python -m almanac.jobs.trial`, because it is a Spark driver: the command line starts it.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import linecache
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from almanac import described, pinning, user_module
from almanac.core import suspicion as rule
from almanac.core import window
from almanac.core.aggregates import Aggregates
from almanac.core.cuts import feature_cuts, label_cuts
from almanac.core.entity import labelled
from almanac.core.functions import Part, call, check_module, function_of
from almanac.core.period import Period
from almanac.core.pins import Pin
from almanac.core.pipeline import FeatureGroup, Pipeline
from almanac.core.sources import Cut, EventSource, ReferenceSource
from almanac.errors import AlmanacError, SourceError, examples
from almanac.jobs.aggregates import aggregation
from almanac.jobs.failures import plain
from almanac.jobs.told import Stopped, Timed, Told
from almanac.project import Project
from almanac.settings import GARBAGE
from almanac.store.copies import LocalCopies
from almanac.store.objects import Objects

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

ENTITIES = 2000  # about how many of a period's entities a sample has
POLL_SECONDS = 0.5
LARGEST_SHARE = 0.9


@dataclass
class Trial:
    """One run through a pipeline's functions.

    Args:
        snapshots: those to train on, and the holdout.
        share: of the entities, from 0 to 1.
    """

    pipeline: Pipeline
    file: Path
    module: ModuleType
    spark: SparkSession
    pins: Mapping[str, Pin]
    snapshots: window.Examples
    retrained: str
    share: float
    told: Told
    folder: Path

    def features(self, period: str) -> pa.Table:
        """A snapshot's features: one row for each entity of the sample, sorted."""
        from almanac.jobs.features import check_names
        from almanac.spark import arrow, features

        pipeline, people = self.pipeline, self.pipeline.population
        with self._timed(people.name, period) as timed:
            given = self._called(people, period, feature_cuts(pipeline, people, period))
            spine, entities, notes = features.population(given, pipeline.keys, people, period)
            self.told.warn(notes)
            timed.rows = entities
        parts = {group.name: self._group(group, period) for group in pipeline.features}
        joined = features.combine(features.named(spine, pipeline.keys), parts, pipeline.keys, pipeline.zeros())
        schema = features.arrow_schema(joined)
        check_names(schema.names, pipeline)
        found = arrow.sort(joined.toArrow().cast(schema), pipeline.keys)
        spine.unpersist()
        return found

    def label(self, period: str, rows: pa.Table) -> pd.DataFrame:
        """A snapshot's features with their labels."""
        from almanac.model import training
        from almanac.spark import features

        label = self.pipeline.label
        known = self.pipeline.period(self.retrained).as_of
        with self._timed(label.name, period) as timed:
            given = self._called(label, period, label_cuts(self.pipeline, period, known))
            features.columns_of(given, self.pipeline.keys, label.name)
            labels = given.toArrow()
            joined = training.label_rows(rows, labels, self.pipeline.keys, label)
            timed.rows = len(labels)
            timed.table = pa.table({"label": pa.array(joined[window.LABEL])})
        return joined.assign(**{window.SNAPSHOT: period})

    def _group(self, group: FeatureGroup | Aggregates, period: str) -> DataFrame:
        from almanac.spark import features

        keys = self.pipeline.keys
        with self._timed(group.name, period) as timed:
            if isinstance(group, Aggregates):
                table = self._described(group, period)
            else:
                given = self._called(group, period, feature_cuts(self.pipeline, group, period))
                shaped = features.shaped(given, keys, group.name)
                table = shaped.toArrow()
            frame = self.spark.createDataFrame(table)
            what = f"Feature group {group.name!r}"
            different = table.group_by(list(keys)).aggregate([])
            if len(different) != len(table) or any(table[key].null_count for key in keys):
                _, without = features.check_unique(frame.select(*keys), keys, what)
                self.told.warn(features.nameless(what, without, keys))
            self.told.warn(_oddities(table, keys, group.name))
            timed.rows, timed.table = len(table), table.drop_columns(list(keys))
        return frame

    def _called(self, part: Part, period: str, cuts: Mapping[str, Cut]) -> DataFrame:
        """What a function returns for the sample of a period, as a job calls it."""
        from almanac.spark import sources

        available: dict[str, Any] = {}
        for name, cut in cuts.items():
            available[name] = self._sampled(sources.read(self.spark, self.pipeline.sources[name], self.pins[name], cut))
        available["as_of"] = self.pipeline.period(period).as_of
        return call(function_of(self.module, part.name), part, self.pipeline, available)  # type: ignore[no-any-return]

    def _sampled(self, frame: DataFrame) -> DataFrame:
        """The rows of the sample's entities; all rows, if the source lacks a column of the entity."""
        from pyspark.sql import functions as F

        if self.share >= 1 or not set(self.pipeline.keys) <= set(frame.columns):
            return frame
        texts = []
        for name in self.pipeline.keys:
            key = F.col(f"`{name}`")
            if frame.schema[name].dataType.typeName() in ("double", "float"):
                key = key.cast("decimal(38,0)")  # 1.0 in one source is 1 in another
            texts.append(key.cast("string"))
        lot = F.pmod(F.xxhash64(*texts), F.lit(1_000_000))
        return frame.where(lot < int(self.share * 1_000_000))

    def _described(self, group: Aggregates, period: str) -> pa.Table:
        """The features of a described group, from partial sums that are kept in a folder of this trial's."""
        from almanac.spark import aggregates, arrow, partials

        cuts = feature_cuts(self.pipeline, group, period)
        asked, cut = aggregation(self.pipeline, group, self.pins, cuts), cuts[group.reads[0]]
        assert cut.high is not None
        edges = sorted({cut.high, *(cut.high - one for one in group.windows)})
        folder = tempfile.mkdtemp(dir=self.folder)
        files = self.pins[group.reads[0]].within(cut)
        blocks = [block for file in files for block in partials.blocks(file, edges)]
        summed = partials.summed(self.spark, [partials.Wanted(asked=asked, block=block, folder=folder) for block in blocks])
        schema = aggregates.schema_of(asked)
        merge = aggregates.Merge(
            asked=asked, kept=[one.files for one in summed], high=cut.high, folder=f"{folder}/merged", schema=schema
        )
        Path(f"{folder}/merged").mkdir()
        (written,) = aggregates.merged(self.spark, [merge])
        return arrow.table(written.outputs) if written.outputs else schema.empty_table()

    @contextmanager
    def _timed(self, name: str, period: str) -> Iterator[Timed]:
        """Tells what a function did; or, if it failed, where."""
        timed, began = Timed(), time.monotonic()
        try:
            yield timed
        except Exception as error:
            self.told.fail(f"Function {name!r} for {period}", error, self.file)
        self.told.function(name, period, timed, time.monotonic() - began)


def run(project: Project, name: str, period: str | None, *, whole: bool, session: Future[SparkSession], told: Told) -> None:
    """Runs a trial. Raises: Stopped, AlmanacError."""
    began = time.monotonic()
    pipeline = project.described(name)
    user_module.check(project.spark_jobs, pipeline)
    file = (project.spark_jobs / f"{name}.py").resolve()
    snapshots = _snapshots(pipeline, period) if period else None
    with tempfile.TemporaryDirectory(prefix="almanac-try-") as folder, _imported(file, name, told) as module:
        pins = _pins(pipeline, told, Path(folder))
        retrained = period or _newest(pipeline, pins)
        snapshots = snapshots or _snapshots(pipeline, retrained)
        if not whole:
            snapshots = window.Examples(training=snapshots.training[-1:], holdout=snapshots.holdout)
        check_module(module, pipeline)
        spark = _started(session)
        trial = Trial(
            pipeline=pipeline,
            file=file,
            module=module,
            spark=spark,
            pins=pins,
            snapshots=snapshots,
            retrained=retrained,
            share=1.0,
            told=told,
            folder=Path(folder),
        )
        if not whole:
            trial.share = _share(trial, snapshots.holdout)
        sampled = "all entities" if trial.share >= 1 else f"a sample of {trial.share:.1%} of the entities"
        told.say(f"Retrain for {retrained}: trains on {', '.join(snapshots.training)}, holdout {snapshots.holdout}; {sampled}.")
        found = {one: trial.features(one) for one in reversed(snapshots.periods)}
        labelled = {one: trial.label(one, rows) for one, rows in found.items()}
        failed = _checked(trial, found[snapshots.holdout])
        _trained(trial, labelled)
        told.tables(snapshots.holdout)
        told.say(f"Nothing was stored. {time.monotonic() - began:.0f} s; {len(told.warnings)} warnings.")
        if failed:
            raise Stopped


def _snapshots(pipeline: Pipeline, period: str) -> window.Examples:
    return window.examples(pipeline.period(period), pipeline.window, pipeline.label, pipeline.first, pipeline.label_lag)


def _pins(pipeline: Pipeline, told: Told, folder: Path) -> dict[str, Pin]:
    """The sources' files as a run would pin them now."""
    objects, pins = Objects(), {}
    for name, source in pipeline.sources.items():
        pin = pinning.observe(objects, LocalCopies(folder), name, source, asked=pipeline.columns_read(name))
        rows = sum(file.rows for file in pin.files)
        newest = f", newest event {pin.freshness:%Y-%m-%d %H:%M} UTC" if pin.freshness else ""
        told.say(f"source {name}: {len(pin.files)} files, {rows} rows{newest}")
        told.warn(pin.notes)
        if isinstance(source, ReferenceSource) and not source.times:
            told.warn(
                [
                    f"Source {name!r} is a reference: every snapshot sees it as it is today. If it holds what became known "
                    "later, features of the past know the future. Declare valid_from= or snapshots=, or describe it as an "
                    "EventSource."
                ]
            )
        pins[name] = pin
    described.check(pipeline, pins)
    return pins


def _newest(pipeline: Pipeline, pins: Mapping[str, Pin]) -> str:
    """The newest period that the events of all sources of the label have reached the end of. Raises: SourceError."""
    ends = {name: pins[name].freshness for name in pipeline.label.reads if isinstance(pipeline.sources[name], EventSource)}
    known = [end for end in ends.values() if end is not None]
    if not known:
        raise SourceError(
            f"Sources {examples(ends)} have no statistics of their event times, so the newest period is unknown. Name it: "
            "--period 2010-08."
        )
    ended = Period.holding(min(known), pipeline.calendar).plus(-1).key
    return min(ended, pipeline.last_period or ended)


def _share(trial: Trial, period: str) -> float:
    """The share of entities that gives about `ENTITIES` of them, by the population of a period; counted without sampling."""
    from pyspark.sql import functions as F

    people, pipeline = trial.pipeline.population, trial.pipeline
    with trial._timed(people.name, period) as timed:
        given = trial._called(people, period, feature_cuts(pipeline, people, period))
        keys = [F.col(f"`{key}`") for key in pipeline.keys]
        row = given.agg(F.approx_count_distinct(F.struct(*keys) if len(keys) > 1 else keys[0]).alias("entities")).first()
        timed.rows = int(row["entities"]) if row else 0
    trial.told._table.pop()
    return min(1.0, ENTITIES / timed.rows) if timed.rows else 1.0


def _checked(trial: Trial, rows: pa.Table) -> bool:
    """Runs the checks of features on a period. Those of the whole table are left out on a sample. Whether one failed."""
    from almanac.spark import checks
    from almanac.spark import rows as held

    told = trial.told
    try:
        given = _call(trial, "checks")
        checks.suites(given, trial.pipeline)
        wanted = checks.section(given, "features")
        checks.check_columns(wanted, rows.column_names, "features")
        if trial.share < 1:
            whole = [one for one in wanted if not checks.columns_of(one)]
            told.warn([f"checks(): {len(whole)} checks of the whole table are not run on a sample."] if whole else [])
            wanted = [one for one in wanted if checks.columns_of(one)]
        found = checks.run(held.of_table(lambda: trial.spark, rows), wanted, "try") if wanted else None
    except Exception as error:
        told.fail("checks()", error, trial.file)
        raise
    if found is None:
        return False
    told.warn(found.warnings)
    for failure in found.blocking:
        told.say(f"check failed: {failure}")
    told.say(f"checks(): {found.checks} on features of {trial.snapshots.holdout}, {len(found.blocking)} failed")
    return not found.passed


def _trained(trial: Trial, labelled: Mapping[str, pd.DataFrame]) -> None:
    """Fits the estimators, and tells the gate's metric on the holdout and what looks like a leak."""
    import pandas as pd

    from almanac.model import reports, suspicion, training

    pipeline, told, target = trial.pipeline, trial.told, trial.pipeline.label.target
    holdout = labelled[trial.snapshots.holdout]
    names = [name for name in holdout.columns if name not in (*pipeline.keys, window.LABEL, window.SNAPSHOT)]
    began = time.monotonic()
    try:
        window.check_classes({one: rows[window.LABEL].value_counts().to_dict() for one, rows in labelled.items()}, target)
        rows = pd.concat([labelled[one] for one in trial.snapshots.training], ignore_index=True)
        fitted = training.fit(_call(trial, "estimators"), rows, names, target, trial.snapshots.training[-1])
        with training.named(fitted.name, trial.snapshots.holdout, holdout, target):
            suspects = suspicion.suspects(fitted, holdout, names)
            report = reports.report(fitted, rows, holdout, names, suspects)
    except Exception as error:
        told.fail("estimators()", error, trial.file)
        raise
    metric, value = pipeline.gate.metric, report["holdout"]["metrics"][pipeline.gate.metric]
    told.say(f"estimators(): {fitted.name} fitted on {len(rows)} rows, {time.monotonic() - began:.1f} s")
    told.say(f"holdout {trial.snapshots.holdout}: {metric} {value:.4f} on {len(holdout)} rows; {report['verdict']}")
    told.warn([f"suspect: {one.fact}. It may know the future. {rule.ADVICE}." for one in suspects])
    told.warn(list(_useless(trial, holdout, names)))
    told.warn([text for text in [rule.not_judged(len(holdout))] if text])


def _useless(trial: Trial, holdout: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """Features that are null or constant throughout."""
    for name in names:
        values = holdout[name]
        if values.isna().all():
            yield f"Feature {name!r} is null in every row of {trial.snapshots.holdout}."
        elif values.nunique(dropna=False) == 1:
            yield f"Feature {name!r} has one value in every row of {trial.snapshots.holdout}: {values.iloc[0]:g}."


def _call(trial: Trial, name: str) -> Any:
    return function_of(trial.module, name)()


def _oddities(table: pa.Table, keys: Sequence[str], group: str) -> list[str]:
    """Warnings about infinite features, each with an entity."""
    found = []
    for name in table.column_names:
        if name not in keys and pa.types.is_floating(table[name].type):
            infinite = table.filter(pc.is_inf(table[name]))
            if len(infinite):
                named = labelled(keys, [infinite[key][0].as_py() for key in keys])
                found.append(
                    f"Function {group!r}: feature {name!r} is infinite in {len(infinite)} rows, such as "
                    f"{named}. It was divided by zero, or exceeds float32 (3.4e38). Return null instead."
                )
    return found


@contextmanager
def _imported(file: Path, name: str, told: Told) -> Iterator[ModuleType]:
    """The user's module, imported from its file, so that errors name its lines. Tasks get it by value."""
    from pyspark import cloudpickle

    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    linecache.checkcache(str(file))
    try:
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            told.fail(f"Importing {user_module.shown(file)}", error, file)
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
        yield module
        cloudpickle.unregister_pickle_by_value(module)  # type: ignore[no-untyped-call]
    finally:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before


def _started(session: Future[SparkSession]) -> SparkSession:
    """Raises: AlmanacError."""
    try:
        return session.result()
    except Exception as error:
        raise AlmanacError(f"Spark did not start: {plain(error)}. `almanac doctor` tells what is missing.") from error


def _session() -> SparkSession:
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.appName("almanac try")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.python.unix.domain.socket.enabled", "true")
        # Errors of a task name the line of the function that built the column.
        .config("spark.python.sql.dataFrameDebugging.enabled", "true")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")  # the first error is told in words
    return session


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if everything ran and all checks passed, else 1."""
    parser = argparse.ArgumentParser(prog="almanac try")
    parser.add_argument("name")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--period")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--watch", action="store_true")
    given = parser.parse_args(arguments)
    gc.set_threshold(GARBAGE)
    project = Project(given.folder.resolve())
    import pyspark.sql  # noqa: F401 - here: two threads that import one package at once can see half of it

    pool = ThreadPoolExecutor(1, "spark")
    session = pool.submit(_session)
    while True:
        told, files = Told(), [project.dags / f"{given.name}.py", project.spark_jobs / f"{given.name}.py"]
        seen = _saved(files)
        code = 0
        try:
            run(project, given.name, given.period, whole=given.whole, session=session, told=told)
        except Stopped:
            code = 1
        except AlmanacError as error:
            told.say(str(error))
            code = 1
        if not given.watch:
            return code
        told.say(f"Watching {', '.join(map(user_module.shown, files))}. Ctrl-C ends.")
        while _saved(files) == seen:
            time.sleep(POLL_SECONDS)


def _saved(files: Sequence[Path]) -> list[int]:
    return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
