"""Promote, roll back, withdraw, reinstate, score and backfill in any order, against a plain model of what should be true.

The store, the tables, the models and every rule are the real ones. Scores are computed by the real scorer in this process
instead of in a Spark task, which is all that is left out.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from almanac.core.layout import staged_file
from almanac.core.receipts import Receipt, RunInfo, publish_order
from almanac.errors import AlmanacError, Conflict, Overtaken
from almanac.jobs.context import JobContext
from almanac.runs import orders, pin, plan, promotions, publish, rollback
from almanac.spark import arrow, scoring
from tests.support.shop import Memory, Shop

MONTHS = ("2017-07", "2017-08", "2017-09", "2017-10", "2017-11")
TRAINED = ("2017-06", "2017-07", "2017-08", "2017-09")
MONTH = st.sampled_from(MONTHS)
SOME_MONTHS, NUMBER = st.lists(MONTH, min_size=1, max_size=3, unique=True), st.integers(0, len(TRAINED) - 1)


@dataclass(frozen=True)
class Ground:
    """A shop with four versions, none promoted, and features for every month."""

    shop: Shop
    versions: tuple[str, ...]
    memory: Memory
    scores: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)

    @classmethod
    def made(cls, root: str, spark: Any) -> Ground:
        shop = Shop.open(root, spark)
        versions = tuple(shop.train(period) for period in TRAINED)
        shop.build(replace(built := world_plan(shop), build=plan.missing(shop.home, built.definition, MONTHS)), pinned(shop))
        first = shop.home.versions.read(versions[0])
        scorer = scoring.Scorer(bundle=first.bundle, keys=first.keys, as_of=shop.pipeline.first.as_of, order="")
        shop.home.predictions.create(scorer.schema(features_of(shop, MONTHS[0]).schema))
        return cls(shop, versions, shop.remember())


def world_plan(shop: Shop) -> Any:
    return plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-09"), shop.module)


def pinned(shop: Shop) -> str:
    return pin.pin(shop.home, replace(world_plan(shop), build=MONTHS), RunInfo())


def features_of(shop: Shop, period: str) -> pa.Table:
    table = shop.home.features(world_plan(shop).definition)
    files = (shop.home.objects.get(f"{table.uri}/{path}") for path in table.visible()[period].paths)
    return pa.concat_tables([pq.read_table(io.BytesIO(body)) for body in files])


@dataclass
class Truth:
    """What should be true, said as plainly as can be: a month at a time, with no log and no fold.

    `held` has a month more than are scored: what is in force from then on.
    """

    versions: tuple[str, ...]
    held: list[str | None] = field(default_factory=lambda: [None] * (len(MONTHS) + 1))
    begun: set[int] = field(default_factory=set)
    withdrawn: set[str] = field(default_factory=set)
    table: dict[str, str] = field(default_factory=dict)
    entries: int = 0

    def first(self, version: str) -> int:
        """The month from which a version may be in force: the one after that which it was trained for."""
        return self.versions.index(version)

    def promote(self, version: str) -> None:
        first = self.first(version)
        later = [month for month in self.begun if month > first]
        for month in range(first, min(later, default=len(self.held))):
            self.held[month] = version
        self.begun.add(first)

    def replace(self, bad: str, to: str) -> None:
        self.held = [to if version == bad else version for version in self.held]
        self.withdrawn.add(bad)

    def of(self, month: str) -> str | None:
        return self.held[MONTHS.index(month)]


class Machine(RuleBasedStateMachine):
    """Every rule does something to the shop and the same to the truth; what must be refused must change nothing."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground, self.shop = ground, ground.shop
        self.flying: list[tuple[Receipt, Receipt]] = []

    @contextmanager
    def by_hand(self) -> Iterator[Machine]:
        """For an order of actions that is written down: what holds always is checked at its end."""
        self.begin()
        yield self
        self.the_log_says_what_is_in_force()
        self.the_table_shows_what_was_last_written()
        self.teardown()

    @initialize()
    def begin(self) -> None:
        self.shop.restore(self.ground.memory)
        self.truth = Truth(self.ground.versions)

    def name(self, number: int) -> str:
        return self.ground.versions[number]

    def attempt(self, legal: bool, work: Callable[[], object]) -> bool:
        """Does what is legal; what is not must be refused on purpose."""
        if legal:
            work()
            return True
        with pytest.raises(AlmanacError):
            work()
        return False

    @rule(number=NUMBER)
    def promote(self, number: int) -> None:
        version, truth = self.name(number), self.truth
        legal = version not in truth.withdrawn and truth.held[truth.first(version)] != version
        if self.attempt(legal, lambda: self.shop.promote(version)):
            truth.promote(version)
            truth.entries += 1

    @rule(number=NUMBER)
    def withdraw(self, number: int) -> None:
        version, truth = self.name(number), self.truth
        if self.stale():
            return
        legal = version not in {*truth.held, *truth.withdrawn, *truth.table.values()}
        if self.attempt(legal, lambda: promotions.withdraw(self.shop.home, version, reason="bad", run_info=RunInfo())):
            truth.withdrawn.add(version)
            truth.entries += 1

    @rule(number=NUMBER)
    def reinstate(self, number: int) -> None:
        version, truth = self.name(number), self.truth
        legal = version in truth.withdrawn
        if self.attempt(legal, lambda: promotions.reinstate(self.shop.home, version, reason="good", run_info=RunInfo())):
            truth.withdrawn.discard(version)
            truth.entries += 1

    @rule(bad=NUMBER, to=NUMBER, finished=st.booleans())
    def roll_back(self, bad: int, to: int, finished: bool) -> None:
        """A rollback, or one whose runs all die after the entry: the next one finishes it."""
        worse, better, truth = self.name(bad), self.name(to), self.truth
        if self.stale():
            return
        standing = [month for month, version in enumerate(truth.held) if version == worse]
        wrote = [month for month, version in truth.table.items() if version == worse]
        orphans = [month for month in wrote if truth.of(month) is None]
        reaches = [*standing, *(MONTHS.index(month) for month in orphans)]
        legal = bool(standing) and better not in {worse, *truth.withdrawn} and truth.first(better) <= min(reaches)
        if not self.attempt(legal, lambda: self.begun(worse, better)):
            return
        truth.replace(worse, better)
        truth.entries += 1
        if finished:
            self.finish()

    def begun(self, bad: str, to: str) -> None:
        planned = rollback.planned(self.shop.home, self.shop.pipeline, reason="bad", bad=bad, to=to)
        promotions.rollback(self.shop.home, planned, RunInfo())

    def stale(self) -> list[str]:
        """Months that still show a withdrawn version: a rollback of it was begun and not finished."""
        return [month for month, version in self.truth.table.items() if version in self.truth.withdrawn]

    @precondition(lambda self: self.stale())
    @rule()
    def finish(self) -> None:
        """Rollbacks started without a word finish those that were begun."""
        while left := self.stale():
            planned = rollback.planned(self.shop.home, self.shop.pipeline, reason="again")
            assert planned.finishes
            assert promotions.rollback(self.shop.home, planned, RunInfo()).sequence == planned.finishes
            for run in rollback.runs(self.shop.home, self.shop.pipeline, planned):
                self.publish(*self.staged(run.period, version=run.version if run.pinned else None))
                self.truth.table[run.period] = self.truth.of(run.period) or planned.to
            assert self.stale() != left

    @rule(month=MONTH)
    def score(self, month: str) -> None:
        version = self.truth.of(month)
        if self.attempt(version is not None, lambda: self.publish(*self.staged(month))):
            self.truth.table[month] = str(version)

    @rule(month=MONTH, number=NUMBER)
    def score_with(self, month: str, number: int) -> None:
        version = self.name(number)
        legal = version not in self.truth.withdrawn and month > self.shop.home.versions.read(version).holdout
        if self.attempt(legal, lambda: self.publish(*self.staged(month, version=version))):
            self.truth.table[month] = version

    @rule(months=SOME_MONTHS)
    def backfill(self, months: list[str]) -> None:
        """Some months, in any order; and once more, which publishes nothing."""
        self.each(months)
        before = self.shop.home.predictions.version()
        self.each(reversed(months))
        assert self.shop.home.predictions.version() == before

    def each(self, months: Any) -> None:
        for month in months:
            self.score(month)

    @rule(month=MONTH)
    def take_off(self, month: str) -> None:
        """A run scores a month and is slow to publish it."""
        if self.truth.of(month) is not None:
            self.flying.append(self.staged(month))

    @precondition(lambda self: self.flying)
    @rule()
    def land(self) -> None:
        """It publishes after whatever happened meanwhile, or sees that it must not and does its work again."""
        staged, audited = self.flying.pop(0)
        month, version = staged.order.period, str(staged.facts["version"])
        published = self.shop.home.receipts.done(publish_order(staged.order)) is not None
        try:
            publish.predictions(self.shop.home, staged, audited, RunInfo())
            if not published:  # else it landed before, and others may have written the month since
                self.truth.table[month] = version
        except (Overtaken, Conflict):
            self.score(month)

    def staged(self, month: str, **asked: Any) -> tuple[Receipt, Receipt]:
        home, shop = self.shop.home, self.shop
        placed = orders.predictions(home, plan.score(home, shop.pipeline.period(month), **asked))
        staged = shop.run([placed], scored_here)
        audited = shop.run(orders.audits(home, staged), audited_here)
        return home.receipts.read(staged[month]), home.receipts.read(audited[month])

    def publish(self, staged: Receipt, audited: Receipt) -> None:
        publish.predictions(self.shop.home, staged, audited, RunInfo())

    @invariant()
    def the_log_says_what_is_in_force(self) -> None:
        if not hasattr(self, "truth"):
            return
        log = self.shop.home.log()
        assert [log.in_force(month) for month in (*MONTHS, "2099-01")] == self.truth.held
        assert log.withdrawn == self.truth.withdrawn
        assert log.position == self.truth.entries

    @invariant()
    def the_table_shows_what_was_last_written(self) -> None:
        if not hasattr(self, "truth"):
            return
        assert {item.period: item.version for item in self.shop.home.written()} == self.truth.table

    def teardown(self) -> None:
        if not hasattr(self, "truth"):
            return
        self.finish() if self.stale() else None
        for period, customer, score, version in self.shop.scores():
            assert score == pytest.approx(expected(self.ground, version, period)[customer], abs=1e-6), (period, version)


def scored_here(work: JobContext) -> Receipt:
    """What the stage of predictions does, with the tasks' work done here."""
    order, home = work.order, work.home
    manifest = home.versions.read(str(order.parameters["version"]), order.inputs["version"])
    published = work.linked("features")
    as_of = work.pipeline.period(order.period).as_of
    scorer = scoring.Scorer(bundle=manifest.bundle, keys=manifest.keys, as_of=as_of, order=order.digest)
    rows = arrow.table(published.outputs, [*scorer.keys, *scorer.features]).combine_chunks()
    (batch,) = scoring.batches(rows.to_batches()[:1], scorer)
    name = staged_file(order.period, order.digest, uuid.uuid4().hex)
    sink = arrow.Sink(f"{home.predictions.uri}/{name}", batch.schema, scoring.OUTSIDE)
    sink.add(batch)
    output = sink.finish(name, {"model_version": [manifest.version] * 2, "order": [order.digest] * 2})
    return work.receipt(
        content=sink.sums.digest, outputs=[output], facts={"rows": len(rows), "version": manifest.version, "in_sample": False}
    )


def audited_here(work: JobContext) -> Receipt:
    """A passed audit: what it checks is not what is tried here."""
    return work.receipt(content=work.linked("staged").content)


def expected(ground: Ground, version: str, period: str) -> dict[int, float]:
    """A month's scores by a version, straight from its model and the features."""
    from almanac.model.loading import open_model

    if (version, period) not in ground.scores:
        manifest = ground.shop.home.versions.read(version)
        rows = features_of(ground.shop, period).to_pandas()
        scores = open_model(manifest.bundle).model.predict_proba(rows[list(manifest.features)])[:, 1]
        ground.scores[version, period] = dict(zip(rows["customer"], scores, strict=True))
    return ground.scores[version, period]
