"""Sources of other formats through whole runs: audits that set rows aside, provenance, a second look, and a damaged copy."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import deltalake
import pyarrow as pa
import pytest

from almanac import Audit, Delta, EventSource, FeatureGroup, ReferenceSource
from almanac.core.receipts import RunInfo
from almanac.errors import SourceError
from almanac.lineage import impact, indexing, verify
from almanac.lineage.explain import explain, walk
from almanac.lineage.trail import evidence, reading, shown
from almanac.runs import pin, plan, redo
from tests.jobs import test_same_features as same_features
from tests.jobs.test_sources import MAY, OLD, POSITIVE, RECENT, SUITE, attempt, bad, contents
from tests.support import shop as shops
from tests.support.layouts import LAYOUTS, OPTIONS, Layout
from tests.support.shop import MONTHS, Shop
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

GROUPS = (FeatureGroup("habits", reads=("visits",), lookback=shops.QUARTER), RECENT)


def visits(with_bad: bool) -> pa.Table:
    return pa.concat_tables([bad(month, 6) if with_bad and month == MAY else shops.visits(month) for month in MONTHS[:7]])


def described(shop: Shop, layout: str, with_bad: bool, audit: Audit | None) -> Shop:
    """The shop, whose visits are put in a layout."""
    shop = replace(shop)
    put = LAYOUTS[layout](shop.home.objects, f"{shop.landing}/{layout} {with_bad}/", visits(with_bad), "at")
    fields = {"columns": ("customer", "at", "amount"), "timezone": "UTC", **put.fields}
    source = EventSource(put.uri, event_time="at", audit=audit, **fields)
    shop.describe(sources={**shop.pipeline.sources, "visits": source}, features=GROUPS)
    if audit is not None:
        shop.code(**{OLD: SUITE % POSITIVE})
    return shop


@pytest.mark.parametrize("layout", ["other names", "folders", "csv", "delta"])
def test_rows_that_an_audit_sets_aside_are_as_if_they_had_never_come(world: World, layout: str) -> None:
    clean = contents(described(world.shop, layout, with_bad=False, audit=None))
    shop = described(world.shop, layout, with_bad=True, audit=Audit(quarantine=0.05))
    assert contents(shop) == clean
    receipt = attempt(shop)
    assert receipt.passed and receipt.facts["sources"]["visits"]["aside"] == 6


def test_deleted_rows_are_not_checked_and_what_is_set_aside_is_found_beside_them(world: World) -> None:
    shop = described(world.shop, "delta", with_bad=True, audit=Audit(quarantine=0.05))
    deltalake.DeltaTable(shop.pipeline.sources["visits"].uri).delete("amount < -3", writer_properties=None)
    receipt = attempt(shop)
    assert receipt.passed and receipt.facts["sources"]["visits"]["aside"] == 3


def test_provenance_reaches_text_and_copies_are_verified(world: World) -> None:
    shop = described(world.shop, "csv", with_bad=False, audit=None)
    shop.promote(shop.train("2017-06"))
    shop.score("2017-07")
    tree = explain(evidence(shop.home, shown(shop.home, "2017-07")))
    texts = [node for node in walk(tree) if node.kind == "file" and node.name.endswith(".csv")]
    assert texts and all("/copies/" in str(node.facts["copy"]) for node in texts)
    with reading(shop.home) as trail:
        found = impact.of_source(*indexing.fresh(trail), next(node.uri for node in texts if node.name == "2017-05.csv"))
    assert [one.period for one in found.predictions] == ["2017-07"]
    assert verify.verify(shop.home).findings == () and redo.found(shop.home).nothing

    copies = [item.uri for item in shop.home.objects.walk(f"{shop.home.layout.home}/copies/") if item.uri.endswith(".parquet")]
    for uri in copies:
        shop.home.objects.put(uri, b"PAR1 damaged PAR1")
    assert set(copies) <= {finding.uri for finding in verify.verify(shop.home).findings}


def test_a_delta_tables_version_is_told_and_a_change_makes_its_features_stale(world: World) -> None:
    shop = described(world.shop, "delta", with_bad=False, audit=None)
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module)
    receipt = shop.home.receipts.read(pin.pin(shop.home, planned, RunInfo()))
    assert "Source 'visits' is read in version 2 of its table." in receipt.findings
    shop.build(planned, shop.pin(planned))
    assert redo.stale(shop.home, planned.definition, planned.build) == []
    table = deltalake.DeltaTable(shop.pipeline.sources["visits"].uri)
    table.optimize.compact()
    table.delete("at >= '2017-05-20' AND at < '2017-05-21'")
    assert "2017-05" in redo.stale(shop.home, planned.definition, planned.build)


def test_a_reference_that_knows_later_times_is_told(world: World) -> None:
    shop = world.shop
    seen = pa.array([MONTHS[8]] * 40, pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    shop.put("people seen", "all.parquet", shops.people().append_column("seen", seen))
    people = ReferenceSource(f"{shop.landing}/people seen/")
    shop.describe(sources={**shop.pipeline.sources, "people": people})
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module)
    findings = shop.home.receipts.read(pin.pin(shop.home, planned, RunInfo())).findings
    (told,) = [finding for finding in findings if "may know the future" in finding]
    assert told.startswith(
        "warning: source 'people' is read as it is today, and its column 'seen' holds times up to 2017-09-01 00:00 UTC, after "
    )


def test_a_period_before_the_first_snapshot_is_refused_at_the_pin(world: World) -> None:
    shop = world.shop
    shop.put("people apart", "dt=2017-04-15/all.parquet", shops.people())
    people = ReferenceSource(f"{shop.landing}/people apart/", partitions={"dt": "timestamp"}, snapshots="dt", timezone="UTC")
    shop.describe(sources={**shop.pipeline.sources, "people": people})
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module)
    with pytest.raises(SourceError) as refused:
        pin.pin(shop.home, planned, RunInfo())
    assert str(refused.value) == (
        "Source 'people' has no snapshot before the end of 2017-03: its first is of 2017-04-15 00:00 UTC (column 'dt'). Deliver "
        "an older one, or let the pipeline begin later with first_period."
    )


def test_a_retrain_with_known_at_reads_tables_as_they_were(world: World) -> None:
    shop = described(world.shop, "delta", with_bad=False, audit=None)
    people = f"{shop.landing}/people table/"
    deltalake.write_deltalake(people, shops.people(), storage_options=OPTIONS)
    sources = {**shop.pipeline.sources, "people": ReferenceSource(people, format=Delta())}
    shop.describe(sources=sources, features=(*GROUPS, FeatureGroup("traits", reads=("people",))))
    before, moment = contents(shop), datetime.now(UTC)
    time.sleep(1.1)  # the store's clock has seconds
    for uri in (shop.pipeline.sources["visits"].uri, people):
        deltalake.DeltaTable(uri).delete("customer % 3 = 0")

    asked = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module, known_at=moment.isoformat())
    assert {period: one.content for period, one in shop.build(asked, shop.pin(asked)).items()} == before
    shop.describe(sources=sources, features=shop.pipeline.features, parameters={"another": "definition"})
    assert contents(shop) != before


def test_a_reference_that_is_described_otherwise_gives_other_sums(world: World) -> None:
    shop = world.shop
    tier = pa.array([(number + 1) % 5 for number in range(40)])
    shop.put("people of tiers", "all.parquet", shops.people().append_column("tier", tier))
    found = []
    for rename in ({}, {"band": "other", "tier": "band"}):
        put, people = Layout(f"{shop.landing}/visits/", {}), Layout(f"{shop.landing}/people of tiers/", {"rename": rename})
        same_features.described(shop, put, people)
        found.append(same_features.digests(shop))
    assert {name for name in found[0] if found[0][name] != found[1][name]} >= {"recent 2017-05", "recent 2017-06"}


def test_a_source_that_only_the_label_reads_is_pinned_anew_when_it_is_described_otherwise(world: World) -> None:
    shop = world.shop
    outcomes = {**shop.pipeline.sources, "outcomes": replace(shop.pipeline.sources["visits"], columns=())}
    label = replace(shop.pipeline.label, reads=("outcomes",))
    receipts = set()
    for timezone in ("UTC", "America/New_York"):
        described = {**outcomes, "outcomes": replace(outcomes["outcomes"], timezone=timezone)}
        shop.describe(sources=described, label=label)
        planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module)
        receipts.add(pin.pin(shop.home, planned, RunInfo()))
    assert len(receipts) == 2
