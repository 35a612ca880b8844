"""Sources whose bucket keeps the versions of its objects: a retrain reads them as they were at a time."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pyarrow as pa
import pytest

from almanac import Aggregates, FeatureGroup, Late
from almanac.core.receipts import Artifact
from almanac.errors import DescriptionError, Unfit
from almanac.runs import plan, redo
from almanac.runs.completeness import lacking
from almanac.store import source_folders
from almanac.store.contents import PointInTime
from almanac.store.objects import Objects
from almanac.store.pins import read_pins
from tests.support import shop as shops
from tests.support.observing import observe
from tests.support.shop import Shop, people

pytestmark = [pytest.mark.store, pytest.mark.spark]

MAY = datetime(2017, 5, 1)


def versioned(store: Any) -> str:
    """A bucket that keeps versions; its name."""
    name, client = f"kept-{uuid.uuid4().hex[:12]}", boto3.client("s3")
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def opened(store: Any, spark: Any, bucket: str) -> Shop:
    """A shop whose data lies in a bucket that keeps versions, in a home of its own."""
    shop = Shop.open(f"s3://almanac/{uuid.uuid4().hex}", spark)
    shop.landing = f"s3://{bucket}"
    shop.describe()
    visits = Aggregates(
        "buys", reads=("visits",), windows=(shops.QUARTER,), columns={"amount": ("sum", "max")}, events=("count",)
    )
    shop.describe(
        sources={name: replace(source, versioned=True) for name, source in shop.pipeline.sources.items()},
        features=(visits, FeatureGroup("traits", reads=("people",))),
    )
    shop.code(**{'column="visits"': 'column="buys_count_90d"'})
    return shop


@pytest.fixture(scope="module")
def corrected(store: Any, spark: Any) -> tuple[Shop, str, str]:
    """A shop that was retrained, then its data was corrected; the version of before, and a moment between the two."""
    shop = opened(store, spark, versioned(store))
    shop.deliver()
    before = shop.train("2017-06")
    time.sleep(1.1)  # the store tells times in seconds
    then = shop.home.objects.now(shop.home.layout.home).isoformat()
    time.sleep(1.1)
    shop.put("visits", "2017-05.parquet", shops.visits(MAY, seed=5))
    shop.put("visits", "more.parquet", shops.visits(datetime(2017, 6, 1), seed=6))
    shop.home.objects.delete(f"{shop.landing}/visits/2017-12.parquet")
    shop.put("people", "all.parquet", people().set_column(1, "band", pa.array([4 - number % 5 for number in range(40)])))
    return shop, before, then


def content(shop: Shop, version: str) -> str:
    return shop.home.versions.read(version).content


def test_a_retrain_as_known_then_gives_the_rows_of_then_after_everything_was_corrected(corrected: tuple[Shop, str, str]) -> None:
    shop, before, then = corrected
    published = shop.home.features(shop.home.versions.read(before).definition).visible()

    again = shop.train("2017-06", known_at=then)

    assert content(shop, again) == content(shop, before)
    assert again != before, "it says of its order as of when"
    now = shop.train("2017-06", refresh=True)
    assert content(shop, now) != content(shop, before), "the corrections do matter"
    manifest = shop.home.versions.read(again)
    assert manifest.definition == shop.home.versions.read(before).definition, (
        "what it scores with is built of sources as they are"
    )
    assert published.keys() == shop.home.features(manifest.definition).visible().keys()


def test_the_same_from_nothing_in_another_home(corrected: tuple[Shop, str, str], store: Any, spark: Any) -> None:
    shop, before, then = corrected
    other = opened(store, spark, shop.landing.removeprefix("s3://"))

    version = other.train("2017-06", known_at=then)

    copies = {item.uri: item.modified for item in other.home.objects.walk(f"{other.home.layout.home}/parts/versions/")}
    assert len(copies) == 3
    assert content(other, version) == content(shop, before)
    made = [set(other._keys(f"/receipts/{artifact}/")) for artifact in ("features", "model")]
    assert other.train("2017-06", known_at=then) == version
    assert [set(other._keys(f"/receipts/{artifact}/")) for artifact in ("features", "model")] == made, (
        "asked again, nothing is done"
    )
    other.promote(version)
    assert redo.found(other.home).nothing, "no correction makes stale what was asked for as of before it"


def test_the_pin_names_the_versions_and_where_their_bytes_are_read(corrected: tuple[Shop, str, str]) -> None:
    shop, _, then = corrected
    asked = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module, known_at=then)
    receipt = shop.home.receipts.read(shop.pin(replace(asked, build=("2017-05",))))

    assert [text for text in receipt.findings if "older version" in text] == [
        f"Source 'people' is read as it was at {then}: 1 of 1 files are older versions.",
        f"Source 'visits' is read as it was at {then}: 2 of 12 files are older versions.",
    ]
    files = {file.uri.rsplit("/", 1)[-1]: file for file in read_pins(shop.home, receipt)["visits"].files}
    assert "more.parquet" not in files, "it came later"
    assert files["2017-06.parquet"].place == files["2017-06.parquet"].uri
    for name in ("2017-05.parquet", "2017-12.parquet"):
        assert files[name].version
        assert files[name].copy.startswith(f"{shop.home.layout.home}/parts/versions/")
        client, (bucket, _, key) = boto3.client("s3"), files[name].uri.removeprefix("s3://").partition("/")
        kept = client.get_object(Bucket=bucket, Key=key, VersionId=files[name].version)["Body"].read()
        assert shop.home.objects.get(files[name].place) == kept


def test_a_source_is_waited_for_as_it_was_then(corrected: tuple[Shop, str, str]) -> None:
    """A file of the period was deleted since: of now the source is not complete, of then it was."""
    shop, _, then = corrected
    december = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-12"), shop.module, known_at=then)
    late = replace(shop.pipeline.sources["visits"], late=Late("fail", within=timedelta(days=5)))
    described = replace(shop.pipeline, sources={**shop.pipeline.sources, "visits": late})

    assert lacking(shop.home, described, replace(december, build=("2017-12",)), "visits") == []
    assert lacking(shop.home, described, replace(december, build=("2017-12",), known_at=""), "visits") != []


def test_a_copy_that_gc_would_soon_delete_is_made_anew(corrected: tuple[Shop, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    shop, _, then = corrected
    asked = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module, known_at=then)
    copied = []
    copy = Objects.copy
    monkeypatch.setattr(Objects, "copy", lambda self, found, uri: (copied.append(uri), copy(self, found, uri)))
    shop.pin(replace(asked, build=("2017-05",)))
    assert copied == []
    monkeypatch.setattr(source_folders, "GROUP_FRESH", timedelta(seconds=-10))

    shop.pin(replace(asked, build=("2017-05",)))

    assert len(copied) == 3


def test_a_run_without_a_time_reads_what_is_there_now(corrected: tuple[Shop, str, str]) -> None:
    shop, *_ = corrected
    asked = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module)
    receipt = shop.home.receipts.read(shop.pin(replace(asked, build=("2017-05",))))

    assert all(not file.version for file in read_pins(shop.home, receipt)["visits"].files)
    assert receipt.order.artifact is Artifact.SOURCES


def test_a_time_ahead_is_refused(corrected: tuple[Shop, str, str]) -> None:
    shop, *_ = corrected
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    with pytest.raises(DescriptionError) as refused:
        plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-06"), shop.module, known_at=ahead)
    assert str(refused.value).startswith("known_at: expected a time before now (20")
    assert str(refused.value).endswith(f"got {ahead}: files yet to arrive would count. Give a past time, or leave known_at out.")


def test_a_bucket_that_keeps_no_versions_is_refused(shop: Shop) -> None:
    source, then = shop.pipeline.sources["visits"], PointInTime(moment=datetime.now(UTC), copies=shop.home.layout.version)
    with pytest.raises(Unfit) as refused:
        observe(shop.home.objects, "visits", source, then)
    assert str(refused.value) == (
        f"{shop.landing}/visits/: bucket 'almanac' does not keep object versions (versioning: never enabled), so its past "
        "contents are unknown. Enable versioning for future runs, or describe the source without versioned=True."
    )


def test_versions_are_told_by_their_times(store: Any, shop: Shop) -> None:
    """Of each name the newest that was there: not yet, first, second, deleted, there again."""
    objects, bucket = shop.home.objects, versioned(store)
    uri, moments = f"s3://{bucket}/folder/file", []

    def step() -> None:
        time.sleep(1.1)
        moments.append(objects.now(uri))
        time.sleep(1.1)

    step()
    for body in (b"first", b"second", None, b"again"):
        objects.delete(uri) if body is None else objects.put(uri, body)
        step()
    seen = [objects.as_of(f"s3://{bucket}/folder/", moment) for moment in moments]

    assert [len(listed) for listed in seen] == [0, 1, 1, 0, 1]
    assert [bool(listed[0].version) for listed in seen if listed] == [True, True, False]
    assert [listed[0].size for listed in seen if listed] == [5, 6, 5]
    objects.delete(uri)
    objects.put(uri, b"at once")  # in the second of the deletion, or in the next
    time.sleep(1.1)
    assert [one.size for one in objects.as_of(f"s3://{bucket}/folder/", objects.now(uri))] == [7]
    copies = [f"s3://almanac/{uuid.uuid4().hex}" for _ in range(2)]
    for listed, copy in zip((seen[1], seen[2]), copies, strict=True):
        objects.copy(listed[0], copy)
    assert [objects.get(copy) for copy in copies] == [b"first", b"second"]
