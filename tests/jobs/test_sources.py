"""Sources that are audited: a failed check blocks, or sets rows aside that nothing built ever sees."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import Aggregates, Audit, EventSource, ReferenceSource
from almanac.core.receipts import Receipt, RunInfo
from almanac.errors import CheckFailed, DescriptionError, NotAdmitted
from almanac.jobs.context import user_module
from almanac.lineage import verify
from almanac.lineage.trail import reading
from almanac.runs import feature_orders, orders, pin, plan, redo
from almanac.spark import checks
from almanac.store.pins import read_pins
from tests.support import shop as shops
from tests.support.shop import Shop

pytestmark = [pytest.mark.store, pytest.mark.spark]

MAY = datetime(2017, 5, 1)
SUITE = """
    return {
        "sources": {"visits": %s},
        "features": [gxe.ExpectColumnValuesToBeBetween(column="visits", min_value=1)],
    }
"""
OLD = '    return {"features": [gxe.ExpectColumnValuesToBeBetween(column="visits", min_value=1)]}\n'
POSITIVE = "[gxe.ExpectColumnValuesToBeBetween(column='amount', min_value=0), gxe.ExpectColumnValuesToNotBeNull(column='at')]"
RECENT = Aggregates(
    "recent",
    reads=("visits",),
    windows=(timedelta(days=30), timedelta(days=90)),
    events=("count", "recency"),
    columns={"amount": ("sum", "min", "max", "distinct")},
)


def bad(month: datetime, rows: int) -> pa.Table:
    """Visits that cannot be, among those of a month: every 11th row."""
    good = shops.visits(month)
    wrong = pa.table({
        "customer": pa.array([number % 80 for number in range(rows)], pa.int64()),
        "at": pa.array([month + timedelta(days=number % 28) for number in range(rows)], pa.timestamp("us")),
        "amount": pa.array([-1 - number for number in range(rows)], pa.int64()),
    })  # fmt: skip
    parts = [part for number in range(rows) for part in (good.slice(number * 10, 10), wrong.slice(number, 1))]
    return pa.concat_tables([*parts, good.slice(rows * 10)])


def audited(shop: Shop, audit: Audit | None, suite: str = POSITIVE, **changes: Any) -> Shop:
    """The shop with an audit of its visits, and a suite for it."""
    shop = replace(shop)
    visits = replace(shop.pipeline.sources["visits"], audit=audit)
    shop.describe(sources={**shop.pipeline.sources, "visits": visits}, **changes)
    shop.code(**{OLD: SUITE % suite})
    return shop


def planned(shop: Shop, period: str = "2017-06") -> Any:
    return plan.retrain(shop.home, shop.pipeline, shop.pipeline.period(period), shop.module)


def attempt(shop: Shop) -> Receipt:
    asked = planned(shop)
    return carried(shop, pin.pin(shop.home, asked, RunInfo()))


def carried(shop: Shop, pinned: str) -> Receipt:
    """The audit of a pin, by the order as it is kept: a job knows no other."""
    (placed,) = orders.source_audits(shop.home, planned(shop), pinned)
    shop.home.receipts.place(placed)
    return shop.attempt(shop.home.receipts.placed(placed.order.digest))


def contents(shop: Shop) -> dict[str, str]:
    """What the features of a retrain of June hold, by period; with a described group beside the written ones."""
    asked = planned(shop)
    return {period: receipt.content for period, receipt in shop.build(asked, shop.pin(asked)).items()}


def table(shop: Shop, receipt: Receipt, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(shop.home.objects.get(receipt.output(name).uri)))


@pytest.fixture(scope="module")
def opened(store: object, spark: object) -> Shop:
    return Shop.open("s3://almanac/audited-sources", spark)


@pytest.fixture
def shop(opened: Shop) -> Shop:
    """A shop whose May holds six visits that cannot be."""
    for item in list(opened.home.objects.walk(opened.home.layout.home + "/")):
        opened.home.objects.delete(item.uri)
    found = replace(opened)
    found.put("visits", "2017-05.parquet", bad(MAY, 6))
    return found


def test_a_failed_check_of_a_source_blocks_what_would_be_built_from_it(shop: Shop) -> None:
    shop, before = audited(shop, Audit()), shop.state()

    receipt = attempt(shop)

    assert not receipt.passed and "error" not in receipt.facts
    assert receipt.findings[0].startswith(
        "Source 'visits': expect_column_values_to_be_between(column='amount', min_value=0.0) failed: 6 of "
    )
    assert "such as -1, -2, -3" in receipt.findings[0]
    assert b"<html" in shop.home.objects.get(receipt.output("visits.html").uri)
    assert str(CheckFailed(str(receipt.order), receipt.findings)).startswith("shop sources.audit 2017-06 did not pass its audit")
    with pytest.raises(NotAdmitted, match="did not pass, so nothing is built on it"):
        feature_orders.groups(shop.home, planned(shop), shop.home.receipts.uri(receipt), "habits")
    assert shop.state() == before


def test_rows_set_aside_are_as_if_they_had_never_come(shop: Shop) -> None:
    groups = {"features": (shop.pipeline.group("habits"), shop.pipeline.group("traits"), RECENT)}
    with_bad = contents(audited(shop, Audit(quarantine=0.05), **groups))

    clean = replace(shop)
    clean.describe(**groups)
    clean.put("visits", "2017-05.parquet", shops.visits(MAY))
    assert with_bad == contents(clean) and len(with_bad) == 3


def test_what_was_set_aside_is_counted_and_kept_with_the_reason(shop: Shop) -> None:
    shop = audited(shop, Audit(quarantine=0.05))

    receipt = attempt(shop)

    rows = receipt.facts["sources"]["visits"]
    assert receipt.passed and rows["aside"] == 6
    (said,) = receipt.findings
    reason = "expect_column_values_to_be_between(column='amount', min_value=0.0)"
    assert said.startswith(f"warning: source 'visits': 6 of {rows['rows']} rows (") and said.endswith(f"set aside: 6 by {reason}")
    pinned = read_pins(shop.home, receipt)["visits"]
    (number,) = [number for number, file in enumerate(pinned.files) if file.aside]
    assert pinned.files[number].aside == tuple(10 + 11 * place for place in range(6))
    (name,) = [output.name for output in receipt.outputs if "aside" in output.name]
    kept = table(shop, receipt, name)
    assert kept["amount"].to_pylist() == [-1, -2, -3, -4, -5, -6]
    assert kept["@row"].to_pylist() == list(pinned.files[number].aside)
    assert set(kept["@reason"].to_pylist()) == {reason}


def test_more_rows_than_may_be_set_aside_block(shop: Shop) -> None:
    shop = audited(shop, Audit(quarantine=0.001))
    receipt = attempt(shop)
    assert not receipt.passed and not [output for output in receipt.outputs if "aside" in output.name]
    (text,) = [text for text in receipt.findings if "would be set aside" in text]
    assert text.startswith("Source 'visits': 6 of ")
    assert text.endswith(
        "would be set aside, more than the share of 0.001 that Audit.quarantine allows. Deliver it again, or allow more with "
        "Audit(quarantine=...)."
    )


def test_a_check_of_the_whole_is_asked_of_what_is_left(shop: Shop) -> None:
    whole = "gxe.ExpectColumnMinToBeBetween(column='amount', min_value=0)"
    assert attempt(audited(shop, Audit(quarantine=0.05), POSITIVE.replace("[", f"[{whole}, "))).passed
    alone = attempt(audited(shop, Audit(quarantine=0.05), f"[{whole}]"))
    assert not alone.passed and "expect_column_min_to_be_between" in alone.findings[0]


class ExpectOnce(gxe.ExpectColumnValuesToBeUnique):
    """A user's own, of one that looks at rows by their others."""


def test_a_users_own_check_is_what_it_is_made_of() -> None:
    assert not checks.by_row(ExpectOnce(column="customer"))
    assert checks.by_row(gxe.ExpectColumnValuesToNotBeNull(column="customer"))
    assert not checks.by_row(gxe.ExpectColumnMaxToBeBetween(column="customer", max_value=1))


def test_a_check_that_looks_at_rows_by_their_others_sets_none_aside(shop: Shop) -> None:
    receipt = attempt(audited(shop, Audit(quarantine=0.9), "[gxe.ExpectColumnValuesToBeUnique(column='customer')]"))
    assert not receipt.passed and receipt.facts["sources"]["visits"]["aside"] == 0


def test_a_check_of_lesser_severity_warns(shop: Shop) -> None:
    suite = "[gxe.ExpectColumnValuesToBeBetween(column='amount', min_value=0, severity='warning')]"
    receipt = attempt(audited(shop, Audit(quarantine=0.05), suite))
    assert receipt.passed and receipt.findings[0].startswith("warning: source 'visits': expect_column_values_to_be_between")
    assert receipt.facts["sources"]["visits"]["aside"] == 0


def test_the_same_files_are_checked_once(shop: Shop) -> None:
    shop = audited(shop, Audit(quarantine=0.05))
    first, again = attempt(shop), attempt(shop)
    assert first == again


def test_an_audit_looks_at_what_the_run_may_read_and_at_nothing_else(shop: Shop) -> None:
    shop.put("visits", "2017-12.parquet", bad(datetime(2017, 12, 1), 6))
    receipt = attempt(audited(shop, Audit(quarantine=0.05)))
    pinned = read_pins(shop.home, receipt)["visits"]
    assert [file.uri.rsplit("/", 1)[-1] for file in pinned.files if file.aside] == ["2017-05.parquet"]
    shop.put("visits", "2017-12.parquet", shops.visits(datetime(2017, 12, 1)))


def test_another_share_is_asked_again(shop: Shop) -> None:
    assert not attempt(audited(shop, Audit(quarantine=0.001))).passed
    assert attempt(audited(shop, Audit(quarantine=0.05))).passed
    assert not attempt(audited(shop, Audit(quarantine=0.002))).passed


def test_a_file_that_was_replaced_since_it_was_pinned_is_not_taken_for_it(shop: Shop) -> None:
    shop = audited(shop, Audit(quarantine=0.05))
    pinned = pin.pin(shop.home, planned(shop), RunInfo())
    shop.put("visits", "2017-05.parquet", shops.visits(MAY))
    receipt = carried(shop, pinned)
    assert not receipt.passed and receipt.findings[0].startswith("Source 'visits' changed while it was read")


def test_a_file_that_has_another_name_by_now_is_found(shop: Shop) -> None:
    shop = audited(shop, Audit(quarantine=0.05))
    pinned = pin.pin(shop.home, planned(shop), RunInfo())
    shop.home.objects.delete(f"{shop.landing}/visits/2017-05.parquet")
    shop.put("visits", "may.parquet", bad(MAY, 6))
    receipt = carried(shop, pinned)
    shop.home.objects.delete(f"{shop.landing}/visits/may.parquet")
    assert receipt.passed and receipt.facts["sources"]["visits"]["aside"] == 6


def test_a_source_that_has_no_file_for_the_run_has_nothing_to_be_checked(shop: Shop) -> None:
    months = [datetime(2017, month, 1) for month in range(1, 10)]
    for month in months:
        shop.home.objects.delete(f"{shop.landing}/visits/{month:%Y-%m}.parquet")
    try:
        receipt = attempt(audited(shop, Audit(quarantine=0.05)))
    finally:
        for month in months:
            shop.put("visits", f"{month:%Y-%m}.parquet", shops.visits(month))
    assert receipt.passed and receipt.facts == {"checks": 0, "sources": {}}


@pytest.mark.parametrize("audit", [Audit(), Audit(quarantine=0.05)])
def test_nothing_is_built_from_a_source_whose_audit_is_yet_to_come(shop: Shop, audit: Audit) -> None:
    shop = audited(shop, audit)
    asked = planned(shop)
    pinned = pin.pin(shop.home, asked, RunInfo())
    said = "Source 'visits' was pinned but not audited, and its description requires an audit. Run the task sources.audit first."
    for place in (
        lambda: feature_orders.groups(shop.home, asked, pinned, "habits"),
        lambda: orders.model(shop.home, asked, pinned),
    ):
        with pytest.raises(NotAdmitted) as refused:
            place()
        assert str(refused.value) == said


def test_a_version_made_from_audited_sources_is_explained_verified_and_not_stale(shop: Shop) -> None:
    shop = audited(shop, Audit(quarantine=0.05))
    version = shop.retrain("2017-06")
    shop.score("2017-07")

    assert redo.found(shop.home) == redo.Redo(features=(), versions=(), predictions=())
    unaudited = replace(shop)
    unaudited.describe()
    wanting = replace(plan.score(shop.home, shop.pipeline.period("2017-08")), build=("2017-08",))
    with pytest.raises(
        DescriptionError, match=r"needs audited sources \(visits\), but today's description audits none\. Restore audit="
    ):
        plan.check_buildable(shop.home, unaudited.pipeline, wanting)
    verified = verify.verify(shop.home)
    assert not verified.findings and not verified.changed
    manifest = shop.home.versions.read(version)
    with reading(shop.home) as trail:
        read = trail.follow([manifest.receipt])
        trail.look_into(read)
        audits = [
            receipt
            for receipt in read.values()
            if receipt.order.step.value == "audit" and receipt.order.artifact.value == "sources"
        ]
        assert audits and all(receipt.facts["sources"]["visits"]["aside"] == 6 for receipt in audits)


@pytest.mark.parametrize(
    ("audit", "suite", "text"),
    [
        (None, POSITIVE, "checks()['sources']: expected suites for audited sources only (none), got visits. Audit the"),
        (Audit(), "[]", "Source 'visits' is to be audited, but checks() has no expectations for it."),
        (
            Audit(quarantine=0.1),
            "[gxe.ExpectColumnValuesToNotBeNull(column='at', mostly=0.5)]",
            "checks()['sources']['visits']: expected no mostly, got ExpectColumnValuesToNotBeNull(mostly=0.5). Audit(quarantine",
        ),
    ],
)
def test_a_suite_and_the_description_agree(shop: Shop, audit: Audit | None, suite: str, text: str) -> None:
    shop = audited(shop, audit, suite)
    with user_module(shop.module, "shop") as module, pytest.raises(DescriptionError) as refused:
        checks.suites(module.checks(), shop.pipeline)
    assert str(refused.value).startswith(text)


@pytest.mark.parametrize("share", [-0.1, 1.5, "1 %", True])
def test_a_share_is_from_0_to_1(share: Any) -> None:
    with pytest.raises(DescriptionError, match="expected a share from 0 to 1"):
        Audit(quarantine=share)


def test_rows_of_a_reference_are_not_set_aside() -> None:
    with pytest.raises(DescriptionError, match="Rows of a reference are not set aside"):
        ReferenceSource("s3://bucket/people/", audit=Audit(quarantine=0.1))
    with pytest.raises(DescriptionError, match=r"EventSource.audit: expected Audit\(\), or Audit\(quarantine=0.01\); got 0.1"):
        EventSource("s3://bucket/visits/", event_time="at", audit=0.1)  # type: ignore[arg-type]


def test_a_check_that_blocks_changes_nothing_of_what_features_are() -> None:
    plain = EventSource("s3://bucket/visits/", event_time="at")
    assert replace(plain, audit=Audit()).shape == plain.shape
    assert replace(plain, audit=Audit(0.1)).shape == replace(plain, audit=Audit(0.2)).shape != plain.shape


def test_the_page_about_checks_shows_suites_that_run(repository: Path) -> None:
    text = (repository / "docs" / "checks.md").read_text()
    first, described, suites = (named(block) for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    audited = shops.pipeline("s3://shop", sources={"visits": described["visits"], "people": ReferenceSource("s3://shop/people/")})
    found = checks.suites(suites["checks"](), audited)
    assert [checks.by_row(one) for one in found["visits"]] == [True, True, False]
    assert {name: len(checks.section(first["checks"](), name)) for name in checks.SECTIONS} == {"features": 2, "predictions": 1}


def named(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "docs/checks.md", "exec"), names)
    return names
