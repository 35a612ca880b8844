"""Every key below the root, literally: what is kept in a bucket today must be found there tomorrow."""

from __future__ import annotations

import pytest

from almanac.core.layout import Layout, order_of, pipelines, staged_file, version_id

ORDER = "ea02faee50c919f5eb06f3fc449f6e6e7915b2368ade4b9cab48bf2b5ee4aaea"


@pytest.mark.parametrize("root", ["s3://bucket/almanac", "s3://bucket/almanac/"])
def test_every_key_is_where_it_was(root: str) -> None:
    layout = Layout(root, "shop")

    assert {
        "home": layout.home,
        "description": layout.description("D"),
        "module": layout.module("D"),
        "order": layout.order("O"),
        "receipts": layout.receipts("features", "stage"),
        "receipt": layout.receipt("features", "stage", "O", 1),
        "report": layout.report("O", "U", "checks.json"),
        "features": layout.features("F"),
        "predictions": layout.predictions,
        "part": layout.part("O", "u"),
        "models": layout.models,
        "model": layout.model("2017-06-ea02faee", "u"),
        "manifest": layout.manifest("2017-06-ea02faee"),
        "signature": layout.signature("2017-06-ea02faee", "D"),
        "promotions": layout.promotions,
        "promotion": layout.promotion(12),
        "rollback": layout.rollback("D"),
        "definitions": layout.definitions,
        "index": layout.index,
    } == {
        "home": "s3://bucket/almanac/shop",
        "description": "s3://bucket/almanac/shop/descriptions/D.json",
        "module": "s3://bucket/almanac/shop/modules/D.zip",
        "order": "s3://bucket/almanac/shop/orders/O.json",
        "receipts": "s3://bucket/almanac/shop/receipts/features/stage/",
        "receipt": "s3://bucket/almanac/shop/receipts/features/stage/O-1.json",
        "report": "s3://bucket/almanac/shop/reports/O/U/checks.json",
        "features": "s3://bucket/almanac/shop/features/F",
        "predictions": "s3://bucket/almanac/shop/predictions",
        "part": "s3://bucket/almanac/shop/parts/O/u",
        "models": "s3://bucket/almanac/shop/models/",
        "model": "s3://bucket/almanac/shop/models/2017-06-ea02faee/u",
        "manifest": "s3://bucket/almanac/shop/models/2017-06-ea02faee/manifest.json",
        "signature": "s3://bucket/almanac/shop/models/2017-06-ea02faee/manifest-D.sig",
        "promotions": "s3://bucket/almanac/shop/promotions/",
        "promotion": "s3://bucket/almanac/shop/promotions/00000012.json",
        "rollback": "s3://bucket/almanac/shop/rollbacks/D.json",
        "definitions": "s3://bucket/almanac/shop/features/",
        "index": "s3://bucket/almanac/shop/index.json",
    }  # fmt: skip
    assert pipelines(root) == "s3://bucket/almanac/"


def test_promotions_are_listed_by_the_store_in_the_order_of_their_numbers() -> None:
    layout = Layout("s3://bucket", "shop")
    numbers = [1, 2, 9, 10, 11, 99, 100, 12345678]

    assert sorted(map(layout.promotion, numbers)) == list(map(layout.promotion, numbers))


def test_a_data_file_tells_the_order_that_made_it() -> None:
    path = staged_file("2017-06-05", ORDER, "0a1b-2c3d")

    assert path == f"period=2017-06-05/{ORDER}-0a1b-2c3d.parquet"
    assert order_of(path) == ORDER
    assert order_of(f"s3://bucket/shop/predictions/{path}") == ORDER


def test_a_versions_id_is_its_period_and_eight_digits_of_its_order() -> None:
    assert version_id("2017-06", ORDER) == "2017-06-ea02faee"
